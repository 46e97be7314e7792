/**
 * Pictures of the live page for the documentation, from a real `everflame` that samples this machine:
 * `npm run live-screenshots -- <folder> <address of the page>`. Without an address from the server that stands in for it.
 */
import { mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { StandIn } from "../live/server.ts";
import { Browser } from "./browser.ts";

const folder = process.argv[3] ?? "screenshots";
mkdirSync(folder, { recursive: true });
const standIn = process.argv[4] ? null : new StandIn();
const address = process.argv[4] ?? (await standIn!.start());
const browser = await Browser.start();
const shots: { name: string; hash: string; width: number; height: number; dark?: boolean; selected?: [number, number] }[] = [
  { name: "live", hash: "last=300000", width: 1280, height: 800, selected: [0.35, 0.8] },
  { name: "live-dark", hash: "last=300000&list=process", width: 1280, height: 800, dark: true },
  { name: "live-narrow", hash: "last=300000", width: 400, height: 800 },
  { name: "live-diff", hash: "last=60000&baseline=previous", width: 1280, height: 900 },
];
for (const { name, hash, width, height, dark = false, selected } of shots) {
  const { page, errors } = await browser.open(`${address}#${hash}`, { width, height, dark });
  const settled = () => page.waitForFunction(() => document.querySelector<HTMLElement>(".progress")?.hidden === true);
  await settled();
  if (selected) {
    const box = (await page.locator(".plot").boundingBox())!;
    const [from, to] = selected.map((share) => box.x + 44 + share * (box.width - 52));
    await page.mouse.move(from, box.y + 60);
    await page.mouse.down();
    await page.mouse.move((from + to) / 2, box.y + 60);
    await page.mouse.move(to, box.y + 60);
    await page.mouse.up();
    await page.mouse.move(0, 0);
    await settled();
  }
  await page.waitForTimeout(800);
  const path = join(folder, `${name}.png`);
  await page.screenshot({ path });
  console.log(`${path}: ${(statSync(path).size / 1024).toFixed(0)} KiB`, errors.length > 0 ? errors : "");
  await page.close();
}
await browser.stop();
await standIn?.stop();
