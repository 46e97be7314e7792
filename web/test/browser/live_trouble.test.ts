/** The live page when something is wrong: with the server, with the history, or with the names of other people's programs. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Page, Route } from "playwright-core";
import { encodeMade, HOSTILE_NAMES } from "../generate.ts";
import { BEGIN, END } from "../live/world.ts";
import { becomes, browser, chips, hashOf, holdTimers, legend, MINUTE, names, on, refreshed, server, settled, TEN, withBrowser } from "./live.ts";

withBrowser();

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

test("the list of binaries neither waits for what can be clicked in it nor fails with that", async () => {
  const held: Route[] = [];
  let wake = (): void => undefined;
  const prepare = (page: Page) => page.route(/\/api\/v1\/values\?/, (route) => {
    held.push(route);
    wake();
  }).then(() => undefined);
  const question = async () => {
    while (held.length === 0) await new Promise<void>((done) => (wake = done));
    return held.shift()!;
  };
  await on(`${TEN}&list=mapping`, { prepare }, async (page) => {
    const offered = () => page.locator(".only").evaluateAll((nodes) => nodes.map((node) => node.getAttribute("aria-label")).sort());
    await becomes(page, ".pick", "[kernel]");
    const first = await question();
    assert.deepEqual(await offered(), []);
    await first.continue();
    await page.locator(".only").first().waitFor();
    assert.deepEqual(await offered(), ["Only cart", "Only postgres", "Only server"]);

    await page.getByRole("button", { name: "Dark colours" }).click();
    const [second, refused] = [await question(), page.waitForEvent("console")];
    await second.fulfill({ status: 503, json: { error: "Too many questions wait already." } });
    await refused;
    await settled(page);
    assert.equal(await page.locator(".offline").count(), 0);
    assert.equal(await page.locator(".notices").innerText(), "");
    assert.deepEqual(await offered(), ["Only cart", "Only postgres", "Only server"], "as they were last known");
  }, /Failed to load resource/);
});

test("without the token a person is asked for it, and comes back to the same view", async () => {
  server.trouble.fails = "token";
  await on(`${TEN}&by=pod`, {}, async (page) => {
    await becomes(page, ".notices", "A token is needed.");
    await page.getByLabel("Token").fill("sesame");
    await page.keyboard.press("Enter");
    // The address is the same before and after; what goes away is the question.
    await page.waitForFunction(() => document.querySelector(".token") === null);
    await becomes(page, ".details", "samples");
    await settled(page);
    assert.equal(new URL(page.url()).search, "");
    assert.equal(hashOf(page).get("by"), "pod");
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
    // The details say "0 samples" until the answer is here: what goes away is what is waited for.
    await page.locator(".empty").waitFor({ state: "hidden" });
    await becomes(page, ".details", "samples");
    await page.goto(`${server.address}#${TEN}&where=pod%3Dnobody`);
    await becomes(page, ".empty", "that fits the filters");
    await page.getByRole("button", { name: "Without filters" }).click();
    // The details still say "0 samples" until the answer is here: what goes away is what is waited for.
    await page.locator(".empty").waitFor({ state: "hidden" });
    await becomes(page, ".details", "samples");
    await page.goto(`${server.address}#range=${BEGIN - 600_000}-${BEGIN + 600_000}&selected=${BEGIN - 600_000}-${BEGIN - 300_000}`);
    await becomes(page, ".empty", "No samples here");
    await page.getByRole("button", { name: "The whole time shown" }).click();
    await page.locator(".empty").waitFor({ state: "hidden" });
    assert.equal(hashOf(page).get("selected"), null);
    await becomes(page, ".details", "samples");
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

test("a profile without rows, and one without anything, is no error", async () => {
  server.trouble.container = encodeMade({ functions: [], owners: [], rows: [] });
  await on(`${TEN}&baseline=previous&view=callers&list=end`, {}, async (page) => becomes(page, ".empty", "No samples here"));
});

test("ten thousand pods: the largest are shown, the rest is counted, and any can be found by typing", async () => {
  server.reset(false, 10_000);
  await on(`range=${END - MINUTE}-${END}&by=pod&list=pod`, {}, async (page) => {
    await settled(page);
    await becomes(page, ".pick", "postgres-0");
    const shown = await legend(page);
    assert.equal(shown.length, 9);
    assert.equal(shown[8], "All others");
    assert.match(await page.locator(".table-caption").innerText(), /^1\s000 values · 9\s005 smaller ones not listed$/);
    // A page of rows, not all of them.
    assert.equal(await page.locator("tbody tr").count(), 100);
    await page.getByRole("button", { name: "Show 100 more of 900", exact: true }).click();
    assert.equal(await page.locator("tbody tr").count(), 200);
    const all = await names(page);
    assert.equal(new Set(all).size, 200, "each once");
    for (let left = 800; left > 0; left -= 100) await page.getByRole("button", { name: `Show 100 more of ${left}`, exact: true }).click();
    assert.equal(await page.locator("tbody tr").count(), 1000);
    assert.equal(await page.locator(".more").isVisible(), false);
    await page.keyboard.press("f");
    const maker = page.locator(".conditions .filter-maker");
    await maker.getByLabel("Label").selectOption("pod");
    await maker.getByLabel("Value").fill("crowd-9876");
    await page.waitForFunction(() => document.querySelector("datalist option")?.getAttribute("value") === "crowd-9876");
    await page.keyboard.press("Enter");
    await settled(page);
    assert.deepEqual(await legend(page), ["crowd-9876"]);
  });
});
