/**
 * Self and total of every function, or of every file or executable, in a tree; and of every reason why stacks end early.
 *
 * Constraint: what occurs several times in one stack counts once: only its occurrence nearest to the root adds to the total.
 */
import type { Profile } from "../data/format.ts";
import type { ViewTree } from "./tree.ts";

/** Values are `[key]`. */
export interface Totals {
  self: Float64Array;
  total: Float64Array;
}

/** One walk over the tree, depth first, counting how often each function is open. */
export function functionTotals(profile: Profile, tree: ViewTree, type = tree.type): Totals {
  return keyTotals(profile, tree, Uint32Array.from(profile.functions.name, (_, index) => index), profile.functions.count, type);
}

/** The same by any property of functions: `keyOf[function]`, below `keys`. */
export function keyTotals(profile: Profile, tree: ViewTree, keyOf: Uint32Array, keys: number, type = tree.type): Totals {
  const { frames } = profile;
  const values = tree.values(type);
  const self = new Float64Array(keys);
  const total = new Float64Array(keys);
  const open = new Int32Array(keys);
  // The nodes that lie around the current one, the innermost last.
  const around: number[] = [];
  for (let node = 1; node < tree.count; node++) {
    while (around.length > 0 && node >= around[around.length - 1] + tree.size[around[around.length - 1]]) {
      const left = around.pop() as number;
      open[keyOf[frames.function[tree.frame[left]]]]--;
    }
    const frame = tree.frame[node];
    if (frame >= frames.count) continue;
    const key = keyOf[frames.function[frame]];
    self[key] += values.self[node];
    if (open[key] === 0) total[key] += values.total[node];
    if (tree.size[node] > 1) {
      open[key]++;
      around.push(node);
    }
  }
  return { self, total };
}

/** Sums by reason (`rows.reason`, into the profile's strings) of the rows whose owner is shown. */
export function reasonTotals(profile: Profile, type: number, shows: (owner: number) => boolean): Map<number, number> {
  const { rows } = profile;
  const sums = new Map<number, number>();
  for (let row = 0; row < rows.count; row++) {
    if (shows(rows.owner[row])) sums.set(rows.reason[row], (sums.get(rows.reason[row]) ?? 0) + rows.values[type][row]);
  }
  return sums;
}

/** Lines of one function's own samples, the hottest first. */
export function hotLines(
  profile: Profile,
  functionIndex: number,
  type: number,
  shows: (owner: number) => boolean,
): { line: number; value: number }[] {
  const { rows, nodes, frames } = profile;
  const sums = new Map<number, number>();
  for (let row = 0; row < rows.count; row++) {
    const node = rows.node[row];
    if (node === 0 || rows.line[row] === 0 || frames.function[nodes.frame[node]] !== functionIndex) continue;
    if (shows(rows.owner[row])) sums.set(rows.line[row], (sums.get(rows.line[row]) ?? 0) + rows.values[type][row]);
  }
  const lines = [...sums].map(([line, value]) => ({ line, value })).filter(({ value }) => value > 0);
  return lines.sort((a, b) => b.value - a.value || a.line - b.line);
}
