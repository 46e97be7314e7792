/**
 * CPU over time as a stacked area, and the choice of a range in it: by dragging (mouse, pen, finger), by the handles at its ends, or by
 * keys on these handles, which are sliders for screen readers.
 *
 * It shows what it is told and tells its owner what a person did; it asks nobody for data.
 */
import { element, button } from "../view/dom.ts";
import type { Palette } from "../view/palette.ts";
import { formatShare, formatValue, printable } from "../view/text.ts";
import { drawArea, layerColour, MARGIN, timeAt, xOf, type AreaPicture } from "./area.ts";
import type { Stack } from "./stack.ts";
import type { Range } from "./state.ts";
import { durationText, timeText } from "./times.ts";

/** Which of the two ranges. */
export type Target = "current" | "baseline";

export interface TimelineEvents {
  /** A range was chosen; `null` = the whole period. `step`: worth a step of the browser's history, as the tenth press of a key is not. */
  onRange(target: Target, range: Range | null, step: boolean): void;
  onValue(value: string): void;
}

/** What the time line shows. */
export interface TimelineData {
  period: Range;
  stack: Stack | null;
  /** The label's name. */
  by: string;
  cpus: number;
  current: Range | null;
  baseline: Range | null;
  /** Which range a drag over free space makes. */
  target: Target;
}

const HEIGHT = 128;
/** Movements shorter than this many pixels are clicks. */
const CLICK = 4;
/** How near to an end, in pixels, a pointer takes it. */
const GRIP = 6;
/** How many key presses the period is long. */
const KEY_STEPS = 240;

interface Drag {
  target: Target;
  pointer: number;
  /** The end that stays. */
  fixed: number;
  /** Where the pointer went down, in pixels. */
  start: number;
  moved: boolean;
}

export class Timeline {
  readonly root: HTMLElement;
  /** A drag is going on: other data now would pull the ground away. */
  dragging = false;
  private data: TimelineData | null = null;
  private palette: Palette;
  private readonly canvas = element("canvas", { "aria-hidden": "true" });
  private readonly plot: HTMLElement;
  private readonly legend = element("ul", { class: "series", "aria-label": "CPU time by value" });
  private readonly card = element("div", { class: "tooltip", "aria-hidden": "true", hidden: true });
  private readonly handles: Record<Target, [HTMLElement, HTMLElement]>;
  private drag: Drag | null = null;
  private draft: Range | null = null;
  private hover: number | null = null;
  private width = 0;
  private scheduled = false;

  constructor(palette: Palette, private readonly events: TimelineEvents, signal: AbortSignal) {
    this.palette = palette;
    const handle = (target: Target, end: "from" | "to") => {
      const name = `${end === "from" ? "Start" : "End"} of the ${target === "current" ? "range" : "baseline"}`;
      const made = element("div", { class: `handle ${target}`, role: "slider", tabindex: "0", "aria-label": name, "aria-orientation": "horizontal" });
      made.addEventListener("keydown", (event) => this.handleKey(event, target, end));
      return made;
    };
    this.handles = { current: [handle("current", "from"), handle("current", "to")], baseline: [handle("baseline", "from"), handle("baseline", "to")] };
    this.plot = element("div", { class: "plot", role: "group", "aria-label": "CPU over time. Drag to choose a range" }, this.canvas, ...this.handles.baseline, ...this.handles.current);
    this.root = element("div", { class: "timeline" }, this.plot, this.legend, this.card);
    this.plot.addEventListener("pointerdown", (event) => this.pointerDown(event));
    this.plot.addEventListener("pointermove", (event) => this.pointerMove(event));
    this.plot.addEventListener("pointerup", (event) => this.pointerUp(event));
    this.plot.addEventListener("pointercancel", () => this.stopDrag());
    this.plot.addEventListener("pointerleave", () => this.showHover(null, { x: 0, y: 0 }));
    const resizes = new ResizeObserver(() => this.measure());
    resizes.observe(this.plot);
    signal.addEventListener("abort", () => resizes.disconnect());
  }

  show(data: TimelineData): void {
    this.data = data;
    this.fillLegend();
    this.placeHandles();
    this.invalidate();
  }

  setPalette(palette: Palette): void {
    this.palette = palette;
    this.fillLegend();
    this.invalidate();
  }

  // ---- Showing ----

  private measure(): void {
    if (this.plot.clientWidth === this.width) return;
    this.width = this.plot.clientWidth;
    this.placeHandles();
    this.draw();
  }

  private invalidate(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => this.draw());
  }

  private draw(): void {
    this.scheduled = false;
    const { data, canvas, width } = this;
    const context = canvas.getContext("2d", { alpha: false });
    if (!context || !data || width === 0) return;
    const ratio = Math.min(window.devicePixelRatio || 1, 3);
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(HEIGHT * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${HEIGHT}px`;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const style = getComputedStyle(this.root);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const picture: AreaPicture = {
      width, height: HEIGHT, period: data.period, stack: data.stack, cpus: data.cpus, hover: this.hover, palette: this.palette,
      current: this.rangeOf("current"), baseline: this.rangeOf("baseline"), text: colour("--muted"), grid: colour("--border"),
      accents: { current: colour("--current"), baseline: colour("--baseline") },
    };
    drawArea(context, picture);
  }

  /** A range as it is now, a drag included. */
  private rangeOf(target: Target): Range | null {
    if (this.drag?.moved && this.drag.target === target) return this.draft;
    return this.data ? this.data[target] : null;
  }

  private fillLegend(): void {
    const { data } = this;
    if (!data) return;
    const layers = data.stack?.layers ?? [];
    const whole = layers.reduce((sum, layer) => sum + layer.sum, 0);
    // Built anew only if something else is shown, so that a refresh takes nobody's focus.
    const rows = layers.map((layer) => {
      const swatch = element("span", { class: "swatch" });
      swatch.style.background = layerColour(this.palette, layer.slot);
      const name = layer.rest ? "All others" : layer.value === "" ? `[no ${data.by}]` : printable(layer.value);
      const share = element("span", { class: "share" }, formatShare(layer.sum, whole));
      if (layer.rest) return element("li", {}, element("span", { class: "series-value" }, swatch, element("span", { class: "series-name" }, name), share));
      const pick = button("", { class: "series-value", title: `${name}\nShow only this ${data.by}` }, () => this.events.onValue(layer.value));
      pick.append(swatch, element("span", { class: "series-name" }, name), share);
      return element("li", {}, pick);
    });
    const focused = [...this.legend.querySelectorAll("button")].indexOf(document.activeElement as HTMLButtonElement);
    this.legend.replaceChildren(...rows);
    if (focused >= 0) this.legend.querySelectorAll("button")[focused]?.focus();
  }

  private placeHandles(): void {
    const { data, width } = this;
    if (!data) return;
    for (const target of ["current", "baseline"] as const) {
      const shown = this.rangeOf(target);
      // Without a range the handles of the current one stand at the ends of the period, for the keyboard.
      const range = shown ?? (target === "current" ? data.period : null);
      const [start, end] = this.handles[target];
      for (const [handle, time] of [[start, range?.from], [end, range?.to]] as const) {
        const there = range !== null && time !== undefined && range.to > data.period.from && range.from < data.period.to;
        handle.hidden = !there;
        if (!there) continue;
        const clamped = Math.min(data.period.to, Math.max(data.period.from, time));
        handle.style.left = `${xOf(clamped, data.period, width)}px`;
        handle.classList.toggle("idle", shown === null);
        for (const [name, value] of [["valuemin", data.period.from], ["valuemax", data.period.to], ["valuenow", clamped]] as const) handle.setAttribute(`aria-${name}`, String(Math.round(value)));
        handle.setAttribute("aria-valuetext", timeText(time, data.period.to));
      }
    }
  }

  private showHover(time: number | null, point: { x: number; y: number }): void {
    const { data } = this;
    this.hover = time;
    this.invalidate();
    const stack = data?.stack;
    const step = stack && time !== null ? Math.floor((time - stack.from) / stack.step) : -1;
    if (!data || !stack || time === null || step < 0 || step >= stack.total.length) {
      this.card.hidden = true;
      return;
    }
    const rows = stack.layers.filter((layer) => layer.cores[step] > 0).sort((a, b) => b.cores[step] - a.cores[step]).slice(0, 6);
    const facts = rows.flatMap((layer) => {
      const swatch = element("span", { class: "swatch" });
      swatch.style.background = layerColour(this.palette, layer.slot);
      const name = layer.rest ? "All others" : layer.value === "" ? `[no ${data.by}]` : printable(layer.value);
      return [element("dt", {}, swatch, ` ${name}`), element("dd", {}, formatValue(layer.cores[step], "cores"))];
    });
    const heading = `${timeText(stack.from + step * stack.step, data.period.to)}, ${durationText(stack.step)}: ${formatValue(stack.total[step], "cores")}`;
    this.card.replaceChildren(element("p", { class: "tooltip-name" }, heading), element("dl", {}, ...facts));
    this.card.hidden = false;
    const { width, height } = this.card.getBoundingClientRect();
    const left = point.x + 14 + width > window.innerWidth ? point.x - 14 - width : point.x + 14;
    this.card.style.left = `${Math.max(4, Math.min(left, window.innerWidth - width - 4))}px`;
    this.card.style.top = `${Math.max(4, Math.min(point.y + 18, window.innerHeight - height - 4))}px`;
  }

  // ---- Dragging ----

  private at(event: PointerEvent): number {
    return event.clientX - this.plot.getBoundingClientRect().left;
  }

  /** An end of a range near to the pointer. */
  private gripAt(x: number): { target: Target; end: "from" | "to" } | null {
    const { data } = this;
    if (!data) return null;
    // Where ends of both lie on each other, the one that a drag chooses.
    for (const target of data.target === "baseline" ? (["baseline", "current"] as const) : (["current", "baseline"] as const)) {
      const range = data[target];
      if (!range) continue;
      for (const end of ["from", "to"] as const) if (Math.abs(xOf(range[end], data.period, this.width) - x) <= GRIP) return { target, end };
    }
    return null;
  }

  private pointerDown(event: PointerEvent): void {
    const { data } = this;
    if (!data || event.button !== 0) return;
    const x = this.at(event);
    const grip = this.gripAt(x);
    const target = grip?.target ?? data.target;
    const range = grip && data[grip.target];
    const fixed = grip && range ? range[grip.end === "from" ? "to" : "from"] : timeAt(x, data.period, this.width);
    this.drag = { target, pointer: event.pointerId, fixed, start: x, moved: false };
    this.dragging = true;
    this.plot.setPointerCapture(event.pointerId);
  }

  private pointerMove(event: PointerEvent): void {
    const { data, drag } = this;
    if (!data) return;
    const x = this.at(event);
    const time = timeAt(x, data.period, this.width);
    if (!drag || drag.pointer !== event.pointerId) {
      this.plot.style.cursor = this.gripAt(x) ? "ew-resize" : "crosshair";
      if (event.pointerType !== "touch") this.showHover(x >= MARGIN.left - 1 ? time : null, { x: event.clientX, y: event.clientY });
      return;
    }
    if (Math.abs(x - drag.start) >= CLICK) drag.moved = true;
    if (!drag.moved) return;
    this.draft = this.ordered(drag.fixed, time);
    this.hover = null;
    this.card.hidden = true;
    this.placeHandles();
    this.invalidate();
  }

  private pointerUp(event: PointerEvent): void {
    const { drag, draft } = this;
    if (!drag || drag.pointer !== event.pointerId) return;
    this.stopDrag();
    if (drag.moved && draft) this.events.onRange(drag.target, draft, true);
    // A click beside the ends takes the current range away; the baseline is taken away by its own button.
    else if (!drag.moved && drag.target === "current" && this.data?.current) this.events.onRange("current", null, true);
  }

  private stopDrag(): void {
    this.drag = null;
    this.draft = null;
    this.dragging = false;
    this.placeHandles();
    this.invalidate();
  }

  /** Two times as a range of at least one step of the series, so that it holds something. */
  private ordered(a: number, b: number): Range {
    const { period, stack } = this.data as TimelineData;
    const least = Math.min(stack?.step ?? 1000, period.to - period.from);
    const from = Math.max(period.from, Math.min(Math.min(a, b), period.to - least));
    return { from: Math.round(from), to: Math.round(Math.min(period.to, Math.max(a, b, from + least))) };
  }

  // ---- Keys ----

  private handleKey(event: KeyboardEvent, target: Target, end: "from" | "to"): void {
    const { data } = this;
    if (!data || event.ctrlKey || event.metaKey || event.altKey) return;
    const range = data[target] ?? data.period;
    const step = ((data.period.to - data.period.from) / KEY_STEPS) * (event.shiftKey ? 10 : 1);
    let time: number;
    if (event.key === "ArrowLeft" || event.key === "ArrowDown") time = range[end] - step;
    else if (event.key === "ArrowRight" || event.key === "ArrowUp") time = range[end] + step;
    else if (event.key === "PageUp") time = range[end] + 10 * step;
    else if (event.key === "PageDown") time = range[end] - 10 * step;
    else if (event.key === "Home") time = data.period.from;
    else if (event.key === "End") time = data.period.to;
    else if (event.key === "Escape" && target === "current" && data.current) {
      event.preventDefault();
      this.events.onRange("current", null, true);
      return;
    } else return;
    event.preventDefault();
    const other = end === "from" ? range.to : range.from;
    const least = Math.min(step, data.period.to - data.period.from);
    const bounded = end === "from" ? Math.min(Math.max(time, data.period.from), other - least) : Math.max(Math.min(time, data.period.to), other + least);
    const next = end === "from" ? { from: Math.round(bounded), to: other } : { from: other, to: Math.round(bounded) };
    const whole = target === "current" && next.from <= data.period.from && next.to >= data.period.to;
    this.events.onRange(target, whole ? null : next, data[target] === null);
  }
}
