/**
 * What the list can hold: functions, source files, binaries (executables and libraries), why stacks end early, and values of labels.
 *
 * Constraint: a listing is made when it is looked at; its sums are one walk over the tree.
 */
import type { Profile } from "../data/format.ts";
import { change } from "../model/change.ts";
import { functionTotals, keyTotals, reasonTotals, type Totals } from "../model/totals.ts";
import type { ViewTree } from "../model/tree.ts";
import type { Labels } from "./labels.ts";
import { changePaint, paintOf, type Paint, type Palette } from "./palette.ts";
import { printable } from "./text.ts";

/** Sums of entries; `self` is `null` where only whole values are known. */
export interface ListTotals {
  self: Float64Array | null;
  total: Float64Array;
}

/** Entries 0 to `count` - 1 with what the table shows of them. Texts are ready to be shown. */
export interface Listing {
  /** Head of the column of names. */
  title: string;
  /** One, and several of them. */
  nouns: [string, string];
  /** What the list leaves out; empty if nothing. */
  remark: string;
  count: number;
  totals: ListTotals;
  /** In a comparison the other side. */
  baseline: ListTotals | null;
  /** What a whole bar is. */
  whole: number;
  baselineWhole: number;
  unit: string;
  /** What a click does. */
  hint: string;
  name(index: number): string;
  where(index: number): string;
  fill(index: number): string | null;
  changePaint(index: number, measured: "self" | "total"): Paint;
  /** `null`: a click does nothing. */
  pick: ((index: number) => void) | null;
  /** A filter that an entry can make besides what a click on its name does; `null`: none. */
  only(index: number): { title: string; act: () => void } | null;
}

const NO_FILTER = () => null;
/** More paths of one name than this are no filter: it takes one for each. */
const MOST_PATHS = 32;

/** The listings that a profile gives by itself. No key may be the name of a label: `executable` is one, the process's own. */
export const PROFILE_LISTINGS: [key: string, label: string][] = [
  ["function", "Functions"],
  ["file", "Source files"],
  ["mapping", "Binaries"],
  ["end", "Why stacks end"],
];

/** What the reasons mean (`rows.reason`); one that is not listed here is shown as it is. */
const REASONS: Record<string, string> = {
  truncated: "Deeper than the profiler follows",
  no_process: "The process was not known yet",
  no_mapping: "Code in no known mapping",
  no_rows: "Code without unwind information",
  unsupported_rule: "An unwind rule that is not supported",
  bad_read: "The stack could not be read",
  not_up: "The next frame was not above this one",
  null_return: "Return address of zero",
  no_register: "A register that the rule needs was not known",
  compat_32bit: "A 32-bit program",
  no_registers: "User registers could not be had",
  frame_pointer_zero: "Frame pointer of zero: the outermost frame, by the ABI",
  no_table: "Unwind tables were not loaded yet",
  aborted: "The walk could not continue in the kernel",
};

/** What all listings of a profile are made from. */
export interface Source {
  profile: Profile;
  tree: ViewTree;
  labels: Labels;
  palette: Palette;
  type: number;
  shows(owner: number): boolean;
  onFunction(functionIndex: number): void;
  /** A click on a file or executable: a text for the search. */
  onSearch(text: string): void;
  /** Binaries that processes were started from, not libraries: paths by the file's name, which is all that a profile has. */
  executables: ReadonlyMap<string, string[]>;
  onExecutables(paths: string[]): void;
}

/** Makes a listing of a profile; what is no key of `PROFILE_LISTINGS` gives functions. */
export function listingOf(key: string, source: Source): Listing {
  switch (key) {
    case "file":
      return texts(source, "file", "Source file", ["source file", "source files"], "[file not known]");
    case "mapping":
      return texts(source, "mapping", "Binary", ["binary", "binaries"], "[binary not known]");
    case "end":
      return reasons(source);
    default:
      return functions(source);
  }
}

function functions(source: Source): Listing {
  const { profile, labels, palette } = source;
  const kindOf = (index: number) => profile.kinds[profile.functions.kind[index]];
  return {
    ...sums(source, (type) => functionTotals(profile, source.tree, type)),
    title: "Function",
    nouns: ["function", "functions"],
    remark: "",
    count: profile.functions.count,
    hint: "Show callers and callees",
    name: (index) => labels.functionName(index),
    where: (index) => [labels.mapping(index), labels.place(index)].filter((text) => text !== "").join(" · "),
    fill: (index) => paintOf(palette, kindOf(index), false).fill,
    pick: (index) => source.onFunction(index),
    only: NO_FILTER,
  };
}

function texts(source: Source, column: "file" | "mapping", title: string, nouns: [string, string], unknown: string): Listing {
  const { profile } = source;
  const keyOf = profile.functions[column];
  const raw = (index: number) => profile.strings[index];
  return {
    ...sums(source, (type) => keyTotals(profile, source.tree, keyOf, profile.strings.length, type)),
    title,
    nouns,
    remark: "",
    count: profile.strings.length,
    hint: "Find in the graph",
    name: (index) => (index === 0 ? unknown : printable(raw(index))),
    where: () => "",
    fill: () => null,
    pick: (index) => index !== 0 && source.onSearch(`${column}:${raw(index)}`),
    only: (index) => {
      const paths = column === "mapping" ? source.executables.get(raw(index)) : undefined;
      return paths && paths.length <= MOST_PATHS ? { title: `Show only processes of ${paths.map(printable).join(", ")}`, act: () => source.onExecutables(paths) } : null;
    },
  };
}

function reasons(source: Source): Listing {
  const { profile } = source;
  const known = new Set<number>([0, ...profile.rows.reason]);
  const entries = [...known].sort((a, b) => a - b);
  const totals = (type: number) => {
    const found = reasonTotals(profile, type, source.shows);
    const values = Float64Array.from(entries, (reason) => found.get(reason) ?? 0);
    return { self: values, total: values };
  };
  const made = sums(source, totals);
  const text = (index: number) => profile.strings[entries[index]];
  return {
    ...made,
    totals: { self: null, total: made.totals.total },
    baseline: made.baseline && { self: null, total: made.baseline.total },
    title: "Why stacks end",
    nouns: ["kind of end", "kinds of ends"],
    remark: "",
    count: entries.length,
    hint: "",
    name: (index) => (entries[index] === 0 ? "Complete" : Object.hasOwn(REASONS, text(index)) ? REASONS[text(index)] : printable(text(index))),
    where: (index) => (entries[index] === 0 ? "to the entry point, or not said" : printable(text(index))),
    fill: () => null,
    pick: null,
    only: NO_FILTER,
  };
}

type Sums = Pick<Listing, "totals" | "baseline" | "whole" | "baselineWhole" | "unit" | "changePaint">;

function sums(source: Source, totalsIn: (type: number) => Totals): Sums {
  const { profile, tree, palette, type } = source;
  const { comparison } = profile;
  if (!comparison) {
    return { totals: totalsIn(type), baseline: null, whole: tree.total[0], baselineWhole: 0, unit: profile.sampleTypes[type].unit, changePaint: () => palette.change[0] };
  }
  const samples = comparison.currentSamples < 0 ? null : { current: totalsIn(comparison.currentSamples), baseline: totalsIn(comparison.baselineSamples) };
  return compared(totalsIn(comparison.current), totalsIn(comparison.baseline), samples, palette, {
    whole: tree.values(comparison.current).total[0],
    baselineWhole: tree.values(comparison.baseline).total[0],
    unit: profile.sampleTypes[comparison.both].unit,
  });
}

function compared(
  totals: ListTotals,
  baseline: ListTotals,
  samples: { current: ListTotals; baseline: ListTotals } | null,
  palette: Palette,
  rest: Pick<Listing, "whole" | "baselineWhole" | "unit">,
): Sums {
  const at = (side: ListTotals | undefined, index: number, measured: "self" | "total") => (side ? (measured === "self" ? (side.self ?? side.total) : side.total)[index] : -1);
  const paint = (index: number, measured: "self" | "total") => {
    const { strength } = change(at(totals, index, measured), at(baseline, index, measured), at(samples?.current, index, measured), at(samples?.baseline, index, measured));
    return changePaint(palette, strength);
  };
  return { ...rest, totals, baseline, changePaint: paint };
}

/** CPU time by values of a label, as the server sums them up. `scale` brings both sides to one measure. */
export interface LabelValues {
  label: string;
  current: Map<string, number>;
  baseline: Map<string, number> | null;
  unit: string;
  whole: number;
  baselineWhole: number;
  /** What the server left out. */
  remark: string;
}

/** A listing of values of a label. */
export function labelListing(values: LabelValues, palette: Palette, onPick: (value: string) => void): Listing {
  const names = [...new Set([...values.current.keys(), ...(values.baseline?.keys() ?? [])])];
  const column = (side: Map<string, number>) => ({ self: null, total: Float64Array.from(names, (name) => side.get(name) ?? 0) });
  const rest = { whole: values.whole, baselineWhole: values.baselineWhole, unit: values.unit };
  const totals = column(values.current);
  const made: Sums = values.baseline
    ? compared(totals, column(values.baseline), null, palette, rest)
    : { ...rest, totals, baseline: null, changePaint: () => palette.change[0] };
  return {
    ...made,
    title: values.label.charAt(0).toUpperCase() + values.label.slice(1),
    nouns: ["value", "values"],
    remark: values.remark,
    count: names.length,
    hint: `Show only this ${values.label}`,
    name: (index) => (names[index] === "" ? `[no ${values.label}]` : printable(names[index])),
    where: () => "",
    fill: () => null,
    pick: (index) => onPick(names[index]),
    only: NO_FILTER,
  };
}
