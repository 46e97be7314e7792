/**
 * Tree + zoom + width → boxes in pixels, and back from a point to a box.
 *
 * Constraint: work is bounded by the pixels, not by the tree: siblings come largest first, so that the first one that is too
 * narrow ends its family, and the rest becomes one "many small ones" strip. It does not draw.
 */
import { depthOf, pathTo, type ViewTree } from "./tree.ts";

/** Boxes narrower than this many pixels are not drawn one by one. */
export const MIN_WIDTH = 0.8;

/** What is visible: boxes level by level from the root down, from left to right in a level. */
export interface Layout {
  /** Of the tree; the strip of siblings too narrow to draw has its first node, negated: `~node`. */
  node: Int32Array;
  x: Float32Array;
  width: Float32Array;
  /** `levels[n]..levels[n + 1]` are the boxes of level n. */
  levels: number[];
  zoom: number;
  /** The level of the zoomed node; boxes on levels above it are its ancestors. */
  zoomLevel: number;
}

/** Lays out the tree so that `zoom` is as wide as the view. */
export function layoutTree(tree: ViewTree, zoom: number, viewWidth: number): Layout {
  let capacity = 4096;
  let node = new Int32Array(capacity);
  let x = new Float32Array(capacity);
  let width = new Float32Array(capacity);
  let count = 0;
  const add = (newNode: number, newX: number, newWidth: number) => {
    if (count === capacity) {
      capacity *= 2;
      node = grown(node, new Int32Array(capacity));
      x = grown(x, new Float32Array(capacity));
      width = grown(width, new Float32Array(capacity));
    }
    node[count] = newNode;
    x[count] = newX;
    width[count] = newWidth;
    count++;
  };

  const levels = [0];
  const endLevel = () => levels.push(count);
  const { total, self, size } = tree;
  for (const ancestor of pathTo(tree, zoom)) {
    add(ancestor, 0, viewWidth);
    endLevel();
  }
  const zoomLevel = levels.length - 2;
  const scale = total[zoom] > 0 ? viewWidth / total[zoom] : 0;
  for (let begin = count - 1; begin < count; ) {
    const end = count;
    for (let box = begin; box < end; box++) {
      const above = node[box];
      if (above < 0) continue;
      let place = x[box];
      let rest = total[above] - self[above];
      const last = above + size[above];
      for (let child = above + 1; child < last; child += size[child]) {
        const childWidth = total[child] * scale;
        if (childWidth < MIN_WIDTH) {
          if (rest * scale >= MIN_WIDTH) add(~child, place, rest * scale);
          break;
        }
        add(child, place, childWidth);
        place += childWidth;
        rest -= total[child];
      }
    }
    begin = end;
    if (count > end) endLevel();
  }
  return { node: node.subarray(0, count), x: x.subarray(0, count), width: width.subarray(0, count), levels, zoom, zoomLevel };
}

function grown<T extends Int32Array | Float32Array>(from: T, to: T): T {
  to.set(from);
  return to;
}

/** How many levels a layout has. */
export function levelCount(layout: Layout): number {
  return layout.levels.length - 1;
}

/** The box at a place: its index in the layout, or -1. */
export function boxAt(layout: Layout, level: number, px: number): number {
  if (level < 0 || level >= levelCount(layout)) return -1;
  let low = layout.levels[level];
  let high = layout.levels[level + 1];
  const end = high;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (layout.x[middle] + layout.width[middle] <= px) low = middle + 1;
    else high = middle;
  }
  return low < end && layout.x[low] <= px ? low : -1;
}

/** The box of a node, or -1 when it is not visible. */
export function boxOf(layout: Layout, tree: ViewTree, node: number): number {
  const level = depthOf(tree, node);
  if (level >= levelCount(layout)) return -1;
  for (let box = layout.levels[level]; box < layout.levels[level + 1]; box++) if (layout.node[box] === node) return box;
  return -1;
}
