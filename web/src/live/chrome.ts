/** The live page's header and its row of times: who is shown, since when, and how to get it as a file. */
import { mark } from "../view/chrome.ts";
import { button, element } from "../view/dom.ts";
import { printable } from "../view/text.ts";
import type { DownloadForm, Status } from "./api.ts";
import { DAY, HOUR, MINUTE, isFollowing, type LiveState, type Times } from "./state.ts";
import { durationText, rangeText } from "./times.ts";

const FORMS: [DownloadForm, string, string][] = [
  ["pb.gz", "pprof", "for go tool pprof, speedscope and others"],
  ["html", "Page", "this flame graph as one file, without a server"],
  ["svg", "SVG", "a picture that can be searched"],
  ["folded", "Folded stacks", "one line for each stack, for scripts"],
];

/** The header. */
export class LiveHeader {
  readonly root: HTMLElement;
  private readonly title = element("h1", {}, "…");
  private readonly about = element("span", { class: "about" });
  private readonly links: Map<DownloadForm, HTMLAnchorElement>;
  private readonly menu: HTMLDetailsElement;

  constructor(buttons: HTMLElement[], signal: AbortSignal) {
    this.links = new Map(FORMS.map(([form, label, text]) => [form, element("a", { href: "#", download: "" }, element("b", {}, label), ` ${text}`)]));
    this.menu = element("details", { class: "menu" }, element("summary", { class: "button" }, "Download"), element("ul", { class: "menu-list" }, ...[...this.links.values()].map((link) => element("li", {}, link))));
    const close = () => (this.menu.open = false);
    document.addEventListener("click", (event) => event.target instanceof Node && !this.menu.contains(event.target) && close(), { signal });
    this.menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.menu.open) return;
      event.preventDefault();
      close();
      this.menu.querySelector("summary")?.focus();
    });
    this.menu.querySelector("ul")?.addEventListener("click", close);
    this.root = element(
      "header",
      { class: "top" },
      element("div", { class: "brand" }, mark(), element("span", { class: "product" }, "Everflame"), this.title, this.about, element("div", { class: "brand-buttons" }, this.menu, ...buttons)),
    );
  }

  show(status: Status): void {
    const node = printable(status.node);
    this.title.textContent = node;
    document.title = `${node} · Everflame`;
    this.about.textContent = `${status.cpus} ${status.cpus === 1 ? "CPU" : "CPUs"} · ${status.frequency} Hz`;
    this.about.title = `Everflame ${printable(status.version)}`;
  }

  /** Where each file is. */
  setDownloads(address: (form: DownloadForm) => string): void {
    for (const [form, link] of this.links) link.href = address(form);
  }
}

const PRESETS: [number, string, string][] = [
  [5 * MINUTE, "5 min", "The last 5 minutes"],
  [HOUR, "1 h", "The last hour"],
  [DAY, "24 h", "The last 24 hours"],
];

export interface TimeEvents {
  onLast(duration: number): void;
  onAll(): void;
  onFollow(): void;
  onZoomIn(): void;
  onClear(): void;
}

/** Presets, pause, and the range in words. */
export class TimeBar {
  readonly root: HTMLElement;
  private readonly presets: [number, HTMLButtonElement][];
  private readonly follow: HTMLButtonElement;
  private readonly range = element("span", { class: "range-text", role: "status" });
  private readonly zoomIn: HTMLButtonElement;
  private readonly clear: HTMLButtonElement;

  constructor(events: TimeEvents, by: HTMLElement) {
    this.presets = PRESETS.map(([duration, label, title]) => [duration, button(label, { "aria-pressed": "false", title }, () => events.onLast(duration))]);
    const all = button("All", { title: "The whole history" }, events.onAll);
    this.follow = button("", { class: "follow" }, events.onFollow);
    this.zoomIn = button("Zoom in", { class: "quiet", title: "The time line shows this range only" }, events.onZoomIn);
    this.clear = button("Whole time", { class: "quiet", title: "Take the range away (Esc on a handle, or a click on the time line)" }, events.onClear);
    this.root = element(
      "div",
      { class: "toolbar times", role: "group", "aria-label": "Time" },
      element("div", { class: "segmented", role: "group", "aria-label": "Time shown" }, ...this.presets.map(([, each]) => each), all),
      this.follow, this.range, this.zoomIn, this.clear, by,
    );
  }

  show(state: LiveState, times: Times, now: number): void {
    const following = isFollowing(state);
    for (const [duration, each] of this.presets) each.setAttribute("aria-pressed", String("last" in state.period && state.period.last === duration));
    this.follow.textContent = following ? "Live" : "Paused";
    this.follow.classList.toggle("on", following);
    this.follow.title = following ? "The page follows the time. Click to keep this range (p)" : "Click to follow the time again (p)";
    this.follow.setAttribute("aria-label", following ? "Live: pause" : "Paused: follow the time");
    this.range.textContent = `${rangeText(times.current, now)} (${durationText(times.current.to - times.current.from)})`;
    this.zoomIn.hidden = state.selected === null;
    this.clear.hidden = state.selected === null;
  }
}
