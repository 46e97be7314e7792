/**
 * Numbers and names for people.
 *
 * Constraint: names come from other people's programs. Control and direction characters are shown as symbols, never passed on.
 */

/** `12 345`, as the profiler itself writes it, with spaces at which no line is broken. */
export function formatCount(value: number): string {
  return grouped(value, 0);
}

function grouped(value: number, digits: number): string {
  const text = value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return text.replaceAll(",", "\u00a0");
}

/** `1.23 s`, `12 345`, `1.50 MiB`: a value in its unit. */
export function formatValue(value: number, unit: string): string {
  switch (unit) {
    case "nanoseconds":
      return scaled(value, 1000, [" ns", " µs", " ms", " s"]);
    case "microseconds":
      return scaled(value * 1e3, 1000, [" ns", " µs", " ms", " s"]);
    case "bytes":
      return scaled(value, 1024, [" B", " KiB", " MiB", " GiB", " TiB"]);
    case "cores":
      return `${formatCores(value)} ${value === 1 ? "core" : "cores"}`;
    case "share":
      return formatShare(value, 1);
    case "count":
    case "":
      return formatCount(value);
    default:
      return `${formatCount(value)} ${unit}`;
  }
}

/** Three digits that count, down to `0.0001`, without the unit. */
export function formatCores(value: number): string {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 0.0001) return "< 0.0001";
  return value.toFixed(Math.max(0, Math.min(4, 2 - Math.floor(Math.log10(size)))));
}

/** A difference with its sign: `+0.12 cores`, `−3.1 points` (of a share). */
export function formatChange(value: number, unit: string): string {
  if (value === 0) return "±0";
  const size = Math.abs(value);
  const text = unit === "share" ? `${(size * 100).toFixed(size >= 0.1 ? 1 : 2)} points` : formatValue(size, unit);
  return `${value > 0 ? "+" : "−"}${text}`;
}

/** How much more or less in relation: `+24 %`, `new`, `gone`. */
export function formatRatio(current: number, baseline: number): string {
  if (!(baseline > 0)) return current > 0 ? "new" : "";
  if (!(current > 0)) return "gone";
  const percent = (current / baseline - 1) * 100;
  if (Math.abs(percent) < 0.05) return "";
  if (percent >= 1000) return `× ${formatCount(Math.round(current / baseline))}`;
  return `${percent < 0 ? "−" : "+"}${Math.abs(percent).toFixed(Math.abs(percent) >= 10 ? 0 : 1)} %`;
}

function scaled(value: number, step: number, units: string[]): string {
  let index = 0;
  while (value >= step && index < units.length - 1) {
    value /= step;
    index++;
  }
  const digits = index === 0 || value >= 1000 ? 0 : value >= 100 ? 1 : 2;
  return grouped(value, digits) + units[index];
}

/** `12.3 %`, with more digits for small shares and `0 %` only for nothing. */
export function formatShare(part: number, whole: number): string {
  if (!(whole > 0) || !(part > 0)) return "0 %";
  const percent = (part / whole) * 100;
  if (percent < 0.01) return "< 0.01 %";
  return `${percent.toFixed(percent >= 99.95 ? 0 : percent >= 1 ? 1 : 2)} %`;
}

/** Makes control characters, line breaks and direction overrides visible. */
export function printable(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g, (character) => {
    const code = character.charCodeAt(0);
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    return code === 0x7f ? "\u2421" : "\ufffd";
  });
}

/** The last part of a name, for boxes in which the whole one has no room: `std::vec::Vec<T>::push` → `push`. */
export function shortName(name: string): string {
  if (name.startsWith("[")) return name;
  // A turbofish at the end, `query::<K, V>`, leaves its colons.
  const bare = dropBrackets(name).trim().replace(/(?:::)+$/, "");
  const withoutPath = bare.slice(bare.lastIndexOf("/") + 1);
  const parts = withoutPath.split("::").filter((part) => part !== "");
  let first = parts.length - 1;
  // `{closure#1}` alone says nothing: whose it is belongs to it.
  while (first > 0 && parts[first]?.startsWith("{")) first--;
  const short = parts.slice(Math.max(first, 0)).join("::");
  return short === "" ? name : short;
}

/** Drops `<…>` with what it holds, except where it is the whole start (`<T as Trait>::call` → `::call`), and the arguments at the end. */
function dropBrackets(name: string): string {
  let depth = 0;
  let kept = "";
  for (let index = 0; index < name.length; index++) {
    const character = name[index];
    const arrow = character === ">" && (name[index - 1] === "-" || name[index - 1] === "=");
    const operator = /operator[<>=-]*$/.test(kept) && depth === 0;
    if (character === "<" && !operator) depth++;
    else if (character === ">" && depth > 0 && !arrow) depth--;
    else if (depth === 0) kept += character;
  }
  // Go's receivers, `pkg.(*Type).Method`, are no arguments: only a bracket after a letter that ends the name is.
  return depth > 0 ? name : kept.replace(/(\w)\([^()]*\)(?: const)?$/, "$1");
}
