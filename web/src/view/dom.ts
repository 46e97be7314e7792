/** Making elements. Text goes in as text nodes only: nothing here parses HTML. */

type Child = Node | string | null;

/** Makes an element with attributes (`null` leaves one out) and children. */
export function element<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Record<string, string | boolean | null> = {},
  ...children: Child[]
): HTMLElementTagNameMap[Tag] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === false) continue;
    made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child): child is Node | string => child !== null));
  return made;
}

/** A push button. */
export function button(label: string, attributes: Record<string, string | boolean | null>, onClick: () => void): HTMLButtonElement {
  const made = element("button", { type: "button", ...attributes }, label);
  made.addEventListener("click", onClick);
  return made;
}

/** Fills a `<select>`; values are the positions of the options, minus `offset`. */
export function fillSelect(select: HTMLSelectElement, options: { value: string; label: string }[], chosen: string): void {
  select.replaceChildren(...options.map(({ value, label }) => element("option", { value, selected: value === chosen }, label)));
  select.value = chosen;
}
