import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Page } from "playwright-core";
import { assemble, encodeMade, HOSTILE_NAMES, hostileProfile, smallProfile } from "../generate.ts";
import { bringAxe, cutOff, problems } from "./axe.ts";
import { Browser, type Opened } from "./browser.ts";

const ROW = 19;

let browser: Browser;
let small: string;
let hostile: string;

before(async () => {
  browser = await Browser.start();
  small = browser.write("small.html", assemble(encodeMade(smallProfile())));
  hostile = browser.write("hostile.html", assemble(encodeMade(hostileProfile())));
});
after(() => browser.stop());

/** Opens a page, runs a test in it, and checks that nothing went wrong and nothing was asked of the network. */
async function on(address: string, options: Parameters<Browser["open"]>[1], run: (page: Page, opened: Opened) => Promise<void>): Promise<void> {
  const opened = await browser.open(address, options);
  await run(opened.page, opened);
  assert.deepEqual(opened.errors, []);
  assert.deepEqual(opened.requests, [address]);
  await opened.page.close();
}

/** A place in a graph: a level from the root, and how far to the right, 0 to 1. */
async function place(page: Page, level: number, share: number, pane = ".main-pane .graph", flame = false) {
  const graph = page.locator(pane).first();
  const size = await graph.evaluate((node) => ({ width: node.clientWidth, height: node.clientHeight }));
  return { graph, position: { x: 1 + size.width * share, y: 1 + (flame ? size.height - (level + 0.5) * ROW : (level + 0.5) * ROW) } };
}

async function clickBox(page: Page, level: number, share: number, pane?: string, flame?: boolean): Promise<void> {
  const { graph, position } = await place(page, level, share, pane, flame);
  await graph.click({ position });
}

const selected = (page: Page) => page.locator(".details-name").innerText();
const crumbs = (page: Page) => page.locator(".crumb").allInnerTexts();
const found = (page: Page) => page.locator(".found").innerText();
const names = (page: Page) => page.locator(".pick").allInnerTexts();
const search = async (page: Page, text: string) => {
  await page.getByRole("searchbox").fill(text);
  await settled(page);
};
/** Until the list, which comes after the picture, is there. */
const settled = (page: Page) => page.evaluate(() => new Promise((done) => requestAnimationFrame(() => setTimeout(() => requestAnimationFrame(done), 5))));
/** Colour of a canvas at a place of a graph. */
async function colour(page: Page, level: number, share: number, flame = false): Promise<number[]> {
  await settled(page);
  const { graph, position } = await place(page, level, share, undefined, flame);
  return await graph.evaluate((node, { x, y }) => {
    const context = (node.querySelector("canvas") as HTMLCanvasElement).getContext("2d") as CanvasRenderingContext2D;
    return [...context.getImageData(x * devicePixelRatio, y * devicePixelRatio - 8, 1, 1).data];
  }, position);
}

test("the header shows the profile's facts", async () => {
  await on(small, {}, async (page) => {
    assert.equal(await page.title(), "node-7 · Everflame");
    assert.equal(await page.getByRole("heading", { level: 1 }).innerText(), "node-7");
    const facts = await page.locator(".fact").allInnerTexts();
    assert.equal(facts.length, 8);
    assert.match(facts[6], /Ledger\n47 520 due = 21 482 recorded/);
  });
});

test("a click zooms, the way back is a click on a crumb, Reset, or Escape", async () => {
  await on(small, {}, async (page) => {
    await clickBox(page, 3, 0.3);
    assert.equal(await selected(page), "server::handle<Request>");
    assert.deepEqual(await crumbs(page), ["all", "_start", "main", "server::handle<Request>"]);
    // Zoomed, the right edge is the smaller child's, 15 of 65.
    await clickBox(page, 4, 0.99);
    assert.equal(await selected(page), "entry_SYSCALL_64");
    await page.getByRole("button", { name: "main", exact: true }).first().click();
    assert.deepEqual(await crumbs(page), ["all", "_start", "main"]);
    await page.keyboard.press("Escape");
    assert.deepEqual(await crumbs(page), ["all"]);
    await clickBox(page, 1, 0.8);
    assert.equal(await selected(page), "runtime.main");
    await page.getByRole("button", { name: "Reset zoom" }).click();
    assert.deepEqual(await crumbs(page), ["all"]);
    assert.equal(await page.getByRole("button", { name: "Reset zoom" }).isDisabled(), true);
  });
});

test("icicle has the root on top, flame at the bottom", async () => {
  await on(small, {}, async (page) => {
    await clickBox(page, 1, 0.8);
    assert.equal(await selected(page), "runtime.main");
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Flame", exact: true }).click();
    assert.equal(await page.getByRole("button", { name: "Flame", exact: true }).getAttribute("aria-pressed"), "true");
    await clickBox(page, 1, 0.8, undefined, true);
    assert.equal(await selected(page), "runtime.main");
    await page.keyboard.press("Escape");
    await page.keyboard.press("i");
    assert.equal(await page.getByRole("button", { name: "Icicle" }).getAttribute("aria-pressed"), "true");
  });
});

test("boxes have the colours of their kinds", async () => {
  await on(small, {}, async (page) => {
    assert.deepEqual(await colour(page, 1, 0.65), [0xeb, 0xb0, 0x28, 255], "native");
    assert.deepEqual(await colour(page, 1, 0.9), [0x61, 0xbf, 0xe6, 255], "Go");
    assert.deepEqual(await colour(page, 2, 0.9), [0xe5, 0x6a, 0x4c, 255], "kernel");
    const legend = await page.locator(".legend li:visible").allInnerTexts();
    assert.deepEqual(legend.slice(0, 7), ["Native", "Go", "Kernel", "Kernel module", "Unknown", "Marker", "Inlined (paler)"]);
  });
});

test("a search highlights, says the share, and filters the list", async () => {
  await on(small, {}, async (page) => {
    await settled(page);
    await search(page, "parse");
    assert.equal(await found(page), "55.0 % found");
    assert.deepEqual(await names(page), ["server::parse"]);
    assert.deepEqual(await colour(page, 4, 0.45), [0x7a, 0x1f, 0xa2, 255]);
    await search(page, "file:main.rs");
    assert.equal(await found(page), "70.0 % found");
    await search(page, "nothing like it");
    assert.equal(await found(page), "0 % found");
    assert.deepEqual(await names(page), []);
    await page.getByRole("button", { name: "Regular expression" }).click();
    await search(page, "^(runtime|entry_)");
    assert.equal(await found(page), "40.0 % found");
    await search(page, "(");
    assert.equal(await found(page), "Not a regular expression");
    assert.equal(await page.getByRole("searchbox").getAttribute("aria-invalid"), "true");
    await page.keyboard.press("Escape");
    assert.equal(await found(page), "");
    await settled(page);
    assert.equal((await names(page)).length, 10);
  });
});

test("a process, then one of its threads, can be chosen; groups are the first level", async () => {
  await on(small, {}, async (page) => {
    const processes = page.getByLabel("Process", { exact: true });
    assert.deepEqual(await processes.locator("option").allInnerTexts(), ["All (2)", "server (100) · 75.0 %", "agent (200) · 25.0 %"]);
    const threads = page.getByLabel("Thread", { exact: true });
    assert.equal(await threads.isDisabled(), true);
    await processes.selectOption("0");
    await settled(page);
    assert.deepEqual(await threads.locator("option").allInnerTexts(), ["All (2)", "worker (101) · 60.0 %", "server (100) · 40.0 %"]);
    assert.match(await page.locator(".details").innerText(), /757\.6 ms · 75 samples/);
    await threads.selectOption({ label: "worker (101) · 60.0 %" });
    await settled(page);
    assert.match(await page.locator(".details").innerText(), /454\.5 ms · 45 samples/);
    await processes.selectOption("");
    assert.equal(await threads.isDisabled(), true);
    await page.getByLabel("Group").selectOption("process");
    await clickBox(page, 1, 0.9);
    assert.equal(await selected(page), "agent (200)");
    await page.getByLabel("Group").selectOption("thread");
    await clickBox(page, 2, 0.1);
    assert.deepEqual(await crumbs(page), ["all", "server (100)", "worker (101)"]);
  });
});

test("the list sorts by any column and shows callers and callees at a click", async () => {
  await on(small, {}, async (page) => {
    await settled(page);
    assert.deepEqual((await names(page)).slice(0, 3), ["core::str::from_utf8", "entry_SYSCALL_64", "server::parse"]);
    await page.getByRole("button", { name: "Total", exact: true }).click();
    assert.deepEqual((await names(page)).slice(0, 3), ["_start", "main", "server::handle<Request>"]);
    assert.equal(await page.locator("th.total").getAttribute("aria-sort"), "descending");
    const totals = await page.locator("td.total .share").allInnerTexts();
    assert.deepEqual(totals.slice(0, 4), ["70.0 %", "70.0 %", "65.0 %", "55.0 %"]);
    await page.getByRole("button", { name: "Function", exact: true }).click();
    const byName = await names(page);
    assert.deepEqual(byName, [...byName].sort());
    await page.locator(".pick", { hasText: "server::parse" }).click();
    assert.match(await page.locator(".focus-bar").innerText(), /server::parse\s+55\.0 % · 555\.6 ms/);
    // Callers stand on the function: `handle` 50 of 55, `[truncated]` the rest.
    await clickBox(page, 1, 0.2, ".callers-pane .graph", true);
    assert.equal(await selected(page), "server::handle<Request>");
    await clickBox(page, 1, 0.97, ".callers-pane .graph", true);
    assert.notEqual(await selected(page), "");
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "All functions" }).click();
    assert.match(await page.locator(".pane-title").first().innerText(), /every function by its own time/i);
    // Upside down: the hottest leaf first.
    await clickBox(page, 1, 0.1, ".callers-pane .graph");
    assert.equal(await selected(page), "core::str::from_utf8");
  });
});

test("callees hang below the function, recursion counted once", async () => {
  await on(small, {}, async (page) => {
    await clickBox(page, 4, 0.2);
    assert.equal(await selected(page), "server::parse");
    await page.keyboard.press("c");
    // Of 55: 40 in from_utf8, 10 in itself again.
    const callees = ".callers-pane .graph >> nth=1";
    await clickBox(page, 1, 0.5, callees);
    assert.equal(await selected(page), "core::str::from_utf8");
    await page.keyboard.press("Escape");
    await clickBox(page, 1, 0.8, callees);
    assert.equal(await selected(page), "server::parse");
    assert.match(await page.locator(".details").innerText(), /18\.2 %/);
    await page.keyboard.press("g");
    assert.equal(await page.locator(".main-pane").isVisible(), true);
  });
});

test("the keyboard does what the pointer does", async () => {
  await on(small, {}, async (page) => {
    await page.locator(".main-pane .graph").focus();
    for (const [key, name] of [
      ["ArrowDown", "_start"], ["ArrowRight", "runtime.main"], ["ArrowRight", "[truncated]"], ["ArrowRight", "[truncated]"], ["ArrowLeft", "runtime.main"],
      ["ArrowDown", "entry_SYSCALL_64"], ["ArrowDown", "entry_SYSCALL_64"], ["ArrowUp", "runtime.main"], ["Home", "all"], ["ArrowUp", "all"],
      ["ArrowDown", "_start"], ["ArrowDown", "main"], ["Enter", "main"],
    ]) {
      await page.keyboard.press(key);
      assert.equal(await selected(page), name, key);
    }
    assert.deepEqual(await crumbs(page), ["all", "_start", "main"]);
    assert.match(await page.getByRole("status").last().innerText(), /^main, Kind native/);
    await page.keyboard.press("Escape");
    assert.deepEqual(await crumbs(page), ["all"]);
    await page.keyboard.press("i");
    await page.keyboard.press("ArrowUp");
    assert.equal(await selected(page), "_start", "the callee is above in a flame graph");
    await page.keyboard.press("/");
    assert.equal(await page.evaluate(() => document.activeElement?.id), "everflame-search");
    await page.keyboard.type("?i");
    assert.equal(await page.getByRole("searchbox").inputValue(), "?i");
    await page.keyboard.press("Escape");
    assert.equal(await page.evaluate(() => document.activeElement?.className), "graph");
    await page.keyboard.press("?");
    assert.equal(await page.getByRole("dialog").isVisible(), true);
    await page.keyboard.press("Escape");
    assert.equal(await page.getByRole("dialog").isVisible(), false);
    await page.keyboard.press("t");
    assert.equal(await page.locator(".functions").isVisible(), false);
  });
});

test("every control can be reached with Tab, in the order in which it is seen", async () => {
  await on(small, {}, async (page) => {
    const reached: string[] = [];
    for (let step = 0; step < 16; step++) {
      await page.keyboard.press("Tab");
      reached.push(await page.evaluate(() => {
        const node = document.activeElement as HTMLElement;
        const outlined = getComputedStyle(node).outlineStyle !== "none";
        return `${node.getAttribute("aria-label") ?? (node.id || node.textContent)}${outlined ? "" : " (no outline)"}`;
      }));
    }
    assert.deepEqual(reached, [
      "Dark colours", "Help", "Icicle", "Flame", "Callers", "List", "Search functions", "Regular expression",
      "everflame-type", "everflame-group", "everflame-process", "all", "Flame graph", "List by", "Table of functions", "Self",
    ]);
  });
});

test("the tooltip says what, where and how much", async () => {
  await on(small, {}, async (page) => {
    const { graph, position } = await place(page, 4, 0.2);
    await graph.hover({ position });
    assert.equal(await page.locator(".tooltip").innerText(),
      "server::parse\n\nKind\nnative\nSource\nsrc/parse.rs:7\nBinary\nserver\nTotal\n50.0 % · 505.1 ms · 50 samples\nSelf\n0 % · 0 ns · 0 samples");
    await page.mouse.move(1, 1);
    assert.equal(await page.locator(".tooltip").isVisible(), false);
  });
});

test("hot lines are shown for the selected function", async () => {
  await on(small, {}, async (page) => {
    await clickBox(page, 5, 0.2);
    assert.equal(await selected(page), "core::str::from_utf8");
    assert.match(await page.locator(".details").innerText(), /Hot lines\s+:95 303\.0 ms · :99 101\.0 ms/);
  });
});

test("names of hostile programs are text, wherever they are shown", async () => {
  await on(hostile, {}, async (page) => {
    const hacked = () => page.evaluate(() => (window as unknown as { hacked?: number }).hacked ?? null);
    await settled(page);
    assert.equal(await page.locator("script").count(), 1, "only the page's own");
    assert.equal(await page.locator("img, iframe, object, #everflame svg:not(.mark)").count(), 0);
    assert.equal(await page.getByRole("heading", { level: 1 }).innerText(), HOSTILE_NAMES[1]);
    for (let level = 0; level < 8; level++) {
      const { graph, position } = await place(page, level, 0.3);
      await graph.hover({ position });
      await graph.click({ position });
    }
    await page.keyboard.press("Escape");
    for (const grouping of ["process", "thread", "none"]) await page.getByLabel("Group").selectOption(grouping);
    await page.getByLabel("Process", { exact: true }).selectOption("1");
    await page.getByLabel("Process", { exact: true }).selectOption("");
    await search(page, "<script>");
    await page.locator(".pick").first().click();
    await search(page, "__proto__");
    assert.deepEqual(await names(page), ["__proto__"]);
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "All functions" }).click();
    assert.equal(await hacked(), null);
    // Control and direction characters are visible as symbols.
    const all = (await page.locator(".pick").allTextContents()).join("");
    assert.doesNotMatch(all, /[\u0000-\u001f\u007f\u202a-\u202e\u2066-\u2069]/);
    assert.match(all, /line␊break␀␛\[31mred␡/);
  });
});

test("the policy stops scripts and requests that the page did not bring", async () => {
  const { page } = await browser.open(small);
  const failures: (string | undefined)[] = [];
  page.on("requestfailed", (request) => failures.push(request.failure()?.errorText));
  await page.evaluate(() => {
    const script = document.createElement("script");
    script.textContent = "window.hacked = 1";
    document.body.append(script);
    const image = document.createElement("img");
    image.setAttribute("onerror", "window.hacked = 2");
    image.src = "https://example.invalid/x.png";
    document.body.append(image);
    document.body.setAttribute("onclick", "window.hacked = 3");
    document.body.click();
  });
  const fetched = await page.evaluate(() => fetch("https://example.invalid/").then(() => "sent", () => "blocked"));
  assert.equal(fetched, "blocked");
  const evaluated = await page.evaluate(() => new Promise((done) => {
    const timer = setTimeout as unknown as (code: string, delay: number) => void;
    try {
      timer("window.hacked = 4", 0);
    } catch {
      // Refused at once is fine too.
    }
    setTimeout(() => done((window as unknown as { hacked?: number }).hacked ?? null), 100);
  }));
  assert.equal(evaluated, null);
  assert.deepEqual(failures, ["csp"]);
  await page.close();
});

test("older browsers, without streams or base64, show the same", async () => {
  const prepare = async (page: Page) => {
    await page.addInitScript(() => {
      delete (window as Partial<typeof globalThis>).DecompressionStream;
      delete (Uint8Array as unknown as Record<string, unknown>).fromBase64;
    });
  };
  await on(small, { prepare }, async (page) => {
    assert.equal(await page.evaluate(() => typeof DecompressionStream), "undefined");
    await clickBox(page, 3, 0.3);
    assert.equal(await selected(page), "server::handle<Request>");
  });
});

test("a damaged file says so instead of showing half of it", async () => {
  const html = assemble(encodeMade(smallProfile()));
  const start = html.indexOf("deflate-raw;base64");
  const damaged = html.slice(0, start) + html.slice(start).replace(/">(.{200})/, '">' + "A".repeat(200));
  const { page } = { page: await (await browser.open(small)).page };
  await page.goto(browser.write("damaged.html", damaged));
  await page.waitForFunction(() => /cannot be shown/.test(document.body.innerText));
  assert.equal(await page.locator("canvas").count(), 0);
  await page.close();
});

test("the theme follows the system until it is chosen", async () => {
  await on(small, { dark: true }, async (page) => {
    const theme = () => page.evaluate(() => document.documentElement.dataset.theme);
    assert.equal(await theme(), "dark");
    await page.emulateMedia({ colorScheme: "light" });
    await settled(page);
    assert.equal(await theme(), "light");
    await page.getByRole("button", { name: "Dark colours" }).click();
    assert.equal(await theme(), "dark");
    await page.emulateMedia({ colorScheme: "dark" });
    await page.emulateMedia({ colorScheme: "light" });
    await settled(page);
    assert.equal(await theme(), "dark");
  });
});

for (const width of [400, 768, 1280]) {
  test(`at ${width} px nothing is cut off at the side`, async () => {
    for (const address of [small, hostile]) {
      await on(address, { width }, async (page) => {
        assert.equal(await cutOff(page), 0);
        if (width < 1000) await page.getByRole("button", { name: "List", exact: true }).click();
        await settled(page);
        await page.locator(".pick").first().click();
        assert.equal(await cutOff(page), 0);
        await page.keyboard.press("?");
        assert.equal(await cutOff(page), 0);
      });
    }
  });
}

for (const dark of [false, true]) {
  test(`axe finds nothing in ${dark ? "dark" : "light"}: graph, callers, search, help, narrow`, async () => {
    const check = async (page: Page, what: string) => {
      await settled(page);
      assert.deepEqual(await problems(page), [], what);
    };
    for (const width of [1280, 400]) {
      const { page } = await browser.open(small, { dark, width });
      await bringAxe(page);
      await check(page, "graph");
      if (width < 1000) await page.getByRole("button", { name: "List", exact: true }).click();
      await search(page, "parse");
      await check(page, "search");
      await page.locator(".pick").first().click();
      await check(page, "callers");
      await page.keyboard.press("Escape");
      await page.keyboard.press("?");
      await check(page, "help");
      await page.close();
    }
  });
}
