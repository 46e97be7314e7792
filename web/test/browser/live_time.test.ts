/** Time on the live page: what is shown of it, how a range is chosen, and how the page follows. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { BEGIN, END, SLOWER_SINCE } from "../live/world.ts";
import { becomes, clickBox, columnColours, DAY, details, drag, elapse, hashOf, holdTimers, isAsking, legend, MINUTE, names, on, range, refreshed, server, settled, TEN, withBrowser } from "./live.ts";

withBrowser();

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

test("a range is dragged with the mouse, moved by its ends, and taken away by a click or by its button", async () => {
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
    await drag(page, 0.2, 0.4);
    assert.notEqual(hashOf(page).get("selected"), null);
    await page.getByRole("button", { name: "Whole time", exact: true }).click();
    await settled(page);
    assert.equal(hashOf(page).get("selected"), null);
    assert.equal(await range(page), "09:50:00 – 10:00:00 (10 min)");
    assert.equal(await page.getByRole("button", { name: "Whole time", exact: true }).isVisible(), false);
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
    assert.equal(await isAsking(page), false, "paused");
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
    assert.equal(await isAsking(page), false, "hidden");
    assert.equal(server.asked.length, hidden, "hidden");
    await page.evaluate(() => {
      Object.defineProperty(document, "hidden", { value: false, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    });
    await settled(page);
    assert.ok(server.asked.length > hidden, "seen again");
  });
});

/** How often a tab that is open for a day asks in these tests; a real one does so up to 17,280 times. */
const REFRESHES = 500;
/** The bound on what a tab may gain meanwhile: of a leak of 2 KB a refresh it would be exceeded. */
const MOST_GAINED = 1_000_000;
const OPEN_TABS: { shows: string; hash: string; step: number }[] = [
  { shows: "five minutes", hash: "last=300000", step: 5_000 },
  // The baseline is the history's first hour, which is removed meanwhile.
  { shows: "a day, compared with a range that ages out", hash: `last=${DAY}&by=pod&baseline=${BEGIN}-${BEGIN + 60 * MINUTE}`, step: MINUTE },
];

for (const { shows, hash, step } of OPEN_TABS) {
  test(`a tab that is open for a day holds no more than at the start: ${shows}`, async () => {
    server.age = DAY;
    await on(hash, { prepare: holdTimers }, async (page) => {
      const session = await page.context().newCDPSession(page);
      const count = async () => {
        await session.send("HeapProfiler.collectGarbage");
        const { nodes, jsEventListeners } = await session.send("Memory.getDOMCounters");
        const { usedSize } = await session.send("Runtime.getHeapUsage");
        return { nodes, jsEventListeners, usedSize };
      };
      const refresh = async (times: number) => {
        for (let time = 0; time < times; time++) {
          server.now += step;
          await refreshed(page);
        }
      };
      await settled(page);
      await refresh(20);
      const before = await count();
      const asked = server.asked.length;
      await refresh(REFRESHES);
      const after = await count();
      assert.ok(server.asked.length >= asked + REFRESHES * 4, "status, series, labels and profile, each time");
      assert.ok(after.nodes <= before.nodes * 1.2, `nodes ${before.nodes} → ${after.nodes}`);
      assert.ok(after.jsEventListeners <= before.jsEventListeners * 1.2, `listeners ${before.jsEventListeners} → ${after.jsEventListeners}`);
      assert.ok(after.usedSize <= before.usedSize + MOST_GAINED, `heap ${before.usedSize} → ${after.usedSize}`);
      // Who comes to the same view now finds what is left of it.
      await page.reload();
      await settled(page);
      await page.locator(".pick").first().waitFor();
    });
  });
}

test("the time line stacks the values of any label, the largest at the bottom, in the colours of its legend", async () => {
  const shown: Record<string, string[]> = {
    namespace: ["shop", "[no namespace]"],
    workload: ["checkout", "postgres", "cart", "[no workload]"],
    pod: ["postgres-0", "checkout-1", "checkout-2", "cart-1", "[no pod]"],
    container: ["server", "db", "cart", "[no container]"],
    service: ["checkout", "postgres", "cart", "[no service]"],
    process: ["server", "postgres", "cart", "kubelet"],
    thread: ["server", "postgres", "cart", "kubelet"],
    executable: ["/usr/bin/server", "/usr/bin/postgres", "/cart", "/usr/bin/kubelet"],
    node: ["worker-3"],
  };
  await on(TEN, {}, async (page) => {
    for (const [label, values] of Object.entries(shown)) {
      await page.getByLabel("Split by").selectOption(label);
      await settled(page);
      assert.deepEqual(await legend(page), values, label);
      const colours = await page.locator(".series-value .swatch").evaluateAll((nodes) => nodes.map((node) => getComputedStyle(node).backgroundColor));
      assert.deepEqual(await columnColours(page, 0.5, colours), colours, label);
    }
  });
});

test("a time under the pointer is told: when, how many cores, and whose", async () => {
  await on(`${TEN}&by=pod`, {}, async (page) => {
    await settled(page);
    const box = (await page.locator(".plot").boundingBox())!;
    // 0.95 of ten minutes: the slot that begins at 09:59:30.
    await page.mouse.move(box.x + 44 + 0.953 * (box.width - 52), box.y + 60);
    const card = page.locator(".timeline .tooltip");
    await card.waitFor();
    const lines = (await card.innerText()).split("\n").filter((line) => line !== "");
    assert.match(lines[0], /^09:59:30, 10 s: [\d.]+ cores$/);
    // 170 samples of 10.1 ms in 10 s.
    assert.equal(lines[lines.findIndex((line) => line.trim() === "checkout-1") + 1], "0.172 cores");
    await page.mouse.move(box.x + 200, box.y + 500);
    await card.waitFor({ state: "hidden" });
  });
});
