/** Pictures of a program in a terminal: tmux plays the terminal and answers what it shows, xterm.js draws that in the browser. */
import { spawnSync } from "node:child_process";
import { readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import type { Browser } from "./browser.ts";

const COLUMNS = 100;
const ROWS = 28;
/** ms: a program that never shows what it should. */
const PATIENCE = 60_000;
const xterm = dirname(createRequire(import.meta.url).resolve("@xterm/xterm/package.json"));

export class Terminal {
  private readonly socket: string;

  /** Starts a command (for a shell) in a terminal of its own. */
  constructor(folder: string, command: string) {
    this.socket = join(folder, "terminal");
    this.tmux("new-session", "-d", "-x", String(COLUMNS), "-y", String(ROWS), command);
  }

  private tmux(...words: string[]): string {
    const said = spawnSync("tmux", ["-f", "/dev/null", "-S", this.socket, ...words], { encoding: "utf8", env: { ...process.env, TMUX: "", LC_ALL: "C.UTF-8" } });
    if (said.status !== 0) throw new Error(`tmux ${words[0]}: ${said.error?.message ?? said.stderr}`);
    return said.stdout;
  }

  keys(...keys: string[]): void {
    this.tmux("send-keys", ...keys);
  }

  /** Waits until the terminal shows all of the words. */
  async shows(...words: string[]): Promise<void> {
    for (const began = Date.now(); ; await new Promise((done) => setTimeout(done, 200))) {
      const shown = this.tmux("capture-pane", "-p");
      if (words.every((word) => shown.includes(word))) return;
      if (Date.now() - began > PATIENCE) throw new Error(`never seen: ${words.join(", ")}\n${shown}`);
    }
  }

  /** Its picture, with colours. */
  async picture(browser: Browser, path: string): Promise<void> {
    const shown = this.tmux("capture-pane", "-p", "-e").trimEnd().replaceAll("\n", "\r\n");
    const options = { cols: COLUMNS, rows: ROWS, fontSize: 15, lineHeight: 1.25, theme: { background: "#1c1c1c", cursor: "#1c1c1c", cursorAccent: "#1c1c1c" } };
    const draw = `const terminal = new Terminal(${JSON.stringify(options)});
      terminal.open(document.getElementById("terminal"));
      terminal.write(${JSON.stringify(shown).replaceAll("<", "\\u003c")}, () => requestAnimationFrame(() => performance.mark("everflame-painted")));`;
    const html = `<!doctype html><meta charset="utf-8"><style>${readFileSync(join(xterm, "css/xterm.css"), "utf8")}
      body { margin: 0; background: #1c1c1c } #terminal { display: inline-block; padding: 12px }</style>
      <div id="terminal"></div><script>${readFileSync(join(xterm, "lib/xterm.js"), "utf8")}</script><script>${draw}</script>`;
    const { page, errors } = await browser.open(browser.write("terminal.html", html));
    await page.locator("#terminal").screenshot({ path });
    console.log(`${path}: ${(statSync(path).size / 1024).toFixed(0)} KiB`, errors.length > 0 ? errors : "");
    await page.close();
  }

  end(): void {
    this.tmux("kill-server");
  }
}
