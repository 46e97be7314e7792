/**
 * The two halves of "who calls this function, and what does it call", and the whole tree upside down.
 *
 * Constraint: a recursive function is counted once: only its occurrences nearest to the root are looked at, so that the sum
 * is the function's total. Works level by level with one slot per frame, no hashing.
 */
import type { Profile } from "../data/format.ts";
import { Grow } from "./build.ts";
import { finishTree, ROOT_FRAME, type ViewTree } from "./tree.ts";

/** The occurrences of a function that have no other occurrence of it above them. */
export function outermost(profile: Profile, tree: ViewTree, functionIndex: number): number[] {
  const { frames } = profile;
  const inside = new Uint8Array(tree.count);
  const found: number[] = [];
  for (let node = 1; node < tree.count; node++) {
    const frame = tree.frame[node];
    const covered = inside[tree.parent[node]];
    const here = frame < frames.count && frames.function[frame] === functionIndex;
    if (here && !covered) found.push(node);
    inside[node] = covered || here ? 1 : 0;
  }
  return found;
}

/** What the function calls: its subtrees, merged. The root stands for the function and has its frame. */
export function mergeCallees(profile: Profile, tree: ViewTree, functionIndex: number, frameSlots: number): ViewTree {
  const origins = outermost(profile, tree, functionIndex);
  return mergeLevels(tree, origins, origins, frameSlots, "callees", originFrame(tree, origins));
}

/** Who calls the function: the paths from it to the root, merged from its end. The root stands for the function. */
export function mergeCallers(profile: Profile, tree: ViewTree, functionIndex: number, frameSlots: number): ViewTree {
  const origins = outermost(profile, tree, functionIndex);
  return mergeLevels(tree, origins, origins, frameSlots, "callers", originFrame(tree, origins));
}

/** The whole tree upside down: under the root the functions that ran themselves, under each its callers. */
export function mergeInverted(tree: ViewTree, frameSlots: number): ViewTree {
  const origins: number[] = [];
  for (let node = 1; node < tree.count; node++) if (tree.self[tree.type][node] > 0) origins.push(node);
  return mergeLevels(tree, origins, origins, frameSlots, "inverted", ROOT_FRAME);
}

function originFrame(tree: ViewTree, origins: number[]): number {
  return origins.length > 0 ? tree.frame[origins[0]] : ROOT_FRAME;
}

/**
 * Each level is a list of entries (where in the tree, and the occurrence whose value is carried), grouped by result node.
 * Going up, an entry has one next entry (its parent); going down, as many as it has children.
 */
function mergeLevels(
  tree: ViewTree,
  origins: number[],
  carried: number[],
  frameSlots: number,
  direction: "callees" | "callers" | "inverted",
  rootFrame: number,
): ViewTree {
  const frame = new Grow(1024);
  const parent = new Grow(1024);
  const types = tree.self.length;
  const self: number[][] = Array.from({ length: types }, () => [0]);
  frame.push(rootFrame);
  parent.push(-1);
  const addNode = (frameIndex: number, above: number): number => {
    frame.push(frameIndex);
    parent.push(above);
    for (let type = 0; type < types; type++) self[type].push(0);
    return frame.length - 1;
  };

  const stamp = new Int32Array(frameSlots).fill(-1);
  const slot = new Int32Array(frameSlots);
  let cursors: Int32Array = Int32Array.from(origins);
  let weights: Int32Array = Int32Array.from(carried);
  let groups = [{ node: 0, begin: 0, end: cursors.length }];
  let first = direction === "inverted";
  const carriedValues = direction === "inverted" ? tree.self : tree.total;
  while (groups.length > 0) {
    const nextCursors = new Grow(cursors.length);
    const nextWeights = new Grow(cursors.length);
    const nextGroups: typeof groups = [];
    for (const group of groups) {
      const moved = new Grow(group.end - group.begin);
      const movedWeights = new Grow(group.end - group.begin);
      for (let entry = group.begin; entry < group.end; entry++) {
        const cursor = cursors[entry];
        if (direction === "callees") {
          for (let type = 0; type < types; type++) self[type][group.node] += tree.self[type][cursor];
          const begin = tree.firstChild[cursor];
          for (let child = begin; child < begin + tree.childCount[cursor]; child++) {
            moved.push(child);
            movedWeights.push(child);
          }
          continue;
        }
        const above = first ? cursor : tree.parent[cursor];
        if (above > 0) {
          moved.push(above);
          movedWeights.push(weights[entry]);
        } else {
          for (let type = 0; type < types; type++) self[type][group.node] += carriedValues[type][weights[entry]];
        }
      }
      splitByFrame(group.node, moved, movedWeights);
    }
    function splitByFrame(above: number, moved: Grow, movedWeights: Grow): void {
      const parts: { node: number; size: number; begin: number }[] = [];
      for (let index = 0; index < moved.length; index++) {
        const frameIndex = tree.frame[moved.array[index]];
        if (stamp[frameIndex] !== above) {
          stamp[frameIndex] = above;
          slot[frameIndex] = parts.length;
          parts.push({ node: addNode(frameIndex, above), size: 0, begin: 0 });
        }
        parts[slot[frameIndex]].size++;
      }
      let place = nextCursors.length;
      for (const part of parts) {
        nextGroups.push({ node: part.node, begin: place, end: place + part.size });
        part.begin = place;
        place += part.size;
      }
      for (let index = 0; index < moved.length; index++) {
        nextCursors.push(0);
        nextWeights.push(0);
      }
      for (let index = 0; index < moved.length; index++) {
        const part = parts[slot[tree.frame[moved.array[index]]]];
        nextCursors.array[part.begin] = moved.array[index];
        nextWeights.array[part.begin++] = movedWeights.array[index];
      }
    }
    cursors = nextCursors.array;
    weights = nextWeights.array;
    groups = nextGroups;
    first = false;
  }
  const raw = { count: frame.length, frame: frame.array, parent: parent.array, self: self.map((values) => Float64Array.from(values)) };
  return finishTree(raw, tree.type);
}
