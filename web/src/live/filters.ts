/** Filters as chips that can be taken away, and the row in which a person makes a new one, with values offered as they type. */
import { button, element, fillSelect } from "../view/dom.ts";
import { printable } from "../view/text.ts";
import { conditionText, type Condition, type Operator } from "./state.ts";

const OPERATORS: [Operator, string][] = [["=", "is"], ["^=", "begins with"], ["~=", "contains"]];
/** ms without typing, after which values are asked for. */
const PAUSE = 200;

/** Chips of conditions. */
export function makeChips(where: Condition[], onRemove: (condition: Condition) => void): HTMLElement {
  const chips = where.map((condition) => {
    const value = condition.value === "" ? `[no ${condition.label}]` : printable(condition.value);
    const operator = OPERATORS.find(([sign]) => sign === condition.operator)?.[1] ?? "";
    const words = [element("span", { class: "chip-label" }, condition.label), ` ${operator} `, element("b", {}, value)];
    const remove = button("×", { class: "chip-remove", "aria-label": `Remove the filter ${condition.label} ${operator} ${value}` }, () => onRemove(condition));
    return element("li", { class: "chip", title: printable(conditionText(condition)) }, element("span", { class: "chip-text" }, ...words), remove);
  });
  return element("ul", { class: "chips", "aria-label": "Filters" }, ...chips);
}

/** The row for a new filter. */
export class FilterMaker {
  readonly root: HTMLElement;
  readonly opener: HTMLButtonElement;
  private readonly label: HTMLSelectElement;
  private readonly operator: HTMLSelectElement;
  private readonly value: HTMLInputElement;
  private readonly offers: HTMLDataListElement;
  private timer: ReturnType<typeof setTimeout> | undefined;

  /** `offer` gives values of a label that contain a text. */
  constructor(name: string, private readonly onMade: (condition: Condition) => void, private readonly offer: (label: string, text: string) => Promise<string[]>) {
    const id = (what: string) => `everflame-filter-${name}-${what}`;
    this.label = element("select", { "aria-label": "Label" });
    this.operator = element("select", { "aria-label": "Comparison" });
    this.offers = element("datalist", { id: id("offers") });
    this.value = element("input", { type: "text", "aria-label": "Value", placeholder: "Value", list: id("offers"), autocomplete: "off", spellcheck: "false", maxlength: "1000" });
    fillSelect(this.operator, OPERATORS.map(([value, label]) => ({ value, label })), "=");
    this.opener = button("+ Filter", { class: "quiet", "aria-expanded": "false", title: "Show only some pods, processes, … (f)" }, () => this.toggle());
    this.root = element(
      "div",
      { class: "filter-maker", role: "group", "aria-label": "New filter", hidden: true },
      this.label, this.operator, this.value, this.offers, button("Add", { class: "primary" }, () => this.add()),
    );
    this.label.addEventListener("change", () => this.offerSoon());
    this.value.addEventListener("input", () => this.offerSoon());
    this.root.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && event.target === this.value) this.add();
      else if (event.key === "Escape") this.toggle();
      else return;
      event.preventDefault();
    });
  }

  setLabels(labels: string[]): void {
    if (labels.length === this.label.options.length && labels.every((label, index) => this.label.options[index].value === label)) return;
    const chosen = labels.includes(this.label.value) ? this.label.value : (labels[0] ?? "");
    fillSelect(this.label, labels.map((label) => ({ value: label, label })), chosen);
  }

  toggle(): void {
    this.root.hidden = !this.root.hidden;
    this.opener.setAttribute("aria-expanded", String(!this.root.hidden));
    if (this.root.hidden) this.opener.focus();
    else {
      this.label.focus();
      this.offerSoon();
    }
  }

  private offerSoon(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      const { value: label } = this.label;
      void this.offer(label, this.value.value).then((values) => {
        if (this.label.value === label) this.offers.replaceChildren(...values.map((value) => element("option", { value })));
      });
    }, PAUSE);
  }

  private add(): void {
    if (this.label.value === "" || (this.value.value === "" && this.operator.value !== "=")) return;
    const condition = { label: this.label.value, operator: this.operator.value as Operator, value: this.value.value };
    this.value.value = "";
    this.toggle();
    this.onMade(condition);
  }
}
