import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import type { Page } from "playwright-core";
import { encodeMade, HOSTILE_NAMES } from "../generate.ts";
import { StandIn } from "../live/server.ts";
import { BEGIN, END, SLOWER_SINCE } from "../live/world.ts";
import { Browser, type Opened } from "./browser.ts";

const ROW = 19;
const MINUTE = 60_000;
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
/** The last ten minutes of the world, as a fixed range. */
const TEN = `range=${END - 10 * MINUTE}-${END}`;

let browser: Browser;
const server = new StandIn();

before(async () => {
  browser = await Browser.start();
  await server.start();
});
after(async () => {
  await browser.stop();
  await server.stop();
});

/** Opens a view, runs a test in it, and checks that nothing went wrong and nobody else was asked. */
async function on(hash: string, options: Parameters<Browser["open"]>[1], run: (page: Page, opened: Opened) => Promise<void>, expected: RegExp | null = null): Promise<void> {
  const opened = await browser.open(`${server.address}#${hash}`, options);
  await run(opened.page, opened);
  assert.deepEqual(opened.errors.filter((error) => !expected?.test(error)), []);
  assert.deepEqual(opened.requests.filter((address) => !address.startsWith(server.address) && !address.startsWith("data:")), []);
  await opened.page.close();
}

/** Long timers of the page wait until a test lets them go: nothing in a test waits for a clock. */
const holdTimers = (page: Page): Promise<void> => page.addInitScript(() => {
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
const elapse = (page: Page) => page.evaluate(() => (window as unknown as { elapse: () => void }).elapse());

/** Lets time pass until the page has asked again, and been answered. */
async function refreshed(page: Page): Promise<void> {
  const answered = page.waitForEvent("requestfinished").catch(() => null);
  const failed = page.waitForEvent("requestfailed").catch(() => null);
  await elapse(page);
  await Promise.race([answered, failed]);
  await settled(page);
}

/** Until what was asked has been answered and drawn. */
async function settled(page: Page): Promise<void> {
  await page.waitForFunction(() => document.querySelector<HTMLElement>(".progress")?.hidden === true);
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => setTimeout(() => requestAnimationFrame(done), 5))));
}

const hashOf = (page: Page) => new URLSearchParams(new URL(page.url()).hash.slice(1));
const names = (page: Page) => page.locator(".pick").allInnerTexts();
const chips = (page: Page) => page.locator(".conditions .chip-text").allInnerTexts();
const legend = (page: Page) => page.locator(".series-name").allInnerTexts();
const details = async (page: Page) => (await page.locator(".details").innerText()).replaceAll("\u00a0", " ");
const range = (page: Page) => page.locator(".times .range-text").innerText();
/** Waits for the text of an element to be something. */
async function becomes(page: Page, selector: string, text: string): Promise<void> {
  await page.waitForFunction(([where, what]) => [...document.querySelectorAll<HTMLElement>(where)].some((node) => node.innerText.includes(what)), [selector, text] as const);
}

/** Drags over the time line; 0 = start of the time shown, 1 = end. */
async function drag(page: Page, from: number, to: number): Promise<void> {
  const box = (await page.locator(".plot").boundingBox())!;
  const x = (share: number) => box.x + 44 + share * (box.width - 44 - 8);
  await page.mouse.move(x(from), box.y + 60);
  await page.mouse.down();
  await page.mouse.move(x((from + to) / 2), box.y + 60);
  await page.mouse.move(x(to), box.y + 60);
  await page.mouse.up();
  await settled(page);
}

async function clickBox(page: Page, level: number, share: number): Promise<void> {
  const graph = page.locator(".main-pane .graph");
  const width = await graph.evaluate((node) => node.clientWidth);
  await graph.click({ position: { x: 1 + width * share, y: 1 + (level + 0.5) * ROW } });
}

test.beforeEach(() => server.reset());

test("a newcomer sees the last five minutes, live, by process", async () => {
  await on("", {}, async (page) => {
    await settled(page);
    assert.equal(await page.title(), "worker-3 · Everflame");
    assert.match(await page.locator(".top").innerText(), /worker-3\s+4 CPUs · 99 Hz/);
    assert.equal(await range(page), "09:55:00 – 10:00:00 (5 min)");
    assert.deepEqual(await legend(page), ["server", "postgres", "cart", "kubelet"]);
    assert.equal(await page.getByRole("button", { name: "Live: pause" }).isVisible(), true);
    assert.match(await details(page), /13 025 samples/);
    assert.deepEqual((await names(page)).slice(0, 3), ["ExecScan", "core::str::from_utf8", "tcp_sendmsg"]);
  });
});

test("presets, the whole history, and any label to split by", async () => {
  await on("", {}, async (page) => {
    await page.getByRole("button", { name: "1 h", exact: true }).click();
    await settled(page);
    assert.equal(await range(page), "09:00:00 – 10:00:00 (1 h)");
    assert.equal(hashOf(page).get("last"), "3600000");
    assert.equal(await page.getByRole("button", { name: "1 h", exact: true }).getAttribute("aria-pressed"), "true");
    await page.getByRole("button", { name: "24 h" }).click();
    await settled(page);
    assert.equal(await range(page), "1 Mar 10:00:00 – 2 Mar 10:00:00 (1 d)");
    await page.getByRole("button", { name: "All", exact: true }).click();
    await settled(page);
    assert.equal(hashOf(page).get("range"), `${BEGIN}-${END}`);
    await page.getByLabel("Split by").selectOption("pod");
    await settled(page);
    assert.deepEqual(await legend(page), ["postgres-0", "checkout-1", "checkout-2", "cart-1", "[no pod]"]);
    assert.deepEqual(await page.getByLabel("Split by").locator("option").allInnerTexts(), ["namespace", "workload", "pod", "container", "service", "process", "thread", "executable", "node"]);
  });
});

test("a range is dragged with the mouse, moved by its ends, and taken away by a click", async () => {
  await on(TEN, {}, async (page) => {
    await drag(page, 0.6, 1);
    const selected = hashOf(page).get("selected")!.split("-").map(Number);
    assert.ok(Math.abs(selected[0] - SLOWER_SINCE) < 3000 && selected[1] === END, String(selected));
    assert.match(await range(page), /^09:5[56]:\d\d – 10:00:00/);
    await drag(page, 0.6, 0.8);
    assert.ok(Math.abs(Number(hashOf(page).get("selected")!.split("-")[0]) - (END - 2 * MINUTE)) < 3000, "the end was moved");
    const asked = server.asked.filter((address) => address.startsWith("/api/v1/profile")).at(-1)!;
    assert.equal(new URLSearchParams(asked.split("?")[1]).get("to"), String(END));
    await page.getByRole("button", { name: "Zoom in" }).click();
    await settled(page);
    assert.equal(hashOf(page).get("selected"), null);
    assert.match(await range(page), /^09:5[78]/);
    await page.goBack();
    await settled(page);
    const box = (await page.locator(".plot").boundingBox())!;
    await page.mouse.click(box.x + 200, box.y + 50);
    await settled(page);
    assert.equal(await range(page), "09:50:00 – 10:00:00 (10 min)");
  });
});

test("a range is dragged with a finger", async () => {
  await on(TEN, {}, async (page) => {
    const box = (await page.locator(".plot").boundingBox())!;
    const session = await page.context().newCDPSession(page);
    const touch = (type: "touchStart" | "touchMove" | "touchEnd", x: number) =>
      session.send("Input.dispatchTouchEvent", { type, touchPoints: type === "touchEnd" ? [] : [{ x: box.x + x, y: box.y + 60 }] });
    await touch("touchStart", 200);
    for (const x of [240, 300, 400]) await touch("touchMove", x);
    await touch("touchEnd", 400);
    await page.waitForFunction(() => location.hash.includes("selected="));
    await settled(page);
    assert.match(hashOf(page).get("selected")!, /^\d+-\d+$/);
  });
});

test("a range is made and moved with keys, and said as times", async () => {
  await on(TEN, {}, async (page) => {
    const start = page.getByRole("slider", { name: "Start of the range" });
    await start.focus();
    assert.equal(await start.getAttribute("aria-valuetext"), "09:50:00");
    for (let press = 0; press < 3; press++) await page.keyboard.press("Shift+ArrowRight");
    // A step is a 240th of the time shown, with Shift ten of them: three times 25 s.
    assert.equal(hashOf(page).get("selected"), `${END - 10 * MINUTE + 75_000}-${END}`);
    assert.equal(await start.getAttribute("aria-valuetext"), "09:51:15");
    await page.keyboard.press("ArrowLeft");
    assert.equal(await start.getAttribute("aria-valuetext"), "09:51:12");
    await page.getByRole("slider", { name: "End of the range" }).focus();
    await page.keyboard.press("PageDown");
    assert.equal(hashOf(page).get("selected"), `${END - 10 * MINUTE + 72_500}-${END - 25_000}`);
    await page.keyboard.press("Home");
    assert.equal(await page.getByRole("slider", { name: "End of the range" }).getAttribute("aria-valuetext"), "09:51:15", "never before the start");
    await page.keyboard.press("Escape");
    await settled(page);
    assert.equal(hashOf(page).get("selected"), null);
  });
});

test("a click on a value anywhere makes a filter, and its chip takes it away", async () => {
  await on(`${TEN}&by=pod`, {}, async (page) => {
    await page.locator(".series-value", { hasText: "checkout-1" }).click();
    await settled(page);
    assert.deepEqual(await chips(page), ["pod is checkout-1"]);
    assert.deepEqual(await legend(page), ["checkout-1"]);
    // 36 slots of 70 samples and 24 of 170.
    assert.match(await details(page), /6 600 samples/);
    await page.getByLabel("List by").selectOption("namespace");
    await becomes(page, ".pick", "shop");
    await page.locator(".pick", { hasText: "shop" }).click();
    await settled(page);
    assert.deepEqual(await chips(page), ["pod is checkout-1", "namespace is shop"]);
    await page.getByRole("button", { name: "Remove the filter pod is checkout-1" }).click();
    await settled(page);
    assert.deepEqual(await chips(page), ["namespace is shop"]);
    assert.deepEqual(hashOf(page).getAll("where"), ["namespace=shop"]);
    await page.getByLabel("Group").selectOption("process");
    await clickBox(page, 1, 0.02);
    await page.getByRole("button", { name: "Only this process" }).click();
    await settled(page);
    assert.deepEqual(await chips(page), ["namespace is shop", "process is postgres"]);
  });
});

test("a filter is typed, with values offered", async () => {
  await on(TEN, {}, async (page) => {
    await page.locator(".main-pane .graph").focus();
    await page.keyboard.press("f");
    const maker = page.locator(".conditions .filter-maker");
    await maker.getByLabel("Label").selectOption("pod");
    await maker.getByLabel("Comparison").selectOption("~=");
    await maker.getByLabel("Value").fill("check");
    await page.waitForFunction(() => document.querySelectorAll("datalist option").length === 2);
    assert.deepEqual(await page.locator(".conditions datalist option").evaluateAll((nodes) => nodes.map((node) => (node as HTMLOptionElement).value)), ["checkout-1", "checkout-2"]);
    await page.keyboard.press("Enter");
    await settled(page);
    assert.deepEqual(await chips(page), ["pod contains check"]);
    assert.equal(await page.locator(".filter-maker:visible").count(), 0);
    assert.match(await details(page), /10 800 samples/);
  });
});

test("everything is in the address: back, forward, and a view that is sent", async () => {
  await on(`${TEN}&by=pod`, {}, async (page, { requests }) => {
    await settled(page);
    await clickBox(page, 4, 0.02);
    const zoomed = await page.locator(".crumb").allInnerTexts();
    assert.deepEqual(zoomed.slice(-1), ["server::parse"]);
    await page.getByRole("searchbox").fill("utf8");
    await page.getByLabel("List by").selectOption("file");
    await settled(page);
    const sent = page.url();
    await page.goBack();
    assert.equal(await page.getByLabel("List by").inputValue(), "function");
    assert.equal(await page.getByRole("searchbox").inputValue(), "utf8", "typing is no step of its own");
    await page.goBack();
    await settled(page);
    assert.deepEqual(await page.locator(".crumb").allInnerTexts(), ["all"]);
    await page.goForward();
    await settled(page);
    assert.deepEqual(await page.locator(".crumb").allInnerTexts(), zoomed);
    const profiles = requests.filter((address) => address.includes("/profile?")).length;
    assert.equal(profiles, 1, "what has not changed is not asked for again");
    const other = await browser.open(sent);
    await settled(other.page);
    assert.deepEqual(await other.page.locator(".crumb").allInnerTexts(), zoomed);
    assert.equal(await other.page.getByRole("searchbox").inputValue(), "utf8");
    assert.ok((await names(other.page)).includes("core/src/str.rs"), "the list of files");
    await other.page.close();
  });
});

test("callers of a function are in the address too, and found in another range", async () => {
  await on(TEN, {}, async (page) => {
    await settled(page);
    await page.locator(".pick", { hasText: "regex::compile" }).click();
    assert.match(await page.locator(".focus-bar").innerText(), /regex::compile/);
    const address = page.url();
    await page.goto("about:blank");
    await page.goto(address);
    await settled(page);
    assert.match(await page.locator(".focus-bar").innerText(), /regex::compile/);
    await drag(page, 0, 0.3);
    assert.match(await page.locator(".focus-bar").innerText(), /does not occur here/);
    await page.goBack();
    await settled(page);
    assert.match(await page.locator(".focus-bar").innerText(), /regex::compile/);
  });
});

test("the page follows the time, keeps the zoom, and stops for a pause and when nobody looks", async () => {
  await on("last=300000", { prepare: holdTimers }, async (page) => {
    await settled(page);
    await clickBox(page, 4, 0.02);
    const zoomed = await page.locator(".crumb").allInnerTexts();
    server.now = END + 30_000;
    await refreshed(page);
    assert.match(await range(page), /^09:55:30 – 10:00:30/);
    assert.deepEqual(await page.locator(".crumb").allInnerTexts(), zoomed);
    await page.keyboard.press("p");
    assert.equal(hashOf(page).get("range"), `${END - 270_000}-${END + 30_000}`);
    await settled(page);
    const asked = server.asked.length;
    server.now = END + 60_000;
    await elapse(page);
    assert.equal(server.asked.length, asked, "paused");
    await page.keyboard.press("p");
    await becomes(page, ".times .range-text", "– 10:01:00");
    await settled(page);
    await page.evaluate(() => {
      Object.defineProperty(document, "hidden", { value: true, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    });
    const hidden = server.asked.length;
    await elapse(page);
    assert.equal(server.asked.length, hidden, "hidden");
    await page.evaluate(() => {
      Object.defineProperty(document, "hidden", { value: false, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    });
    await settled(page);
    assert.ok(server.asked.length > hidden, "seen again");
  });
});

test("the list shows values of a label, and why stacks end", async () => {
  await on(TEN, {}, async (page) => {
    await page.getByLabel("List by").selectOption("pod");
    await becomes(page, ".pick", "postgres-0");
    assert.deepEqual(await names(page), ["postgres-0", "checkout-1", "checkout-2", "cart-1", "[no pod]"]);
    assert.deepEqual(await page.locator("thead").innerText().then((text) => text.trim().split(/\s*\t\s*/)), ["CPU time", "Pod"]);
    await page.getByLabel("List by").selectOption("end");
    await becomes(page, ".pick", "Complete");
    assert.deepEqual(await names(page), ["Complete", "The stack could not be read"]);
    // 30 of them in each of 60 slots of two pods.
    assert.match(await page.locator("tbody tr").nth(1).innerText(), /36\.36 s/);
    await page.getByLabel("List by").selectOption("mapping");
    await becomes(page, ".pick", "[kernel]");
    await page.locator(".pick", { hasText: "[kernel]" }).click();
    assert.equal(await page.getByRole("searchbox").inputValue(), "mapping:[kernel]");
    assert.match(await page.locator(".found").innerText(), /% found/);
  });
});

test("two times are compared: what is new is orange, what is as before is grey, the list has both", async () => {
  // Four minutes since the change, against the four before it.
  await on(`range=${SLOWER_SINCE}-${END}&where=pod%3Dcheckout-1`, {}, async (page) => {
    await settled(page);
    await page.keyboard.press("d");
    await settled(page);
    assert.equal(hashOf(page).get("baseline"), "previous");
    assert.equal(await page.locator(".comparison .range-text").innerText(), "09:52:00 – 09:56:00");
    assert.deepEqual(await page.locator("thead").innerText().then((text) => text.split(/\s*\t\s*/).map((word) => word.trim())), ["Change", "Current", "Baseline", "Function"]);
    const rows = (await page.locator("tbody tr").allInnerTexts()).map((text) => text.split(/\s+/));
    // 60 samples of 10.1 ms in 10 s are 0.0606 cores.
    assert.deepEqual(rows[0].slice(0, 7), ["+0.0606", "new", "35.3", "%", "0.0606", "0", "%"]);
    assert.deepEqual(rows[1].slice(0, 2), ["+0.0404", "+100"]);
    assert.equal(rows[2][0], "±0");
    // In the graph: compile is new, tcp_sendmsg as before.
    const colour = (level: number, share: number) => page.locator(".main-pane .graph").evaluate((node, [row, part]) => {
      const context = (node.querySelector("canvas") as HTMLCanvasElement).getContext("2d") as CanvasRenderingContext2D;
      return [...context.getImageData((node.clientWidth * part) * devicePixelRatio, (row * 19 + 2) * devicePixelRatio, 1, 1).data.slice(0, 3)];
    }, [level, share] as const);
    // Widths are means of both: from_utf8 60, compile 30, tcp_sendmsg 30 of 120.
    assert.deepEqual(await colour(5, 0.6), [0xf5, 0x8f, 0x1d], "new");
    assert.deepEqual(await colour(5, 0.9), [0xe3, 0xe6, 0xea], "as before");
    await clickBox(page, 5, 0.6);
    assert.match(await details(page), /Current\s+35\.3 % · 0\.0606 cores\s+Baseline\s+0 % · 0 cores\s+Change\s+\+0\.0606 cores \(new\)/);
    assert.match(await page.locator(".legend").innerText(), /Less than the baseline \(blue\)\s+More \(orange\)\s+No change, or no more than chance explains/);
    await page.getByRole("button", { name: "Total", exact: true }).first().click();
    assert.match((await page.locator("tbody tr").first().innerText()).split(/\s+/)[0], /^\+0\.101$/);
    await page.getByRole("button", { name: "Share", exact: true }).click();
    await settled(page);
    assert.match(await page.locator("tbody tr").first().innerText(), /points/);
    assert.equal(hashOf(page).get("measure"), "share");
    await page.getByRole("button", { name: "Swap" }).click();
    await settled(page);
    assert.equal(hashOf(page).get("baseline"), `${SLOWER_SINCE}-${END}`);
    assert.equal(await page.locator("tbody tr", { hasText: "regex::compile" }).locator(".change .amount").innerText(), "gone");
    await page.getByRole("button", { name: "Stop comparing" }).click();
    await settled(page);
    assert.equal(await page.locator(".comparison").isVisible(), false);
  });
});

test("two selections at the same time are compared; a baseline is dragged", async () => {
  await on(`${TEN}&where=pod%3Dcheckout-1&baseline=earlier-0&baseline-where=pod%3Dcheckout-2`, {}, async (page) => {
    await settled(page);
    assert.deepEqual(await page.locator(".comparison .chip-text").allInnerTexts(), ["pod is checkout-2"]);
    // 24 of 60 slots with 60 samples.
    assert.match(await page.locator("tbody tr").first().innerText(), /^\+0\.0242/);
    await page.getByLabel("List by").selectOption("pod");
    await becomes(page, ".pick", "checkout-1");
    assert.deepEqual((await page.locator("tbody tr").allInnerTexts()).map((text) => text.split(/\s+/)[1]), ["new", "gone"]);
    await page.getByRole("group", { name: "A drag chooses" }).getByRole("button", { name: "Baseline" }).click();
    await drag(page, 0.1, 0.5);
    const [from, to] = hashOf(page).get("baseline")!.split("-").map(Number);
    assert.ok(Math.abs(from - (END - 9 * MINUTE)) < 3000 && Math.abs(to - (END - 5 * MINUTE)) < 3000, `${from} ${to}`);
    await page.getByRole("slider", { name: "End of the baseline" }).focus();
    await page.keyboard.press("ArrowLeft");
    await settled(page);
    await page.getByLabel("Baseline", { exact: true }).selectOption({ label: "1 hour earlier" });
    await settled(page);
    assert.equal(hashOf(page).get("baseline"), "earlier-3600000");
    // On one side only: a filter that both had not.
    await page.locator(".series-value").first().click();
    await settled(page);
    assert.equal((await chips(page)).length, 2);
    assert.deepEqual(await page.locator(".comparison .chip-text").allInnerTexts(), ["pod is checkout-2"]);
  });
});

test("files of what is shown are linked", async () => {
  await on(`${TEN}&where=pod%3Dcheckout-1`, {}, async (page) => {
    await settled(page);
    await page.locator("summary", { hasText: "Download" }).click();
    const links = await page.locator(".menu-list a").evaluateAll((nodes) => nodes.map((node) => (node as HTMLAnchorElement).href));
    const query = `from=${END - 10 * MINUTE}&to=${END}&where=pod%3Dcheckout-1`;
    assert.deepEqual(links, ["pb.gz", "html", "svg", "folded"].map((form) => `${server.address}api/v1/download?form=${form}&${query}`));
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: /pprof/ }).click()]);
    assert.equal(download.suggestedFilename(), "worker-3.pb.gz");
    assert.equal(await page.locator(".menu-list").isVisible(), false);
  });
});

test("a server that is gone is said so, and found again by itself; the last picture stays", async () => {
  await on("last=300000", { prepare: holdTimers }, async (page) => {
    await settled(page);
    server.trouble.fails = "gone";
    await refreshed(page);
    await becomes(page, ".notices", "The server does not answer");
    assert.match(await page.locator(".notices").innerText(), /Trying again since \d\d:\d\d:\d\d; what you see is from before/);
    assert.equal(await page.locator(".main-pane .graph").isVisible(), true);
    server.trouble.fails = "busy";
    await page.getByRole("button", { name: "Try now" }).click();
    await becomes(page, ".notices", "Too many questions wait already");
    server.trouble.fails = null;
    await settled(page);
    await refreshed(page);
    await page.waitForFunction(() => (document.querySelector("[role=alert]") as HTMLElement).innerText === "");
  }, /Failed to load resource/);
});

test("without the token a person is asked for it, and comes back to the same view", async () => {
  server.trouble.fails = "token";
  await on(`${TEN}&by=pod`, {}, async (page) => {
    await becomes(page, ".notices", "A token is needed.");
    await page.getByLabel("Token").fill("sesame");
    await page.keyboard.press("Enter");
    await page.waitForURL((url) => url.hash.includes("by=pod") && url.search === "");
    await becomes(page, ".details", "samples");
    assert.deepEqual((await legend(page)).slice(0, 2), ["postgres-0", "checkout-1"]);
  }, /401/);
});

test("what the server refuses is said in its words", async () => {
  server.trouble.fails = "refused";
  await on(TEN, {}, async (page) => {
    await becomes(page, ".notices", "The range is longer than the history.");
  }, /400/);
  server.trouble.fails = null;
  server.trouble.container = new TextEncoder().encode("EVFPAGE1 nonsense");
  await on(TEN, {}, async (page) => {
    await becomes(page, ".notices", "The server's profile cannot be shown");
  });
});

test("an empty range says why and what to do; damaged pieces and losses are noted", async () => {
  await on(`range=${BEGIN - 600_000}-${BEGIN}`, {}, async (page) => {
    await becomes(page, ".empty", "No samples here");
    assert.match(await page.locator(".empty").innerText(), /Nothing was sampled in 1 Mar 09:50:00 – 10:00:00|Nothing was sampled in 1 Mar 09:50:00/);
    assert.equal(await page.locator(".stage").isVisible(), false);
    await page.getByRole("button", { name: "The whole history" }).click();
    await becomes(page, ".details", "samples");
    await page.goto(`${server.address}#${TEN}&where=pod%3Dnobody`);
    await becomes(page, ".empty", "that fits the filters");
    await page.getByRole("button", { name: "Without filters" }).click();
    await becomes(page, ".details", "samples");
    assert.equal(await page.locator(".empty").isVisible(), false);
  });
  Object.assign(server.trouble, { skipped: 2, lost: 1234, notes: ["The disk is full: <b>nothing</b> is kept."] });
  await on(TEN, {}, async (page) => {
    await becomes(page, ".notices", "2 damaged pieces of the history in this range were left out.");
    assert.match(await page.locator(".notices").innerText(), /1\s234 samples were lost since the start\.\s+The disk is full: <b>nothing<\/b> is kept\./);
  });
  server.reset();
  server.trouble.history = false;
  await on("", {}, async (page) => becomes(page, ".empty", "There is no history yet"));
});

test("names of hostile programs are text, wherever they are shown", async () => {
  server.reset(true);
  await on(`${TEN}&by=pod&list=pod`, {}, async (page) => {
    await settled(page);
    await becomes(page, ".series", "<script>");
    const hacked = () => page.evaluate(() => (window as unknown as { hacked?: number }).hacked ?? null);
    assert.equal(await page.locator("script").count(), 1);
    assert.equal(await page.locator("img, iframe, object, #everflame svg:not(.mark)").count(), 0);
    await page.locator(".series-value", { hasText: "<script>" }).first().click();
    await settled(page);
    assert.equal((await chips(page))[0], `pod is ${HOSTILE_NAMES[0]}`);
    assert.deepEqual(hashOf(page).getAll("where"), [`pod=${HOSTILE_NAMES[0]}`]);
    await page.locator(".plot").hover({ position: { x: 300, y: 60 } });
    await page.getByLabel("List by").selectOption("end");
    await settled(page);
    await page.keyboard.press("d");
    await settled(page);
    await page.reload();
    await settled(page);
    assert.equal(await hacked(), null);
    const all = await page.locator("body").innerText();
    assert.doesNotMatch(all, /[\u0001-\u0008\u007f\u202a-\u202e\u2066-\u2069]/);
  });
});

test("the policy allows no request to anybody else", async () => {
  const { page } = await browser.open(server.address);
  const fetched = await page.evaluate(() => fetch("https://example.invalid/").then(() => "sent", () => "blocked"));
  assert.equal(fetched, "blocked");
  await page.close();
});

test("a tab that is open for a day holds no more than at the start", async () => {
  await on("last=300000", { prepare: holdTimers }, async (page) => {
    const session = await page.context().newCDPSession(page);
    const count = async () => {
      await session.send("HeapProfiler.collectGarbage");
      const { nodes, jsEventListeners } = await session.send("Memory.getDOMCounters");
      const { usedSize } = await session.send("Runtime.getHeapUsage");
      return { nodes, jsEventListeners, usedSize };
    };
    const refresh = async (times: number) => {
      for (let time = 0; time < times; time++) {
        server.now += 5000;
        await refreshed(page);
      }
    };
    await refresh(5);
    const before = await count();
    const asked = server.asked.length;
    await refresh(40);
    const after = await count();
    assert.ok(server.asked.length >= asked + 40 * 4, "status, series, labels and profile, 40 times");
    assert.ok(after.nodes <= before.nodes * 1.2, `nodes ${before.nodes} → ${after.nodes}`);
    assert.ok(after.jsEventListeners <= before.jsEventListeners * 1.2, `listeners ${before.jsEventListeners} → ${after.jsEventListeners}`);
    assert.ok(after.usedSize <= before.usedSize + 1_000_000, `heap ${before.usedSize} → ${after.usedSize}`);
  });
});

for (const width of [400, 1280]) {
  for (const dark of [false, true]) {
    test(`axe finds nothing at ${width} px in ${dark ? "dark" : "light"}, and nothing is cut off at the side`, async () => {
      await on(`${TEN}&by=pod&where=namespace%3Dshop`, { width, dark }, async (page) => {
        await page.evaluate(AXE);
        const check = async (what: string) => {
          await settled(page);
          const problems = await page.evaluate(async () => {
            const axe = (window as unknown as { axe: typeof import("axe-core") }).axe;
            const { violations } = await axe.run(document);
            return violations.map(({ id, impact, nodes }) => `${impact} ${id}: ${nodes.map(({ html }) => html).join(" ").slice(0, 300)}`);
          });
          assert.deepEqual(problems, [], what);
          assert.ok((await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)) <= 0, `${what}: wider than the page`);
        };
        await check("first");
        if (width < 1000) await page.getByRole("button", { name: "List", exact: true }).click();
        await page.getByRole("button", { name: "Compare", exact: true }).click();
        await page.getByRole("button", { name: "+ Filter" }).first().click();
        await check("comparison");
        await page.locator("summary").click();
        await check("menu");
        await page.keyboard.press("Escape");
        server.trouble.fails = "gone";
        await page.getByRole("button", { name: "1 h", exact: true }).click();
        await becomes(page, ".notices", "does not answer");
        await check("gone");
        server.trouble.fails = null;
        server.trouble.history = false;
        await page.getByRole("button", { name: "Try now" }).click();
        await becomes(page, ".empty", "No samples here");
        await check("empty");
      }, /Failed to load resource/);
    });
  }
}

test("a profile without rows, and one without anything, is no error", async () => {
  server.trouble.container = encodeMade({ functions: [], owners: [], rows: [] });
  await on(`${TEN}&baseline=previous&view=callers&list=end`, {}, async (page) => becomes(page, ".empty", "No samples here"));
});
