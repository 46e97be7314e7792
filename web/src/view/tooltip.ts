/** The card beside the pointer. Text only; hidden from screen readers, which get the same from the details line. */
import type { ViewTree } from "../model/tree.ts";
import { element } from "./dom.ts";
import type { Labels } from "./labels.ts";
import { formatCount } from "./text.ts";

export class Tooltip {
  readonly root = element("div", { class: "tooltip", "aria-hidden": "true", hidden: true });

  /** Shows a node; `rest` = the strip of small siblings that starts with it. */
  show(labels: Labels, tree: ViewTree, node: number, rest: boolean, point: { x: number; y: number }): void {
    const parent = tree.parent[node];
    const heading = rest ? restTitle(tree, node) : labels.name(tree.frame[node]);
    const facts = rest
      ? ([["Called from", labels.name(tree.frame[parent])], ["Click", "zooms to their caller"]] as [string, string][])
      : labels.facts(tree, node);
    const list = element("dl", {}, ...facts.flatMap(([label, value]) => [element("dt", {}, label), element("dd", {}, value)]));
    this.root.replaceChildren(element("p", { class: "tooltip-name" }, heading), list);
    this.root.hidden = false;
    const { width, height } = this.root.getBoundingClientRect();
    const left = point.x + 14 + width > window.innerWidth ? point.x - 14 - width : point.x + 14;
    const top = point.y + 18 + height > window.innerHeight ? point.y - 10 - height : point.y + 18;
    this.root.style.left = `${Math.max(4, Math.min(left, window.innerWidth - width - 4))}px`;
    this.root.style.top = `${Math.max(4, top)}px`;
  }

  hide(): void {
    this.root.hidden = true;
  }
}

/** `12 more functions, each too narrow to show`. */
export function restTitle(tree: ViewTree, node: number): string {
  const end = tree.parent[node] + tree.size[tree.parent[node]];
  let count = 0;
  for (let each = node; each < end; each += tree.size[each]) count++;
  return `${formatCount(count)} more, too narrow to show`;
}
