/**
 * What the tests of the live page have in common: the server that stands in for the real one, and what a person does on the page.
 *
 * Constraint: they wait for what the page shows, never for a time. Each file of tests has a browser and a server of its own.
 */
import assert from "node:assert/strict";
import { after, before, beforeEach } from "node:test";
import type { Page } from "playwright-core";
import { StandIn } from "../live/server.ts";
import { END } from "../live/world.ts";
import { Browser, type Opened } from "./browser.ts";

export const ROW = 19;
export const MINUTE = 60_000;
export const DAY = 24 * 60 * MINUTE;
/** The last ten minutes of the world, as a fixed range. */
export const TEN = `range=${END - 10 * MINUTE}-${END}`;

export let browser: Browser;
export const server = new StandIn();

/** Starts both for the tests of a file. */
export function withBrowser(): void {
  before(async () => {
    browser = await Browser.start();
    await server.start();
  });
  after(async () => {
    await browser.stop();
    await server.stop();
  });
  beforeEach(() => server.reset());
}

/** Opens a view, runs a test in it, and checks that nothing went wrong and nobody else was asked. */
export async function on(hash: string, options: Parameters<Browser["open"]>[1], run: (page: Page, opened: Opened) => Promise<void>, expected: RegExp | null = null): Promise<void> {
  const opened = await browser.open(`${server.address}#${hash}`, options);
  await run(opened.page, opened);
  assert.deepEqual(opened.errors.filter((error) => !expected?.test(error)), []);
  assert.deepEqual(opened.requests.filter((address) => !address.startsWith(server.address) && !address.startsWith("data:")), []);
  await opened.page.close();
}

/** Long timers of the page wait until a test lets them go: nothing in a test waits for a clock. */
export const holdTimers = (page: Page): Promise<void> => page.addInitScript(() => {
  const { setTimeout: start, clearTimeout: stop } = window;
  const held = new Map<number, () => void>();
  let last = 1_000_000;
  const set = (act: () => void, delay = 0): number => {
    if (delay < 1000) return start(act, delay);
    held.set(++last, act);
    return last;
  };
  const clear = (id: number | undefined) => void (held.delete(id ?? 0) || stop(id));
  Object.assign(window, { setTimeout: set, clearTimeout: clear, elapse: () => {
    const due = [...held.values()];
    held.clear();
    due.forEach((act) => act());
  } });
}).then(() => undefined);
export const elapse = (page: Page) => page.evaluate(() => (window as unknown as { elapse: () => void }).elapse());

/** Lets time pass until the page has asked again, and been answered. */
export async function refreshed(page: Page): Promise<void> {
  const asked = page.waitForRequest((request) => request.url().startsWith(`${server.address}api/`));
  await elapse(page);
  await asked;
  await settled(page);
}

/** Until what was asked has been answered and drawn. */
export async function settled(page: Page): Promise<void> {
  await page.waitForFunction(() => document.querySelector<HTMLElement>(".progress")?.hidden === true);
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => setTimeout(() => requestAnimationFrame(done), 5))));
}

/** Whether an answer is awaited: true from the moment of the question, before the server has it. */
export const isAsking = (page: Page) => page.evaluate(() => document.querySelector<HTMLElement>(".progress")?.hidden === false);

export const hashOf = (page: Page) => new URLSearchParams(new URL(page.url()).hash.slice(1));
export const names = (page: Page) => page.locator(".pick").allInnerTexts();
export const chips = (page: Page) => page.locator(".conditions .chip-text").allInnerTexts();
export const legend = (page: Page) => page.locator(".series-name").allInnerTexts();
export const details = async (page: Page) => (await page.locator(".details").innerText()).replaceAll("\u00a0", " ");
export const range = (page: Page) => page.locator(".times .range-text").innerText();
/** Waits for the text of an element to be something. */
export async function becomes(page: Page, selector: string, text: string): Promise<void> {
  await page.waitForFunction(([where, what]) => [...document.querySelectorAll<HTMLElement>(where)].some((node) => node.innerText.includes(what)), [selector, text] as const);
}

/** Drags over the time line; 0 = start of the time shown, 1 = end. */
export async function drag(page: Page, from: number, to: number): Promise<void> {
  const box = (await page.locator(".plot").boundingBox())!;
  const x = (share: number) => box.x + 44 + share * (box.width - 44 - 8);
  await page.mouse.move(x(from), box.y + 60);
  await page.mouse.down();
  await page.mouse.move(x((from + to) / 2), box.y + 60);
  await page.mouse.move(x(to), box.y + 60);
  await page.mouse.up();
  await settled(page);
}

export async function clickBox(page: Page, level: number, share: number): Promise<void> {
  const graph = page.locator(".main-pane .graph");
  const width = await graph.evaluate((node) => node.clientWidth);
  await graph.click({ position: { x: 1 + width * share, y: 1 + (level + 0.5) * ROW } });
}

/** The colour of a box of the graph, near its upper edge, where no text is. */
export function colourOf(page: Page, level: number, share: number): Promise<number[]> {
  return page.locator(".main-pane .graph").evaluate((node, [row, part, height]) => {
    const context = (node.querySelector("canvas") as HTMLCanvasElement).getContext("2d") as CanvasRenderingContext2D;
    return [...context.getImageData(node.clientWidth * part * devicePixelRatio, (row * height + 2) * devicePixelRatio, 1, 1).data.slice(0, 3)];
  }, [level, share, ROW] as const);
}

/** Which of some colours a column of the time line has, from the bottom up. */
export function columnColours(page: Page, share: number, wanted: string[]): Promise<string[]> {
  return page.locator(".plot canvas").evaluate((node, [part, colours]) => {
    const canvas = node as HTMLCanvasElement;
    const x = Math.round((44 + part * (canvas.clientWidth - 52)) * devicePixelRatio);
    const { data } = (canvas.getContext("2d") as CanvasRenderingContext2D).getImageData(x, 0, 1, canvas.height);
    const found: string[] = [];
    for (let at = data.length - 4; at >= 0; at -= 4) {
      const colour = `rgb(${data[at]}, ${data[at + 1]}, ${data[at + 2]})`;
      if (colours.includes(colour) && !found.includes(colour)) found.push(colour);
    }
    return found;
  }, [share, wanted] as const);
}
