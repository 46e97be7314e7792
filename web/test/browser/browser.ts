/** Starts a real Chromium on pages from disk, and watches what they do. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium, type BrowserContext, type Page } from "playwright-core";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";

export interface Opened {
  page: Page;
  /** Errors on the console, and exceptions that nobody caught. */
  errors: string[];
  /** Addresses of all requests. */
  requests: string[];
}

export class Browser {
  private constructor(
    private readonly context: BrowserContext,
    private readonly folder: string,
  ) {}

  static async start(): Promise<Browser> {
    const folder = mkdtempSync(join(tmpdir(), "everflame-page-"));
    const context = await chromium.launchPersistentContext(join(folder, "user"), {
      executablePath: CHROMIUM,
      headless: true,
      args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
      viewport: { width: 1280, height: 800 },
      timezoneId: "UTC",
    });
    return new Browser(context, folder);
  }

  /** Writes a page to disk; gives its address. */
  write(name: string, html: string): string {
    const path = join(this.folder, name);
    writeFileSync(path, html);
    return pathToFileURL(path).href;
  }

  /** Opens an address and waits until the graph is drawn. */
  async open(address: string, options: { width?: number; height?: number; dark?: boolean; prepare?: (page: Page) => Promise<void> } = {}): Promise<Opened> {
    const page = await this.context.newPage();
    const opened: Opened = { page, errors: [], requests: [] };
    page.on("console", (message) => message.type() === "error" && opened.errors.push(message.text()));
    page.on("pageerror", (error) => opened.errors.push(String(error)));
    page.on("request", (request) => opened.requests.push(request.url()));
    await page.setViewportSize({ width: options.width ?? 1280, height: options.height ?? 800 });
    await page.emulateMedia({ colorScheme: options.dark ? "dark" : "light" });
    await options.prepare?.(page);
    await page.goto(address);
    await page.waitForFunction(() => performance.getEntriesByName("everflame-painted").length > 0);
    return opened;
  }

  async stop(): Promise<void> {
    await this.context.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
