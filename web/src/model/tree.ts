/**
 * `ViewTree`: what a graph shows. Breadth first, children next to each other, the largest first.
 *
 * Constraint: typed arrays only; a million nodes are normal. Every builder gives nodes whose parents come before them, and
 * `finishTree` sums, sorts and lays them out. It does not know pixels (layout.ts) nor where nodes come from (build.ts, merge.ts).
 */

/** `frame` of the root. */
export const ROOT_FRAME = -1;

/** A tree ready to be drawn. All arrays have `count` entries; values are `[type][node]`. */
export interface ViewTree {
  count: number;
  /** Into the profile's frames; `frames.count + n` for the n-th group (process or thread); `ROOT_FRAME` for the root. */
  frame: Int32Array;
  parent: Int32Array;
  firstChild: Int32Array;
  childCount: Int32Array;
  depth: Uint16Array;
  self: Float64Array[];
  total: Float64Array[];
  /** Where the node starts, in units of the type that the tree is sorted by. */
  start: Float64Array;
  /** The type that widths are made of. */
  type: number;
}

/** Nodes in any order in which parents come first; node 0 is the root. */
export interface RawTree {
  count: number;
  frame: Int32Array;
  parent: Int32Array;
  self: Float64Array[];
}

/** Sums totals, drops nodes that hold nothing, sorts siblings by `type`, and lays out starts. */
export function finishTree(raw: RawTree, type: number): ViewTree {
  const { count, frame, parent } = raw;
  const rawTotals = raw.self.map((self) => {
    const total = self.slice(0, count);
    for (let node = count - 1; node > 0; node--) total[parent[node]] += total[node];
    return total;
  });
  const weight = rawTotals[type];

  // Children of each node, side by side: a counting sort by parent.
  const offsets = new Int32Array(count + 1);
  let kept = 1;
  for (let node = 1; node < count; node++) {
    if (weight[node] > 0) {
      offsets[parent[node] + 1]++;
      kept++;
    }
  }
  for (let node = 0; node < count; node++) offsets[node + 1] += offsets[node];
  const children = new Int32Array(kept - 1);
  const fill = offsets.slice(0, count);
  for (let node = 1; node < count; node++) {
    if (weight[node] > 0) children[fill[parent[node]]++] = node;
  }

  const tree: ViewTree = {
    count: kept,
    frame: new Int32Array(kept),
    parent: new Int32Array(kept),
    firstChild: new Int32Array(kept),
    childCount: new Int32Array(kept),
    depth: new Uint16Array(kept),
    self: raw.self.map(() => new Float64Array(kept)),
    total: raw.self.map(() => new Float64Array(kept)),
    start: new Float64Array(kept),
    type,
  };
  const order = new Int32Array(kept);
  const { start, total } = tree;
  tree.parent[0] = -1;
  let next = 1;
  for (let node = 0; node < kept; node++) {
    const from = order[node];
    tree.frame[node] = frame[from];
    for (let each = 0; each < raw.self.length; each++) {
      tree.self[each][node] = raw.self[each][from];
      total[each][node] = rawTotals[each][from];
    }
    const begin = offsets[from];
    const end = offsets[from + 1];
    sortSiblings(children, begin, end, weight, frame);
    tree.firstChild[node] = next;
    tree.childCount[node] = end - begin;
    let place = start[node];
    for (let child = begin; child < end; child++) {
      order[next] = children[child];
      tree.parent[next] = node;
      tree.depth[next] = tree.depth[node] + 1;
      start[next] = place;
      place += weight[children[child]];
      next++;
    }
  }
  return tree;
}

/** Larger first; equal ones by frame, so that the same profile always gives the same picture. */
function sortSiblings(children: Int32Array, begin: number, end: number, weight: Float64Array, frame: Int32Array): void {
  const before = (a: number, b: number) => weight[b] - weight[a] || frame[a] - frame[b];
  if (end - begin > 16) {
    children.subarray(begin, end).sort(before);
    return;
  }
  for (let index = begin + 1; index < end; index++) {
    const child = children[index];
    let hole = index;
    while (hole > begin && before(child, children[hole - 1]) < 0) {
      children[hole] = children[hole - 1];
      hole--;
    }
    children[hole] = child;
  }
}

/** The nodes from the root to `node`, both included. */
export function pathTo(tree: ViewTree, node: number): number[] {
  const path: number[] = [];
  for (let each = node; each >= 0; each = tree.parent[each]) path.push(each);
  return path.reverse();
}
