/** Speaks docs/http.md from made-up data, on a port of the loopback: what the page's tests run against. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { gzipSync } from "node:zlib";
import { encodeMade } from "../generate.ts";
import { BEGIN, CPU_OF_SAMPLE, END, LABELS, World, type Condition } from "./world.ts";

/** What a test can make go wrong. */
export interface Trouble {
  /** `gone`: connections are cut. */
  fails: "gone" | "token" | "busy" | "refused" | null;
  skipped: number;
  lost: number;
  notes: string[];
  history: boolean;
  /** Answers every profile with these bytes. */
  container: Uint8Array | null;
}

const NO_TROUBLE: Trouble = { fails: null, skipped: 0, lost: 0, notes: [], history: true, container: null };
const TOKEN = "sesame";

export class StandIn {
  trouble: Trouble = { ...NO_TROUBLE };
  now = END;
  /** How long history is kept, ms. */
  age = Infinity;
  /** What was asked, in order: path and query. */
  asked: string[] = [];
  address = "";
  private world = new World(false, 0);
  private readonly server: Server;
  private packed: { from: Uint8Array; bytes: Buffer } | null = null;

  constructor(private readonly page = readFileSync("dist/live.html", "utf8")) {
    this.server = createServer((request, response) => this.answer(request, response));
  }

  async start(): Promise<string> {
    await new Promise<void>((done) => this.server.listen(0, "127.0.0.1", done));
    this.address = `http://127.0.0.1:${(this.server.address() as AddressInfo).port}/`;
    return this.address;
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((done) => this.server.close(done));
  }

  /** As at the start; `crowd`: so many more pods. */
  reset(hostile = false, crowd = 0): void {
    this.trouble = { ...NO_TROUBLE };
    this.now = END;
    this.age = Infinity;
    this.asked = [];
    this.world = new World(hostile, crowd);
  }

  private answer(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? "/", this.address);
    this.asked.push(url.pathname + url.search);
    if (url.pathname === "/") return this.document(url, response);
    const { fails } = this.trouble;
    const cookie = request.headers.cookie ?? "";
    if (fails === "gone") return void request.socket.destroy();
    if (fails === "token" && !cookie.includes(`everflame=${TOKEN}`)) return this.json(response, { error: "A token is needed." }, 401);
    if (fails === "busy") return this.json(response, { error: "Too many questions wait already." }, 503);
    if (fails === "refused") return this.json(response, { error: "The range is longer than the history." }, 400);
    const question = url.pathname.replace("/api/v1/", "");
    const range = { from: Number(url.searchParams.get("from")), to: Number(url.searchParams.get("to")) };
    const begin = Math.max(BEGIN, this.now - this.age);
    const where = url.searchParams.getAll("where").map(parseWhere);
    if (question === "status") {
      const history = this.trouble.history ? { from: begin, to: this.now } : null;
      return this.json(response, { node: "worker-3", version: "0.1.0", frequency_hz: 99, cpus: 4, now: this.now, history, lost: this.trouble.lost, refused: 0, notes: this.trouble.notes });
    }
    const kept = { from: Math.max(range.from, begin), to: this.trouble.history ? Math.min(range.to, this.now) : 0 };
    const totals = question === "profile" || question === "download" ? [] : this.world.totals(kept, where);
    const sums = (label: string) => {
      const found = new Map<string, number>();
      for (const { labels, samples } of totals) found.set(labels[label] ?? "", (found.get(labels[label] ?? "") ?? 0) + samples * CPU_OF_SAMPLE);
      return [...found].sort((a, b) => b[1] - a[1]);
    };
    const { skipped } = this.trouble;
    if (question === "labels") {
      const labels = LABELS.map((name) => {
        const all = sums(name);
        return { name, values: all.length, cpu_ns: all.reduce((sum, [, cpu]) => sum + cpu, 0) };
      });
      return this.json(response, { labels, skipped });
    }
    if (question === "values") {
      const all = sums(url.searchParams.get("label") ?? "");
      const limit = Number(url.searchParams.get("limit") ?? 50);
      const values = all.slice(0, limit).map(([value, cpu_ns]) => ({ value, cpu_ns }));
      return this.json(response, { values, distinct: all.length, other_ns: all.slice(limit).reduce((sum, [, cpu]) => sum + cpu, 0), skipped });
    }
    if (question === "series") {
      const by = url.searchParams.get("by") ?? "";
      const steps = Number(url.searchParams.get("steps") ?? 200);
      const step = Math.max(10_000, Math.ceil((range.to - range.from) / steps));
      const count = Math.ceil((range.to - range.from) / step);
      const limit = Number(url.searchParams.get("limit") ?? 8);
      const chosen = sums(by).slice(0, limit).map(([value]) => value);
      const lists = new Map(chosen.map((value) => [value, new Array<number>(count).fill(0)]));
      const other = new Array<number>(count).fill(0);
      for (const { labels, time, samples } of this.world.pieces(kept, where)) (lists.get(labels[by] ?? "") ?? other)[Math.floor((time - range.from) / step)] += samples * CPU_OF_SAMPLE;
      return this.json(response, { from: range.from, step, series: [...lists].map(([value, cpu_ns]) => ({ value, cpu_ns })), other, skipped });
    }
    if (question === "profile") {
      const made = this.world.profile(kept, where);
      return this.container(response, this.trouble.container ?? encodeMade({ ...made, facts: [] }));
    }
    if (question === "download") {
      response.writeHead(200, { "Content-Type": "application/octet-stream", "Content-Disposition": `attachment; filename="worker-3.${url.searchParams.get("form")}"` });
      response.end(url.search);
      return;
    }
    this.json(response, { error: "There is no such thing." }, 404);
  }

  private document(url: URL, response: ServerResponse): void {
    const token = url.searchParams.get("token");
    if (token !== null) {
      response.writeHead(303, { Location: "/", "Set-Cookie": `everflame=${token}; HttpOnly; SameSite=Strict` });
      response.end();
      return;
    }
    const hashes = (element: string) => [...this.page.matchAll(new RegExp(`<${element}>([^]*?)</${element}>`, "g"))].map(([, text]) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`).join(" ");
    const policy = `default-src 'none'; script-src ${hashes("script")}; style-src ${hashes("style")}; img-src data: blob:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'`;
    response.writeHead(200, { "Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy, "Cache-Control": "no-store" });
    response.end(this.page);
  }

  private json(response: ServerResponse, body: unknown, status = 200): void {
    response.writeHead(status, { "Content-Type": "application/json" });
    response.end(JSON.stringify(body));
  }

  private container(response: ServerResponse, bytes: Uint8Array): void {
    // Packed once: the browser is what is measured.
    if (this.packed?.from !== bytes) this.packed = { from: bytes, bytes: gzipSync(bytes, { level: 1 }) };
    response.writeHead(200, { "Content-Type": "application/vnd.everflame.page", "Content-Encoding": "gzip" });
    response.end(this.packed.bytes);
  }
}

function parseWhere(text: string): Condition {
  const [, label, operator, value] = /^([a-z]+)(\^=|~=|=)([^]*)$/.exec(text) ?? ["", "", "=", ""];
  return { label, operator, value };
}
