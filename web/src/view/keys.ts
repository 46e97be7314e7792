/** Keys of the whole page: not while somebody types, and not while a dialog is open. */

/** Calls `actionOf` for plain keys, and `escape` for Escape. */
export function listenForKeys(signal: AbortSignal, dialogOpen: () => boolean, escape: () => void, actionOf: (key: string) => (() => void) | null): void {
  document.addEventListener(
    "keydown",
    (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || dialogOpen() || event.defaultPrevented) return;
      if (event.key === "Escape") {
        escape();
        return;
      }
      const target = event.target;
      if ((target instanceof HTMLInputElement && target.type !== "radio") || target instanceof HTMLSelectElement) return;
      const action = actionOf(event.key);
      if (!action) return;
      event.preventDefault();
      action();
    },
    { signal },
  );
}
