/** Light or dark: the system's choice until the person makes one. */
import { button } from "./dom.ts";

export type Theme = "light" | "dark";

export class ThemeSwitch {
  readonly button: HTMLButtonElement;
  current: Theme;
  private chosen = false;

  constructor(signal: AbortSignal, private readonly onChange: (theme: Theme) => void) {
    const dark = window.matchMedia("(prefers-color-scheme: dark)");
    this.current = dark.matches ? "dark" : "light";
    this.button = button("", { class: "quiet", title: "Light or dark" }, () => {
      this.chosen = true;
      this.set(this.current === "dark" ? "light" : "dark");
    });
    dark.addEventListener("change", () => this.chosen || this.set(dark.matches ? "dark" : "light"), { signal });
    this.mark();
  }

  private set(theme: Theme): void {
    this.current = theme;
    this.mark();
    this.onChange(theme);
  }

  private mark(): void {
    document.documentElement.dataset.theme = this.current;
    this.button.textContent = this.current === "dark" ? "Light" : "Dark";
    this.button.setAttribute("aria-label", this.current === "dark" ? "Light colours" : "Dark colours");
  }
}
