/**
 * Profile + choice (which process, which thread, grouped how, by which value) → `ViewTree`, stacks from their root.
 *
 * Constraint: one pass over rows and nodes, no hashing: the profile's own prefix tree already merged the stacks.
 */
import { NO_OWNER, type Profile } from "../data/format.ts";
import { Grow } from "./grow.ts";
import { mergeSiblings } from "./merge.ts";
import { asSorted, finishTree, ROOT_FRAME, type RawTree, type ViewTree } from "./tree.ts";

/** What the first levels of the tree are. */
export type Grouping = "none" | "process" | "thread";

/** Which rows a view shows, and how. */
export interface Choice {
  /** Into `Directory.processes`; `null` for all. */
  process: number | null;
  /** Into the profile's owners; `null` for all. */
  thread: number | null;
  grouping: Grouping;
  /** Into the profile's sample types. */
  type: number;
}

/** A process: all owners with the same pid and name. */
export interface ProcessEntry {
  pid: number;
  name: string;
  /** Into the profile's owners, the largest first. */
  threads: number[];
  /** Sum of its rows, by sample type. */
  totals: number[];
}

/** Who is in a profile. */
export interface Directory {
  /** The largest first. */
  processes: ProcessEntry[];
  /** From owner to process. */
  processOf: Int32Array;
  /** Sum of an owner's rows: `[type][owner]`. */
  ownerTotals: Float64Array[];
}

/** Label of samples whose owner the profile does not name. */
export const NOBODY = "[no process named]";

/** Lists processes and threads with their sums, largest first by the default type. */
export function makeDirectory(profile: Profile): Directory {
  const { owners, rows, strings } = profile;
  const ownerTotals = rows.values.map((values) => {
    const totals = new Float64Array(owners.count);
    for (let row = 0; row < rows.count; row++) if (rows.owner[row] !== NO_OWNER) totals[rows.owner[row]] += values[row];
    return totals;
  });
  const byKey = new Map<string, ProcessEntry>();
  const entryOf: ProcessEntry[] = [];
  for (let owner = 0; owner < owners.count; owner++) {
    const name = strings[owners.process[owner]];
    const key = `${owners.pid[owner]} ${name}`;
    let entry = byKey.get(key);
    if (!entry) {
      entry = { pid: owners.pid[owner], name, threads: [], totals: ownerTotals.map(() => 0) };
      byKey.set(key, entry);
    }
    entry.threads.push(owner);
    ownerTotals.forEach((totals, type) => (entry.totals[type] += totals[owner]));
    entryOf.push(entry);
  }
  const main = profile.defaultType;
  const processes = [...byKey.values()].sort((a, b) => b.totals[main] - a.totals[main] || a.pid - b.pid);
  const number = new Map(processes.map((entry, index) => [entry, index]));
  for (const entry of processes) entry.threads.sort((a, b) => ownerTotals[main][b] - ownerTotals[main][a] || a - b);
  return { processes, processOf: Int32Array.from(entryOf, (entry) => number.get(entry) ?? 0), ownerTotals };
}

/** A tree and the labels of its groups (`frame - frames.count` points into `groups`). */
export interface Built {
  tree: ViewTree;
  groups: string[];
}

/** Builds the tree that a choice asks for. */
export function buildTree(profile: Profile, directory: Directory, choice: Choice): Built {
  const built = buildUnmerged(profile, directory, choice);
  if (!profile.comparison) return built;
  return { tree: mergeSiblings(built.tree, profile.frames.count + built.groups.length, profile.frames.count), groups: built.groups };
}

function buildUnmerged(profile: Profile, directory: Directory, choice: Choice): Built {
  const keep = rowFilter(profile, directory, choice);
  if (choice.grouping === "none") {
    const raw = ungrouped(profile, keep);
    const sorted = choice.process === null && choice.thread === null && choice.type === profile.defaultType && !profile.comparison;
    const tree = sorted ? asSorted(raw, profile.nodes.depth, choice.type) : null;
    return { tree: tree ?? finishTree(raw, choice.type), groups: [] };
  }
  return grouped(profile, directory, keep, choice);
}

/** One byte for each owner (and a last one for rows without owner): 1 = shown. */
export function rowFilter(profile: Profile, directory: Directory, choice: Choice): Uint8Array {
  const keep = new Uint8Array(profile.owners.count + 1);
  for (let owner = 0; owner < profile.owners.count; owner++) {
    const chosen = choice.thread !== null ? owner === choice.thread : choice.process === null || directory.processOf[owner] === choice.process;
    keep[owner] = chosen ? 1 : 0;
  }
  keep[profile.owners.count] = choice.process === null && choice.thread === null ? 1 : 0;
  return keep;
}

/** Where an owner's byte is in `rowFilter`. */
export function filterSlot(profile: Profile, owner: number): number {
  return owner === NO_OWNER ? profile.owners.count : owner;
}

function ungrouped(profile: Profile, keep: Uint8Array): RawTree {
  const { nodes, rows } = profile;
  const self = (type: number) => {
    const values = rows.values[type];
    const sums = new Float64Array(nodes.count);
    for (let row = 0; row < rows.count; row++) {
      if (keep[filterSlot(profile, rows.owner[row])]) sums[rows.node[row]] += values[row];
    }
    return sums;
  };
  // Both are read as signed: the root's frame, 0xffffffff, becomes ROOT_FRAME, and no index reaches 2^31.
  const frame = new Int32Array(nodes.frame.buffer, nodes.frame.byteOffset, nodes.count);
  const parent = new Int32Array(nodes.parent.buffer, nodes.parent.byteOffset, nodes.count);
  return { count: nodes.count, frame, parent, self };
}

function grouped(profile: Profile, directory: Directory, keep: Uint8Array, choice: Choice): Built {
  const { nodes, rows, frames } = profile;
  const { labels, groupOf, parentGroup } = groupLabels(profile, directory, choice.grouping);

  // Rows of the same group after each other, so that one stamp per node tells whether the group has the node already.
  const starts = new Int32Array(labels.length + 1);
  for (let row = 0; row < rows.count; row++) starts[groupOf[filterSlot(profile, rows.owner[row])] + 1]++;
  for (let group = 0; group < labels.length; group++) starts[group + 1] += starts[group];
  const ordered = new Int32Array(rows.count);
  const fill = starts.slice();
  for (let row = 0; row < rows.count; row++) ordered[fill[groupOf[filterSlot(profile, rows.owner[row])]]++] = row;

  const frame = new Grow(nodes.count * 2);
  const parent = new Grow(nodes.count * 2);
  const rowNode = new Int32Array(rows.count).fill(-1);
  frame.push(ROOT_FRAME);
  parent.push(-1);
  const groupNode = new Int32Array(labels.length).fill(-1);
  const nodeOfGroup = (group: number): number => {
    if (groupNode[group] < 0) {
      const above = parentGroup[group] < 0 ? 0 : nodeOfGroup(parentGroup[group]);
      groupNode[group] = frame.length;
      frame.push(frames.count + group);
      parent.push(above);
    }
    return groupNode[group];
  };
  const stamp = new Int32Array(nodes.count).fill(-1);
  const copy = new Int32Array(nodes.count);
  const pending: number[] = [];
  for (let group = 0; group < labels.length; group++) {
    for (let index = starts[group]; index < starts[group + 1]; index++) {
      const row = ordered[index];
      if (!keep[filterSlot(profile, rows.owner[row])]) continue;
      let node = rows.node[row];
      while (node !== 0 && stamp[node] !== group) {
        pending.push(node);
        node = nodes.parent[node];
      }
      let above = node === 0 ? nodeOfGroup(group) : copy[node];
      while (pending.length > 0) {
        const below = pending.pop() as number;
        stamp[below] = group;
        copy[below] = frame.length;
        parent.push(above);
        above = frame.length;
        frame.push(nodes.frame[below]);
      }
      rowNode[row] = above;
    }
  }
  const count = frame.length;
  const self = (type: number) => {
    const values = rows.values[type];
    const sums = new Float64Array(count);
    for (let row = 0; row < rows.count; row++) if (rowNode[row] >= 0) sums[rowNode[row]] += values[row];
    return sums;
  };
  const raw = { count, frame: frame.array, parent: parent.array, self };
  return { tree: finishTree(raw, choice.type), groups: labels };
}

/** Labels of all groups, and which group an owner's rows belong to. A thread's group lies in its process's group. */
function groupLabels(profile: Profile, directory: Directory, grouping: Grouping) {
  const { owners } = profile;
  const labels = directory.processes.map(processLabel);
  const parentGroup = labels.map(() => -1);
  const groupOf = new Int32Array(owners.count + 1);
  for (let owner = 0; owner < owners.count; owner++) {
    groupOf[owner] = directory.processOf[owner];
    if (grouping === "thread") {
      groupOf[owner] = labels.length;
      labels.push(threadLabel(profile, owner));
      parentGroup.push(directory.processOf[owner]);
    }
  }
  groupOf[owners.count] = labels.length;
  labels.push(NOBODY);
  parentGroup.push(-1);
  return { labels, groupOf, parentGroup };
}

/** Which process or thread a group stands for; `null` for rows that nobody is named for. */
export function groupOwner(profile: Profile, directory: Directory, group: number): { label: "process" | "thread"; value: string } | null {
  const { processes } = directory;
  if (group < processes.length) return { label: "process", value: processes[group].name };
  const owner = group - processes.length;
  return owner < profile.owners.count && owner >= 0 ? { label: "thread", value: profile.strings[profile.owners.thread[owner]] } : null;
}

/** `postgres (4211)`. */
export function processLabel(process: { pid: number; name: string }): string {
  if (process.name === "") return process.pid === 0 ? NOBODY : `pid ${process.pid}`;
  return process.pid === 0 ? process.name : `${process.name} (${process.pid})`;
}

/** `worker-3 (4215)`. */
export function threadLabel(profile: Profile, owner: number): string {
  const { owners, strings } = profile;
  return processLabel({ pid: owners.tid[owner], name: strings[owners.thread[owner]] });
}
