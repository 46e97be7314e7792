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
  const selfOf = tree.self[tree.type];
  const totalOf = tree.total[tree.type];
  const functionAt = (node: number) => (tree.frame[node] >= 0 && tree.frame[node] < frames.count ? frames.function[tree.frame[node]] : -1);

  let node = 0;
  for (;;) {
    const entered = functionAt(node);
    if (entered >= 0) {
      self[entered] += selfOf[node];
      if (open[entered]++ === 0) total[entered] += totalOf[node];
    }
    if (tree.childCount[node] > 0) {
      node = tree.firstChild[node];
      continue;
    }
    // Leave this node, and every ancestor whose last child it was; then on to the next sibling.
    for (;;) {
      const left = functionAt(node);
      if (left >= 0) open[left]--;
      const above = tree.parent[node];
      if (above < 0) return { self, total };
      if (node + 1 < tree.firstChild[above] + tree.childCount[above]) break;
      node = above;
    }
    node++;
  }
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
