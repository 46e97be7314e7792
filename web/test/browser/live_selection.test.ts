/** What a person asks of the live page besides a time: filters, lists, search, callers, files. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import type { Page } from "playwright-core";
import { END } from "../live/world.ts";
import { becomes, chips, clickBox, colourOf, details, drag, hashOf, isAsking, legend, MINUTE, names, on, ROW, server, settled, TEN, withBrowser } from "./live.ts";

withBrowser();

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

test("a click on a value shows that value alone, whatever filtered its label before, and is one step", async () => {
  const cases: [before: string, click: (page: Page) => Promise<void>, after: string[]][] = [
    ["where=pod%5E%3Dcheckout&list=pod", (page) => page.locator(".pick", { hasText: "checkout-1" }).click(), ["pod is checkout-1"]],
    ["where=pod%3Dcheckout-1&where=pod%3Dcart-1&where=namespace%3Dshop&by=pod", (page) => page.locator(".series-value", { hasText: "cart-1" }).click(), ["namespace is shop", "pod is cart-1"]],
    ["where=executable%7E%3D%2Fusr&list=mapping", (page) => page.getByRole("button", { name: "Only server" }).click(), ["executable is /usr/bin/server"]],
    ["where=process%7E%3Dser&where=process%3Dcart&group=process", async (page) => {
      await clickBox(page, 1, 0.02);
      await page.getByRole("button", { name: "Only this process" }).click();
    }, ["process is server"]],
  ];
  for (const [before, click, after] of cases) {
    await on(`${TEN}&${before}`, {}, async (page) => {
      await settled(page);
      const filters = await chips(page);
      const samples = await details(page);
      await click(page);
      await settled(page);
      assert.deepEqual(await chips(page), after);
      assert.notEqual(await details(page), samples, "less is shown");
      await page.goBack();
      await settled(page);
      assert.deepEqual(await chips(page), filters, "one step back");
    });
  }
  await on(`${TEN}&where=pod%3Dcheckout-1&list=pod`, {}, async (page) => {
    await becomes(page, ".pick", "checkout-1");
    await settled(page);
    const steps = await page.evaluate(() => history.length);
    await page.locator(".pick", { hasText: "checkout-1" }).click();
    assert.equal(await isAsking(page), false, "it is alone already");
    assert.equal(await page.evaluate(() => history.length), steps);
    assert.deepEqual(await chips(page), ["pod is checkout-1"]);
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

test("a filter is made with the mouse, on either side of a comparison", async () => {
  await on(`${TEN}&baseline=earlier-0`, {}, async (page) => {
    await settled(page);
    const add = async (side: string, value: string) => {
      await page.locator(side).getByRole("button", { name: "+ Filter" }).click();
      const maker = page.locator(`${side} .filter-maker`);
      await maker.getByLabel("Label").selectOption("pod");
      await maker.getByLabel("Value").fill(value);
      await maker.getByRole("button", { name: "Add", exact: true }).click();
      await settled(page);
      assert.equal(await maker.isVisible(), false);
    };
    await add(".comparison", "checkout-2");
    assert.deepEqual([await chips(page), hashOf(page).getAll("baseline-where")], [[], ["pod=checkout-2"]]);
    await add(".conditions", "checkout-1");
    assert.deepEqual([await chips(page), hashOf(page).getAll("where")], [["pod is checkout-1"], ["pod=checkout-1"]]);
    assert.deepEqual(hashOf(page).getAll("baseline-where"), ["pod=checkout-2"]);
    // 24 of 60 slots with 60 samples.
    assert.match(await page.locator("tbody tr").first().innerText(), /^\+0\.0242/);
  });
});

test("a binary that processes were started from makes a filter, others are looked for in the graph", async () => {
  await on(`${TEN}&list=mapping`, {}, async (page) => {
    await becomes(page, ".pick", "[kernel]");
    const offered = () => page.locator(".only").evaluateAll((nodes) => nodes.map((node) => node.getAttribute("aria-label")).sort());
    assert.deepEqual(await offered(), ["Only cart", "Only postgres", "Only server"]);
    await page.getByRole("button", { name: "Only server" }).click();
    await settled(page);
    assert.deepEqual(await chips(page), ["executable is /usr/bin/server"]);
    assert.deepEqual(hashOf(page).getAll("where"), ["executable=/usr/bin/server"]);
    assert.deepEqual(await legend(page), ["server"]);
    // Whole stacks of these processes, the kernel's part included.
    await page.waitForFunction(() => document.querySelectorAll(".pick").length === 2);
    assert.deepEqual((await names(page)).sort(), ["[kernel]", "server"]);
    assert.equal(await page.getByRole("searchbox").inputValue(), "");
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

test("every label that the list shows filters at a click", async () => {
  const first: [label: string, value: string][] = [
    ["namespace", "shop"], ["workload", "checkout"], ["pod", "checkout-2"], ["container", "db"], ["service", "cart"],
    ["process", "kubelet"], ["thread", "postgres"], ["executable", "/usr/bin/server"], ["node", "worker-3"],
  ];
  for (const [label, value] of first) {
    await on(`${TEN}&list=${label}`, {}, async (page) => {
      await page.locator("button.pick", { hasText: value }).first().click();
      await settled(page);
      assert.deepEqual(await chips(page), [`${label} is ${value}`]);
      assert.deepEqual(hashOf(page).getAll("where"), [`${label}=${value}`]);
    });
  }
});

test("the list has self and total by function, file and binary, and sorts by either", async () => {
  await on(`${TEN}&where=pod%3Dcheckout-1`, {}, async (page) => {
    const cases: [list: string, title: string, bySelf: string, byTotal: string][] = [
      ["function", "Function", "core::str::from_utf8", "_start"],
      ["file", "Source file", "core/src/str.rs", "src/handle.rs"],
      ["mapping", "Binary", "server", "server"],
    ];
    for (const [list, title, bySelf, byTotal] of cases) {
      await page.getByLabel("List by").selectOption(list);
      await becomes(page, "th.name", title);
      await settled(page);
      const sorts = { self: page.locator("th.self .sort"), total: page.locator("th.total .sort") };
      if (list !== "function") await sorts.self.click();
      assert.equal(await page.locator("th.self").getAttribute("aria-sort"), "descending");
      assert.equal((await names(page))[0], bySelf, list);
      await sorts.total.click();
      assert.equal(await page.locator("th.total").getAttribute("aria-sort"), "descending");
      assert.ok((await names(page)).includes(byTotal), list);
      assert.equal(await page.locator("td.total .share").first().innerText(), "100 %");
      await sorts.total.click();
      assert.equal(await page.locator("th.total").getAttribute("aria-sort"), "ascending");
      await sorts.total.click();
    }
  });
});

test("a search finds text, patterns and files; the rest of the graph fades and the list narrows", async () => {
  await on(`${TEN}&where=pod%3Dcheckout-1`, {}, async (page) => {
    await settled(page);
    await page.keyboard.press("/");
    await page.keyboard.type("utf8");
    await becomes(page, ".found", "50.9 % found");
    await settled(page);
    assert.deepEqual(await names(page), ["core::str::from_utf8"]);
    assert.deepEqual(await colourOf(page, 5, 0.4), [0x7a, 0x1f, 0xa2]);
    assert.equal(hashOf(page).get("search"), "utf8");
    await page.getByRole("button", { name: "Regular expression" }).click();
    await page.getByRole("searchbox").fill("^(tcp|regex::)");
    await becomes(page, ".found", "49.1 % found");
    await settled(page);
    assert.deepEqual(await names(page), ["tcp_sendmsg", "regex::compile"]);
    assert.equal(hashOf(page).get("regex"), "1");
    await page.getByRole("button", { name: "Regular expression" }).click();
    await page.getByRole("searchbox").fill("file:regex");
    await becomes(page, ".found", "21.8 % found");
    await page.keyboard.press("Escape");
    await settled(page);
    assert.equal(await page.getByRole("searchbox").inputValue(), "");
    assert.equal(hashOf(page).get("search"), null);
  });
});

test("a box under the pointer tells its source line, its binary, and that it was inlined", async () => {
  await on(`${TEN}&where=pod%3Dcheckout-1`, {}, async (page) => {
    await settled(page);
    const tooltip = page.locator("#everflame > .tooltip");
    const hover = async (level: number, share: number) => {
      const graph = page.locator(".main-pane .graph");
      const width = await graph.evaluate((node) => node.clientWidth);
      await graph.hover({ position: { x: 1 + width * share, y: 1 + (level + 0.5) * ROW } });
      await tooltip.waitFor();
      return (await tooltip.innerText()).replaceAll("\u00a0", " ").split("\n").filter((line) => line !== "");
    };
    assert.deepEqual((await hover(5, 0.2)).slice(0, 7), ["core::str::from_utf8", "Kind", "native, inlined", "Source", "core/src/str.rs:90", "Binary", "server"]);
    const caller = await hover(4, 0.2);
    assert.deepEqual(caller.slice(0, 7), ["server::parse", "Kind", "native", "Source", "src/parse.rs:7", "Binary", "server"]);
    assert.equal(caller[8], "72.7 % · 48.48 s · 4 800 samples");
    // The line that was hot, not only the function's first.
    await clickBox(page, 5, 0.2);
    assert.match(await details(page), /Hot lines\s+:95 33\.94 s/);
  });
});

test("each form is downloaded, for exactly what is shown", async () => {
  const forms: [name: RegExp, form: string][] = [[/pprof/, "pb.gz"], [/^Page/, "html"], [/SVG/, "svg"], [/Folded/, "folded"]];
  await on(`${TEN}&where=pod%3Dcheckout-1`, {}, async (page) => {
    await settled(page);
    await drag(page, 0.5, 1);
    const [from, to] = hashOf(page).get("selected")!.split("-");
    for (const [name, form] of forms) {
      await page.locator("summary", { hasText: "Download" }).click();
      const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name }).click()]);
      assert.equal(download.suggestedFilename(), `worker-3.${form}`);
      // The server that stands in answers with what it was asked.
      assert.equal(readFileSync(await download.path(), "utf8"), `?form=${form}&from=${from}&to=${to}&where=pod%3Dcheckout-1`);
    }
  });
});
