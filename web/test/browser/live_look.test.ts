/** The live page for everybody: both themes, wide and narrow, keys alone, and what axe says. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Page } from "playwright-core";
import { bringAxe, cutOff, problems } from "./axe.ts";
import { becomes, chips, colourOf, hashOf, holdTimers, names, on, server, settled, TEN, withBrowser } from "./live.ts";

withBrowser();

for (const width of [400, 1280]) {
  for (const dark of [false, true]) {
    test(`axe finds nothing at ${width} px in ${dark ? "dark" : "light"}, and nothing is cut off at the side`, async () => {
      await on(`${TEN}&by=pod&where=namespace%3Dshop`, { width, dark, prepare: holdTimers }, async (page) => {
        await bringAxe(page);
        const check = async (what: string) => {
          await settled(page);
          assert.deepEqual(await problems(page), [], what);
          assert.equal(await cutOff(page), 0, `${what}: wider than the page`);
        };
        await check("first");
        if (width < 1000) await page.getByRole("button", { name: "List", exact: true }).click();
        await page.getByRole("searchbox").fill("parse");
        await check("search");
        await page.locator(".pick").first().click();
        await check("callers");
        await page.getByRole("button", { name: "Icicle" }).click();
        await page.getByLabel("List by").selectOption("pod");
        await becomes(page, ".pick", "postgres-0");
        await check("values of a label");
        await page.getByLabel("List by").selectOption("mapping");
        await page.getByRole("button", { name: "Only server" }).waitFor();
        await check("binaries");
        await page.keyboard.press("?");
        await page.getByRole("dialog").waitFor();
        await check("help");
        await page.keyboard.press("Escape");
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
        server.trouble.fails = "token";
        await page.getByRole("button", { name: "Try now" }).click();
        await becomes(page, ".notices", "A token is needed");
        await check("token");
      }, /Failed to load resource/);
    });

    test(`axe finds nothing on an empty page with notes at ${width} px in ${dark ? "dark" : "light"}`, async () => {
      Object.assign(server.trouble, { history: false, lost: 12, notes: ["The disk is full."] });
      await on("", { width, dark }, async (page) => {
        await bringAxe(page);
        await becomes(page, ".empty", "No samples here");
        await becomes(page, ".notices", "The disk is full");
        assert.deepEqual(await problems(page), []);
        assert.equal(await cutOff(page), 0);
      });
    });
  }
}

test("the theme follows the system until it is chosen: graph, time line and page", async () => {
  const looks = async (page: Page) => {
    await settled(page);
    return {
      theme: await page.evaluate(() => document.documentElement.dataset.theme),
      page: await page.evaluate(() => getComputedStyle(document.body).backgroundColor),
      timeline: await page.locator(".plot canvas").evaluate((node) => [...((node as HTMLCanvasElement).getContext("2d") as CanvasRenderingContext2D).getImageData(2, 2, 1, 1).data.slice(0, 3)].join()),
      box: (await colourOf(page, 1, 0.5)).join(),
    };
  };
  await on(TEN, {}, async (page) => {
    const light = await looks(page);
    assert.equal(light.theme, "light");
    await page.emulateMedia({ colorScheme: "dark" });
    const dark = await looks(page);
    assert.equal(dark.theme, "dark");
    for (const part of ["page", "timeline", "box"] as const) assert.notEqual(dark[part], light[part], part);
    await page.getByRole("button", { name: "Light colours" }).click();
    assert.deepEqual(await looks(page), light);
    await page.emulateMedia({ colorScheme: "light" });
    await page.emulateMedia({ colorScheme: "dark" });
    assert.deepEqual(await looks(page), light, "chosen");
  });
});

test("every control of the live page is reached with Tab, outlined, in the order in which it is seen", async () => {
  await on(`${TEN}&by=pod&where=namespace%3Dshop`, {}, async (page) => {
    await settled(page);
    const reached: string[] = [];
    for (let step = 0; step < 30; step++) {
      await page.keyboard.press("Tab");
      reached.push(await page.evaluate(() => {
        const node = document.activeElement as HTMLElement;
        const outlined = getComputedStyle(node).outlineStyle !== "none";
        return `${node.getAttribute("aria-label") ?? (node.id || node.querySelector(".series-name")?.textContent || node.textContent)}${outlined ? "" : " (no outline)"}`;
      }));
    }
    assert.deepEqual(reached, [
      "Download", "Dark colours", "Help", "5 min", "1 h", "24 h", "All", "Paused: follow the time", "everflame-by",
      "Start of the range", "End of the range", "postgres-0", "checkout-1", "checkout-2", "cart-1",
      "Remove the filter namespace is shop", "+ Filter", "Compare",
      "Icicle", "Flame", "Callers", "List", "Search functions", "Regular expression",
      "everflame-type", "everflame-group", "all", "Flame graph", "List by", "Table of functions",
    ]);
  });
});

test("the live page can be driven by keys alone", async () => {
  await on(TEN, {}, async (page) => {
    await settled(page);
    await page.locator(".main-pane .graph").focus();
    for (const key of ["ArrowDown", "ArrowDown", "ArrowDown"]) await page.keyboard.press(key);
    const selected = await page.locator(".details-name").innerText();
    assert.notEqual(selected, "all");
    await page.keyboard.press("Enter");
    assert.notEqual(hashOf(page).get("zoom"), null);
    await page.keyboard.press("c");
    assert.match(await page.locator(".focus-bar").innerText(), new RegExp(selected.replace(/[^\w]/g, ".")));
    await page.keyboard.press("g");
    assert.equal(await page.locator(".main-pane").isVisible(), true);
    await page.keyboard.press("i");
    assert.equal(hashOf(page).get("view"), "flame");
    await page.keyboard.press("t");
    assert.equal(await page.locator(".functions").isVisible(), false);
    await page.keyboard.press("t");
    await page.keyboard.press("Escape");
    assert.equal(hashOf(page).get("zoom"), null);
    await page.keyboard.press("d");
    await settled(page);
    assert.equal(hashOf(page).get("baseline"), "previous");
    await page.keyboard.press("d");
    await settled(page);
    assert.equal(hashOf(page).get("baseline"), null);
    await page.keyboard.press("?");
    assert.equal(await page.getByRole("dialog").isVisible(), true);
    await page.keyboard.press("d");
    assert.equal(hashOf(page).get("baseline"), null, "no key reaches the page behind the help");
    await page.keyboard.press("Escape");
    assert.equal(await page.getByRole("dialog").isVisible(), false);
    await page.keyboard.press("f");
    await page.keyboard.type("pod");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Tab");
    await page.keyboard.type("cart-1");
    await page.keyboard.press("Enter");
    await settled(page);
    assert.deepEqual(await chips(page), ["pod is cart-1"]);
  });
});

test("at 400 px a finger does what a mouse does: range, filter, zoom, callers, comparison", async () => {
  await on(`${TEN}&by=pod`, { width: 400 }, async (page) => {
    await settled(page);
    const session = await page.context().newCDPSession(page);
    const box = (await page.locator(".plot").boundingBox())!;
    const touch = (type: "touchStart" | "touchMove" | "touchEnd", x: number) =>
      session.send("Input.dispatchTouchEvent", { type, touchPoints: type === "touchEnd" ? [] : [{ x: box.x + x, y: box.y + 60 }] });
    await touch("touchStart", 150);
    for (const x of [180, 240, 300]) await touch("touchMove", x);
    await touch("touchEnd", 300);
    await page.waitForFunction(() => location.hash.includes("selected="));
    await settled(page);
    await page.locator(".series-value", { hasText: "checkout-1" }).click();
    await settled(page);
    assert.deepEqual(await chips(page), ["pod is checkout-1"]);
    const graph = page.locator(".main-pane .graph");
    await graph.click({ position: { x: 40, y: 1 + 4.5 * 19 } });
    assert.equal(await page.locator(".crumb[aria-current]").innerText(), "server::parse");
    await page.getByRole("button", { name: "List", exact: true }).click();
    await settled(page);
    assert.ok((await names(page)).includes("server::parse"));
    await page.locator(".pick", { hasText: "server::parse" }).click();
    assert.match(await page.locator(".focus-bar").innerText(), /server::parse/);
    await page.getByRole("button", { name: "Compare", exact: true }).click();
    await settled(page);
    assert.equal(await page.locator(".comparison").isVisible(), true);
    assert.equal(await cutOff(page), 0);
  });
});
