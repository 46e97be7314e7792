/** A real `everflame` with a history of its own beside a small load, for tests that run as root. */
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** Path of the program; `cargo xtask test --only page-browser` builds it and says where it is. */
const VARIABLE = "EVERFLAME_PROGRAM";
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
      real.address = await new Promise((done, fail) => {
        said.on("line", (line) => {
          const found = /http:\S+/.exec(line)?.[0];
          if (found) done(found);
        });
        real.agent.on("error", fail);
        real.agent.on("exit", (code) => fail(new Error(`everflame ended with ${code} before it had an address`)));
      });
      return real;
    } catch (error) {
      await real.stop();
      throw error;
    }
  }

  /** Ends both; what everflame ended with. */
  async stop(): Promise<number | null> {
    const ended = [this.agent, this.load].map((child) => new Promise<void>((done) => (child.exitCode === null && child.signalCode === null && child.pid ? child.on("exit", () => done()) : done())));
    this.load.kill("SIGKILL");
    this.agent.kill("SIGTERM");
    await Promise.all(ended);
    rmSync(this.folder, { recursive: true, force: true });
    return this.agent.exitCode;
  }
}
