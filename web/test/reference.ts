/** The slow and obvious way to the same numbers: what the fast code is compared with. */
import { decode, type Profile } from "../src/data/format.ts";
import { processLabel, threadLabel } from "../src/model/build.ts";
import type { ViewTree } from "../src/model/tree.ts";
import { encodeMade, randomNumbers, type Made } from "./generate.ts";

/** A node of a tree of plain objects. */
export interface PlainNode {
  total: number;
  self: number;
  children: Record<string, PlainNode>;
}

/** One stack with its value: names root first. */
export interface PlainStack {
  names: string[];
  value: number;
}

/** A small random profile with much recursion and many shared prefixes. */
export function randomMade(seed: number): Made {
  const random = randomNumbers(seed);
  const pick = (bound: number) => Math.floor(random() * bound);
  const functions = Array.from({ length: 6 }, (_, index) => ({ name: `f${index}`, file: `file${index % 2}.rs`, mapping: `lib${index % 3}` }));
  const owners = Array.from({ length: 4 }, (_, index) => ({ pid: 10 + (index >> 1), process: `p${index >> 1}`, tid: 10 + index, thread: `t${index}` }));
  const rows = Array.from({ length: 40 }, () => ({
    stack: Array.from({ length: pick(7) }, () => (pick(4) === 0 ? "~" : "") + `f${pick(6)}`),
    samples: pick(5),
    line: pick(3),
    ...(pick(8) === 0 ? {} : { owner: pick(4) }),
  }));
  return { functions, owners, rows };
}

export function makeProfile(made: Made): Profile {
  return decode(encodeMade(made));
}

/** Merges stacks; nodes without value are left out, as in the fast trees. */
export function plainTree(stacks: PlainStack[]): PlainNode {
  const root: PlainNode = { total: 0, self: 0, children: {} };
  for (const { names, value } of stacks) {
    if (value === 0) continue;
    let node = root;
    node.total += value;
    for (const name of names) {
      node.children[name] ??= { total: 0, self: 0, children: {} };
      node = node.children[name];
      node.total += value;
    }
    node.self += value;
  }
  return root;
}

/** A fast tree as plain objects; the frame's text is its name, `~` before an inlined one, or a group's label. */
export function toPlain(profile: Profile, tree: ViewTree, groups: string[], node = 0): PlainNode {
  const children: Record<string, PlainNode> = {};
  for (let child = node + 1; child < node + tree.size[node]; child += tree.size[child]) {
    children[frameText(profile, tree.frame[child], groups)] = toPlain(profile, tree, groups, child);
  }
  return { total: tree.total[node], self: tree.self[node], children };
}

export function frameText(profile: Profile, frame: number, groups: string[] = []): string {
  if (frame >= profile.frames.count) return groups[frame - profile.frames.count];
  const name = profile.strings[profile.functions.name[profile.frames.function[frame]]];
  return (profile.frames.inlined[frame] ? "~" : "") + name;
}

export function ownerLabels(profile: Profile, owner: number): { process: string; thread: string } {
  const { owners, strings } = profile;
  const process = processLabel({ pid: owners.pid[owner], name: strings[owners.process[owner]] });
  return { process, thread: threadLabel(profile, owner) };
}
