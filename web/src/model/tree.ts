/**
 * `ViewTree`: what a graph shows. Depth first: a node is followed by everything below it, its largest child first.
 *
 * Constraint: typed arrays only; a million nodes are normal, and in this order a stack's nodes are neighbours in memory. It does
 * not know pixels (layout.ts) nor where nodes come from (build.ts, merge.ts).
 */

/** `frame` of the root. */
export const ROOT_FRAME = -1;

/** Self and total of every node, in one type. */
export interface NodeValues {
  self: Float64Array;
  total: Float64Array;
}

/** A tree ready to be drawn. */
export interface ViewTree {
  count: number;
  /** Into the profile's frames; `frames.count + n` for the n-th group (process or thread); `ROOT_FRAME` for the root. */
  frame: Int32Array;
  /** Nothing below 1 is a parent to go to: the root has none. */
  parent: Int32Array;
  /** Nodes in the subtree, the node itself included: `node + size[node]` is its next sibling, if it has one. */
  size: Int32Array;
  /** In the type that widths are made of and siblings are sorted by. */
  self: Float64Array;
  total: Float64Array;
  /** The type that widths are made of. */
  type: number;
  /** The same in any type; made when first asked for. */
  values(type: number): NodeValues;
}

/** Nodes in any order in which parents come first; node 0 is the root. */
export interface RawTree {
  count: number;
  frame: Int32Array;
  parent: Int32Array;
  /** Each node's own value in a type. */
  self(type: number): Float64Array;
}

/** Sums up, drops nodes that hold nothing, and sorts siblings by `type`. */
export function finishTree(raw: RawTree, type: number): ViewTree {
  const { count, frame, parent } = raw;
  const rawSelf = raw.self(type);
  const weight = sums(rawSelf, parent, count);

  // Children of each node as a list.
  const first = new Int32Array(count).fill(-1);
  const next = new Int32Array(count);
  let kept = 1;
  for (let node = count - 1; node > 0; node--) {
    if (!(weight[node] > 0)) continue;
    next[node] = first[parent[node]];
    first[parent[node]] = node;
    kept++;
  }
  const origin = new Int32Array(kept);
  const newParent = new Int32Array(kept);
  const newFrame = new Int32Array(kept);
  const self = new Float64Array(kept);
  const total = new Float64Array(kept);
  const pending = new Int32Array(kept);
  const pendingParent = new Int32Array(kept);
  const family: number[] = [];
  let waiting = 1;
  pendingParent[0] = -1;
  for (let node = 0; node < kept; node++) {
    const from = pending[--waiting];
    origin[node] = from;
    newParent[node] = pendingParent[waiting];
    newFrame[node] = frame[from];
    self[node] = rawSelf[from];
    total[node] = weight[from];
    let child = first[from];
    if (child < 0) continue;
    if (next[child] < 0) {
      pending[waiting] = child;
      pendingParent[waiting++] = node;
      continue;
    }
    family.length = 0;
    for (; child >= 0; child = next[child]) family.push(child);
    // The last one waiting is taken first. Equal ones by frame, so that the same profile always gives the same picture.
    family.sort((a, b) => weight[a] - weight[b] || frame[b] - frame[a]);
    for (const each of family) {
      pending[waiting] = each;
      pendingParent[waiting++] = node;
    }
  }
  return makeTree(newFrame, newParent, self, total, type, (other) => {
    const values = raw.self(other);
    const taken = new Float64Array(kept);
    for (let node = 0; node < kept; node++) taken[node] = values[origin[node]];
    return taken;
  });
}

/** A tree that is in its order already, siblings included: nothing is dropped or moved. `null` when it is not. */
export function asSorted(raw: RawTree, depth: Uint16Array, type: number): ViewTree | null {
  const { count, frame, parent } = raw;
  const self = raw.self(type);
  const total = sums(self, parent, count);
  // The total of the last node seen on each level; a node opens a new family on the level below it.
  const last = new Float64Array(65537).fill(Infinity);
  for (let node = 1; node < count; node++) {
    const level = depth[node];
    if (total[node] > last[level] || !(total[node] > 0)) return null;
    last[level] = total[node];
    last[level + 1] = Infinity;
  }
  return makeTree(frame, parent, self, total, type, (other) => raw.self(other));
}

function makeTree(
  frame: Int32Array,
  parent: Int32Array,
  self: Float64Array,
  total: Float64Array,
  type: number,
  selfIn: (type: number) => Float64Array,
): ViewTree {
  const count = self.length;
  const size = new Int32Array(count).fill(1);
  for (let node = count - 1; node > 0; node--) size[parent[node]] += size[node];
  const known = new Map<number, NodeValues>([[type, { self, total }]]);
  const values = (wanted: number): NodeValues => {
    let found = known.get(wanted);
    if (!found) {
      const own = selfIn(wanted);
      found = { self: own, total: sums(own, parent, count) };
      known.set(wanted, found);
    }
    return found;
  };
  return { count, frame, parent, size, self, total, type, values };
}

function sums(self: Float64Array, parent: Int32Array, count: number): Float64Array {
  const total = self.slice(0, count);
  for (let node = count - 1; node > 0; node--) total[parent[node]] += total[node];
  return total;
}

/** The nodes from the root to `node`, both included. */
export function pathTo(tree: ViewTree, node: number): number[] {
  const path: number[] = [];
  for (let each = node; each > 0; each = tree.parent[each]) path.push(each);
  path.push(0);
  return path.reverse();
}

/** How far a node is from the root. */
export function depthOf(tree: ViewTree, node: number): number {
  let depth = 0;
  for (let each = node; each > 0; each = tree.parent[each]) depth++;
  return depth;
}
