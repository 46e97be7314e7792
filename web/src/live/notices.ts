/** What the page has to say besides pictures: the server is gone, a token is needed, nothing was found, something was left out. */
import { button, element } from "../view/dom.ts";
import { formatCount, printable } from "../view/text.ts";
import type { ApiError, Status } from "./api.ts";

/** Lines above the graph; the most urgent first. */
export class Notices {
  readonly root = element("div", { class: "notices" });
  private readonly alert = element("div", { role: "alert" });
  private readonly notes = element("div", { role: "status" });
  private shown = "";

  constructor() {
    this.root.append(this.alert, this.notes);
  }

  /** Shows a failure, or takes it away. `since` = when it began, as text. */
  fail(error: ApiError | null, since: string, onRetry: () => void): void {
    const key = error ? `${error.failure} ${error.message} ${since}` : "";
    if (key === this.shown) return;
    this.shown = key;
    if (!error) this.alert.replaceChildren();
    else if (error.failure === "token") this.alert.replaceChildren(tokenForm(error.message));
    else {
      const again = error.failure === "refused" ? "" : ` Trying again since ${since}; what you see is from before.`;
      this.alert.replaceChildren(element("p", { class: "note failure" }, `${printable(error.message)}${again} `, button("Try now", { class: "quiet" }, onRetry)));
    }
  }

  /** What makes the answer incomplete. */
  note(status: Status | null, skipped: number, profileNotes: string[]): void {
    const texts: string[] = [];
    if (skipped > 0) texts.push(`${formatCount(skipped)} damaged ${skipped === 1 ? "piece" : "pieces"} of the history in this range ${skipped === 1 ? "was" : "were"} left out.`);
    if (status && status.lost > 0) texts.push(`${formatCount(status.lost)} samples were lost since the start.`);
    texts.push(...[...(status?.notes ?? []), ...profileNotes].slice(0, 20).map((text) => printable(text.slice(0, 500))));
    const same = [...this.notes.children].map(({ textContent }) => textContent).join("\n") === texts.join("\n");
    if (!same) this.notes.replaceChildren(...texts.map((text) => element("p", { class: "note" }, text)));
  }
}

/** Asks for the token; it goes to the server as `/?token=…`, which answers with a cookie and leads back here. */
function tokenForm(message: string): HTMLElement {
  const input = element("input", { type: "password", id: "everflame-token", autocomplete: "off", "aria-label": "Token", placeholder: "Token" });
  const send = () => input.value !== "" && location.assign(`/?token=${encodeURIComponent(input.value)}${location.hash}`);
  input.addEventListener("keydown", (event) => event.key === "Enter" && send());
  return element(
    "div",
    { class: "note failure token" },
    element("p", {}, `${printable(message)} Everflame printed it when it started, or it is in the file that was given with --page-token-file.`),
    element("div", { class: "token-row" }, input, button("Open", { class: "primary" }, send)),
  );
}

/** In the place of the graph where a range has no samples. */
export function makeEmpty(what: string, actions: [label: string, act: () => void][]): HTMLElement {
  return element(
    "div",
    { class: "empty", role: "status" },
    element("p", { class: "empty-title" }, "No samples here"),
    element("p", {}, what),
    element("div", { class: "empty-actions" }, ...actions.map(([label, act]) => button(label, {}, act))),
  );
}
