/** Everything that a person set is in the address. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { END } from "../live/world.ts";
import { browser, chips, clickBox, drag, MINUTE, names, on, range, settled, TEN, withBrowser } from "./live.ts";

withBrowser();

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

test("an address with everything in it sets every control, and is the same after a reload", async () => {
  const hash = new URLSearchParams([
    ["range", `${END - 60 * MINUTE}-${END}`], ["selected", `${END - 4 * MINUTE}-${END}`], ["by", "pod"], ["where", "namespace=shop"], ["where", "pod^=checkout"],
    ["baseline", `earlier-${30 * MINUTE}`], ["baseline-where", "namespace=shop"], ["measure", "share"], ["view", "flame"], ["list", "mapping"], ["group", "process"],
    ["search", "^tcp"], ["regex", "1"],
  ]).toString();
  await on(hash, {}, async (page) => {
    const check = async () => {
      await settled(page);
      assert.equal(new URL(page.url()).hash, `#${hash}`);
      assert.equal(await range(page), "09:56:00 – 10:00:00 (4 min)");
      assert.equal(await page.getByLabel("Split by").inputValue(), "pod");
      assert.deepEqual(await chips(page), ["namespace is shop", "pod begins with checkout"]);
      assert.deepEqual(await page.locator(".comparison .chip-text").allInnerTexts(), ["namespace is shop"]);
      assert.equal(await page.locator(".comparison .range-text").innerText(), "09:26:00 – 09:30:00");
      for (const pressed of ["Share", "Flame", "Compare", "Regular expression"]) {
        assert.equal(await page.getByRole("button", { name: pressed, exact: true }).getAttribute("aria-pressed"), "true", pressed);
      }
      assert.equal(await page.getByLabel("List by").inputValue(), "mapping");
      assert.equal(await page.getByLabel("Group").inputValue(), "process");
      assert.equal(await page.getByRole("searchbox").inputValue(), "^tcp");
    };
    await check();
    await page.reload();
    await check();
  });
});

test("an address from a stranger does no harm: what cannot be read is left out", async () => {
  const strange = [
    "range=9-1&by=%3Cscript%3E&where=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E&view=../../x&list=constructor",
    `last=1e99&selected=${"9".repeat(400)}-1&baseline=javascript:alert(1)&zoom=${"z".repeat(5000)}&function=__proto__`,
    `search=${encodeURIComponent("(a+)+$".repeat(500))}&regex=1&${"where=pod%3Dx&".repeat(200)}`,
    "%E0%A4%A&&&==&#x",
  ];
  for (const hash of strange) {
    await on(hash, {}, async (page) => {
      await page.locator(".times .range-text").waitFor();
      await settled(page);
      assert.match(await range(page), /5 min/);
      assert.equal(await page.locator("script").count(), 1);
    });
  }
});
