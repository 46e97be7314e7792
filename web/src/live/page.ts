/**
 * The live page: time line, filters, comparison, and below them the same view as in the self-contained file.
 *
 * One direction: a person or the browser's history changes the state (`set`), the state goes into the address and onto the controls,
 * and what is needed is fetched. An answer to an older question is dropped. The server's clock counts, not the browser's.
 */
import type { Profile } from "../data/format.ts";
import { makeHelp } from "../view/chrome.ts";
import { button, element, fillSelect } from "../view/dom.ts";
import { listenForKeys } from "../view/keys.ts";
import type { LabelValues } from "../view/listing.ts";
import { PALETTES } from "../view/palette.ts";
import { ProfileView } from "../view/profile_view.ts";
import { formatCount } from "../view/text.ts";
import { ThemeSwitch } from "../view/theme.ts";
import { Api, ApiError, type Slice, type Status, type Values } from "./api.ts";
import { LiveHeader, TimeBar } from "./chrome.ts";
import { ComparisonBar } from "./comparison.ts";
import { Profiles } from "./data.ts";
import { FilterMaker, makeChips } from "./filters.ts";
import { makeEmpty, Notices } from "./notices.ts";
import { nextDelay, Refresher } from "./refresh.ts";
import { makeStack, Slots, type Stack } from "./stack.ts";
import { conditionText, formatState, HOUR, isFollowing, parseState, timesOf, withCondition, withOnly, type Condition, type LiveState, type Range, type Times } from "./state.ts";
import { rangeText, timeText } from "./times.ts";
import { Timeline, type Target } from "./timeline.ts";

/** Until the server has said which labels it knows. */
const LABELS = ["process", "executable", "thread", "pod", "container", "namespace", "workload", "service", "node"];
/** Values of a label that the list asks for. */
const LIST_LIMIT = 1000;
/** Values offered while a filter is typed. */
const OFFERS = 20;
/** A history whose end is older than this many ms has stopped: the page then shows time going by without samples. */
const STALE = 60_000;

const KEYS: [string, string][] = [
  ["p", "Pause, or follow the time again"],
  ["f", "Add a filter"],
  ["d", "Compare with a baseline, or stop"],
];

export class LivePage {
  private state: LiveState;
  private readonly api = new Api();
  private readonly profiles = new Profiles(this.api);
  private status: Status | null = null;
  /** The server's clock minus the browser's, in ms. */
  private skew = 0;
  private times: Times;
  private stack: Stack | null = null;
  private slots = new Slots(8);
  private skipped = 0;
  private profileNotes: string[] = [];
  private shown: Profile | null = null;
  private target: Target = "current";
  private asking = new AbortController();
  private failures = 0;
  private failedSince = 0;
  private readonly closed = new AbortController();
  private readonly refresher: Refresher;
  private readonly theme: ThemeSwitch;
  private readonly view: ProfileView;
  private readonly timeline: Timeline;
  private readonly header: LiveHeader;
  private readonly timeBar: TimeBar;
  private readonly comparison: ComparisonBar;
  private readonly notices = new Notices();
  private readonly help = makeHelp(KEYS);
  private readonly bySelect = element("select", { id: "everflame-by" });
  private readonly chips = element("div", { class: "chips-place" });
  private readonly filters: Record<Target, FilterMaker>;
  private readonly compareButton: HTMLButtonElement;
  private readonly empty = element("div", { class: "empty-place", hidden: true });
  private readonly progress = element("div", { class: "progress", hidden: true });

  constructor(private readonly root: HTMLElement) {
    const { signal } = this.closed;
    this.state = parseState(location.hash);
    this.times = timesOf(this.state, Date.now());
    this.refresher = new Refresher(() => void this.refresh(), signal);
    this.theme = new ThemeSwitch(signal, (theme) => {
      this.view.setTheme(theme);
      this.timeline.setPalette(PALETTES[theme]);
    });
    this.view = new ProfileView({
      theme: this.theme.current,
      owners: false,
      labels: LABELS,
      onState: (view, step) => this.set({ ...this.state, view }, step, false),
      valuesOf: (label, quiet) => this.valuesOf(label, quiet),
      onLabelValues: (label, values) => this.showOnly(label, values),
    });
    this.timeline = new Timeline(PALETTES[this.theme.current], {
      onRange: (target, range, step) => this.chooseRange(target, range, step),
      onValue: (value) => this.showOnly(this.state.by, [value]),
    }, signal);
    const filter = (target: Target) => new FilterMaker(target, (condition) => this.addCondition(condition, target), (label, text) => this.offers(label, text));
    this.filters = { current: filter("current"), baseline: filter("baseline") };
    const helpButton = button("Help", { class: "quiet", title: "Keys and reading (?)" }, () => this.help.showModal());
    this.header = new LiveHeader([this.theme.button, helpButton], signal);
    this.timeBar = new TimeBar({
      onLast: (last) => this.set({ ...this.state, period: { last }, selected: null }),
      onAll: () => this.showAll(),
      onFollow: () => this.toggleFollow(),
      onZoomIn: () => this.state.selected && this.set({ ...this.state, period: this.state.selected, selected: null }),
      onClear: () => this.set({ ...this.state, selected: null }),
    }, element("div", { class: "field by" }, element("label", { for: this.bySelect.id }, "Split by"), this.bySelect));
    this.compareButton = button("Compare", { class: "toggle", "aria-pressed": "false", title: "Compare with another time or other filters (d)" }, () => this.toggleComparison());
    this.comparison = new ComparisonBar({
      onTime: (time) => this.setBaseline((baseline) => ({ ...baseline, time })),
      onMeasure: (measure) => this.set({ ...this.state, measure }),
      onTarget: (target) => {
        this.target = target;
        this.showControls();
      },
      onRemove: (condition) => this.setBaseline((baseline) => ({ ...baseline, where: without(baseline.where, condition) })),
      onSwap: () => this.swap(),
      onStop: () => this.toggleComparison(),
    }, [this.filters.baseline.opener, this.filters.baseline.root]);
    this.assemble();
    this.listen(signal);
    this.view.attached();
    this.view.setState(this.state.view);
    this.setLabels(LABELS);
    this.showControls();
    void this.refresh();
  }

  private assemble(): void {
    const history = element(
      "section",
      { class: "history", "aria-label": "History" },
      this.timeBar.root,
      this.timeline.root,
      element("div", { class: "toolbar conditions", role: "group", "aria-label": "Filters" }, this.chips, this.filters.current.opener, this.filters.current.root, this.compareButton),
      this.comparison.root,
      this.notices.root,
    );
    this.view.main.prepend(history);
    this.view.main.append(this.empty);
    this.view.main.classList.add("live-main");
    this.root.classList.add("everflame", "live");
    this.root.replaceChildren(this.header.root, this.progress, this.view.main, this.view.footer, this.view.tooltip.root, this.help);
  }

  private listen(signal: AbortSignal): void {
    // Back, forward, and an address that a person changed.
    window.addEventListener("popstate", () => {
      this.state = parseState(location.hash);
      this.view.setState(this.state.view);
      this.setLabels([...this.bySelect.options].map(({ value }) => value));
      this.showControls();
      void this.refresh();
    }, { signal });
    this.bySelect.addEventListener("change", () => {
      this.slots = new Slots(8);
      this.set({ ...this.state, by: this.bySelect.value });
    });
    listenForKeys(signal, () => this.help.open, () => this.view.escape(), (key) => {
      switch (key) {
        case "?":
          return () => this.help.showModal();
        case "p":
          return () => this.toggleFollow();
        case "f":
          return () => this.filters.current.toggle();
        case "d":
          return () => this.toggleComparison();
        default:
          return this.view.actionOf(key);
      }
    });
  }

  // ---- State ----

  /** Takes a new state: into the address, onto the controls, and the data for it. */
  private set(state: LiveState, step = true, fetches = true): void {
    this.state = state;
    const address = `#${formatState(state)}`;
    if (address !== (location.hash || "#")) history[step ? "pushState" : "replaceState"](null, "", address);
    if (!fetches) return;
    this.showControls();
    void this.refresh();
  }

  private setBaseline(change: (baseline: NonNullable<LiveState["baseline"]>) => NonNullable<LiveState["baseline"]>): void {
    if (this.state.baseline) this.set({ ...this.state, baseline: change(this.state.baseline) });
  }

  private chooseRange(target: Target, range: Range | null, step: boolean): void {
    const { baseline } = this.state;
    if (target === "current") this.set({ ...this.state, selected: range }, step);
    else if (range && baseline) this.set({ ...this.state, baseline: { ...baseline, time: range } }, step);
  }

  private addCondition(condition: Condition, target: Target = "current"): void {
    if (target === "baseline") this.setBaseline((baseline) => ({ ...baseline, where: [...without(baseline.where, condition), condition] }));
    else this.set(withCondition(this.state, condition));
  }

  /** Of a label these values and no others: a filter more would add to those that are there already. */
  private showOnly(label: string, values: string[]): void {
    const state = withOnly(this.state, label, values);
    if (state !== this.state) this.set(state);
  }

  private removeCondition(condition: Condition): void {
    const { where, baseline } = this.state;
    this.set({ ...this.state, where: without(where, condition), baseline: baseline && { ...baseline, where: without(baseline.where, condition) } });
  }

  private toggleFollow(): void {
    const { period } = this.state;
    if (isFollowing(this.state)) this.set({ ...this.state, period: this.times.period });
    else this.set({ ...this.state, period: { last: "last" in period ? period.last : period.to - period.from }, selected: null });
  }

  private showAll(): void {
    const history = this.status?.history;
    this.set({ ...this.state, period: history ? { from: history.from, to: Math.max(history.to, history.from + 1000) } : { last: HOUR }, selected: null });
  }

  private toggleComparison(): void {
    this.target = "current";
    const { baseline, where } = this.state;
    this.set({ ...this.state, baseline: baseline ? null : { time: "previous", where } });
  }

  private swap(): void {
    const { baseline, where } = this.state;
    if (!baseline || !this.times.baseline) return;
    this.set({ ...this.state, selected: this.times.baseline, where: baseline.where, baseline: { time: this.times.current, where } });
  }

  // ---- Controls ----

  private setLabels(labels: string[]): void {
    const all = labels.includes(this.state.by) ? labels : [...labels, this.state.by];
    fillSelect(this.bySelect, all.map((label) => ({ value: label, label })), this.state.by);
    for (const maker of Object.values(this.filters)) maker.setLabels(labels);
  }

  private showControls(): void {
    this.times = timesOf(this.state, this.end());
    const { state, times } = this;
    const { where, baseline } = state;
    this.timeBar.show(state, times, this.now());
    this.bySelect.value = state.by;
    this.chips.replaceChildren(...(baseline ? [element("span", { class: "side current" }, "Current")] : []), makeChips(where, (condition) => this.removeCondition(condition)));
    this.compareButton.setAttribute("aria-pressed", String(baseline !== null));
    this.comparison.show(state, times, this.target, this.now());
    this.root.classList.toggle("comparing", baseline !== null);
    this.header.setDownloads((form) => this.api.downloadAddress(form, this.slice()));
    this.showTimeline();
  }

  private showTimeline(): void {
    const { state, times } = this;
    this.timeline.show({
      period: times.period, stack: this.stack, by: state.by, cpus: this.status?.cpus ?? 0, target: this.target,
      // In a comparison both ranges are marked, even if one is the whole.
      current: state.selected ?? (times.baseline ? times.current : null), baseline: times.baseline,
    });
  }

  private slice(): Slice {
    return { range: this.times.current, where: this.state.where };
  }

  private baselineSlice(): Slice | null {
    const { baseline } = this.state;
    return baseline && this.times.baseline ? { range: this.times.baseline, where: baseline.where } : null;
  }

  /** Now, by the server's clock. */
  private now(): number {
    return Date.now() + this.skew;
  }

  /** Where the history ends, by the server's clock: what came since its last flush would look like a dip. */
  private end(): number {
    const now = this.now();
    const written = this.status?.history?.to;
    return Math.floor(written !== undefined && now - written < STALE ? Math.min(written, now) : now);
  }

  // ---- Data ----

  private async refresh(): Promise<void> {
    if (this.timeline.dragging) {
      this.refresher.plan(500);
      return;
    }
    this.refresher.stop();
    this.asking.abort();
    const asking = new AbortController();
    this.asking = asking;
    const { signal } = asking;
    const started = performance.now();
    this.progress.hidden = false;
    let failure: ApiError | null = null;
    try {
      await this.fetchAll(signal);
    } catch (error) {
      if (signal.aborted) return;
      failure = error instanceof ApiError ? error : new ApiError("refused", `This cannot be shown: ${error instanceof Error ? error.message : String(error)}.`);
    }
    if (signal.aborted) return;
    this.progress.hidden = true;
    this.settle(failure, performance.now() - started);
  }

  private async fetchAll(signal: AbortSignal): Promise<void> {
    const status = await this.api.status(signal);
    this.status = status;
    this.skew = status.now - Date.now();
    this.header.show(status);
    this.showControls();
    const { by, where, measure } = this.state;
    const period = { range: this.times.period, where };
    const rest = async () => {
      const [series, labels] = await Promise.all([this.api.series(by, period, signal), this.api.labels(period, signal)]);
      if (signal.aborted) return;
      this.stack = makeStack(series, period.range, this.slots);
      this.skipped = series.skipped;
      const known = labels.filter(({ values }) => values > 0).map(({ name }) => name);
      if (known.length > 0) this.setLabels(known);
      this.showTimeline();
    };
    const graph = async () => {
      const profile = await this.profiles.get(this.slice(), this.baselineSlice(), measure, signal);
      if (!signal.aborted) this.showProfile(profile);
    };
    await Promise.all([graph(), rest()]);
    this.notices.note(status, this.skipped, this.profileNotes);
  }

  private showProfile(profile: Profile): void {
    this.profileNotes = profile.notes;
    const nothing = profile.rows.count === 0;
    this.view.main.classList.toggle("nothing", nothing);
    this.view.footer.hidden = nothing;
    this.empty.hidden = !nothing;
    if (nothing) this.empty.replaceChildren(this.whyEmpty());
    if (!this.shown) {
      // Asked for first, so that its task comes right after the first picture, before the work that waits for the picture.
      requestAnimationFrame(() => setTimeout(() => performance.mark("everflame-painted")));
    }
    // The same one again: nothing to do but for a list that may have been given up.
    if (profile === this.shown) this.view.refreshList();
    else this.view.show(profile);
    this.shown = profile;
  }

  private whyEmpty(): HTMLElement {
    const { where, baseline } = this.state;
    const history = this.status?.history ?? null;
    const actions: [string, () => void][] = [];
    if (where.length > 0) actions.push(["Without filters", () => this.set({ ...this.state, where: [], baseline: baseline && { ...baseline, where: [] } })]);
    if (this.state.selected) actions.push(["The whole time shown", () => this.set({ ...this.state, selected: null })]);
    if (history) actions.push(["The whole history", () => this.showAll()]);
    if (!history) return makeEmpty("There is no history yet: the first samples come within seconds.", actions);
    const fits = where.length > 0 ? " that fits the filters" : "";
    return makeEmpty(`Nothing was sampled in ${rangeText(this.times.current, this.now())}${fits}. The history goes from ${rangeText(history, this.now())}.`, actions);
  }

  /** After an answer or a failure: what is said, and when the next question comes. */
  private settle(failure: ApiError | null, took: number): void {
    const passes = failure !== null && (failure.failure === "gone" || failure.failure === "busy");
    this.failures = passes ? this.failures + 1 : 0;
    if (!failure) this.failedSince = 0;
    else if (this.failedSince === 0) this.failedSince = Date.now();
    const since = this.failedSince === 0 ? "" : timeText(this.failedSince, Date.now());
    this.notices.fail(failure, since, () => void this.refresh());
    this.root.classList.toggle("offline", passes);
    if (failure && !this.shown) performance.mark("everflame-painted");
    const { period } = this.state;
    // A server that was not reached, such as that of a laptop that slept, or has too much to do had no work with the question.
    const cost = failure && !failure.worked ? 0 : took;
    if (passes || (!failure && "last" in period)) this.refresher.plan(nextDelay("last" in period ? period.last : 0, cost, this.failures, this.status?.history === null));
  }

  /** The list's values of a label, on both sides of a comparison. `quiet`: the page does very well without them. */
  private async valuesOf(label: string, quiet: boolean): Promise<LabelValues | null> {
    const { signal } = this.asking;
    const started = performance.now();
    const { measure } = this.state;
    const [current, baseline] = [this.slice(), this.baselineSlice()];
    try {
      const ask = (slice: Slice | null): Promise<Values | null> => (slice ? this.api.values(label, slice, LIST_LIMIT, signal) : Promise.resolve(null));
      const [now, before] = await Promise.all([ask(current), ask(baseline)]);
      if (!now) return null;
      const sum = (values: Values) => values.values.reduce((all, { cpu }) => all + cpu, values.other);
      const scale = (slice: Slice, values: Values) => (!baseline ? 1 : measure === "rate" ? 1 / ((slice.range.to - slice.range.from) * 1e6) : 1 / Math.max(1, sum(values)));
      const side = (slice: Slice, values: Values) => new Map(values.values.map(({ value, cpu }) => [value, cpu * scale(slice, values)]));
      const missing = Math.max(0, now.distinct - now.values.length);
      return {
        label,
        current: side(current, now),
        baseline: before && baseline ? side(baseline, before) : null,
        unit: baseline ? (measure === "rate" ? "cores" : "share") : "nanoseconds",
        whole: sum(now) * scale(current, now),
        baselineWhole: before && baseline ? sum(before) * scale(baseline, before) : 0,
        remark: missing > 0 ? `${formatCount(missing)} smaller ones not listed` : "",
      };
    } catch (error) {
      if (!signal.aborted && !quiet && error instanceof ApiError) this.settle(error, performance.now() - started);
      return null;
    }
  }

  /** Values that fit what is typed into a filter; without them the person types on. */
  private async offers(label: string, text: string): Promise<string[]> {
    const where = [...this.state.where.filter((each) => each.label !== label), ...(text === "" ? [] : [{ label, operator: "~=" as const, value: text }])];
    try {
      const { values } = await this.api.values(label, { range: this.times.period, where }, OFFERS, this.asking.signal);
      return values.map(({ value }) => value);
    } catch {
      return [];
    }
  }
}

function without(where: Condition[], condition: Condition): Condition[] {
  return where.filter((each) => conditionText(each) !== conditionText(condition));
}
