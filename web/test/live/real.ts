/** A real `everflame` with a history of its own beside a small load, for tests that run as root. */
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** Path of the program; `cargo xtask test --only page-browser` builds it and says where it is. */
const VARIABLE = "EVERFLAME_PROGRAM";
/** For an address after the start, and for the end after it was asked for, ms: on the busiest machine less than this. */
const LONGEST = 60_000;
/** The load: its name as a process. */
export const LOAD = "yes";

/** Why no real one can be started here; `null`: it can. */
export function whyNone(): string | null {
  const program = process.env[VARIABLE] ?? "";
  if (!existsSync(program)) return `${VARIABLE} is no program: "${program}"`;
  return process.getuid?.() === 0 ? null : "not root";
}

export class Real {
  address = "";
  /** When it was started, by `performance.now()`. */
  readonly began = performance.now();
  private readonly folder = mkdtempSync(join(tmpdir(), "everflame-real-"));
  private readonly agent: ChildProcess;
  private readonly load = spawn(LOAD, { stdio: "ignore" });

  private constructor(token: string | null) {
    const words = ["--page", "127.0.0.1:0", "--store", join(this.folder, "history"), "--node-name", "real-node", "--cpu-limit", "100"];
    if (token !== null) {
      const file = join(this.folder, "token");
      writeFileSync(file, token);
      words.push("--page-token-file", file);
    }
    // Settings of whoever runs the tests are none of it.
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("EVERFLAME_")));
    this.agent = spawn(process.env[VARIABLE] ?? "", words, { env, stdio: ["ignore", "pipe", "inherit"] });
  }

  /** Started, and listening at its address. */
  static async start(token: string | null): Promise<Real> {
    const real = new Real(token);
    try {
      const said = createInterface({ input: real.agent.stdout! });
      const address = new Promise<string>((done, fail) => {
        said.on("line", (line) => {
          const found = /http:\S+/.exec(line)?.[0];
          if (found) done(found);
        });
        real.agent.on("error", fail);
        real.agent.on("exit", (code) => fail(new Error(`everflame ended with ${code} before it had an address`)));
      });
      real.address = await within(address, "everflame has no address");
      return real;
    } catch (error) {
      // The first error is the cause of the second.
      await real.stop().catch(() => null);
      throw error;
    }
  }

  /** Ends both; what everflame ended with. Throws if it does not end by itself. */
  async stop(): Promise<number | null> {
    this.load.kill("SIGKILL");
    this.agent.kill("SIGTERM");
    try {
      await within(Promise.all([ended(this.agent), ended(this.load)]), "everflame does not end");
    } finally {
      this.agent.kill("SIGKILL");
      await ended(this.agent);
      rmSync(this.folder, { recursive: true, force: true });
    }
    return this.agent.exitCode;
  }
}

/** Waits for the end of a child, if it ever began. */
async function ended(child: ChildProcess): Promise<void> {
  if (child.pid && child.exitCode === null && child.signalCode === null) await new Promise((done) => child.once("exit", done));
}

/** What comes, or an error that says what did not. */
async function within<T>(coming: Promise<T>, otherwise: string): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, fail) => {
    timer = setTimeout(() => fail(new Error(`${otherwise} after ${LONGEST / 1000} s`)), LONGEST);
  });
  try {
    return await Promise.race([coming, late]);
  } finally {
    clearTimeout(timer);
  }
}
