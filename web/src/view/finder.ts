/** The search field: text or regular expression, and how much was found. It does not know what is searched. */
import type { Query } from "../model/search.ts";
import { button, element } from "./dom.ts";

export class Finder {
  readonly input = element("input", {
    type: "search", id: "everflame-search", placeholder: "Search functions", "aria-label": "Search functions", spellcheck: "false", autocomplete: "off",
  });
  private readonly regex: HTMLButtonElement;
  private readonly found = element("output", { class: "found", for: "everflame-search" });
  readonly root: HTMLElement;

  constructor(private readonly onChange: () => void) {
    this.regex = button(".*", { class: "toggle", "aria-pressed": "false", title: "Regular expression", "aria-label": "Regular expression" }, () => {
      this.set({ ...this.query, regex: !this.query.regex });
      this.onChange();
    });
    this.input.addEventListener("input", () => this.onChange());
    this.root = element("div", { class: "search" }, this.found, this.input, this.regex);
  }

  get query(): Query {
    return { text: this.input.value, regex: this.regex.getAttribute("aria-pressed") === "true" };
  }

  /** Changes what is looked for, without telling anybody. */
  set(query: Query): void {
    if (this.input.value !== query.text) this.input.value = query.text;
    this.regex.setAttribute("aria-pressed", String(query.regex));
  }

  /** Shows what came of it; `wrong`: the pattern is none. */
  report(text: string, wrong: boolean): void {
    this.input.setAttribute("aria-invalid", String(wrong));
    this.found.textContent = wrong ? "Not a regular expression" : text;
  }
}
