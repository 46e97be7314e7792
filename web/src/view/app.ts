/** The self-contained file's page: header with the profile's facts, the profile, help. The live page has its own (live/page.ts). */
import type { Profile } from "../data/format.ts";
import { makeHeader, makeHelp } from "./chrome.ts";
import { button } from "./dom.ts";
import { listenForKeys } from "./keys.ts";
import { ProfileView } from "./profile_view.ts";
import { ThemeSwitch } from "./theme.ts";

/** What `mount` gives back. */
export interface Page {
  /** Takes everything off the element again. */
  destroy(): void;
}

/** Shows a profile in an element. */
export function mount(root: HTMLElement, profile: Profile): Page {
  const listeners = new AbortController();
  const theme = new ThemeSwitch(listeners.signal, (chosen) => view.setTheme(chosen));
  const view = new ProfileView({
    theme: theme.current,
    owners: true,
    labels: [],
    onState: () => undefined,
    valuesOf: async () => null,
    onLabelValues: () => undefined,
  });
  const help = makeHelp();
  const helpButton = button("Help", { class: "quiet", title: "Keys and reading (?)" }, () => help.showModal());
  root.classList.add("everflame");
  root.replaceChildren(makeHeader(profile, [theme.button, helpButton]), view.main, view.footer, view.tooltip.root, help);
  listenForKeys(listeners.signal, () => help.open, () => view.escape(), (key) => (key === "?" ? () => help.showModal() : view.actionOf(key)));
  // The page's final shape comes before its first picture, so that the picture is made once.
  view.attached();
  view.show(profile);
  return {
    destroy: () => {
      listeners.abort();
      view.destroy();
      root.replaceChildren();
    },
  };
}
