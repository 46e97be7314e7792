/** The line below the graph: the selected node in words, for everybody and for screen readers. */
import type { ViewTree } from "../model/tree.ts";
import { button, element } from "./dom.ts";
import type { Labels } from "./labels.ts";

export class Details {
  readonly root = element("section", { class: "details", "aria-label": "Selected function" });
  readonly announcer = element("p", { class: "visually-hidden", role: "status" });

  /** Shows a node; `lines` are the hottest of its function, empty if there are none; `actions` are what can be done with it. */
  show(labels: Labels, tree: ViewTree, node: number, lines: string, announce: boolean, actions: [label: string, act: () => void][]): void {
    const frame = tree.frame[node];
    const name = labels.name(frame);
    const facts = labels.facts(tree, node);
    const fact = (label: string, value: string) => element("div", {}, element("dt", {}, label), element("dd", {}, value));
    const list = element("dl", {}, ...facts.map(([label, value]) => fact(label, value)));
    if (lines !== "") list.append(fact("Hot lines", lines));
    const buttons = actions.map(([label, act]) => button(label, { class: "quiet" }, act));
    this.root.replaceChildren(element("div", { class: "details-head" }, element("p", { class: "mono details-name" }, name), ...buttons), list);
    if (announce) this.announcer.textContent = [name, ...facts.map(([label, value]) => `${label} ${value}`)].join(", ");
  }
}
