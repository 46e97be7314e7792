/**
 * Made-up profiles: a small one whose numbers tests know, a hostile one, and large ones for measuring.
 *
 * Constraint: the same arguments give the same bytes (own random numbers, fixed seed).
 */
import { deflateRawSync } from "node:zlib";
import { readFileSync } from "node:fs";
import { encode, NO_FRAME, NO_OWNER, type Fact } from "../src/data/format.ts";

export const KINDS = ["native", "go", "kernel", "kernel module", "bpf", "vdso", "jit", "interpreter", "marker", "unknown"];

export interface MadeFunction {
  name: string;
  file?: string;
  line?: number;
  mapping?: string;
  kind?: string;
}

export interface MadeOwner {
  pid: number;
  process: string;
  tid: number;
  thread: string;
}

export interface MadeRow {
  /** Root first; names of functions, `~name` for an inlined one. */
  stack: string[];
  samples: number;
  owner?: number;
  line?: number;
  /** Why the stack is not complete. */
  reason?: string;
}

export interface Made {
  functions: MadeFunction[];
  owners: MadeOwner[];
  rows: MadeRow[];
  title?: string;
  facts?: Fact[];
  notes?: string[];
}

export const PERIOD_NS = 10_101_010;

/** Writes the container that the profiler would write. */
export function encodeMade(made: Made): Uint8Array {
  const strings: string[] = [""];
  const texts = new Map<string, number>([["", 0]]);
  const text = (value: string): number => {
    let index = texts.get(value);
    if (index === undefined) {
      index = strings.push(value) - 1;
      texts.set(value, index);
    }
    return index;
  };
  const functionIndex = new Map(made.functions.map(({ name }, index) => [name, index]));
  const frames: { function: number; inlined: number }[] = [];
  const frameIndex = new Map<string, number>();
  const frameOf = (name: string): number => {
    let index = frameIndex.get(name);
    if (index === undefined) {
      const inlined = name.startsWith("~");
      const found = functionIndex.get(inlined ? name.slice(1) : name);
      if (found === undefined) throw new Error(`no function ${name}`);
      index = frames.push({ function: found, inlined: inlined ? 1 : 0 }) - 1;
      frameIndex.set(name, index);
    }
    return index;
  };

  // A trie in the order of insertion, then renumbered depth first, the largest child first.
  const trie: { frame: number; children: Map<number, number> }[] = [{ frame: NO_FRAME, children: new Map() }];
  const leafOf = made.rows.map(({ stack }) => {
    let node = 0;
    for (const name of stack) {
      const frame = frameOf(name);
      let child = trie[node].children.get(frame);
      if (child === undefined) {
        child = trie.push({ frame, children: new Map() }) - 1;
        trie[node].children.set(frame, child);
      }
      node = child;
    }
    return node;
  });
  const totals = new Float64Array(trie.length);
  made.rows.forEach(({ samples }, row) => (totals[leafOf[row]] += samples));
  const parents = new Int32Array(trie.length);
  trie.forEach(({ children }, node) => children.forEach((child) => (parents[child] = node)));
  for (let node = trie.length - 1; node > 0; node--) totals[parents[node]] += totals[node];
  const order: number[] = [];
  const depths: number[] = [];
  const place = new Int32Array(trie.length);
  const pending: [number, number][] = [[0, 0]];
  for (let top = pending.pop(); top; top = pending.pop()) {
    const [node, depth] = top;
    place[node] = order.push(node) - 1;
    depths.push(depth);
    const children = [...trie[node].children.values()].sort((a, b) => totals[a] - totals[b] || trie[b].frame - trie[a].frame);
    for (const child of children) pending.push([child, depth + 1]);
  }
  // Rows in the order of their nodes, as the profiler writes them.
  const rows = made.rows.map((row, index) => ({ row, node: place[leafOf[index]] })).sort((a, b) => a.node - b.node);
  const u32 = (values: number[]) => Uint32Array.from(values);
  const functions = made.functions;
  return encode(
    {
      title: made.title ?? "node-7",
      facts: made.facts ?? FACTS,
      notes: made.notes ?? [],
      sample_types: [{ name: "samples", unit: "count" }, { name: "cpu", unit: "nanoseconds" }],
      default_type: 1,
      kinds: KINDS,
      ...addTexts(),
    },
    {
      "functions.name": u32(functions.map(({ name }) => text(name))),
      "functions.file": u32(functions.map(({ file }) => text(file ?? ""))),
      "functions.line": u32(functions.map(({ line }) => line ?? 0)),
      "functions.mapping": u32(functions.map(({ mapping }) => text(mapping ?? ""))),
      "functions.kind": u32(functions.map(({ kind }) => KINDS.indexOf(kind ?? "native"))),
      "frames.function": u32(frames.map((frame) => frame.function)),
      "frames.inlined": u32(frames.map((frame) => frame.inlined)),
      "nodes.frame": u32(order.map((node) => trie[node].frame)),
      "nodes.depth": Uint16Array.from(depths),
      "owners.pid": Float64Array.from(made.owners, ({ pid }) => pid),
      "owners.process": u32(made.owners.map(({ process }) => text(process))),
      "owners.tid": Float64Array.from(made.owners, ({ tid }) => tid),
      "owners.thread": u32(made.owners.map(({ thread }) => text(thread))),
      "rows.owner": u32(rows.map(({ row }) => row.owner ?? NO_OWNER)),
      "rows.node": u32(rows.map(({ node }) => node)),
      "rows.line": u32(rows.map(({ row }) => row.line ?? 0)),
      "rows.reason": u32(rows.map(({ row }) => text(row.reason ?? ""))),
      "rows.value.0": Float64Array.from(rows, ({ row }) => row.samples),
      "rows.value.1": Float64Array.from(rows, ({ row }) => row.samples * PERIOD_NS),
    },
  );

  function addTexts(): { strings: string[] } {
    for (const { name, file, mapping } of made.functions) [name, file ?? "", mapping ?? ""].forEach(text);
    for (const { process, thread } of made.owners) [process, thread].forEach(text);
    return { strings };
  }
}

const FACTS: Fact[] = [
  { label: "Started", value: "2026-03-02 09:41:07 UTC" },
  { label: "Duration", value: "60.0 s" },
  { label: "Rate", value: "99 Hz on 8 CPUs" },
  { label: "Samples", value: "21 482" },
  { label: "Complete stacks", value: "99.4 %" },
  { label: "Named frames", value: "98.7 %" },
  { label: "Ledger", value: "47 520 due = 21 482 recorded + 26 031 idle + 0 dropped + 7 undelivered", detail: "What became of every hit of the sampling timer" },
  { label: "Kernel", value: "6.12.9 x86_64" },
];

/** The page with a profile in it: what the profiler writes. */
export function assemble(container: Uint8Array): string {
  const page = readFileSync("dist/page.html", "utf8");
  const base64 = deflateRawSync(container, { level: 6 }).toString("base64");
  const script = `<script type="application/octet-stream" id="everflame-profile" data-encoding="deflate-raw;base64" data-length="${container.length}">${base64}</script>`;
  const [before, after] = page.split("<!--everflame-profile-->");
  return before + script + after;
}

/** Numbers from 0 to 1 that are the same each time (mulberry32). */
export function randomNumbers(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let value = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) / 4294967296;
  };
}

/** A profile whose numbers the tests know by heart: 100 samples. */
export function smallProfile(): Made {
  return {
    functions: [
      { name: "_start", mapping: "server" },
      { name: "main", file: "src/main.rs", line: 12, mapping: "server" },
      { name: "server::handle<Request>", file: "src/handle.rs", line: 40, mapping: "server" },
      { name: "server::parse", file: "src/parse.rs", line: 7, mapping: "server" },
      { name: "core::str::from_utf8", file: "core/src/str.rs", line: 90, mapping: "server" },
      { name: "runtime.main", file: "proc.go", line: 145, mapping: "agent", kind: "go" },
      { name: "entry_SYSCALL_64", mapping: "[kernel]", kind: "kernel" },
      { name: "ext4_file_read_iter", mapping: "ext4", kind: "kernel module" },
      { name: "[unknown] libz.so+0x4f10", mapping: "libz.so", kind: "unknown" },
      { name: "[truncated]", kind: "marker" },
    ],
    owners: [
      { pid: 100, process: "server", tid: 100, thread: "server" },
      { pid: 100, process: "server", tid: 101, thread: "worker" },
      { pid: 200, process: "agent", tid: 200, thread: "agent" },
    ],
    rows: [
      { stack: ["_start", "main", "server::handle<Request>", "server::parse", "~core::str::from_utf8"], samples: 30, owner: 1, line: 95 },
      { stack: ["_start", "main", "server::handle<Request>", "server::parse", "~core::str::from_utf8"], samples: 10, owner: 1, line: 99 },
      { stack: ["_start", "main", "server::handle<Request>", "server::parse", "server::parse"], samples: 10, owner: 0, line: 8 },
      { stack: ["_start", "main", "server::handle<Request>", "entry_SYSCALL_64", "ext4_file_read_iter"], samples: 15, owner: 0 },
      { stack: ["_start", "main", "[unknown] libz.so+0x4f10"], samples: 5, owner: 0 },
      { stack: ["runtime.main", "entry_SYSCALL_64"], samples: 25, owner: 2 },
      { stack: ["[truncated]", "server::parse"], samples: 5, owner: 1, line: 8 },
    ],
  };
}

/** Names that would do harm in a page that trusts them. */
export const HOSTILE_NAMES = [
  `<script>window.hacked=1</script>`,
  `</script><script>window.hacked=2</script>`,
  `<!--<script>`,
  `"><img src=x onerror="window.hacked=3">`,
  `<svg onload=window.hacked=4>`,
  `javascript:window.hacked=5`,
  "line\nbreak\u0000\u001b[31mred\u007f",
  "\u202egnp.exe\u202c",
  "\u2028\u2029]]>&lt;&#0;",
  "__proto__",
  "constructor",
  "名前::関数<テンプレート>",
  "x".repeat(20_000),
  "\ud800 lone surrogate",
];

export function hostileProfile(): Made {
  return {
    title: HOSTILE_NAMES[1],
    facts: HOSTILE_NAMES.slice(0, 5).map((name) => ({ label: name, value: name, detail: name })),
    notes: [HOSTILE_NAMES[0]],
    functions: HOSTILE_NAMES.map((name) => ({ name, file: name, line: 3, mapping: name })),
    owners: HOSTILE_NAMES.map((name, index) => ({ pid: index + 1, process: name, tid: index + 1, thread: name })),
    rows: HOSTILE_NAMES.map((_, index) => ({ stack: HOSTILE_NAMES.slice(index), samples: index + 1, owner: index, line: 3 })),
  };
}

/** A large profile with about as many distinct stacks as asked for: skewed like real ones, several programs, mixed kinds. */
export function largeProfile(stacks: number, seed = 7): Made {
  const random = randomNumbers(seed);
  const functions: MadeFunction[] = [];
  const modules = ["tokio::runtime", "hyper::proto::h1", "serde_json::de", "rocksdb::db_impl", "regex_automata::dfa", "rustls::conn", "alloc::vec", "std::sync", "tracing_core", "http::header", "sql::planner", "sql::executor"];
  const verbs = ["poll", "read_buf", "next_state", "parse_value", "compact_range", "find_at", "write_all", "lock", "insert", "flush", "seek", "merge", "decode", "dispatch", "park", "evaluate"];
  const programs = [
    { name: "api-server", kind: "native", count: 5200 },
    { name: "postgres", kind: "native", count: 3600 },
    { name: "kubelet", kind: "go", count: 3800 },
    { name: "node", kind: "jit", count: 1500 },
    { name: "python3", kind: "interpreter", count: 900 },
  ];
  const pools: number[][] = [];
  for (const program of programs) {
    const pool: number[] = [];
    for (let index = 0; index < program.count; index++) {
      const module = modules[Math.floor(random() * modules.length)];
      const verb = verbs[Math.floor(random() * verbs.length)];
      const name =
        program.kind === "go" ? `k8s.io/${module.replaceAll("::", "/")}.(*T${index}).${verb}`
        : program.kind === "native" ? `<${module}::T${index}<A> as ${module}::Service>::${verb}`
        : `${verb}_${index} (${module.split("::")[0]}.${program.kind === "jit" ? "js" : "py"})`;
      pool.push(functions.push({ name, file: `src/${module.replaceAll("::", "/")}/${verb}.rs`, line: 10 + index, mapping: program.name, kind: program.kind }) - 1);
    }
    pools.push(pool);
  }
  const kernel: number[] = [];
  for (const name of ["entry_SYSCALL_64_after_hwframe", "do_syscall_64", "x64_sys_call", "ksys_read", "vfs_read", "tcp_sendmsg_locked", "tcp_write_xmit", "ip_queue_xmit", "dev_queue_xmit", "do_epoll_wait", "schedule", "copy_user_enhanced", "nft_do_chain", "ext4_file_read_iter"]) {
    kernel.push(functions.push({ name, mapping: "[kernel.kallsyms]", kind: /nft|ext4/.test(name) ? "kernel module" : "kernel" }) - 1);
  }
  const unknown = functions.push({ name: "[unknown] libnative.so+0x91f4", mapping: "libnative.so", kind: "unknown" }) - 1;
  const owners: MadeOwner[] = [];
  const ownersOf = programs.map((program, index) =>
    Array.from({ length: 12 }, (_, thread) => owners.push({ pid: 1000 + index, process: program.name, tid: 1000 + index + thread * 10, thread: `worker-${thread}` }) - 1),
  );
  // Callees of a function: a few fixed ones, the first far more likely, so that stacks share long prefixes.
  const callees = new Map<number, number[]>();
  const calleesOf = (from: number, pool: number[]): number[] => {
    let list = callees.get(from);
    if (!list) {
      list = Array.from({ length: 1 + Math.floor(random() * 5) }, () => pool[Math.floor(random() * pool.length)]);
      callees.set(from, list);
    }
    return list;
  };
  const rows: MadeRow[] = [];
  const seen = new Set<string>();
  while (rows.length < stacks) {
    const which = Math.min(programs.length - 1, Math.floor(-Math.log(1 - random()) * 1.3));
    const pool = pools[which];
    const indices = [pool[0], pool[1 + Math.floor(random() ** 3 * 4)]];
    const depth = 12 + Math.floor(random() * 36);
    while (indices.length < depth) {
      const list = calleesOf(indices[indices.length - 1], pool);
      indices.push(list[Math.floor(random() ** 2.2 * list.length)]);
    }
    if (random() < 0.02) indices.push(unknown);
    if (random() < 0.3) indices.push(...kernel.slice(0, 3), ...kernel.slice(3 + Math.floor(random() * 4), 7 + Math.floor(random() * 8)));
    const key = indices.join();
    if (seen.has(key)) continue;
    seen.add(key);
    const stack = indices.map((index) => (functions[index].kind === "native" && index % 3 === 0 ? `~${functions[index].name}` : functions[index].name));
    rows.push({ stack, samples: 1 + Math.floor(-Math.log(1 - random()) * 2), owner: ownersOf[which][Math.floor(random() ** 2 * 12)], line: 20 + Math.floor(random() * 9) });
  }
  return { functions, owners, rows };
}
