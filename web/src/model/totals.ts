/**
 * Self and total of every function in a tree.
 *
 * Constraint: a recursive function counts once per stack: only its occurrence nearest to the root adds to the total.
 */
import type { Profile } from "../data/format.ts";
import type { ViewTree } from "./tree.ts";

/** Values are `[function]`, of the type that the tree is sorted by. */
export interface FunctionTotals {
  self: Float64Array;
  total: Float64Array;
}

/** One walk over the tree, depth first, counting how often each function is open. */
export function functionTotals(profile: Profile, tree: ViewTree): FunctionTotals {
  const { frames, functions } = profile;
  const self = new Float64Array(functions.count);
  const total = new Float64Array(functions.count);
  const open = new Int32Array(functions.count);
  // The nodes that lie around the current one, the innermost last.
  const around: number[] = [];
  for (let node = 1; node < tree.count; node++) {
    while (around.length > 0 && node >= around[around.length - 1] + tree.size[around[around.length - 1]]) {
      const left = around.pop() as number;
      open[frames.function[tree.frame[left]]]--;
    }
    const frame = tree.frame[node];
    if (frame >= frames.count) continue;
    const functionIndex = frames.function[frame];
    self[functionIndex] += tree.self[node];
    if (open[functionIndex] === 0) total[functionIndex] += tree.total[node];
    if (tree.size[node] > 1) {
      open[functionIndex]++;
      around.push(node);
    }
  }
  return { self, total };
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
