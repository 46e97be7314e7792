/**
 * The list beside the graph: functions, files, executables, or values of a label, with self and total; in a comparison with both
 * sides and their difference. Sortable. The accessible twin of the graph.
 *
 * Constraint: rows are added a page at a time; a profile can hold fifty thousand functions. What an entry is and what a click on
 * it does is the listing's business (listing.ts).
 */
import { button, element } from "./dom.ts";
import type { Listing } from "./listing.ts";
import { formatChange, formatCores, formatCount, formatRatio, formatShare, formatValue } from "./text.ts";

type SortKey = "self" | "total" | "current" | "baseline" | "change" | "name";
type Measured = "self" | "total";

const PAGE = 100;

export class ListTable {
  readonly root: HTMLElement;
  /** Where the owner puts its choice of listings. */
  readonly bar = element("div", { class: "list-bar" });
  private readonly head = element("tr");
  private readonly body = element("tbody");
  private readonly caption = element("p", { class: "table-caption", role: "status" }, "Adding up…");
  private readonly more: HTMLButtonElement;
  private readonly measuredBar: HTMLElement;
  private readonly measuredButtons: Record<Measured, HTMLButtonElement>;
  private heads = new Map<SortKey, HTMLTableCellElement>();
  private sort: { key: SortKey; descending: boolean } = { key: "self", descending: true };
  private measured: Measured = "self";
  private order: number[] = [];
  private shown = 0;
  private listing: Listing | null = null;
  private matched: Uint8Array | null = null;
  private focused = -1;

  constructor() {
    this.more = button("Show more", { class: "more", hidden: true }, () => this.addPage());
    const measure = (key: Measured, label: string) => button(label, { "aria-pressed": "false" }, () => this.setMeasured(key));
    this.measuredButtons = { self: measure("self", "Self"), total: measure("total", "Total") };
    this.measuredBar = element("div", { class: "segmented small", role: "group", "aria-label": "Compared by", hidden: true }, ...Object.values(this.measuredButtons));
    this.root = element(
      "section",
      { class: "functions", "aria-label": "List" },
      element("div", { class: "table-head" }, this.bar, this.measuredBar, this.caption),
      element(
        "div",
        { class: "table-scroll", tabindex: "0", role: "region", "aria-label": "Table of functions" },
        element("table", {}, element("thead", {}, this.head), this.body),
        this.more,
      ),
    );
  }

  /** Shows a listing; `null` = it is on its way. */
  setListing(listing: Listing | null): void {
    this.listing = listing;
    if (!listing) {
      this.body.replaceChildren();
      this.more.hidden = true;
      this.caption.textContent = "Adding up…";
      return;
    }
    const keys: [SortKey, string][] = listing.baseline
      ? [["change", "Change"], ["current", "Current"], ["baseline", "Baseline"], ["name", listing.title]]
      : listing.totals.self ? [["self", "Self"], ["total", "Total"], ["name", listing.title]] : [["total", "CPU time"], ["name", listing.title]];
    this.measuredBar.hidden = !listing.baseline || !listing.totals.self;
    if (!keys.some(([key]) => key === this.sort.key)) this.sort = { key: keys[0][0], descending: true };
    for (const [key, each] of Object.entries(this.measuredButtons)) each.setAttribute("aria-pressed", String(key === this.measured));
    this.heads = new Map(keys.map(([key, label]) => [key, element("th", { scope: "col", class: key }, button(label, { class: "sort" }, () => this.sortBy(key)))]));
    this.head.replaceChildren(...this.heads.values());
    this.refresh();
  }

  /** One byte for each entry: 1 = listed. `null` lists all. */
  setMatches(matched: Uint8Array | null): void {
    this.matched = matched;
    this.refresh();
  }

  /** Marks the entry that the other views are about; -1 for none. */
  setFocused(entry: number): void {
    this.focused = entry;
    for (const row of this.body.rows) row.classList.toggle("focused", row.dataset.function === String(entry));
  }

  private setMeasured(measured: Measured): void {
    this.measured = measured;
    this.setListing(this.listing);
  }

  private sortBy(key: SortKey): void {
    this.sort = { key, descending: this.sort.key === key ? !this.sort.descending : key !== "name" };
    this.refresh();
  }

  /** The numbers of a comparison: self or total of both sides, or the total where there is no self. */
  private sides(listing: Listing): { current: Float64Array; baseline: Float64Array } {
    const column = (totals: { self: Float64Array | null; total: Float64Array }) => (this.measured === "self" ? totals.self : null) ?? totals.total;
    return { current: column(listing.totals), baseline: column(listing.baseline ?? listing.totals) };
  }

  private keyOf(listing: Listing): [Float64Array, Float64Array] {
    const { totals } = listing;
    const { current, baseline } = this.sides(listing);
    switch (this.sort.key) {
      case "change":
        return [current.map((value, index) => value - baseline[index]), current];
      case "current":
        return [current, baseline];
      case "baseline":
        return [baseline, current];
      case "self":
        return [totals.self ?? totals.total, totals.total];
      default:
        return [totals.total, totals.self ?? totals.total];
    }
  }

  private refresh(): void {
    const { listing } = this;
    if (!listing) return;
    const { totals, baseline } = listing;
    const order: number[] = [];
    for (let index = 0; index < listing.count; index++) {
      const there = totals.total[index] > 0 || (baseline !== null && baseline.total[index] > 0);
      if (there && (!this.matched || this.matched[index])) order.push(index);
    }
    const { key, descending } = this.sort;
    const sign = descending ? -1 : 1;
    if (key === "name") {
      const names = new Map(order.map((index) => [index, listing.name(index)]));
      const text = (index: number) => names.get(index) ?? "";
      order.sort((a, b) => sign * (text(a) < text(b) ? -1 : text(a) > text(b) ? 1 : a - b));
    } else {
      const [value, other] = this.keyOf(listing);
      // Changes by their size, whatever their sign: the question is what differs.
      const first = key === "change" ? value.map(Math.abs) : value;
      order.sort((a, b) => sign * (first[a] - first[b]) || sign * (other[a] - other[b]) || a - b);
    }
    this.order = order;
    this.shown = 0;
    this.body.replaceChildren();
    this.addPage();
    for (const [each, cell] of this.heads) {
      cell.setAttribute("aria-sort", each !== key ? "none" : descending ? "descending" : "ascending");
    }
    const noun = listing.nouns[order.length === 1 ? 0 : 1];
    const remarks = [listing.unit === "cores" ? "in cores" : "", listing.remark].filter((text) => text !== "");
    this.caption.textContent = [`${formatCount(order.length)} ${noun}${this.matched ? " found" : ""}`, ...remarks].join(" · ");
  }

  private addPage(): void {
    const { listing } = this;
    if (!listing) return;
    const end = Math.min(this.order.length, this.shown + PAGE);
    const rows: HTMLElement[] = [];
    for (; this.shown < end; this.shown++) rows.push(this.row(listing, this.order[this.shown]));
    this.body.append(...rows);
    this.more.hidden = this.shown >= this.order.length;
    this.more.textContent = `Show ${Math.min(PAGE, this.order.length - this.shown)} more of ${formatCount(this.order.length - this.shown)}`;
  }

  private row(listing: Listing, index: number): HTMLElement {
    const { totals, baseline, whole, unit } = listing;
    // The caption says that numbers are cores: in each cell the word would only take room.
    const short = (amount: number) => (unit === "cores" ? formatCores(amount) : formatValue(amount, unit));
    const cell = (kind: string, amount: number, of: number) => {
      const bar = element("span", { class: "bar" });
      bar.style.width = `${of > 0 ? (amount / of) * 100 : 0}%`;
      const lines = unit === "share" ? [] : [element("span", { class: "amount" }, short(amount))];
      return element("td", { class: `value ${kind}` }, bar, element("span", { class: "share" }, formatShare(amount, of)), ...lines);
    };
    const cells: HTMLElement[] = [];
    if (baseline) {
      const sides = this.sides(listing);
      const [now, before] = [sides.current[index], sides.baseline[index]];
      const { fill } = listing.changePaint(index, this.measured);
      const swatch = element("span", { class: "swatch" });
      swatch.style.background = fill;
      cells.push(
        element("td", { class: "value change" }, swatch, element("span", { class: "share" }, formatChange(now - before, unit).replace(/ cores?$/, "")), element("span", { class: "amount" }, formatRatio(now, before))),
        cell("current", now, whole),
        cell("baseline", before, listing.baselineWhole),
      );
    } else {
      if (totals.self) cells.push(cell("self", totals.self[index], whole));
      cells.push(cell("total", totals.total[index], whole));
    }
    const fill = baseline ? null : listing.fill(index);
    const swatch = fill === null ? null : element("span", { class: "swatch" });
    if (swatch && fill !== null) swatch.style.background = fill;
    const name = listing.name(index);
    const { pick: act } = listing;
    const pick = act ? button(name, { class: "pick", title: `${name}\n${listing.hint}` }, () => act(index)) : element("span", { class: "pick" }, name);
    const only = listing.only(index);
    const narrow = only && button("Only", { class: "only quiet", title: only.title, "aria-label": `Only ${name}` }, only.act);
    return element(
      "tr",
      { "data-function": String(index), class: index === this.focused ? "focused" : null },
      ...cells,
      element("td", { class: "name" }, element("span", { class: "line" }, swatch, pick, narrow), element("span", { class: swatch ? "where" : "where plain" }, listing.where(index))),
    );
  }
}
