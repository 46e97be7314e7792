/** Pictures of the page, for looking at it and for the docs: `npm run screenshots -- <folder> [<page.html>]`. */
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { assemble, encodeMade, largeProfile } from "../generate.ts";
import { Browser } from "./browser.ts";

const folder = process.argv[3] ?? "screenshots";
mkdirSync(folder, { recursive: true });
const browser = await Browser.start();
const given = process.argv[4];
const html = given ? readFileSync(given, "utf8") : assemble(encodeMade({ ...largeProfile(3000), title: "node-7 · whole node" }));
const address = browser.write("cpu.html", html);
const shots: { name: string; width: number; height: number; dark?: boolean; view?: "callers" | "search" | "group" | "flame" | "zoom" | "help" }[] = [
  { name: "wide", width: 1280, height: 800 },
  { name: "wide-dark", width: 1280, height: 800, dark: true },
  { name: "search", width: 1280, height: 800, view: "search" },
  { name: "search-dark", width: 1280, height: 800, dark: true, view: "search" },
  { name: "callers", width: 1280, height: 800, view: "callers" },
  { name: "groups", width: 1280, height: 800, view: "group" },
  { name: "flame", width: 1280, height: 800, view: "flame" },
  { name: "zoom", width: 1280, height: 800, view: "zoom" },
  { name: "help", width: 1280, height: 800, view: "help" },
  { name: "narrow", width: 400, height: 800 },
  { name: "narrow-dark", width: 400, height: 800, dark: true, view: "callers" },
];
for (const { name, width, height, dark = false, view } of shots) {
  const { page, errors } = await browser.open(address, { width, height, dark });
  await page.waitForTimeout(300);
  if (view === "callers") {
    if (width < 1000) await page.getByRole("button", { name: "List", exact: true }).click();
    await page.locator(".pick").nth(3).click();
  }
  if (view === "search") await page.getByRole("searchbox").fill("compact");
  if (view === "group") await page.getByLabel("Group").selectOption("process").catch(() => console.error("no groups"));
  if (view === "flame") await page.getByRole("button", { name: "Flame", exact: true }).click();
  if (view === "zoom") {
    await page.locator(".main-pane .graph").click({ position: { x: 160, y: 200 } });
    await page.locator(".main-pane .graph").hover({ position: { x: 160, y: 260 } });
  }
  if (view === "help") await page.keyboard.press("?");
  await page.waitForTimeout(200);
  await page.screenshot({ path: join(folder, `${name}.png`), fullPage: width < 1000 });
  if (errors.length > 0) console.error(name, errors);
  await page.close();
}
await browser.stop();
