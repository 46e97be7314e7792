/**
 * The page of a real `everflame`: the server's JSON, containers, policy and files meet the page, which in the other tests has a server
 * that stands in for it. Nothing here waits for a clock; how long the first picture takes is printed.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { test } from "node:test";
import { gunzipSync } from "node:zlib";
import type { Page } from "playwright-core";
import { LOAD, Real, whyNone } from "../live/real.ts";
import { Browser, type Opened } from "./browser.ts";
import { becomes, chips, hashOf, names, settled } from "./live.ts";

const missing = whyNone();
if (missing !== null) {
  assert.ok(!process.env.CI, `the tests of a real everflame's page can't be skipped in CI: ${missing}`);
  console.error(`SKIPPED: the page of a real everflame: ${missing}`);
}

/** For samples and their names on a busy machine, ms. */
const PATIENCE = 120_000;

/** Runs a test on a real page, and checks that everflame ends well. */
async function onReal(token: string | null, run: (real: Real, browser: Browser) => Promise<void>): Promise<void> {
  const browser = await Browser.start();
  const real = await Real.start(token).catch(async (error: unknown) => {
    await browser.stop();
    throw error;
  });
  let code: number | null = null;
  try {
    await run(real, browser);
  } finally {
    try {
      await browser.stop();
    } finally {
      // Whatever became of the browser: an everflame that is left behind profiles on.
      code = await real.stop();
    }
  }
  assert.equal(code, 0, "everflame's exit");
}

async function firstPicture(page: Page): Promise<void> {
  await page.waitForFunction(() => document.querySelector("main.nothing") === null && document.querySelector("tbody .pick") !== null, undefined, { timeout: PATIENCE });
}

/** No error, and nobody else was asked. */
function check({ errors, requests }: Opened, address: string, expected: RegExp | null = null): void {
  assert.deepEqual(errors.filter((error) => !expected?.test(error)), []);
  assert.deepEqual(requests.filter((each) => !each.startsWith(address) && !each.startsWith("data:")), []);
}

test("a newcomer's page is drawn, filtered, compared, and taken away as files", { skip: missing ?? false }, async () => {
  await onReal(null, async (real, browser) => {
    const opened = await browser.open(real.address);
    const { page } = opened;
    await firstPicture(page);
    console.log(`the first picture came ${((performance.now() - real.began) / 1000).toFixed(1)} s after the start of everflame`);
    assert.equal(await page.title(), "real-node · Everflame");

    await page.locator(".series-value").filter({ has: page.getByText(LOAD, { exact: true }) }).click();
    await becomes(page, ".conditions .chip-text", `process is ${LOAD}`);
    // From here on nothing moves.
    await page.getByRole("button", { name: "Live: pause" }).click();
    await settled(page);
    await page.getByLabel("List by").selectOption("process");
    await becomes(page, "th.name", "Process");
    assert.deepEqual(await names(page), [LOAD]);
    await page.getByLabel("List by").selectOption("executable");
    await becomes(page, "th.name", "Executable");
    const [executable] = await names(page);
    await page.getByLabel("List by").selectOption("mapping");
    await page.getByRole("button", { name: `Only ${basename(executable)}`, exact: true }).click();
    await settled(page);
    assert.deepEqual(await chips(page), [`process is ${LOAD}`, `executable is ${executable}`]);

    await page.getByLabel("List by").selectOption("function");
    await page.getByRole("button", { name: "Compare", exact: true }).click();
    await page.getByLabel("Baseline", { exact: true }).selectOption("earlier-0");
    await settled(page);
    assert.equal(hashOf(page).get("baseline"), "earlier-0");
    await becomes(page, "td.change .share", "±0");
    assert.deepEqual([...new Set(await page.locator("td.change .share").allInnerTexts())], ["±0"]);
    await page.getByRole("button", { name: "Stop comparing" }).click();
    await settled(page);

    const download = async (name: RegExp) => {
      await page.locator("summary", { hasText: "Download" }).click();
      const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name }).click()]);
      assert.match(file.suggestedFilename(), /^everflame-real-node-\d{8}T\d{6}Z\.(pb\.gz|html)$/);
      return readFileSync(await file.path());
    };
    const pprof = gunzipSync(await download(/pprof/));
    for (const text of ["nanoseconds", LOAD]) assert.ok(pprof.includes(text), text);
    const address = browser.write("real.html", (await download(/^Page/)).toString());
    const alone = await browser.open(address);
    assert.equal(await alone.page.title(), "real-node · Everflame");
    await alone.page.locator("tbody .pick").first().waitFor();
    assert.deepEqual([alone.errors, alone.requests], [[], [address]]);
    check(opened, real.address);
  });
});

test("with a token nothing is shown before it is typed, and everything afterwards", { skip: missing ?? false }, async () => {
  const token = "correct-horse-battery-staple";
  await onReal(token, async (real, browser) => {
    for (const path of ["", "api/v1/status", "api/v1/profile", `?token=${token}x`]) {
      assert.equal((await fetch(real.address + path, { redirect: "manual" })).status, 401, path);
    }
    const opened = await browser.open(real.address, {
      prepare: async (page) => {
        await page.goto(real.address);
        await page.getByLabel("Token").fill(token);
        await page.getByRole("button", { name: "Open" }).click();
        await page.locator(".times").waitFor();
      },
    });
    await firstPicture(opened.page);
    assert.equal(new URL(opened.page.url()).search, "");
    // Of the first answer, which was the form.
    check(opened, real.address, /401/);
  });
});
