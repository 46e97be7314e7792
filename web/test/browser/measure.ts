/**
 * How fast the page is with 100,000 distinct stacks: `npm run measure`. Or with a page made elsewhere: `npm run measure -- cpu.html`.
 *
 * Times are from the browser: from the start of the navigation for the first paint; from the event to the end of the frame that
 * shows its effect for the rest (best, median and worst of several runs, since the machine is not ours alone).
 */
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import type { Page } from "playwright-core";
import { assemble, encodeMade, largeProfile } from "../generate.ts";
import { StandIn } from "../live/server.ts";
import { END } from "../live/world.ts";
import { Browser } from "./browser.ts";

const STACKS = 100_000;
const given = process.argv[3];
const container = given ? null : encodeMade(largeProfile(STACKS));
const html = given ? readFileSync(given, "utf8") : assemble(container as Uint8Array);
const page = readFileSync("dist/page.html");
const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;
const live = readFileSync("dist/live.html");
console.log(`live page: ${(gzipSync(live, { level: 9 }).length / 1e3).toFixed(1)} KB compressed`);
console.log(`page without profile: ${(gzipSync(page, { level: 9 }).length / 1e3).toFixed(1)} KB compressed`);
if (container) console.log(`profile: ${STACKS} stacks, ${megabytes(container.length)} plain`);
console.log(`file: ${megabytes(html.length)}`);

const browser = await Browser.start();
const address = browser.write("large.html", html);
const times = new Map<string, number[]>();
const record = (name: string, time: number) => times.set(name, [...(times.get(name) ?? []), time]);

/** Runs an action in the page; gives ms until its frame is done, and until its synchronous part is. */
async function timed(target: Page, name: string, action: string): Promise<void> {
  const [frame, work] = await target.evaluate(
    ([script]) =>
      new Promise<[number, number]>((resolve) => {
        const act = (window as unknown as Record<string, () => void>)[script];
        const start = performance.now();
        act();
        const worked = performance.now() - start;
        // A task after the next frame's callbacks: style, layout and drawing of that frame are done.
        requestAnimationFrame(() => {
          const channel = new MessageChannel();
          channel.port1.onmessage = () => resolve([performance.now() - start, worked]);
          channel.port2.postMessage(null);
        });
      }),
    [action],
  );
  record(`${name}: to the end of its frame`, frame);
  record(`${name}: work in the event`, work);
  await target.waitForTimeout(250);
}

for (let round = 0; round < 3; round++) {
  const { page: tab, errors } = await browser.open(address);
  record("first paint", await tab.evaluate(() => performance.getEntriesByName("everflame-painted")[0].startTime));
  for (const mark of await tab.evaluate(() => performance.getEntriesByType("measure").map(({ name, duration }) => [name, duration] as const))) record(`  ${mark[0]}`, mark[1]);
  await tab.waitForTimeout(1500);
  // Actions are named functions of the page: its policy forbids making code from text.
  await tab.evaluate(() => {
    const actions = window as unknown as Record<string, () => void>;
    const graph = document.querySelector(".main-pane .graph") as HTMLElement;
    const bounds = () => graph.getBoundingClientRect();
    const click = (x: number, y: number) => graph.dispatchEvent(new MouseEvent("click", { clientX: bounds().left + x, clientY: bounds().top + y, bubbles: true }));
    const search = document.querySelector("input[type=search]") as HTMLInputElement;
    const type = (text: string) => {
      search.value = text;
      search.dispatchEvent(new Event("input", { bubbles: true }));
    };
    const press = (name: string) => ([...document.querySelectorAll("button")].find((button) => button.textContent === name) as HTMLButtonElement).click();
    const choose = (id: string, index: number) => {
      const select = document.getElementById(id) as HTMLSelectElement;
      select.selectedIndex = index;
      select.dispatchEvent(new Event("change"));
    };
    actions.zoomIn = () => click(100, 50);
    actions.zoomDeep = () => click(60, 150);
    actions.reset = () => press("Reset zoom");
    actions.searchText = () => type("compact");
    actions.searchLetter = () => type("e");
    actions.searchRegex = () => {
      type("^<.*(read|write)_");
    };
    actions.clear = () => type("");
    actions.flame = () => press("Flame");
    actions.icicle = () => press("Icicle");
    actions.inverted = () => press("Callers");
    actions.focus = () => (document.querySelector(".pick") as HTMLButtonElement).click();
    actions.group = () => choose("everflame-group", 1);
    actions.ungroup = () => choose("everflame-group", 0);
    actions.process = () => choose("everflame-process", 2);
    actions.all = () => choose("everflame-process", 0);
    actions.hover = () => graph.dispatchEvent(new PointerEvent("pointermove", { clientX: bounds().left + 90, clientY: bounds().top + 70, bubbles: true }));
    actions.scroll = () => graph.scrollBy(0, 100);
  });
  for (let again = 0; again < 4; again++) {
    await timed(tab, "zoom", "zoomIn");
    await timed(tab, "zoom", "zoomDeep");
    await timed(tab, "zoom out", "reset");
    await timed(tab, "search", "searchLetter");
    await timed(tab, "search", "searchText");
    await timed(tab, "search", "searchRegex");
    await timed(tab, "clear search", "clear");
    await timed(tab, "hover", "hover");
    await timed(tab, "scroll", "scroll");
    await timed(tab, "flame", "flame");
    await timed(tab, "icicle", "icicle");
  }
  for (const name of ["group", "ungroup", "process", "all", "inverted", "focus"]) await timed(tab, name, name);
  if (errors.length > 0) console.error(errors);
  await tab.close();
}
if (container) await measureLive(container);
await browser.stop();
console.log("\n| what | best | median | worst | ms |\n|---|---:|---:|---:|---|");
for (const [name, list] of times) {
  const sorted = [...list].sort((a, b) => a - b);
  const [best, median, worst] = [sorted[0], sorted[sorted.length >> 1], sorted[sorted.length - 1]].map((time) => time.toFixed(1));
  console.log(`| ${name} | ${best} | ${median} | ${worst} | ${list.length} runs |`);
}

/** The live page with the same profile from a server, and compared with another range of it. */
async function measureLive(container: Uint8Array): Promise<void> {
  const server = new StandIn();
  await server.start();
  server.trouble.container = container;
  for (let round = 0; round < 3; round++) {
    const { page: tab, errors } = await browser.open(`${server.address}#range=${END - 300_000}-${END}&by=pod`);
    record("live: first paint", await tab.evaluate(() => performance.getEntriesByName("everflame-painted")[0].startTime));
    await tab.waitForTimeout(1500);
    await tab.evaluate(() => {
      const actions = window as unknown as Record<string, () => void>;
      const graph = document.querySelector(".main-pane .graph") as HTMLElement;
      const click = (x: number, y: number) => {
        const { left, top } = graph.getBoundingClientRect();
        graph.dispatchEvent(new MouseEvent("click", { clientX: left + x, clientY: top + y, bubbles: true }));
      };
      const search = document.querySelector("input[type=search]") as HTMLInputElement;
      const type = (text: string) => {
        search.value = text;
        search.dispatchEvent(new Event("input", { bubbles: true }));
      };
      actions.zoomIn = () => click(100, 50);
      actions.reset = () => ([...document.querySelectorAll("button")].find((button) => button.textContent === "Reset zoom") as HTMLButtonElement).click();
      actions.searchText = () => type("compact");
      actions.clear = () => type("");
    });
    const interactions = async (name: string) => {
      for (let again = 0; again < 4; again++) {
        await timed(tab, `${name}: zoom`, "zoomIn");
        await timed(tab, `${name}: zoom out`, "reset");
        await timed(tab, `${name}: search`, "searchText");
        await timed(tab, `${name}: clear search`, "clear");
      }
    };
    await interactions("live");
    const start = Date.now();
    await tab.getByRole("button", { name: "Compare", exact: true }).click();
    await tab.waitForFunction(() => document.querySelector(".legend-scale") !== null);
    record("live: compare two profiles, fetching included", Date.now() - start);
    await tab.waitForTimeout(2500);
    await interactions("comparison");
    if (errors.length > 0) console.error(errors);
    await tab.close();
  }
  await server.stop();
}
