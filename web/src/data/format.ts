/**
 * The wire format between the profiler and this page: one byte container, described in FORMAT.md.
 *
 * Constraint: the bytes may come from anywhere. Every index is checked here once, so that nothing after this file needs to.
 * It does not know how the bytes came (embedded in the file, or fetched): see bootstrap.ts.
 */

/** The only version this page reads. The profiler writes the same number. */
export const VERSION = 1;

/** `nodes.frame` of the root. */
export const NO_FRAME = 0xffffffff;

/** `rows.owner` of samples that nobody is named for. */
export const NO_OWNER = 0xffffffff;

const MAGIC = "EVFPAGE1";
const HEAD_START = 16;

/** A line of the header: plain text, made ready by the profiler. */
export interface Fact {
  label: string;
  value: string;
  /** A longer explanation, shown on hover and to screen readers. */
  detail?: string;
  /** `warn` marks a fact that makes the profile less trustworthy. */
  tone?: "warn";
}

/** What one value column means, as in pprof: `cpu` in `nanoseconds`, `samples` in `count`. */
export interface SampleType {
  name: string;
  unit: string;
}

/** Little-endian numbers of 2, 4 or 8 bytes. */
export type ColumnType = "u16" | "u32" | "f64";

/** A column's place, in bytes after the padded head. */
export interface ColumnPlace {
  type: ColumnType;
  offset: number;
  length: number;
}

/** The JSON head of the container. */
export interface Head {
  version: number;
  title: string;
  facts: Fact[];
  notes: string[];
  sample_types: SampleType[];
  default_type: number;
  kinds: string[];
  strings: string[];
  columns: Record<string, ColumnPlace>;
}

/** In a profile that was made of two (model/compare.ts): which sample type holds what. */
export interface Comparison {
  /** Mean of both sides: what widths are made of, so that nothing is lost that only one side has. */
  both: number;
  current: number;
  baseline: number;
  /** Numbers of samples, from which follows what chance explains; -1 = not known. */
  currentSamples: number;
  baselineSamples: number;
}

/** A profile in memory: columns side by side, indices checked. */
export interface Profile {
  title: string;
  facts: Fact[];
  /** Things that the profiler left out of the page and says so. */
  notes: string[];
  sampleTypes: SampleType[];
  defaultType: number;
  /** Names of the kinds of code; `functions.kind` points here. */
  kinds: string[];
  strings: string[];
  /** What the table lists. `name`, `file` and `mapping` point into `strings`; 0 is the empty text. */
  functions: {
    count: number;
    name: Uint32Array;
    file: Uint32Array;
    line: Uint32Array;
    mapping: Uint32Array;
    kind: Uint32Array;
  };
  /** What a box stands for: a function, inlined or not. */
  frames: { count: number; function: Uint32Array; inlined: Uint32Array };
  /**
   * The prefix tree of all stacks, depth first: a node is followed by everything below it. Node 0 is the root and has no frame.
   * Children come largest first (by the default type), which saves the page from sorting them.
   */
  nodes: { count: number; frame: Uint32Array; parent: Uint32Array; depth: Uint16Array };
  /** Threads with their processes. */
  owners: { count: number; pid: Float64Array; process: Uint32Array; tid: Float64Array; thread: Uint32Array };
  /** One row for each distinct (owner, stack, line of the leaf, reason); `values[type][row]`. */
  rows: {
    count: number;
    owner: Uint32Array;
    node: Uint32Array;
    line: Uint32Array;
    reason: Uint32Array;
    values: Float64Array[];
  };
  /** `null`: one profile, not two. */
  comparison: Comparison | null;
}

/** Why bytes are not a profile that this page can show. */
export class FormatError extends Error {
  override name = "FormatError";
}

/** Reads a container. Throws `FormatError` when anything in it is out of bounds. */
export function decode(bytes: Uint8Array): Profile {
  const { head, body } = splitContainer(bytes);
  const column = (name: string, type: ColumnType) => readColumn(body, head.columns, name, type);
  const u32 = (name: string) => column(name, "u32") as Uint32Array;
  const f64 = (name: string) => column(name, "f64") as Float64Array;

  const functions = {
    count: 0,
    name: u32("functions.name"),
    file: u32("functions.file"),
    line: u32("functions.line"),
    mapping: u32("functions.mapping"),
    kind: u32("functions.kind"),
  };
  functions.count = sameLength(functions, "functions");
  const frames = { count: 0, function: u32("frames.function"), inlined: u32("frames.inlined") };
  frames.count = sameLength(frames, "frames");
  const nodeFrame = u32("nodes.frame");
  const depth = column("nodes.depth", "u16") as Uint16Array;
  const nodes = { count: nodeFrame.length, frame: nodeFrame, parent: parentsFromDepths(depth, nodeFrame.length), depth };
  const owners = {
    count: 0,
    pid: f64("owners.pid"),
    process: u32("owners.process"),
    tid: f64("owners.tid"),
    thread: u32("owners.thread"),
  };
  owners.count = sameLength(owners, "owners");
  const rowColumns = {
    count: 0,
    owner: u32("rows.owner"),
    node: u32("rows.node"),
    line: u32("rows.line"),
    reason: u32("rows.reason"),
  };
  rowColumns.count = sameLength(rowColumns, "rows");
  const values = head.sample_types.map((_, type) => f64(`rows.value.${type}`));
  for (const value of values) {
    if (value.length !== rowColumns.count) throw new FormatError("rows.value has another length than rows");
    for (let row = 0; row < value.length; row++) {
      if (!(value[row] >= 0 && value[row] < Infinity)) throw new FormatError("rows.value holds a value that is not a count");
    }
  }

  const texts = head.strings.length;
  for (const name of ["name", "file", "mapping"] as const) inBounds(functions[name], texts, `functions.${name}`);
  inBounds(functions.kind, head.kinds.length, "functions.kind");
  inBounds(frames.function, functions.count, "frames.function");
  if (nodeFrame[0] !== NO_FRAME) throw new FormatError("nodes.frame: the first node is not a root");
  inBounds(nodeFrame.subarray(1), frames.count, "nodes.frame");
  inBounds(owners.process, texts, "owners.process");
  inBounds(owners.thread, texts, "owners.thread");
  inBounds(rowColumns.owner, owners.count, "rows.owner", NO_OWNER);
  inBounds(rowColumns.node, nodes.count, "rows.node");
  inBounds(rowColumns.reason, texts, "rows.reason");

  return {
    title: head.title,
    facts: head.facts,
    notes: head.notes,
    sampleTypes: head.sample_types,
    defaultType: head.default_type,
    kinds: head.kinds,
    strings: head.strings,
    functions,
    frames,
    nodes,
    owners,
    rows: { ...rowColumns, values },
    comparison: null,
  };
}

/** Writes a container: what the profiler does in Rust, here for tests and generated profiles. */
export function encode(head: Omit<Head, "version" | "columns">, columns: Record<string, Uint16Array | Uint32Array | Float64Array>): Uint8Array {
  const places: Record<string, ColumnPlace> = {};
  let offset = 0;
  for (const [name, data] of Object.entries(columns)) {
    places[name] = { type: data instanceof Float64Array ? "f64" : data instanceof Uint32Array ? "u32" : "u16", offset, length: data.length };
    offset = padded(offset + data.byteLength);
  }
  const json = new TextEncoder().encode(JSON.stringify({ version: VERSION, ...head, columns: places }));
  const bodyStart = padded(HEAD_START + json.length);
  const bytes = new Uint8Array(bodyStart + offset).fill(0x20, HEAD_START, bodyStart);
  bytes.set(new TextEncoder().encode(MAGIC), 0);
  new DataView(bytes.buffer).setUint32(8, json.length, true);
  bytes.set(json, HEAD_START);
  for (const [name, data] of Object.entries(columns)) {
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), bodyStart + places[name].offset);
  }
  return bytes;
}

function padded(length: number): number {
  return (length + 7) & ~7;
}

function splitContainer(bytes: Uint8Array): { head: Head; body: Uint8Array } {
  if (bytes.length < HEAD_START) throw new FormatError("too short to be a profile");
  for (let index = 0; index < MAGIC.length; index++) {
    if (bytes[index] !== MAGIC.charCodeAt(index)) throw new FormatError("not an Everflame page profile");
  }
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(8, true);
  const bodyStart = padded(HEAD_START + length);
  if (bodyStart > bytes.length) throw new FormatError("the head is longer than the data");
  const head: unknown = JSON.parse(new TextDecoder().decode(bytes.subarray(HEAD_START, HEAD_START + length)));
  checkHead(head);
  return { head, body: bytes.subarray(bodyStart) };
}

function checkHead(head: unknown): asserts head is Head {
  const bad = (what: string) => new FormatError(`head: ${what}`);
  const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;
  const isTextList = (value: unknown) => Array.isArray(value) && value.every((item) => typeof item === "string");
  if (!isRecord(head)) throw bad("not an object");
  if (head.version !== VERSION) throw bad(`version ${String(head.version)}, this page reads ${VERSION}`);
  if (typeof head.title !== "string") throw bad("title");
  for (const name of ["strings", "kinds", "notes"]) if (!isTextList(head[name])) throw bad(name);
  if ((head.strings as string[])[0] !== "") throw bad("the first string is not empty");
  const isFact = (fact: unknown) => isRecord(fact) && typeof fact.label === "string" && typeof fact.value === "string";
  if (!Array.isArray(head.facts) || !head.facts.every(isFact)) throw bad("facts");
  const types = head.sample_types;
  const isType = (type: unknown) => isRecord(type) && typeof type.name === "string" && typeof type.unit === "string";
  if (!Array.isArray(types) || types.length === 0 || !types.every(isType)) throw bad("sample_types");
  if (!Number.isInteger(head.default_type) || !types[head.default_type as number]) throw bad("default_type");
  if (!isRecord(head.columns)) throw bad("columns");
}

function readColumn(body: Uint8Array, places: Record<string, ColumnPlace>, name: string, type: ColumnType) {
  const place = Object.hasOwn(places, name) ? places[name] : undefined;
  if (!place || place.type !== type) throw new FormatError(`column ${name} is missing or not ${type}`);
  const { offset, length } = place;
  const size = type === "f64" ? 8 : type === "u32" ? 4 : 2;
  const whole = Number.isInteger(offset) && Number.isInteger(length) && offset >= 0 && length >= 0 && offset % 8 === 0;
  if (!whole || offset + length * size > body.length) throw new FormatError(`column ${name} lies outside of the data`);
  // A typed array needs an aligned start; the container keeps columns aligned, but not necessarily the buffer it came in.
  const start = body.byteOffset + offset;
  const buffer = start % size === 0 ? body.buffer : body.slice(offset, offset + length * size).buffer;
  const from = buffer === body.buffer ? start : 0;
  if (type === "f64") return new Float64Array(buffer, from, length);
  return type === "u32" ? new Uint32Array(buffer, from, length) : new Uint16Array(buffer, from, length);
}

function sameLength(columns: object, table: string): number {
  const lengths = Object.values(columns).filter((column) => typeof column !== "number").map((column) => (column as Uint32Array).length);
  if (new Set(lengths).size !== 1) throw new FormatError(`the columns of ${table} differ in length`);
  return lengths[0];
}

function inBounds(column: Uint32Array, bound: number, name: string, except = -1): void {
  for (let index = 0; index < column.length; index++) {
    if (column[index] >= bound && column[index] !== except) throw new FormatError(`${name} points outside of its table`);
  }
}

function parentsFromDepths(depth: Uint16Array, count: number): Uint32Array {
  if (depth.length !== count || count === 0) throw new FormatError("nodes.depth has another length than nodes.frame");
  const parent = new Uint32Array(count);
  // The last node seen on each level.
  const open = new Uint32Array(65536);
  if (depth[0] !== 0) throw new FormatError("nodes.depth: the first node is not a root");
  let above = 0;
  for (let node = 1; node < count; node++) {
    const here = depth[node];
    if (here === 0 || here > above + 1) throw new FormatError("nodes.depth is not a tree");
    parent[node] = open[here - 1];
    open[here] = node;
    above = here;
  }
  return parent;
}
