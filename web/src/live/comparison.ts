/** The two rows of a comparison: what is compared (current) with what (baseline), and in what it is measured. */
import type { Measure } from "../model/compare.ts";
import { button, element, fillSelect } from "../view/dom.ts";
import { makeChips } from "./filters.ts";
import { DAY, HOUR, type BaselineTime, type Condition, type LiveState, type Times } from "./state.ts";
import { durationText, rangeText } from "./times.ts";
import type { Target } from "./timeline.ts";

export interface ComparisonEvents {
  onTime(time: BaselineTime): void;
  onMeasure(measure: Measure): void;
  onTarget(target: Target): void;
  onRemove(condition: Condition): void;
  onSwap(): void;
  onStop(): void;
}

const EARLIER: [string, string][] = [
  ["previous", "the time just before"],
  [`earlier-${HOUR}`, "1 hour earlier"],
  [`earlier-${DAY}`, "1 day earlier"],
  ["earlier-0", "the same time"],
  ["range", "a chosen range"],
];

export class ComparisonBar {
  readonly root: HTMLElement;
  private readonly time = element("select", { id: "everflame-baseline", "aria-label": "Baseline" });
  private readonly range = element("span", { class: "range-text" });
  private readonly chips = element("div", { class: "chips-place" });
  private readonly targets: Record<Target, HTMLButtonElement>;
  private readonly measures: Record<Measure, HTMLButtonElement>;
  private shownRange: { from: number; to: number } | null = null;

  /** `filter`: the opener and the row for filters of the baseline. */
  constructor(private readonly events: ComparisonEvents, filter: HTMLElement[]) {
    const toggle = (label: string, title: string, act: () => void) => button(label, { title, "aria-pressed": "false" }, act);
    this.targets = {
      current: toggle("Current", "A drag over the time line chooses the current range", () => events.onTarget("current")),
      baseline: toggle("Baseline", "A drag over the time line chooses the baseline", () => events.onTarget("baseline")),
    };
    this.measures = {
      rate: toggle("CPU per second", "How many cores each used", () => events.onMeasure("rate")),
      share: toggle("Share", "Shares of each side's total: for sides of different load", () => events.onMeasure("share")),
    };
    this.time.addEventListener("change", () => {
      const { value } = this.time;
      if (value === "previous") events.onTime("previous");
      else if (value === "range") this.shownRange && events.onTime(this.shownRange);
      else events.onTime({ earlier: Number(value.slice("earlier-".length)) });
    });
    this.root = element(
      "div",
      { class: "comparison", role: "group", "aria-label": "Comparison", hidden: true },
      element(
        "div",
        { class: "comparison-row" },
        element("span", { class: "side baseline" }, "Baseline"),
        this.time, this.range, this.chips, ...filter,
      ),
      element(
        "div",
        { class: "comparison-row" },
        element("span", { class: "muted" }, "Drag chooses"),
        element("div", { class: "segmented small", role: "group", "aria-label": "A drag chooses" }, ...Object.values(this.targets)),
        element("span", { class: "muted" }, "Measured in"),
        element("div", { class: "segmented small", role: "group", "aria-label": "Measured in" }, ...Object.values(this.measures)),
        button("Swap", { class: "quiet", title: "The baseline becomes the current side" }, events.onSwap),
        button("Stop comparing", { class: "quiet" }, events.onStop),
      ),
    );
  }

  show(state: LiveState, times: Times, target: Target, now: number): void {
    const { baseline } = state;
    this.root.hidden = baseline === null;
    if (!baseline || !times.baseline) return;
    this.shownRange = times.baseline;
    const { time } = baseline;
    const value = time === "previous" ? time : "earlier" in time ? `earlier-${time.earlier}` : "range";
    const options = EARLIER.map(([key, label]) => ({ value: key, label }));
    if (typeof time === "object" && "earlier" in time && !EARLIER.some(([key]) => key === value)) options.push({ value, label: `${durationText(time.earlier)} earlier` });
    fillSelect(this.time, options, value);
    this.range.textContent = rangeText(times.baseline, now);
    this.chips.replaceChildren(makeChips(baseline.where, (condition) => this.events.onRemove(condition)));
    for (const [name, each] of Object.entries(this.targets)) each.setAttribute("aria-pressed", String(name === target));
    for (const [name, each] of Object.entries(this.measures)) each.setAttribute("aria-pressed", String(name === state.measure));
  }
}
