/**
 * The page: state, controls, and the wiring between them and the views.
 *
 * `mount` takes a profile and an element, and knows nothing of where the profile came from: the self-contained file reads it from
 * itself (bootstrap.ts), a live page may fetch it and call `show` again.
 */
import type { Profile } from "../data/format.ts";
import { buildTree, filterSlot, makeDirectory, processLabel, rowFilter, threadLabel, type Choice, type Directory, type Grouping } from "../model/build.ts";
import { mergeCallees, mergeCallers, mergeInverted } from "../model/merge.ts";
import { coveredTotal, makeMatcher, matchFrames, matchFunctions } from "../model/search.ts";
import { functionTotals, hotLines } from "../model/totals.ts";
import { pathTo, type ViewTree } from "../model/tree.ts";
import { makeHeader, makeHelp, makeLegend } from "./chrome.ts";
import { button, element, fillSelect } from "./dom.ts";
import { Graph, type GraphEvents, type Orientation } from "./graph.ts";
import { Labels, typedValue } from "./labels.ts";
import { PALETTES } from "./palette.ts";
import { FunctionTable } from "./table.ts";
import { formatCount, formatShare, formatValue, printable } from "./text.ts";
import { Tooltip } from "./tooltip.ts";

/** Which picture is shown. */
type View = "graph" | "callers";
type Theme = "light" | "dark";

/** What `mount` gives back. */
export interface Page {
  /** Takes everything off the element again. */
  destroy(): void;
}

/** Shows a profile in an element. */
export function mount(root: HTMLElement, profile: Profile): Page {
  const app = new App(root, profile);
  return { destroy: () => app.destroy() };
}

const WIDE = 1000;

class App implements GraphEvents {
  private readonly directory: Directory;
  private readonly choice: Choice;
  private view: View = "graph";
  private orientation: Orientation = "icicle";
  private theme: Theme;
  private themeChosen = false;
  private tree!: ViewTree;
  private labels!: Labels;
  private matched: Uint8Array | null = null;
  private focusFunction = -1;
  private active: Graph;
  private readonly main: Graph;
  private readonly callers: Graph;
  private readonly callees: Graph;
  private readonly table: FunctionTable;
  private readonly tooltip = new Tooltip();
  private readonly help = makeHelp();
  private readonly listeners = new AbortController();
  private tableDue = false;
  private matchesDue = false;
  private detailsDue = false;

  private readonly search = element("input", {
    type: "search", id: "everflame-search", placeholder: "Search functions", "aria-label": "Search functions", spellcheck: "false", autocomplete: "off",
  });
  private readonly regex = button(".*", { class: "toggle", "aria-pressed": "false", title: "Regular expression", "aria-label": "Regular expression" }, () => this.toggleRegex());
  private readonly found = element("output", { class: "found", for: "everflame-search" });
  private readonly processSelect = element("select", { id: "everflame-process" });
  private readonly threadSelect = element("select", { id: "everflame-thread" });
  private readonly groupSelect = element("select", { id: "everflame-group" });
  private readonly typeSelect = element("select", { id: "everflame-type" });
  private readonly crumbs = element("nav", { class: "crumbs", "aria-label": "Zoom" });
  private readonly details = element("section", { class: "details", "aria-label": "Selected function" });
  private readonly announcer = element("p", { class: "visually-hidden", role: "status" });
  private readonly legend = element("ul", { class: "legend", "aria-label": "Colours" });
  private readonly callersTitle = element("h2", { class: "pane-title" });
  private readonly calleesTitle = element("h2", { class: "pane-title" });
  private readonly focusBar = element("div", { class: "focus-bar" });
  private readonly viewButtons: Record<string, HTMLButtonElement>;
  private readonly tableButton: HTMLButtonElement;
  private readonly themeButton: HTMLButtonElement;
  private readonly stage = element("div", { class: "stage" });

  constructor(private readonly root: HTMLElement, private readonly profile: Profile) {
    this.directory = makeDirectory(profile);
    this.choice = { process: null, thread: null, grouping: "none", type: profile.defaultType };
    const dark = window.matchMedia("(prefers-color-scheme: dark)");
    this.theme = dark.matches ? "dark" : "light";
    const palette = PALETTES[this.theme];
    this.main = new Graph("Flame graph", "icicle", palette, this);
    this.callers = new Graph("Callers", "flame", palette, this);
    this.callees = new Graph("Callees", "icicle", palette, this);
    this.active = this.main;
    this.table = new FunctionTable((functionIndex) => this.focus(functionIndex));
    this.viewButtons = {
      icicle: this.viewButton("Icicle", "Root on top", () => this.showGraph("icicle")),
      flame: this.viewButton("Flame", "Root at the bottom", () => this.showGraph("flame")),
      callers: this.viewButton("Callers", "Who calls a function, and what it calls", () => this.showCallers()),
    };
    this.tableButton = button("Functions", { class: "toggle", "aria-pressed": "true", title: "List of functions (t)" }, () => this.toggleTable());
    this.themeButton = button("", { class: "quiet", title: "Light or dark" }, () => this.setTheme(this.theme === "dark" ? "light" : "dark", true));
    this.assemble();
    this.listen(dark);
    this.setTheme(this.theme, false);
    // The page's final shape comes before its first picture, so that the picture is made once.
    this.showView("graph");
    this.setTableShown(root.clientWidth >= WIDE);
    this.rebuild();
  }

  destroy(): void {
    this.listeners.abort();
    for (const graph of [this.main, this.callers, this.callees]) graph.destroy();
    this.root.replaceChildren();
  }

  // ---- Making the page ----

  private viewButton(label: string, title: string, onClick: () => void): HTMLButtonElement {
    return button(label, { "aria-pressed": "false", title }, onClick);
  }

  private assemble(): void {
    const helpButton = button("Help", { class: "quiet", title: "Keys and reading (?)" }, () => this.help.showModal());
    const field = (label: string, select: HTMLSelectElement) =>
      element("div", { class: "field" }, element("label", { for: select.id }, label), select);
    const hasOwners = this.profile.owners.count > 0;
    const toolbar = element(
      "div",
      { class: "toolbar", role: "group", "aria-label": "View" },
      element("div", { class: "segmented", role: "group", "aria-label": "Picture" }, ...Object.values(this.viewButtons)),
      this.tableButton,
      element("div", { class: "search" }, this.found, this.search, this.regex),
    );
    const filters = element(
      "div",
      { class: "toolbar filters", role: "group", "aria-label": "What is shown" },
      this.profile.sampleTypes.length > 1 ? field("Value", this.typeSelect) : null,
      hasOwners ? field("Group", this.groupSelect) : null,
      hasOwners ? field("Process", this.processSelect) : null,
      hasOwners ? field("Thread", this.threadSelect) : null,
    );
    this.stage.append(
      element("div", { class: "pane main-pane" }, this.main.root),
      element(
        "div",
        { class: "pane callers-pane" },
        this.focusBar,
        this.callersTitle,
        this.callers.root,
        this.calleesTitle,
        this.callees.root,
      ),
      this.table.root,
    );
    const keys = element("p", { class: "visually-hidden", id: "everflame-keys" },
      "Arrow keys move the selection, Enter zooms, Escape zooms out, c shows callers. The list of functions holds the same numbers as a table.");
    this.root.classList.add("everflame");
    this.root.replaceChildren(
      makeHeader(this.profile, [this.themeButton, helpButton]),
      element("main", {}, toolbar, element("div", { class: "second" }, filters, this.crumbs), this.stage, keys),
      element("footer", { class: "bottom" }, this.details, this.legend, this.announcer),
      this.tooltip.root,
      this.help,
    );
    fillSelect(this.typeSelect, this.profile.sampleTypes.map((type, index) => ({ value: String(index), label: typeLabel(type) })), String(this.choice.type));
    const groupings: [Grouping, string][] = [["none", "None"], ["process", "Process"], ["thread", "Process, thread"]];
    fillSelect(this.groupSelect, groupings.map(([value, label]) => ({ value, label })), "none");
    this.fillProcesses();
    this.fillThreads();
  }

  private fillProcesses(): void {
    const { processes } = this.directory;
    const whole = this.profile.rows.values[this.choice.type].reduce((sum, value) => sum + value, 0);
    const options = processes.map((process, index) => ({
      value: String(index),
      label: `${printable(processLabel(process))} · ${formatShare(process.totals[this.choice.type], whole)}`,
    }));
    const all = { value: "", label: `All (${formatCount(processes.length)})` };
    fillSelect(this.processSelect, [all, ...options], this.choice.process === null ? "" : String(this.choice.process));
  }

  private fillThreads(): void {
    const process = this.choice.process === null ? null : this.directory.processes[this.choice.process];
    const totals = this.directory.ownerTotals[this.choice.type];
    const options = (process?.threads ?? []).map((owner) => ({
      value: String(owner),
      label: `${printable(threadLabel(this.profile, owner))} · ${formatShare(totals[owner], process?.totals[this.choice.type] ?? 0)}`,
    }));
    const all = { value: "", label: process ? `All (${formatCount(options.length)})` : "All" };
    fillSelect(this.threadSelect, [all, ...options], this.choice.thread === null ? "" : String(this.choice.thread));
    this.threadSelect.disabled = process === null;
  }

  private listen(dark: MediaQueryList): void {
    const { signal } = this.listeners;
    dark.addEventListener("change", () => this.themeChosen || this.setTheme(dark.matches ? "dark" : "light", false), { signal });
    document.addEventListener("keydown", (event) => this.keyPressed(event), { signal });
    this.search.addEventListener("input", () => this.searchChanged());
    this.typeSelect.addEventListener("change", () => this.choose({ type: Number(this.typeSelect.value) }));
    this.groupSelect.addEventListener("change", () => this.choose({ grouping: this.groupSelect.value as Grouping }));
    this.processSelect.addEventListener("change", () => {
      this.choose({ process: this.processSelect.value === "" ? null : Number(this.processSelect.value), thread: null });
    });
    this.threadSelect.addEventListener("change", () => {
      this.choose({ thread: this.threadSelect.value === "" ? null : Number(this.threadSelect.value) });
    });
  }

  // ---- State ----

  private choose(change: Partial<Choice>): void {
    Object.assign(this.choice, change);
    if ("type" in change) this.fillProcesses();
    if ("process" in change || "type" in change) this.fillThreads();
    this.rebuild();
    if (this.view === "callers") this.fillCallers();
  }

  private rebuild(): void {
    const built = buildTree(this.profile, this.directory, this.choice);
    this.tree = built.tree;
    this.labels = new Labels(this.profile, built.groups);
    this.main.setTree(this.tree, this.labels);
    this.refreshMatches();
    this.fillCrumbs();
    this.detailsDue = true;
    this.refreshTableSoon();
  }

  /** The list's sums, and the values in other types, take as long as all else: they wait until the graph is on the screen. */
  private refreshTableSoon(): void {
    this.tableDue = true;
    requestAnimationFrame(() => setTimeout(() => this.refreshTable()));
  }

  private refreshTable(): void {
    if (this.listeners.signal.aborted) return;
    if (this.detailsDue) this.fillDetails(this.active, this.active.selected, false);
    if (this.table.root.hidden) return;
    if (this.matchesDue) {
      this.matchesDue = false;
      this.table.setMatches(this.matched);
    }
    if (!this.tableDue) return;
    this.tableDue = false;
    const { type } = this.choice;
    const totals = functionTotals(this.profile, this.tree);
    this.table.setData(this.labels, totals, this.tree.total[0], this.profile.sampleTypes[type].unit, PALETTES[this.theme]);
  }

  private setTheme(theme: Theme, chosen: boolean): void {
    this.theme = theme;
    this.themeChosen = this.themeChosen || chosen;
    document.documentElement.dataset.theme = theme;
    this.themeButton.textContent = theme === "dark" ? "Light" : "Dark";
    this.themeButton.setAttribute("aria-label", theme === "dark" ? "Light colours" : "Dark colours");
    const palette = PALETTES[theme];
    for (const graph of [this.main, this.callers, this.callees]) graph.setPalette(palette);
    this.table.setPalette(palette);
    this.legend.replaceChildren(...makeLegend(this.profile, palette));
  }

  private toggleTable(): void {
    this.setTableShown(Boolean(this.table.root.hidden));
  }

  private setTableShown(shown: boolean): void {
    this.table.root.hidden = !shown;
    this.tableButton.setAttribute("aria-pressed", String(shown));
    this.stage.classList.toggle("with-table", shown);
    if (shown) this.refreshTableSoon();
  }

  // ---- Views ----

  private showGraph(orientation: Orientation): void {
    this.orientation = orientation;
    this.main.setOrientation(orientation);
    this.showView("graph");
  }

  private showView(view: View): void {
    this.view = view;
    this.stage.dataset.view = view;
    const pressed = view === "callers" ? "callers" : this.orientation;
    for (const [name, each] of Object.entries(this.viewButtons)) each.setAttribute("aria-pressed", String(name === pressed));
    if (view === "graph") this.active = this.main;
    this.tooltip.hide();
    this.fillCrumbs();
  }

  private showCallers(): void {
    this.showView("callers");
    this.fillCallers();
  }

  /** Shows who calls a function, and what it calls. */
  private focus(functionIndex: number): void {
    this.focusFunction = functionIndex;
    this.table.setFocused(functionIndex);
    this.showCallers();
    this.announcer.textContent = `Callers and callees of ${this.labels.functionName(functionIndex)}`;
  }

  private fillCallers(): void {
    const slots = this.profile.frames.count + this.labels.groups.length;
    const one = this.focusFunction >= 0;
    this.stage.classList.toggle("one-function", one);
    this.callees.root.hidden = !one;
    this.calleesTitle.hidden = !one;
    this.callers.setOrientation(one ? "flame" : "icicle");
    if (!one) {
      this.callersTitle.textContent = "Every function by its own time, with its callers below it";
      this.focusBar.replaceChildren("Choose a function in the list, or press c on a selected box, to see who calls it and what it calls.");
      this.callers.setTree(mergeInverted(this.tree, slots), this.labels);
    } else {
      const callers = mergeCallers(this.profile, this.tree, this.focusFunction, slots);
      const callees = mergeCallees(this.profile, this.tree, this.focusFunction, slots);
      this.callersTitle.textContent = "Called by";
      this.calleesTitle.textContent = "Calls";
      this.callers.setTree(callers, this.labels);
      this.callees.setTree(callees, this.labels);
      const { type } = this.choice;
      const value = typedValue(callees.total[0], this.profile.sampleTypes[type]);
      const share = formatShare(callees.total[0], this.tree.total[0]);
      this.focusBar.replaceChildren(
        element("strong", { class: "mono" }, this.labels.functionName(this.focusFunction)),
        element("span", { class: "numbers" }, `${share} · ${value}`),
        button("All functions", { class: "quiet" }, () => {
          this.focusFunction = -1;
          this.table.setFocused(-1);
          this.fillCallers();
        }),
      );
    }
    this.active = one ? this.callees : this.callers;
    this.pushMatches();
    this.fillCrumbs();
    this.fillDetails(this.active, 0, false);
  }

  // ---- Search ----

  private toggleRegex(): void {
    this.regex.setAttribute("aria-pressed", String(this.regex.getAttribute("aria-pressed") !== "true"));
    this.searchChanged();
  }

  private searchChanged(): void {
    this.refreshMatches();
    // The list comes after the picture: the eye is on the picture.
    this.matchesDue = true;
    requestAnimationFrame(() => setTimeout(() => this.refreshTable()));
  }

  private refreshMatches(): void {
    const matcher = makeMatcher({ text: this.search.value, regex: this.regex.getAttribute("aria-pressed") === "true" });
    this.matched = matchFunctions(this.profile, matcher);
    const wrong = matcher !== null && "error" in matcher;
    this.search.setAttribute("aria-invalid", String(wrong));
    this.root.classList.toggle("searching", this.matched !== null);
    const frames = this.pushMatches();
    if (wrong) this.found.textContent = "Not a regular expression";
    else this.found.textContent = frames ? `${formatShare(coveredTotal(this.tree, frames), this.tree.total[0])} found` : "";
  }

  private pushMatches(): Uint8Array | null {
    const frames = this.matched ? matchFrames(this.profile, this.matched) : null;
    for (const graph of [this.main, this.callers, this.callees]) graph.setMatches(frames);
    return frames;
  }

  // ---- Zoom, selection, hover ----

  onZoom(graph: Graph, node: number): void {
    this.active = graph;
    graph.setZoom(node);
    this.tooltip.hide();
    this.fillCrumbs();
    this.fillDetails(graph, node, true);
  }

  onSelect(graph: Graph, node: number): void {
    this.active = graph;
    this.fillDetails(graph, node, true);
  }

  onHover(graph: Graph, node: number | null, rest: boolean, point: { x: number; y: number }): void {
    if (node === null || !graph.tree) this.tooltip.hide();
    else this.tooltip.show(this.labels, graph.tree, node, rest, point);
  }

  private fillCrumbs(): void {
    const graph = this.active;
    const { tree } = graph;
    if (!tree) return;
    const path = pathTo(tree, graph.zoom);
    const items = path.map((node, index) => {
      const name = this.labels.name(tree.frame[node]);
      const last = index === path.length - 1;
      const crumb = button(name, { class: "crumb", title: name, "aria-current": last ? "location" : null }, () => this.onZoom(graph, node));
      return element("li", {}, crumb);
    });
    const reset = button("Reset zoom", { class: "quiet reset", disabled: graph.zoom === 0 }, () => this.onZoom(graph, 0));
    const list = element("ol", {}, ...items);
    this.crumbs.replaceChildren(list, reset);
    list.scrollLeft = list.scrollWidth;
  }

  private fillDetails(graph: Graph, node: number, announce: boolean): void {
    const { tree } = graph;
    if (!tree) return;
    this.detailsDue = false;
    const frame = tree.frame[node];
    const functionIndex = this.labels.functionOf(frame);
    const name = this.labels.name(frame);
    const facts = this.labels.facts(tree, node);
    const list = element("dl", {}, ...facts.map(([label, value]) => element("div", {}, element("dt", {}, label), element("dd", {}, value))));
    if (functionIndex >= 0) {
      const lines = this.ownLines(functionIndex);
      if (lines !== "") list.append(element("div", {}, element("dt", {}, "Hot lines"), element("dd", {}, lines)));
    }
    const action = functionIndex < 0 ? null : button("Callers and callees", { class: "quiet" }, () => this.focus(functionIndex));
    this.details.replaceChildren(element("div", { class: "details-head" }, element("p", { class: "mono details-name" }, name), action), list);
    if (announce) {
      this.announcer.textContent = [name, ...facts.map(([label, value]) => `${label} ${value}`)].join(", ");
    }
  }

  /** `212 (61 %), 215 (20 %)`: where a function spent its own time. */
  private ownLines(functionIndex: number): string {
    const { type } = this.choice;
    const keep = rowFilter(this.profile, this.directory, this.choice);
    const lines = hotLines(this.profile, functionIndex, type, (owner) => keep[filterSlot(this.profile, owner)] === 1);
    const unit = this.profile.sampleTypes[type].unit;
    return lines.slice(0, 5).map(({ line, value }) => `:${line} ${formatValue(value, unit)}`).join(" · ");
  }

  // ---- Keys ----

  private keyPressed(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey || this.help.open) return;
    if (event.key === "Escape") {
      this.escape();
      return;
    }
    const target = event.target;
    if (target instanceof HTMLInputElement || target instanceof HTMLSelectElement) return;
    const action = this.actionOf(event.key);
    if (!action) return;
    event.preventDefault();
    action();
  }

  private actionOf(key: string): (() => void) | null {
    switch (key) {
      case "/":
        return () => this.search.focus();
      case "?":
        return () => this.help.showModal();
      case "i":
        return () => this.showGraph(this.orientation === "icicle" ? "flame" : "icicle");
      case "g":
        return () => this.showView("graph");
      case "t":
        return () => this.toggleTable();
      case "c":
        return () => {
          const { tree, selected } = this.active;
          const functionIndex = tree ? this.labels.functionOf(tree.frame[selected]) : -1;
          if (functionIndex >= 0) this.focus(functionIndex);
          else this.showCallers();
        };
      default:
        return null;
    }
  }

  /** First the search, then the zoom. */
  private escape(): void {
    this.tooltip.hide();
    if (this.search.value !== "") {
      this.search.value = "";
      this.searchChanged();
      if (document.activeElement === this.search) this.active.root.focus();
    } else if (this.active.zoom !== 0 || this.active.selected !== 0) {
      this.onZoom(this.active, 0);
    } else if (this.view === "callers") {
      this.showView("graph");
    }
  }
}

function typeLabel(type: { name: string; unit: string }): string {
  if (type.name === "cpu" && type.unit === "nanoseconds") return "CPU time";
  if (type.unit === "count") return printable(type.name.charAt(0).toUpperCase() + type.name.slice(1));
  return printable(`${type.name} (${type.unit})`);
}
