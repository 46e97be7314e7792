/**
 * One profile on the screen: graph, list, callers, search, zoom, and the wiring between them.
 *
 * `show` may be called again with another profile: what the person has set (zoom, search, function, list) is found again in it by
 * name. It knows nothing of where profiles come from, of times or of addresses: its state is plain text, for its owner to keep.
 */
import type { Profile } from "../data/format.ts";
import { buildTree, filterSlot, groupOwner, rowFilter, type Choice } from "../model/build.ts";
import { functionKey, functionOfKey, nodeOfPath, pathKey } from "../model/paths.ts";
import { coveredTotal, makeMatcher, matchFrames, matchFunctions } from "../model/search.ts";
import { hotLines } from "../model/totals.ts";
import { pathTo, type ViewTree } from "../model/tree.ts";
import { CallersPane } from "./callers.ts";
import { Choices } from "./choices.ts";
import { makeLegend } from "./chrome.ts";
import { Details } from "./details.ts";
import { button, element } from "./dom.ts";
import { Finder } from "./finder.ts";
import { Graph, type GraphEvents, type Orientation } from "./graph.ts";
import { Labels } from "./labels.ts";
import { ListPane, type LabelSource, type ListOwner } from "./list_pane.ts";
import type { Source } from "./listing.ts";
import { PALETTES, type Palette } from "./palette.ts";
import { formatShare, formatValue } from "./text.ts";
import type { Theme } from "./theme.ts";
import { Tooltip } from "./tooltip.ts";
import { FIRST_STATE, type Picture, type ViewState } from "./view_state.ts";

/** What the owner of a view gives. */
export interface ViewOptions extends LabelSource {
  theme: Theme;
  /** Whether a process and a thread can be chosen in the view itself. */
  owners: boolean;
  /** The person has set something; `step`: worth a step of the browser's history. */
  onState(state: ViewState, step: boolean): void;
}

/** From this width on the list is beside the graph. */
const WIDE = 1000;

export class ProfileView implements GraphEvents, ListOwner {
  /** Controls, graph and list. */
  readonly main: HTMLElement;
  /** Selected function and legend. */
  readonly footer: HTMLElement;
  readonly tooltip = new Tooltip();
  private profile!: Profile;
  private tree!: ViewTree;
  private labels!: Labels;
  private readonly state: ViewState = { ...FIRST_STATE };
  private orientation: Orientation = "icicle";
  private theme: Theme;
  private matched: Uint8Array | null = null;
  private focusFunction = -1;
  private active: Graph;
  private readonly graph: Graph;
  private readonly callersPane: CallersPane;
  private readonly list: ListPane;
  private readonly finder = new Finder(() => this.searchChanged());
  private readonly choices: Choices;
  private readonly details = new Details();
  private readonly crumbs = element("nav", { class: "crumbs", "aria-label": "Zoom" });
  private readonly legend = element("ul", { class: "legend", "aria-label": "Colours" });
  private readonly stage = element("div", { class: "stage" });
  private readonly viewButtons: Record<Picture, HTMLButtonElement>;
  private readonly tableButton: HTMLButtonElement;
  private destroyed = false;
  private detailsDue = false;

  constructor(private readonly options: ViewOptions) {
    this.theme = options.theme;
    const palette = PALETTES[this.theme];
    this.graph = new Graph("Flame graph", "icicle", palette, this);
    this.active = this.graph;
    this.callersPane = new CallersPane(palette, this, () => this.focus(-1));
    this.choices = new Choices(options.owners, (change) => this.chosen(change));
    this.viewButtons = {
      icicle: button("Icicle", { title: "Root on top" }, () => this.setPicture("icicle")),
      flame: button("Flame", { title: "Root at the bottom" }, () => this.setPicture("flame")),
      callers: button("Callers", { title: "Who calls a function, and what it calls" }, () => this.setPicture("callers")),
    };
    this.list = new ListPane(this.state.list, options, this);
    this.tableButton = button("List", { class: "toggle", "aria-pressed": "true", title: "List of functions and more (t)" }, () => this.toggleTable());
    const toolbar = element(
      "div",
      { class: "toolbar", role: "group", "aria-label": "View" },
      element("div", { class: "segmented", role: "group", "aria-label": "Picture" }, ...Object.values(this.viewButtons)),
      this.tableButton,
      this.finder.root,
    );
    this.stage.append(element("div", { class: "pane main-pane" }, this.graph.root), this.callersPane.root, this.list.root);
    const keys = element("p", { class: "visually-hidden", id: "everflame-keys" },
      "Arrow keys move the selection, Enter zooms, Escape zooms out, c shows callers. The list of functions holds the same numbers as a table.");
    this.main = element("main", {}, toolbar, element("div", { class: "second" }, this.choices.root, this.crumbs), this.stage, keys);
    this.footer = element("footer", { class: "bottom" }, this.details.root, this.legend, this.details.announcer);
    this.markPicture();
  }

  /** Once the view is on the page: its shape, before there is a profile. */
  attached(): void {
    this.setTableShown(document.documentElement.clientWidth >= WIDE);
  }

  /** Shows a profile. What was set before is set again, as far as it occurs in it. */
  show(profile: Profile): void {
    const first = (this.profile as Profile | undefined) === undefined;
    const selected = first || this.graph.selected === this.graph.zoom ? "" : this.keyOf(this.graph, this.graph.selected);
    this.profile = profile;
    this.choices.show(profile);
    this.list.offer();
    this.fillLegend();
    this.rebuild(selected);
  }

  /** Sets everything at once, without telling the owner. */
  setState(state: ViewState): void {
    const before = { ...this.state };
    Object.assign(this.state, state);
    if (state.picture !== "callers") this.orientation = state.picture;
    this.graph.setOrientation(this.orientation);
    this.finder.set({ text: state.search, regex: state.regex });
    this.choices.setGrouping(state.grouping);
    this.list.setList(state.list);
    this.markPicture();
    if ((this.profile as Profile | undefined) === undefined) return;
    if (before.grouping !== state.grouping || before.list !== state.list || before.zoom !== state.zoom) this.rebuild("");
    else {
      this.refreshMatches();
      this.list.matchesChanged();
      this.detailsDue = true;
      this.findFocus();
      this.fillCrumbs();
      this.refreshListSoon();
    }
  }

  setTheme(theme: Theme): void {
    this.theme = theme;
    const palette = PALETTES[theme];
    for (const graph of this.graphs()) graph.setPalette(palette);
    if ((this.profile as Profile | undefined) === undefined) return;
    this.fillLegend();
    this.refreshListSoon();
  }

  destroy(): void {
    this.destroyed = true;
    this.list.destroy();
    for (const graph of this.graphs()) graph.destroy();
  }

  /** Asks again for the values of a label, if the list shows them or needs them. */
  refreshList(): void {
    if (this.list.needsAnswers) this.refreshListSoon();
  }

  private graphs(): Graph[] {
    return [this.graph, this.callersPane.callers, this.callersPane.callees];
  }

  private changed(step: boolean): void {
    this.options.onState({ ...this.state }, step);
  }

  private keyOf(graph: Graph, node: number): string {
    return graph.tree && graph.labels ? pathKey(graph.tree, node, (frame) => (graph.labels as Labels).name(frame)) : "";
  }

  // ---- From the profile to the screen ----

  private chosen(change: Partial<Choice>): void {
    this.state.grouping = this.choices.choice.grouping;
    this.state.zoom = "";
    this.rebuild("");
    if (this.state.picture === "callers") this.fillCallers();
    if ("grouping" in change) this.changed(true);
  }

  private rebuild(selected: string): void {
    const { choice, directory } = this.choices;
    const built = buildTree(this.profile, directory, choice);
    this.tree = built.tree;
    this.labels = new Labels(this.profile, built.groups);
    this.graph.setTree(this.tree, this.labels);
    const nameOf = (frame: number) => this.labels.name(frame);
    if (this.state.zoom !== "") this.graph.setZoom(nodeOfPath(this.tree, this.state.zoom, nameOf));
    if (selected !== "") this.graph.select(nodeOfPath(this.tree, selected, nameOf));
    this.refreshMatches();
    this.findFocus();
    this.fillCrumbs();
    this.detailsDue = true;
    this.refreshListSoon();
  }

  private findFocus(): void {
    this.focusFunction = functionOfKey(this.profile, this.state.focus, this.focusFunction);
    this.list.setFocused(this.focusFunction);
    if (this.state.picture === "callers") this.fillCallers();
  }

  /** The list's sums, and the values in other types, take as long as all else: they wait until the graph is on the screen. */
  private refreshListSoon(): void {
    this.list.changed();
    this.afterPicture();
  }

  /** What else is due, once the picture is there: the eye is on the picture. */
  private afterPicture(): void {
    requestAnimationFrame(() => setTimeout(() => {
      if (this.destroyed) return;
      if (this.detailsDue) this.fillDetails(this.active, this.active.selected, false);
      this.list.refresh();
    }));
  }

  // ---- For the list ----

  palette(): Palette {
    return PALETTES[this.theme];
  }

  source(): Omit<Source, "executables" | "onExecutables"> {
    const { profile, tree, labels } = this;
    const { choice, directory } = this.choices;
    const keep = rowFilter(profile, directory, choice);
    return {
      profile, tree, labels, palette: this.palette(), type: choice.type,
      shows: (owner) => keep[filterSlot(profile, owner)] === 1,
      onFunction: (functionIndex) => this.focus(functionIndex),
      onSearch: (text) => {
        this.finder.set({ text, regex: false });
        this.searchChanged();
      },
    };
  }

  matchedFunctions(): Uint8Array | null {
    return this.matched;
  }

  focusedFunction(): number {
    return this.focusFunction;
  }

  onList(list: string): void {
    this.state.list = list;
    this.afterPicture();
    this.changed(true);
  }

  private fillLegend(): void {
    this.legend.replaceChildren(...makeLegend(this.profile, PALETTES[this.theme]));
  }

  private toggleTable(): void {
    this.setTableShown(Boolean(this.list.root.hidden));
  }

  private setTableShown(shown: boolean): void {
    this.list.root.hidden = !shown;
    this.tableButton.setAttribute("aria-pressed", String(shown));
    this.stage.classList.toggle("with-table", shown);
    if (shown && (this.profile as Profile | undefined) !== undefined) this.refreshListSoon();
  }

  // ---- Pictures ----

  private setPicture(picture: Picture): void {
    this.state.picture = picture;
    if (picture !== "callers") {
      this.orientation = picture;
      this.graph.setOrientation(picture);
    }
    this.markPicture();
    if (picture === "callers") this.fillCallers();
    this.fillCrumbs();
    this.changed(true);
  }

  private markPicture(): void {
    const { picture } = this.state;
    this.stage.dataset.view = picture === "callers" ? "callers" : "graph";
    for (const [name, each] of Object.entries(this.viewButtons)) each.setAttribute("aria-pressed", String(name === picture));
    if (picture !== "callers") this.active = this.graph;
    this.tooltip.hide();
  }

  /** Shows who calls a function, and what it calls; -1 = all functions. */
  private focus(functionIndex: number): void {
    this.focusFunction = functionIndex;
    this.state.focus = functionIndex < 0 ? "" : functionKey(this.profile, functionIndex);
    this.list.setFocused(functionIndex);
    this.setPicture("callers");
    if (functionIndex >= 0) this.details.announcer.textContent = `Callers and callees of ${this.labels.functionName(functionIndex)}`;
  }

  private fillCallers(): void {
    this.active = this.callersPane.fill(this.profile, this.tree, this.labels, this.focusFunction, this.state.focus !== "");
    this.pushMatches();
    this.fillCrumbs();
    this.fillDetails(this.active, 0, false);
  }

  // ---- Search ----

  private searchChanged(): void {
    Object.assign(this.state, { search: this.finder.query.text, regex: this.finder.query.regex });
    this.refreshMatches();
    this.list.matchesChanged();
    this.afterPicture();
    this.changed(false);
  }

  private refreshMatches(): void {
    const matcher = makeMatcher(this.finder.query);
    this.matched = matchFunctions(this.profile, matcher);
    const wrong = matcher !== null && "error" in matcher;
    this.stage.closest(".everflame")?.classList.toggle("searching", this.matched !== null);
    const frames = this.pushMatches();
    this.finder.report(frames ? `${formatShare(coveredTotal(this.tree, frames), this.tree.total[0])} found` : "", wrong);
  }

  private pushMatches(): Uint8Array | null {
    const frames = this.matched ? matchFrames(this.profile, this.matched) : null;
    for (const graph of this.graphs()) graph.setMatches(frames);
    return frames;
  }

  // ---- Zoom, selection, hover ----

  onZoom(graph: Graph, node: number): void {
    this.active = graph;
    graph.setZoom(node);
    this.tooltip.hide();
    this.fillCrumbs();
    this.fillDetails(graph, node, true);
    if (graph !== this.graph) return;
    this.state.zoom = this.keyOf(graph, node);
    this.changed(true);
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
    const functionIndex = this.labels.functionOf(tree.frame[node]);
    const lines = functionIndex < 0 ? "" : this.hotLinesOf(functionIndex);
    const actions: [string, () => void][] = functionIndex < 0 ? [] : [["Callers and callees", () => this.focus(functionIndex)]];
    const group = tree.frame[node] - this.profile.frames.count;
    const owner = group < 0 ? null : groupOwner(this.profile, this.choices.directory, group);
    if (owner && this.options.labels.includes(owner.label)) actions.push([`Only this ${owner.label}`, () => this.options.onLabelValues(owner.label, [owner.value])]);
    this.details.show(this.labels, tree, node, lines, announce, actions);
  }

  /** `:212 1.20 s · :215 0.40 s`: where a function spent its own time. */
  private hotLinesOf(functionIndex: number): string {
    const { choice, directory } = this.choices;
    const keep = rowFilter(this.profile, directory, choice);
    const type = this.profile.comparison?.current ?? choice.type;
    const lines = hotLines(this.profile, functionIndex, type, (owner) => keep[filterSlot(this.profile, owner)] === 1);
    const { unit } = this.profile.sampleTypes[type];
    return lines.slice(0, 5).map(({ line, value }) => `:${line} ${formatValue(value, unit)}`).join(" · ");
  }

  // ---- Keys ----

  /** What a key does here; `null` if nothing. */
  actionOf(key: string): (() => void) | null {
    switch (key) {
      case "/":
        return () => this.finder.input.focus();
      case "i":
        return () => this.setPicture(this.orientation === "icicle" ? "flame" : "icicle");
      case "g":
        return () => this.setPicture(this.orientation);
      case "t":
        return () => this.toggleTable();
      case "c":
        return () => {
          const { tree, selected } = this.active;
          const functionIndex = tree ? this.labels.functionOf(tree.frame[selected]) : -1;
          if (functionIndex >= 0) this.focus(functionIndex);
          else this.setPicture("callers");
        };
      default:
        return null;
    }
  }

  /** First the search, then the zoom, then the callers; false if there was nothing to take back. */
  escape(): boolean {
    this.tooltip.hide();
    if (this.state.search !== "") {
      this.finder.set({ text: "", regex: this.state.regex });
      this.searchChanged();
      if (document.activeElement === this.finder.input) this.active.root.focus();
    } else if (this.active.zoom !== 0 || this.active.selected !== 0) {
      this.onZoom(this.active, 0);
    } else if (this.state.picture === "callers") {
      this.setPicture(this.orientation);
    } else return false;
    return true;
  }
}
