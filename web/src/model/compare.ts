/**
 * Two profiles → one that holds both, with the values of each side as sample types of their own.
 *
 * Constraint: nothing is merged here but names: the stacks of both lie side by side below one root, and the tree that is built of
 * them makes siblings of the same frame one (`mergeSiblings`). Functions are the same by name, kind and source file (or executable,
 * where the file is not known), so that two builds of a program can be compared. Processes are the same by name: pids change.
 */
import { NO_FRAME, NO_OWNER, type Profile } from "../data/format.ts";

/** What the two sides are measured in. */
export type Measure = "rate" | "share";

/** A profile and how long it was taken, in nanoseconds. */
export interface Side {
  profile: Profile;
  duration: number;
}

/** Index of the CPU time among the sample types: by its unit, or else the default. */
export function timeType(profile: Profile): number {
  const found = profile.sampleTypes.findIndex(({ unit }) => unit === "nanoseconds");
  return found < 0 ? profile.defaultType : found;
}

/** Puts both into one. Measured as CPU time in a second of the clock (`cores`), or as shares of each side's total (`share`). */
export function compare(current: Side, baseline: Side, measure: Measure): Profile {
  const sides = [current, baseline];
  const join = new Join();
  const parts = sides.map(({ profile }) => join.add(profile));
  const counts = sides.map(({ profile }) => profile.rows.count);
  const rowCount = counts[0] + counts[1];
  const samplesKnown = sides.every(({ profile }) => profile.sampleTypes.some(isSamples));
  const values = Array.from({ length: samplesKnown ? 5 : 3 }, () => new Float64Array(rowCount));
  sides.forEach((side, index) => {
    const { profile } = side;
    const from = profile.rows.values[timeType(profile)];
    const scale = measure === "rate" ? 1 / side.duration : 1 / from.reduce((sum, value) => sum + value, 0);
    const start = index * counts[0];
    for (let row = 0; row < profile.rows.count; row++) {
      const scaled = from[row] > 0 ? from[row] * scale : 0;
      values[0][start + row] = scaled / 2;
      values[1 + index][start + row] = scaled;
    }
    if (samplesKnown) values[3 + index].set(profile.rows.values[profile.sampleTypes.findIndex(isSamples)], start);
  });
  const unit = measure === "rate" ? "cores" : "share";
  const types = [{ name: "both", unit }, { name: "current", unit }, { name: "baseline", unit }];
  if (samplesKnown) types.push({ name: "samples of current", unit: "count" }, { name: "samples of baseline", unit: "count" });
  const nodeShift = [0, current.profile.nodes.count - 1];
  const ownerShift = [0, current.profile.owners.count];
  return {
    title: current.profile.title,
    facts: [],
    notes: [...new Set(sides.flatMap(({ profile }) => profile.notes))],
    sampleTypes: types,
    defaultType: 0,
    kinds: join.kinds,
    strings: join.strings,
    functions: join.functions(),
    frames: join.frames(),
    nodes: joinNodes(sides.map(({ profile }) => profile), parts.map(({ frame }) => frame)),
    owners: {
      count: current.profile.owners.count + baseline.profile.owners.count,
      pid: new Float64Array(current.profile.owners.count + baseline.profile.owners.count),
      process: concatenate(parts.map(({ process }) => process)),
      tid: new Float64Array(current.profile.owners.count + baseline.profile.owners.count),
      thread: concatenate(parts.map(({ thread }) => thread)),
    },
    rows: {
      count: rowCount,
      owner: concatenate(sides.map(({ profile }, side) => profile.rows.owner.map((owner) => (owner === NO_OWNER ? owner : owner + ownerShift[side])))),
      node: concatenate(sides.map(({ profile }, side) => profile.rows.node.map((node) => (node === 0 ? 0 : node + nodeShift[side])))),
      line: concatenate(sides.map(({ profile }) => profile.rows.line)),
      reason: concatenate(parts.map(({ reason }) => reason)),
      values,
    },
    comparison: { both: 0, current: 1, baseline: 2, currentSamples: samplesKnown ? 3 : -1, baselineSamples: samplesKnown ? 4 : -1 },
  };
}

function isSamples({ name, unit }: { name: string; unit: string }): boolean {
  return unit === "count" && name === "samples";
}

/** One side's numbers, pointing into the tables of both. */
interface Part {
  frame: Uint32Array;
  process: Uint32Array;
  thread: Uint32Array;
  reason: Uint32Array;
}

/** Tables of texts, functions and frames that grow side by side. */
class Join {
  readonly strings: string[] = [];
  readonly kinds: string[] = [];
  private readonly textIndex = new Map<string, number>();
  private readonly functionIndex = new Map<string, number>();
  private readonly frameIndex = new Map<number, number>();
  private readonly columns: [name: number[], file: number[], line: number[], mapping: number[], kind: number[]] = [[], [], [], [], []];

  constructor() {
    this.text("");
  }

  add(profile: Profile): Part {
    const text = Uint32Array.from(profile.strings, (value) => this.text(value));
    const kind = profile.kinds.map((name) => {
      const found = this.kinds.indexOf(name);
      return found >= 0 ? found : this.kinds.push(name) - 1;
    });
    const { functions, frames } = profile;
    const functionOf = new Uint32Array(functions.count);
    const [names, files, lines, mappings, kinds] = this.columns;
    for (let index = 0; index < functions.count; index++) {
      const name = text[functions.name[index]];
      const file = text[functions.file[index]];
      const mapping = text[functions.mapping[index]];
      const key = `${name} ${kind[functions.kind[index]]} ${file === 0 ? `m${mapping}` : file}`;
      let found = this.functionIndex.get(key);
      if (found === undefined) {
        found = names.push(name) - 1;
        files.push(file);
        lines.push(functions.line[index]);
        mappings.push(mapping);
        kinds.push(kind[functions.kind[index]]);
        this.functionIndex.set(key, found);
      }
      functionOf[index] = found;
    }
    const frame = new Uint32Array(frames.count);
    for (let index = 0; index < frames.count; index++) {
      const key = functionOf[frames.function[index]] * 2 + (frames.inlined[index] ? 1 : 0);
      let found = this.frameIndex.get(key);
      if (found === undefined) {
        found = this.frameIndex.size;
        this.frameIndex.set(key, found);
      }
      frame[index] = found;
    }
    const texts = (column: Uint32Array) => column.map((index) => text[index]);
    return { frame, process: texts(profile.owners.process), thread: texts(profile.owners.thread), reason: texts(profile.rows.reason) };
  }

  functions(): Profile["functions"] {
    const [name, file, line, mapping, kind] = this.columns.map((column) => Uint32Array.from(column));
    return { count: name.length, name, file, line, mapping, kind };
  }

  frames(): Profile["frames"] {
    const keys = [...this.frameIndex.keys()];
    return { count: keys.length, function: Uint32Array.from(keys, (key) => Math.floor(key / 2)), inlined: Uint32Array.from(keys, (key) => key % 2) };
  }

  private text(value: string): number {
    let index = this.textIndex.get(value);
    if (index === undefined) {
      index = this.strings.push(value) - 1;
      this.textIndex.set(value, index);
    }
    return index;
  }
}

/** Both trees below one root: the first as it is, then the second without its root. */
function joinNodes(profiles: Profile[], frameOf: Uint32Array[]): Profile["nodes"] {
  const count = profiles.reduce((sum, { nodes }) => sum + nodes.count - 1, 1);
  const frame = new Uint32Array(count);
  const parent = new Uint32Array(count);
  const depth = new Uint16Array(count);
  frame[0] = NO_FRAME;
  let next = 1;
  profiles.forEach(({ nodes }, side) => {
    const shift = next - 1;
    for (let node = 1; node < nodes.count; node++, next++) {
      frame[next] = frameOf[side][nodes.frame[node]];
      parent[next] = nodes.parent[node] === 0 ? 0 : nodes.parent[node] + shift;
      depth[next] = nodes.depth[node];
    }
  });
  return { count, frame, parent, depth };
}

function concatenate(columns: Uint32Array[]): Uint32Array {
  const joined = new Uint32Array(columns.reduce((sum, { length }) => sum + length, 0));
  let start = 0;
  for (const column of columns) {
    joined.set(column, start);
    start += column.length;
  }
  return joined;
}
