/**
 * The list of functions with self and total: sortable, filtered by the search. The accessible twin of the graph.
 *
 * Constraint: rows are added a page at a time; a profile can hold fifty thousand functions.
 */
import type { FunctionTotals } from "../model/totals.ts";
import { button, element } from "./dom.ts";
import type { Labels } from "./labels.ts";
import { paintOf, type Palette } from "./palette.ts";
import { formatCount, formatShare, formatValue } from "./text.ts";

type SortKey = "self" | "total" | "name";

const PAGE = 100;

export class FunctionTable {
  readonly root: HTMLElement;
  private readonly body = element("tbody");
  private readonly caption = element("p", { class: "table-caption", role: "status" }, "Adding up…");
  private readonly more: HTMLButtonElement;
  private readonly heads = new Map<SortKey, HTMLTableCellElement>();
  private sort: { key: SortKey; descending: boolean } = { key: "self", descending: true };
  private order: number[] = [];
  private shown = 0;
  private data: { labels: Labels; totals: FunctionTotals; whole: number; unit: string; palette: Palette } | null = null;
  private matched: Uint8Array | null = null;
  private focused = -1;

  constructor(private readonly onPick: (functionIndex: number) => void) {
    const head = (key: SortKey, label: string) => {
      const cell = element("th", { scope: "col", class: key }, button(label, { class: "sort" }, () => this.sortBy(key)));
      this.heads.set(key, cell);
      return cell;
    };
    const heads = [head("self", "Self"), head("total", "Total"), head("name", "Function")];
    this.more = button("Show more", { class: "more", hidden: true }, () => this.addPage());
    this.root = element(
      "section",
      { class: "functions", "aria-label": "Functions" },
      this.caption,
      element(
        "div",
        { class: "table-scroll", tabindex: "0", role: "region", "aria-label": "Table of functions" },
        element("table", {}, element("thead", {}, element("tr", {}, ...heads)), this.body),
        this.more,
      ),
    );
  }

  /** Shows other sums. */
  setData(labels: Labels, totals: FunctionTotals, whole: number, unit: string, palette: Palette): void {
    this.data = { labels, totals, whole, unit, palette };
    this.refresh();
  }

  setPalette(palette: Palette): void {
    if (!this.data) return;
    this.data.palette = palette;
    this.refresh();
  }

  /** One byte for each function: 1 = listed. `null` lists all. */
  setMatches(matched: Uint8Array | null): void {
    this.matched = matched;
    this.refresh();
  }

  /** Marks the function that the other views are about; -1 for none. */
  setFocused(functionIndex: number): void {
    this.focused = functionIndex;
    for (const row of this.body.rows) row.classList.toggle("focused", row.dataset.function === String(functionIndex));
  }

  private sortBy(key: SortKey): void {
    this.sort = { key, descending: this.sort.key === key ? !this.sort.descending : key !== "name" };
    this.refresh();
  }

  private refresh(): void {
    if (!this.data) return;
    const { labels, totals } = this.data;
    const order: number[] = [];
    for (let index = 0; index < totals.total.length; index++) {
      if (totals.total[index] > 0 && (!this.matched || this.matched[index])) order.push(index);
    }
    const { key, descending } = this.sort;
    const sign = descending ? -1 : 1;
    if (key === "name") {
      const names = new Map(order.map((index) => [index, labels.functionName(index)]));
      const text = (index: number) => names.get(index) ?? "";
      order.sort((a, b) => sign * (text(a) < text(b) ? -1 : text(a) > text(b) ? 1 : a - b));
    } else {
      const other = key === "self" ? totals.total : totals.self;
      const value = totals[key];
      order.sort((a, b) => sign * (value[a] - value[b]) || sign * (other[a] - other[b]) || a - b);
    }
    this.order = order;
    this.shown = 0;
    this.body.replaceChildren();
    this.addPage();
    for (const [each, cell] of this.heads) {
      cell.setAttribute("aria-sort", each !== key ? "none" : descending ? "descending" : "ascending");
    }
    this.caption.textContent = `${formatCount(order.length)} function${order.length === 1 ? "" : "s"}${this.matched ? " found" : ""}`;
  }

  private addPage(): void {
    if (!this.data) return;
    const { labels, totals, whole, unit, palette } = this.data;
    const end = Math.min(this.order.length, this.shown + PAGE);
    const rows: HTMLElement[] = [];
    for (; this.shown < end; this.shown++) {
      const index = this.order[this.shown];
      const value = (amount: number, kind: string) => {
        const bar = element("span", { class: "bar" });
        bar.style.width = `${whole > 0 ? (amount / whole) * 100 : 0}%`;
        const share = element("span", { class: "share" }, formatShare(amount, whole));
        return element("td", { class: `value ${kind}` }, bar, share, element("span", { class: "amount" }, formatValue(amount, unit)));
      };
      const swatch = element("span", { class: "swatch" });
      const kind = labels.profile.kinds[labels.profile.functions.kind[index]];
      swatch.style.background = paintOf(palette, kind, false).fill;
      const name = labels.functionName(index);
      const pick = button(name, { class: "pick", title: `${name}\nShow callers and callees` }, () => this.onPick(index));
      const where = [labels.mapping(index), labels.place(index)].filter((text) => text !== "").join(" · ");
      const row = element(
        "tr",
        { "data-function": String(index), class: index === this.focused ? "focused" : null },
        value(totals.self[index], "self"),
        value(totals.total[index], "total"),
        element("td", { class: "name" }, element("span", { class: "line" }, swatch, pick), element("span", { class: "where" }, where)),
      );
      rows.push(row);
    }
    this.body.append(...rows);
    this.more.hidden = this.shown >= this.order.length;
    this.more.textContent = `Show ${Math.min(PAGE, this.order.length - this.shown)} more of ${formatCount(this.order.length - this.shown)}`;
  }
}
