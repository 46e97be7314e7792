/** The still parts of the page: header with the profile's facts, legend, help. */
import type { Profile } from "../data/format.ts";
import { button, element } from "./dom.ts";
import { KIND_ORDER, KIND_TITLES, mix, paintOf, type Palette } from "./palette.ts";
import { printable } from "./text.ts";

const SVG = "http://www.w3.org/2000/svg";

/** The mark: three bars, as a flame graph has them. */
export function mark(): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "mark");
  svg.setAttribute("aria-hidden", "true");
  for (const [x, y, width, name] of [[2, 16, 20, "low"], [2, 10, 13, "middle"], [5, 4, 6, "high"], [17, 10, 5, "middle"]] as const) {
    const bar = document.createElementNS(SVG, "rect");
    for (const [attribute, value] of Object.entries({ x, y, width, height: 5, rx: 1, class: name })) bar.setAttribute(attribute, String(value));
    svg.append(bar);
  }
  return svg;
}

/** Title, facts, and the buttons given. */
export function makeHeader(profile: Profile, buttons: HTMLElement[]): HTMLElement {
  const facts = profile.facts.map((fact) => {
    const detail = fact.detail === undefined ? null : printable(fact.detail);
    return element(
      "div",
      { class: fact.tone === "warn" ? "fact warn" : "fact", title: detail },
      element("dt", {}, printable(fact.label)),
      element("dd", {}, printable(fact.value), detail === null ? null : element("span", { class: "visually-hidden" }, ` (${detail})`)),
    );
  });
  const notes = profile.notes.map((note) => element("p", { class: "note", role: "note" }, printable(note)));
  return element(
    "header",
    { class: "top" },
    element(
      "div",
      { class: "brand" },
      mark(),
      element("span", { class: "product" }, "Everflame"),
      element("h1", { title: printable(profile.title) }, printable(profile.title)),
      element("div", { class: "brand-buttons" }, ...buttons),
    ),
    element("dl", { class: "facts" }, ...facts),
    ...notes,
  );
}

function swatch(fill: string): HTMLElement {
  const box = element("span", { class: "swatch" });
  box.style.background = fill;
  return box;
}

/** A scale from gone to new. */
function makeChangeLegend(palette: Palette): HTMLElement[] {
  const scale = element("span", { class: "scale", "aria-hidden": "true" }, ...palette.change.map(({ fill }) => swatch(fill)));
  const middle = palette.change[(palette.change.length - 1) / 2];
  return [
    element("li", { class: "legend-scale" }, "Less than the baseline (blue)", scale, "More (orange)"),
    element("li", {}, swatch(middle.fill), "No change, or no more than chance explains"),
    element("li", { class: "legend-match" }, swatch(palette.match.fill), "Found"),
  ];
}

/** Swatches for the kinds that the profile has. */
export function makeLegend(profile: Profile, palette: Palette): HTMLElement[] {
  if (profile.comparison) return makeChangeLegend(palette);
  const present = new Set(Array.from(profile.functions.kind, (kind) => profile.kinds[kind]));
  const known: readonly string[] = KIND_ORDER;
  const kinds = [...known.filter((kind) => present.has(kind)), ...[...present].filter((kind) => !known.includes(kind)).sort()];
  const items = kinds.map((kind) => element("li", {}, swatch(paintOf(palette, kind, false).fill), KIND_TITLES[kind] ?? printable(kind)));
  if (profile.frames.inlined.some((inlined) => inlined !== 0)) {
    const pale = swatch(mix(paintOf(palette, kinds[0] ?? "native", false).fill, "#ffffff", 0.42));
    items.push(element("li", {}, pale, "Inlined (paler)"));
  }
  items.push(element("li", { class: "legend-match" }, swatch(palette.match.fill), "Found"));
  return items;
}

const KEYS: [string, string][] = [
  ["Arrow keys", "Move the selection to callees, callers and neighbours"],
  ["Enter or click", "Zoom to the selected function"],
  ["Esc", "Close this, clear the search, or zoom out"],
  ["c", "Callers and callees of the selected function"],
  ["g", "Back to the graph"],
  ["i", "Turn the graph over: icicle or flame"],
  ["t", "Show or hide the list"],
  ["Home", "Select the root"],
  ["/", "Search"],
  ["?", "This help"],
];

/** The help as a dialog; `more` keys come first. */
export function makeHelp(more: [string, string][] = []): HTMLDialogElement {
  const dialog = element("dialog", { class: "help", "aria-labelledby": "everflame-help-title" });
  const keys = [...more, ...KEYS].flatMap(([key, text]) => [element("dt", {}, element("kbd", {}, key)), element("dd", {}, text)]);
  dialog.append(
    element("h2", { id: "everflame-help-title" }, "How to read and drive this page"),
    element("p", {}, "Each box is a function; its width is its share of the CPU time (or of another value, if the profile has more), with everything that it called. Boxes next to each other are ordered by size, not by time."),
    element("dl", { class: "keys" }, ...keys),
    element("p", {}, "The search finds text in names, or a regular expression with the .* button. Start with file: or mapping: to search source files or binaries instead."),
    button("Close", { class: "primary" }, () => dialog.close()),
  );
  return dialog;
}
