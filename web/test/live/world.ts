/**
 * A node that never was: who ran when and in which stacks, for a server that stands in for the real one.
 *
 * Constraint: everything follows from the time alone, so that tests know every number. `checkout-1` gets slower four minutes before the
 * end: it parses twice as much and calls a function that it did not call before.
 */
import { HOSTILE_NAMES, PERIOD_NS, type Made, type MadeFunction } from "../generate.ts";

export const END = Date.UTC(2026, 2, 2, 10, 0, 0);
export const BEGIN = END - 24 * 3_600_000;
/** Nothing runs any more from then on; a stranger's range may end in the year 275760. */
const LAST = END + 24 * 3_600_000;
/** ms; what the history is kept in. */
export const SLOT = 10_000;
export const SLOWER_SINCE = END - 240_000;

export const LABELS = ["namespace", "workload", "pod", "container", "service", "process", "thread", "executable", "node"];

export interface Condition {
  label: string;
  operator: string;
  value: string;
}

interface Program {
  labels: Record<string, string>;
  pid: number;
  stacks: { stack: string[]; samples: (time: number) => number; reason?: string; line?: number }[];
}

const FUNCTIONS: MadeFunction[] = [
  { name: "_start", mapping: "server" },
  { name: "main", file: "src/main.rs", line: 12, mapping: "server" },
  { name: "server::handle<Request>", file: "src/handle.rs", line: 40, mapping: "server" },
  { name: "server::parse", file: "src/parse.rs", line: 7, mapping: "server" },
  { name: "regex::compile", file: "regex/src/lib.rs", line: 61, mapping: "server" },
  { name: "core::str::from_utf8", file: "core/src/str.rs", line: 90, mapping: "server" },
  { name: "runtime.main", file: "proc.go", line: 145, mapping: "cart", kind: "go" },
  { name: "main.(*Cart).Add", file: "cart.go", line: 31, mapping: "cart", kind: "go" },
  { name: "PostgresMain", file: "postgres.c", line: 4000, mapping: "postgres" },
  { name: "ExecScan", file: "execScan.c", line: 155, mapping: "postgres" },
  { name: "entry_SYSCALL_64", mapping: "[kernel]", kind: "kernel" },
  { name: "tcp_sendmsg", mapping: "[kernel]", kind: "kernel" },
];

const wave = (time: number, period: number, low: number, high: number) => Math.round(low + ((high - low) * (1 + Math.sin((time / period) * 2 * Math.PI))) / 2);

function shop(pod: string, container: string, process: string, executable: string): Record<string, string> {
  return { namespace: "shop", workload: pod.replace(/-\d+$/, ""), pod, container, service: pod.replace(/-\d+$/, ""), process, thread: process, executable, node: "worker-3" };
}

function checkout(pod: string, pid: number): Program {
  const slower = (time: number) => pod === "checkout-1" && time >= SLOWER_SINCE;
  const above = ["_start", "main", "server::handle<Request>"];
  return {
    labels: shop(pod, "server", "server", "/usr/bin/server"),
    pid,
    stacks: [
      { stack: [...above, "server::parse", "~core::str::from_utf8"], samples: (time) => (slower(time) ? 80 : 40), line: 95 },
      { stack: [...above, "server::parse", "regex::compile"], samples: (time) => (slower(time) ? 60 : 0), line: 70 },
      { stack: [...above, "entry_SYSCALL_64", "tcp_sendmsg"], samples: () => 30, reason: "bad_read" },
    ],
  };
}

const PROGRAMS: Program[] = [
  checkout("checkout-1", 100),
  checkout("checkout-2", 101),
  { labels: shop("cart-1", "cart", "cart", "/cart"), pid: 200, stacks: [{ stack: ["runtime.main", "main.(*Cart).Add"], samples: (time) => wave(time, 600_000, 20, 120) }] },
  { labels: shop("postgres-0", "db", "postgres", "/usr/bin/postgres"), pid: 300, stacks: [{ stack: ["PostgresMain", "ExecScan"], samples: (time) => wave(time, 7_200_000, 60, 300) }] },
  { labels: { process: "kubelet", thread: "kubelet", executable: "/usr/bin/kubelet", node: "worker-3" }, pid: 50, stacks: [{ stack: ["runtime.main", "entry_SYSCALL_64"], samples: () => 12 }] },
];

/** One slot of one program. */
interface Piece {
  labels: Record<string, string>;
  time: number;
  samples: number;
}

export class World {
  private readonly programs: Program[];
  private readonly functions: MadeFunction[];

  /** `hostile`: one more program for each name that is meant to do harm; `crowd`: so many more pods, of one program. */
  constructor(hostile: boolean, crowd: number) {
    this.functions = hostile ? [...FUNCTIONS, ...HOSTILE_NAMES.map((name) => ({ name, file: name, mapping: name }))] : FUNCTIONS;
    const bad = HOSTILE_NAMES.map((name, index): Program => ({
      labels: Object.fromEntries(LABELS.map((label) => [label, label === "node" ? "worker-3" : name])),
      pid: 900 + index,
      stacks: [{ stack: [...HOSTILE_NAMES].filter((each) => !each.startsWith("~")), samples: () => 500 - index, reason: name }],
    }));
    const many = Array.from({ length: crowd }, (_, index): Program => ({
      labels: shop(`crowd-${index}`, "server", "server", "/usr/bin/server"),
      pid: 10_000 + index,
      stacks: [{ stack: ["_start", "main"], samples: () => 1 }],
    }));
    this.programs = [...PROGRAMS, ...(hostile ? bad : []), ...many];
  }

  private slots({ from, to }: { from: number; to: number }): number[] {
    const first = Math.max(BEGIN, Math.ceil(from / SLOT) * SLOT);
    const times: number[] = [];
    for (let time = first; time < Math.min(to, LAST); time += SLOT) times.push(time);
    return times;
  }

  private matching(where: Condition[]): Program[] {
    const one = (value: string, { operator, value: wanted }: Condition) => (operator === "=" ? value === wanted : operator === "^=" ? value.startsWith(wanted) : value.includes(wanted));
    const labels = [...new Set(where.map(({ label }) => label))];
    return this.programs.filter((program) => labels.every((label) => where.filter((each) => each.label === label).some((each) => one(program.labels[label] ?? "", each))));
  }

  /** CPU time by program. */
  totals(range: { from: number; to: number }, where: Condition[]): Omit<Piece, "time">[] {
    const times = this.slots(range);
    const sum = ({ stacks }: Program) => stacks.reduce((all, { samples }) => times.reduce((sofar, time) => sofar + samples(time), all), 0);
    // Without a slot nobody ran.
    return times.length === 0 ? [] : this.matching(where).map((program) => ({ labels: program.labels, samples: sum(program) }));
  }

  /** CPU time by slot and program. */
  pieces(range: { from: number; to: number }, where: Condition[]): Piece[] {
    const times = this.slots(range);
    return this.matching(where).flatMap(({ labels, stacks }) => times.map((time) => ({ labels, time, samples: stacks.reduce((sum, { samples }) => sum + samples(time), 0) })));
  }

  profile(range: { from: number; to: number }, where: Condition[]): Made {
    const times = this.slots(range);
    const programs = this.matching(where);
    const owners = programs.map(({ labels, pid }) => ({ pid, process: labels.process, tid: pid, thread: labels.thread }));
    const rows = programs.flatMap(({ stacks }, owner) =>
      stacks.map(({ stack, samples, reason, line }) => ({ stack, owner, samples: times.reduce((sum, time) => sum + samples(time), 0), ...(reason ? { reason } : {}), ...(line ? { line } : {}) })),
    );
    return { functions: this.functions, owners, rows: rows.filter(({ samples }) => samples > 0), title: "worker-3", facts: [] };
  }
}

export const CPU_OF_SAMPLE = PERIOD_NS;
