/** Two times or two selections compared. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { END, SLOWER_SINCE } from "../live/world.ts";
import { becomes, chips, clickBox, colourOf, details, drag, hashOf, MINUTE, on, ROW, settled, TEN, withBrowser } from "./live.ts";

withBrowser();

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

test("a difference under the pointer is told in numbers, in both themes in the colours of the legend", async () => {
  for (const dark of [false, true]) {
    await on(`range=${SLOWER_SINCE}-${END}&where=pod%3Dcheckout-1&baseline=previous&baseline-where=pod%3Dcheckout-1`, { dark }, async (page) => {
      await settled(page);
      // The scale goes from blue (gone) to orange (new); regex::compile is new.
      const scale = await page.locator(".legend .scale .swatch").evaluateAll((nodes) => nodes.map((node) => getComputedStyle(node).backgroundColor));
      const rgb = (colour: number[]) => `rgb(${colour.join(", ")})`;
      assert.equal(rgb(await colourOf(page, 5, 0.6)), scale.at(-1));
      assert.equal(rgb(await colourOf(page, 5, 0.9)), scale[(scale.length - 1) / 2]);
      await page.getByRole("button", { name: "Swap" }).click();
      await settled(page);
      assert.equal(rgb(await colourOf(page, 5, 0.6)), scale[0]);
      const graph = page.locator(".main-pane .graph");
      const width = await graph.evaluate((node) => node.clientWidth);
      await graph.hover({ position: { x: 1 + width * 0.6, y: 1 + 5.5 * ROW } });
      const tooltip = page.locator("#everflame > .tooltip");
      await tooltip.waitFor();
      assert.match((await tooltip.innerText()).replaceAll("\u00a0", " "), /^regex::compile[^]*Source\s+regex\/src\/lib\.rs:61[^]*Change\s+−0\.0606 cores \(gone\)/);
    });
  }
});
