/**
 * The two halves of "who calls this function, and what does it call", and the whole tree upside down.
 *
 * Constraint: a recursive function is counted once: only its occurrences nearest to the root are looked at, so that the sum
 * is the function's total. No hashing: entries are sorted into one slot per frame. Where only one entry is left, the rest of its
 * way is copied as it is, which is most of the work.
 */
import type { Profile } from "../data/format.ts";
import { Grow } from "./grow.ts";
import { finishTree, ROOT_FRAME, type ViewTree } from "./tree.ts";

/** The occurrences of a function that have no other occurrence of it above them. */
export function outermost(profile: Profile, tree: ViewTree, functionIndex: number): Int32Array {
  const { frames } = profile;
  const found = new Grow(64);
  for (let node = 1; node < tree.count; ) {
    const frame = tree.frame[node];
    if (frame < frames.count && frames.function[frame] === functionIndex) {
      found.push(node);
      node += tree.size[node];
    } else node++;
  }
  return found.array.slice(0, found.length);
}

/** What the function calls: its subtrees, merged. The root stands for the function and has its frame. */
export function mergeCallees(profile: Profile, tree: ViewTree, functionIndex: number, frameSlots: number): ViewTree {
  const origins = outermost(profile, tree, functionIndex);
  return new Merge(tree, frameSlots).run(origins, "callees", origins.length > 0 ? tree.frame[origins[0]] : ROOT_FRAME);
}

/** Who calls the function: the paths from it to the root, merged from its end. The root stands for the function. */
export function mergeCallers(profile: Profile, tree: ViewTree, functionIndex: number, frameSlots: number): ViewTree {
  const origins = outermost(profile, tree, functionIndex);
  return new Merge(tree, frameSlots).run(origins, "callers", origins.length > 0 ? tree.frame[origins[0]] : ROOT_FRAME);
}

/** The whole tree upside down: under the root the functions that ran themselves, under each its callers. */
export function mergeInverted(tree: ViewTree, frameSlots: number): ViewTree {
  const origins = new Grow(1024);
  for (let node = 1; node < tree.count; node++) if (tree.self[node] > 0) origins.push(node);
  return new Merge(tree, frameSlots).run(origins.array.slice(0, origins.length), "inverted", ROOT_FRAME);
}

/**
 * The same tree with siblings of the same frame made one: what two profiles side by side become. Each of the two has a frame once
 * among siblings, below the root or below groups (frames from `groupsFrom` on).
 */
export function mergeSiblings(tree: ViewTree, frameSlots: number, groupsFrom: number): ViewTree {
  return new Merge(tree, frameSlots, groupsFrom).run(Int32Array.of(0), "siblings", ROOT_FRAME);
}

type Direction = "callees" | "callers" | "inverted" | "siblings";

/**
 * An entry is a place in the tree (`cursor`) and the occurrence whose value it carries (`carried`). A family of entries belongs
 * to one node of the result; one step up or down splits it by frame into the families of that node's children.
 */
class Merge {
  private readonly frame = new Grow(1024);
  private readonly parent = new Grow(1024);
  /** What a result's node gets: pairs of result and occurrence. */
  private readonly receiver = new Grow(1024);
  private readonly source = new Grow(1024);
  /** Entries of the families that wait, the last family on top. */
  private readonly cursors = new Grow(1024);
  private readonly carried = new Grow(1024);
  private readonly families = new Grow(64);
  private readonly moved = new Grow(1024);
  private readonly movedCarried = new Grow(1024);
  private readonly stamp: Int32Array;
  private readonly slot: Int32Array;

  constructor(private readonly tree: ViewTree, frameSlots: number, private readonly groupsFrom = Infinity) {
    this.stamp = new Int32Array(frameSlots).fill(-1);
    this.slot = new Int32Array(frameSlots);
  }

  run(origins: Int32Array, direction: Direction, rootFrame: number): ViewTree {
    this.addNode(rootFrame, -1);
    if (direction === "inverted") {
      for (const origin of origins) this.move(origin, origin);
      this.split(0);
    } else if (direction === "siblings") {
      this.give(0, 0);
      for (let child = 1; child < this.tree.count; child += this.tree.size[child]) this.move(child, child);
      this.split(0);
    } else {
      for (const origin of origins) this.wait(origin, origin);
      this.families.push(0);
      this.families.push(0);
    }
    const step = direction === "callees" || direction === "siblings" ? (node: number, begin: number) => this.stepDown(node, begin) : (node: number, begin: number) => this.stepUp(node, begin);
    while (this.families.length > 0) {
      const begin = this.families.pop();
      const node = this.families.pop();
      step(node, begin);
    }
    return this.finish(direction);
  }

  private addNode(frameIndex: number, above: number): number {
    this.frame.push(frameIndex);
    this.parent.push(above);
    return this.frame.length - 1;
  }

  private give(node: number, occurrence: number): void {
    this.receiver.push(node);
    this.source.push(occurrence);
  }

  private wait(cursor: number, carried: number): void {
    this.cursors.push(cursor);
    this.carried.push(carried);
  }

  private move(cursor: number, carried: number): void {
    this.moved.push(cursor);
    this.movedCarried.push(carried);
  }

  private stepUp(node: number, begin: number): void {
    const { tree, cursors, carried } = this;
    const end = cursors.length;
    if (end - begin === 1) {
      let above = node;
      for (let cursor = tree.parent[cursors.array[begin]]; cursor > 0; cursor = tree.parent[cursor]) above = this.addNode(tree.frame[cursor], above);
      this.give(above, carried.array[begin]);
    } else {
      for (let entry = begin; entry < end; entry++) {
        const above = tree.parent[cursors.array[entry]];
        if (above > 0) this.move(above, carried.array[entry]);
        else this.give(node, carried.array[entry]);
      }
    }
    cursors.length = begin;
    carried.length = begin;
    this.split(node);
  }

  private stepDown(node: number, begin: number): void {
    const { tree, cursors, carried } = this;
    const end = cursors.length;
    if (end - begin === 1 && tree.frame[cursors.array[begin]] < this.groupsFrom) {
      // A subtree is one stretch of nodes, and stays one.
      const from = cursors.array[begin];
      const shift = this.frame.length - from - 1;
      this.give(node, from);
      for (let below = from + 1; below < from + tree.size[from]; below++) {
        const above = tree.parent[below];
        this.give(this.addNode(tree.frame[below], above === from ? node : above + shift), below);
      }
    } else {
      for (let entry = begin; entry < end; entry++) {
        const cursor = cursors.array[entry];
        this.give(node, cursor);
        const last = cursor + tree.size[cursor];
        for (let child = cursor + 1; child < last; child += tree.size[child]) this.move(child, child);
      }
    }
    cursors.length = begin;
    carried.length = begin;
    this.split(node);
  }

  /** Sorts the moved entries by frame into families of new nodes below `above`. */
  private split(above: number): void {
    const { tree, moved, movedCarried, stamp, slot, cursors, carried } = this;
    if (moved.length === 0) return;
    const firstNode = this.frame.length;
    // `slot` first counts the entries of a frame, then says where its next one goes.
    for (let index = 0; index < moved.length; index++) {
      const frameIndex = tree.frame[moved.array[index]];
      if (stamp[frameIndex] !== above) {
        stamp[frameIndex] = above;
        slot[frameIndex] = 0;
        this.addNode(frameIndex, above);
      }
      slot[frameIndex]++;
    }
    let place = cursors.length;
    for (let node = firstNode; node < this.frame.length; node++) {
      const frameIndex = this.frame.array[node];
      this.families.push(node);
      this.families.push(place);
      const count = slot[frameIndex];
      slot[frameIndex] = place;
      place += count;
    }
    cursors.resize(place);
    carried.resize(place);
    for (let index = 0; index < moved.length; index++) {
      const to = slot[tree.frame[moved.array[index]]]++;
      cursors.array[to] = moved.array[index];
      carried.array[to] = movedCarried.array[index];
    }
    moved.length = 0;
    movedCarried.length = 0;
  }

  /** A caller's path carries the total of the occurrence it starts at; otherwise every occurrence gives its own value once. */
  private finish(direction: Direction): ViewTree {
    const { tree, frame, parent, receiver, source } = this;
    const count = frame.length;
    const self = (type: number) => {
      const values = direction === "callers" ? tree.values(type).total : tree.values(type).self;
      const sums = new Float64Array(count);
      for (let index = 0; index < receiver.length; index++) sums[receiver.array[index]] += values[source.array[index]];
      return sums;
    };
    return finishTree({ count, frame: frame.array, parent: parent.array, self }, tree.type);
  }
}
