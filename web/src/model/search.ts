/**
 * Search: which functions match, and what share of the tree they cover.
 *
 * Constraint: names are tested once each, not once per box. A box under a matching box is not counted again.
 */
import type { Profile } from "../data/format.ts";
import type { ViewTree } from "./tree.ts";

/** What to look for. `file:` or `mapping:` (or `lib:`) before the text looks there instead of in names. */
export interface Query {
  text: string;
  regex: boolean;
}

/** `null` when there is nothing to look for; the message when the pattern is not a regular expression. */
export type Matcher = { test: (text: string) => boolean; field: "name" | "file" | "mapping" } | null | { error: string };

/** Makes a test from a query. Plain text matches anywhere, whatever its case; a pattern heeds case unless it starts with `(?i)`. */
export function makeMatcher(query: Query): Matcher {
  const prefix = /^(file|mapping|lib):/.exec(query.text);
  const field = !prefix ? "name" : prefix[1] === "file" ? "file" : "mapping";
  let text = query.text.slice(prefix ? prefix[0].length : 0).trim();
  if (text === "") return null;
  if (!query.regex) {
    const pattern = new RegExp(text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"), "iu");
    return { field, test: (candidate) => pattern.test(candidate) };
  }
  const insensitive = text.startsWith("(?i)");
  if (insensitive) text = text.slice(4);
  try {
    const pattern = new RegExp(text, insensitive ? "iu" : "u");
    return { field, test: (candidate) => pattern.test(candidate) };
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) };
  }
}

/** One byte for each function: 1 = matches. */
export function matchFunctions(profile: Profile, matcher: Matcher): Uint8Array | null {
  if (!matcher || "error" in matcher) return null;
  const { functions, strings } = profile;
  const column = functions[matcher.field];
  const matched = new Uint8Array(functions.count);
  // Texts are shared between functions: 0 = not tested yet, 1 = no, 2 = yes.
  const tested = new Uint8Array(strings.length);
  for (let index = 0; index < functions.count; index++) {
    const text = column[index];
    if (tested[text] === 0) tested[text] = matcher.test(strings[text]) ? 2 : 1;
    matched[index] = tested[text] - 1;
  }
  return matched;
}

/** One byte for each frame: 1 = matches. Groups (processes, threads) come after the frames and match nothing: no byte is 0 as well. */
export function matchFrames(profile: Profile, matched: Uint8Array): Uint8Array {
  const { frames } = profile;
  const bytes = new Uint8Array(frames.count);
  for (let frame = 0; frame < frames.count; frame++) bytes[frame] = matched[frames.function[frame]];
  return bytes;
}

/** Sum of the matching boxes that lie in no other matching box, of the type that the tree is sorted by. */
export function coveredTotal(tree: ViewTree, frameMatches: Uint8Array): number {
  let sum = 0;
  for (let node = 1; node < tree.count; ) {
    if (frameMatches[tree.frame[node]]) {
      sum += tree.total[node];
      node += tree.size[node];
    } else node++;
  }
  return sum;
}
