/** axe-core, run in a page: what it finds wrong for people who use a page with other means than eyes and a mouse. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { Page } from "playwright-core";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Brings axe into a page; a page's own policy would refuse it as a script element. */
export async function bringAxe(page: Page): Promise<void> {
  await page.evaluate(AXE);
}

/** Everything that axe finds, minor things too: `serious color-contrast: <button …>`. */
export function problems(page: Page): Promise<string[]> {
  return page.evaluate(async () => {
    const axe = (window as unknown as { axe: typeof import("axe-core") }).axe;
    const { violations } = await axe.run(document);
    return violations.map(({ id, impact, nodes }) => `${impact} ${id}: ${nodes.map(({ html }) => html).join(" ").slice(0, 300)}`);
  });
}

/** How many pixels of the page are cut off at the side. */
export function cutOff(page: Page): Promise<number> {
  return page.evaluate(() => Math.max(0, document.documentElement.scrollWidth - window.innerWidth));
}
