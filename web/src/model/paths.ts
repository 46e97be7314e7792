/**
 * Short keys for functions and for places in a tree, which survive another profile of the same programs: they are made of names,
 * not of indices.
 *
 * An address holds them, so that a view can be sent; and a page that refreshes finds its zoom and its function again.
 */
import type { Profile } from "../data/format.ts";
import type { ViewTree } from "./tree.ts";

/**
 * A function's key: digits of name, kind and source file, by which a comparison tells functions apart; then of the executable, then
 * of the line, which another build changes.
 */
const COMPARED_DIGITS = 16;
const EXECUTABLE_DIGITS = 8;
const LINE_DIGITS = 4;
/** Digits of a whole key of a function. */
export const FUNCTION_KEY_DIGITS = COMPARED_DIGITS + EXECUTABLE_DIGITS + LINE_DIGITS;

/** Two times 32 bits of a text: FNV-1a over UTF-16 units, with two starts. */
export function hashText(text: string): [number, number] {
  let first = 0x811c9dc5;
  let second = 0x01234567;
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    first = Math.imul(first ^ unit, 0x01000193);
    second = Math.imul(second ^ unit, 0x5bd1e995) ^ (second >>> 15);
  }
  return [first, second];
}

/** A hash as 16 hexadecimal digits. */
export function hashKey([first, second]: [number, number]): string {
  return [first, second].map((part) => (part >>> 0).toString(16).padStart(8, "0")).join("");
}

function below(above: [number, number], name: [number, number]): [number, number] {
  return [Math.imul(above[0] ^ name[0], 0x01000193), Math.imul(above[1] ^ name[1], 0x5bd1e995) ^ (above[1] >>> 15)];
}

/** The key of a node: of the names from the root to it. Empty for the root. */
export function pathKey(tree: ViewTree, node: number, nameOf: (frame: number) => string): string {
  if (node <= 0) return "";
  const frames: number[] = [];
  for (let each = node; each > 0; each = tree.parent[each]) frames.push(tree.frame[each]);
  let hash: [number, number] = [0, 0];
  for (const frame of frames.reverse()) hash = below(hash, hashText(nameOf(frame)));
  return hashKey(hash);
}

/** The node with a key; 0, the root, if there is none. */
export function nodeOfPath(tree: ViewTree, key: string, nameOf: (frame: number) => string): number {
  if (!/^[0-9a-f]{16}$/.test(key)) return 0;
  const wanted = [parseInt(key.slice(0, 8), 16) | 0, parseInt(key.slice(8), 16) | 0];
  const names = new Map<number, [number, number]>();
  const first = new Int32Array(tree.count);
  const second = new Int32Array(tree.count);
  for (let node = 1; node < tree.count; node++) {
    const frame = tree.frame[node];
    let name = names.get(frame);
    if (!name) {
      name = hashText(nameOf(frame));
      names.set(frame, name);
    }
    const above = tree.parent[node];
    [first[node], second[node]] = below([first[above], second[above]], name);
    if (first[node] === wanted[0] && second[node] === wanted[1]) return node;
  }
  return 0;
}

/** The key of a function. `main` of two programs has two keys, as has what differs in nothing but the line. */
export function functionKey(profile: Profile, functionIndex: number): string {
  const { functions, strings, kinds } = profile;
  const text = (column: Uint32Array) => strings[column[functionIndex]];
  const executable = text(functions.mapping);
  const compared = [text(functions.name), kinds[functions.kind[functionIndex]], text(functions.file) || `\0${executable}`].join("\0");
  const digits = (of: string, count: number) => hashKey(hashText(of)).slice(0, count);
  return digits(compared, COMPARED_DIGITS) + digits(executable, EXECUTABLE_DIGITS) + digits(String(functions.line[functionIndex]), LINE_DIGITS);
}

/**
 * The function with a key, or else the first on another line; in a comparison the first of another executable as well. -1 if there is
 * none. `before` is asked first: it mostly is the one, and then no other is looked at.
 */
export function functionOfKey(profile: Profile, key: string, before: number): number {
  if (key === "") return -1;
  const { count } = profile.functions;
  if (before >= 0 && before < count && functionKey(profile, before) === key) return before;
  const digits = COMPARED_DIGITS + (profile.comparison ? 0 : EXECUTABLE_DIGITS);
  let near = -1;
  for (let index = 0; index < count; index++) {
    const found = functionKey(profile, index);
    if (found === key) return index;
    if (near < 0 && found.slice(0, digits) === key.slice(0, digits)) near = index;
  }
  return near;
}
