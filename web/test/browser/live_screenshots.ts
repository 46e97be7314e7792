/**
 * Pictures of the live page and of `everflame top` for the documentation, from a real `everflame` beside real work: as root
 * `npm run live-screenshots -- ../docs/images [../target/release/everflame] [seconds]`.
 *
 * The work (test/live/load.cc) and the node have names that say nothing of the machine; filters leave everything else out. Without root
 * or without an `everflame` the server that stands in for the real one is shown.
 */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Page } from "playwright-core";
import { StandIn } from "../live/server.ts";
import { Browser } from "./browser.ts";
import { Terminal } from "./terminal.ts";

const [folder = "screenshots", everflame = "../target/release/everflame", given = "150"] = process.argv.slice(3);
const seconds = Number(given);
const PROGRAMS = ["storefront", "search", "thumbnails"];
/** ms: what the agent has in hand and did not write yet. */
const LATEST = 10_000;

interface Shot {
  name: string;
  hash: string;
  width: number;
  height: number;
  dark?: boolean;
  /** Part of the time line to drag over. */
  selected?: [number, number];
  prepare?(page: Page): Promise<void>;
}

/** Everflame and the programs, ended together. */
class Real {
  readonly folder = mkdtempSync(join(tmpdir(), "everflame-pictures-"));
  private readonly running: ChildProcess[] = [];
  address = "";

  async start(): Promise<void> {
    for (const name of PROGRAMS) {
      // Each its own file and build id, so that it has its own name in the list, and no path of this machine.
      const words = ["-O2", "-g", `-ffile-prefix-map=${process.cwd()}/test/live=/shop`, `-ffile-prefix-map=${process.cwd()}=/shop`, `-Wl,--build-id=0x${Buffer.from(name).toString("hex")}`];
      const compiled = spawnSync("c++", [...words, "-pthread", `${process.cwd()}/test/live/load.cc`, "-o", join(this.folder, name)], { stdio: "inherit" });
      if (compiled.status !== 0) throw new Error("test/live/load.cc does not compile");
    }
    const agent = spawn(everflame, ["--page", "127.0.0.1:0", "--store", join(this.folder, "history"), "--node-name", "worker-3", "--cpu-limit", "100"], { stdio: ["ignore", "pipe", "inherit"] });
    this.running.push(agent);
    const said = createInterface({ input: agent.stdout! });
    this.address = await new Promise((done, fail) => {
      said.on("line", (line) => done(/http:\S+/.exec(line)?.[0] ?? ""));
      agent.on("exit", () => fail(new Error(`${everflame} ended`)));
    });
    // Slower for the last two fifths of the time, so that a comparison with the time before has something to show.
    for (const name of PROGRAMS) this.running.push(spawn(join(this.folder, name), [String(seconds * 0.6)], { stdio: "ignore" }));
    await new Promise((done) => setTimeout(done, seconds * 1000));
  }

  async stop(): Promise<void> {
    const ended = this.running.map((child) => new Promise((done) => (child.exitCode === null ? child.on("exit", done) : done(null))));
    for (const child of this.running) child.kill("SIGTERM");
    await Promise.all(ended);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

const real = existsSync(everflame) && process.getuid?.() === 0 ? new Real() : null;
const standIn = real ? null : new StandIn();
mkdirSync(folder, { recursive: true });
const browser = await Browser.start();
try {
  if (real) await real.start();
  else console.error(`not root, or no ${everflame}: the pictures are of made-up data`);
  const address = real ? real.address : await standIn!.start();
  const now = Date.now();
  const programs = (key: string, names: string[]) => names.map((name) => `${key}=${encodeURIComponent(`process=${name}`)}`).join("&");
  const where = real ? programs("where", PROGRAMS) : "";
  // Without the start, when the unwind tables are still being made.
  const last = `last=${Math.floor(seconds * 0.7) * 1000}`;
  // Before and after the storefront got slower.
  const span = Math.floor(seconds * 0.25) * 1000;
  const difference = `range=${now - span - LATEST}-${now - LATEST}&where=process%3Dstorefront&baseline=earlier-${Math.floor(seconds * 0.45) * 1000}&baseline-where=process%3Dstorefront`;
  const shots: Shot[] = [
    { name: "live", hash: `${last}&${where}`, width: 1280, height: 800, prepare: hover },
    { name: "live-dark", hash: `${last}&by=thread&${where}`, width: 1280, height: 800, dark: true, selected: [0.3, 0.75] },
    { name: "live-narrow", hash: `${last}&${where}`, width: 400, height: 800 },
    { name: "live-diff", hash: real ? difference : "last=60000&baseline=previous", width: 1280, height: 860 },
  ];
  for (const shot of shots) await take(address, shot);
  if (real) await takeTop(real.folder);
} finally {
  await browser.stop();
  await real?.stop();
  await standIn?.stop();
}

async function take(address: string, { name, hash, width, height, dark = false, selected, prepare }: Shot): Promise<void> {
  const { page, errors } = await browser.open(`${address}#${hash}`, { width, height, dark });
  const settled = () => page.waitForFunction(() => document.querySelector<HTMLElement>(".progress")?.hidden === true && document.querySelector("tbody tr, .functions[hidden]") !== null);
  await settled();
  if (selected) {
    const box = (await page.locator(".plot").boundingBox())!;
    const [from, to] = selected.map((share) => box.x + 44 + share * (box.width - 52));
    await page.mouse.move(from, box.y + 60);
    await page.mouse.down();
    await page.mouse.move((from + to) / 2, box.y + 60);
    await page.mouse.move(to, box.y + 60);
    await page.mouse.up();
    await page.mouse.move(0, 0);
    await settled();
  }
  await prepare?.(page);
  await page.waitForTimeout(500);
  const path = join(folder, `${name}.png`);
  await page.screenshot({ path });
  console.log(`${path}: ${(statSync(path).size / 1024).toFixed(0)} KiB`, errors.length > 0 ? errors : "");
  await page.close();
}

/** The functions of `everflame top`, over the ten seconds that it shows. */
async function takeTop(work: string): Promise<void> {
  const terminal = new Terminal(work, [everflame, "top", ...PROGRAMS.flatMap((name) => ["--comm", name])].join(" "));
  try {
    await terminal.shows("last 10 s", ...PROGRAMS);
    terminal.keys("3");
    await terminal.shows("% named", "storefront", "thumbnails");
    await terminal.picture(browser, join(folder, "top.png"));
  } finally {
    terminal.end();
  }
}

/** The card with source line and binary. */
async function hover(page: Page): Promise<void> {
  const box = (await page.locator(".main-pane .graph").boundingBox())!;
  await page.mouse.move(box.x + 60, box.y + 6.5 * 19);
}
