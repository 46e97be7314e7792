/** The pane with who calls a function above, and what it calls below; without a function, everything by its own time. */
import type { Profile } from "../data/format.ts";
import { mergeCallees, mergeCallers, mergeInverted, outermost } from "../model/merge.ts";
import type { ViewTree } from "../model/tree.ts";
import { button, element } from "./dom.ts";
import { Graph, type GraphEvents } from "./graph.ts";
import { typedValue, type Labels } from "./labels.ts";
import type { Palette } from "./palette.ts";
import { formatShare } from "./text.ts";

export class CallersPane {
  readonly root: HTMLElement;
  readonly callers: Graph;
  readonly callees: Graph;
  private readonly callersTitle = element("h2", { class: "pane-title" });
  private readonly calleesTitle = element("h2", { class: "pane-title" }, "Calls");
  private readonly bar = element("div", { class: "focus-bar" });

  constructor(palette: Palette, events: GraphEvents, private readonly onAll: () => void) {
    this.callers = new Graph("Callers", "flame", palette, events);
    this.callees = new Graph("Callees", "icicle", palette, events);
    this.root = element("div", { class: "pane callers-pane" }, this.bar, this.callersTitle, this.callers.root, this.calleesTitle, this.callees.root);
  }

  /** Fills the pane, and gives the graph that holds the function. `functionIndex` -1 = all; `chosen`: one was, so it is missing. */
  fill(profile: Profile, tree: ViewTree, labels: Labels, functionIndex: number, chosen: boolean): Graph {
    const slots = profile.frames.count + labels.groups.length;
    const one = functionIndex >= 0 && outermost(profile, tree, functionIndex).length > 0;
    this.root.classList.toggle("one-function", one);
    this.callees.root.hidden = !one;
    this.calleesTitle.hidden = !one;
    this.callers.setOrientation(one ? "flame" : "icicle");
    if (!one) {
      this.callersTitle.textContent = "Every function by its own time, with its callers below it";
      this.bar.replaceChildren(
        chosen ? "The function that was chosen does not occur here." : "Choose a function in the list, or press c on a selected box, to see who calls it and what it calls.",
      );
      this.callers.setTree(mergeInverted(tree, slots), labels);
      return this.callers;
    }
    const callees = mergeCallees(profile, tree, functionIndex, slots);
    this.callersTitle.textContent = "Called by";
    this.callers.setTree(mergeCallers(profile, tree, functionIndex, slots), labels);
    this.callees.setTree(callees, labels);
    const share = formatShare(callees.total[0], tree.total[0]);
    this.bar.replaceChildren(
      element("strong", { class: "mono" }, labels.functionName(functionIndex)),
      element("span", { class: "numbers" }, profile.comparison ? share : `${share} · ${typedValue(callees.total[0], profile.sampleTypes[tree.type])}`),
      button("All functions", { class: "quiet" }, this.onAll),
    );
    return this.callees;
  }
}
