/**
 * What a person has set on the live page, and its form in the address (after `#`), so that a view can be sent and gone back to.
 *
 * Constraint: an address may come from anybody. What cannot be read is left out, never an error; lengths and numbers are bounded.
 */
import type { Grouping } from "../model/build.ts";
import type { Measure } from "../model/compare.ts";
import { FUNCTION_KEY_DIGITS } from "../model/paths.ts";
import { FIRST_STATE, type Picture, type ViewState } from "../view/view_state.ts";

/** From (included) to (not included), in ms since 1970. */
export interface Range {
  from: number;
  to: number;
}

/** What the time line shows: the last so many ms, or a fixed range. */
export type Period = { last: number } | Range;

/** How a value is compared: equal, begins with, contains. */
export type Operator = "=" | "^=" | "~=";

/** A filter on a label. */
export interface Condition {
  label: string;
  operator: Operator;
  value: string;
}

/** When the baseline was: so many ms before the current range (0 = at the same time), just before it, or at a fixed time. */
export type BaselineTime = { earlier: number } | "previous" | Range;

/** The other side of a comparison. */
export interface Baseline {
  time: BaselineTime;
  where: Condition[];
}

export interface LiveState {
  period: Period;
  /** A part of the period; `null` = all of it. */
  selected: Range | null;
  /** By which label the time line is split. */
  by: string;
  where: Condition[];
  baseline: Baseline | null;
  measure: Measure;
  view: ViewState;
}

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

export const FIRST_LIVE_STATE: LiveState = {
  period: { last: 5 * MINUTE },
  selected: null,
  by: "process",
  where: [],
  baseline: null,
  measure: "rate",
  view: FIRST_STATE,
};

/** As many as the server takes. */
const MAX_CONDITIONS = 32;
/** Characters of one text; the server takes heads of 16 KiB. */
const MAX_TEXT = 4096;
/** The last ms that `Date` knows. */
const MAX_TIME = 8.64e15;

export function isFollowing(state: LiveState): boolean {
  return "last" in state.period;
}

/** `pod^=checkout`. */
export function conditionText({ label, operator, value }: Condition): string {
  return `${label}${operator}${value}`;
}

/** Reads `pod^=checkout`; `null` if it is none. */
export function parseCondition(text: string): Condition | null {
  const found = /^([a-z_]{1,64})(\^=|~=|=)([^]*)$/.exec(text.slice(0, MAX_TEXT));
  return found ? { label: found[1], operator: found[2] as Operator, value: found[3] } : null;
}

function rangeText({ from, to }: Range): string {
  return `${Math.round(from)}-${Math.round(to)}`;
}

function parseRange(text: string | null): Range | null {
  const found = /^(\d{1,16})-(\d{1,16})$/.exec(text ?? "");
  if (!found) return null;
  const [from, to] = [Number(found[1]), Number(found[2])];
  return from < to && to <= MAX_TIME ? { from, to } : null;
}

function parseNumber(text: string | null | undefined): number | null {
  return /^\d{1,16}$/.test(text ?? "") && Number(text) <= MAX_TIME ? Number(text) : null;
}

/** The address of a state, without `#`. What is as at the start is left out. */
export function formatState(state: LiveState): string {
  const words = new URLSearchParams();
  const { period, selected, baseline, view } = state;
  if ("last" in period) words.set("last", String(period.last));
  else words.set("range", rangeText(period));
  if (selected) words.set("selected", rangeText(selected));
  if (state.by !== FIRST_LIVE_STATE.by) words.set("by", state.by);
  for (const condition of state.where) words.append("where", conditionText(condition));
  if (baseline) {
    const { time } = baseline;
    words.set("baseline", time === "previous" ? time : "earlier" in time ? `earlier-${time.earlier}` : rangeText(time));
    for (const condition of baseline.where) words.append("baseline-where", conditionText(condition));
    if (state.measure !== "rate") words.set("measure", state.measure);
  }
  if (view.picture !== FIRST_STATE.picture) words.set("view", view.picture);
  if (view.list !== FIRST_STATE.list) words.set("list", view.list);
  if (view.grouping !== FIRST_STATE.grouping) words.set("group", view.grouping);
  if (view.search !== "") words.set("search", view.search.slice(0, MAX_TEXT));
  if (view.regex) words.set("regex", "1");
  if (view.zoom !== "") words.set("zoom", view.zoom);
  if (view.focus !== "") words.set("function", view.focus);
  return words.toString();
}

/** Reads an address's part after `#`. */
export function parseState(hash: string): LiveState {
  const words = new URLSearchParams(hash.replace(/^#/, ""));
  const oneOf = <Name extends string>(key: string, names: readonly Name[], otherwise: Name): Name => names.find((name) => name === words.get(key)) ?? otherwise;
  const text = (key: string) => (words.get(key) ?? "").slice(0, MAX_TEXT);
  const name = (key: string, otherwise: string) => (/^[a-z_]{1,64}$/.test(words.get(key) ?? "") ? text(key) : otherwise);
  const conditions = (key: string) => words.getAll(key).slice(0, MAX_CONDITIONS).map(parseCondition).filter((each) => each !== null);
  const range = parseRange(words.get("range"));
  const last = parseNumber(words.get("last"));
  return {
    period: range ?? (last ? { last } : FIRST_LIVE_STATE.period),
    selected: parseRange(words.get("selected")),
    by: name("by", FIRST_LIVE_STATE.by),
    where: conditions("where"),
    baseline: parseBaseline(words.get("baseline"), conditions("baseline-where")),
    measure: oneOf<Measure>("measure", ["rate", "share"], "rate"),
    view: {
      picture: oneOf<Picture>("view", ["icicle", "flame", "callers"], FIRST_STATE.picture),
      search: text("search"),
      regex: words.get("regex") === "1",
      zoom: text("zoom").slice(0, 16),
      focus: text("function").slice(0, FUNCTION_KEY_DIGITS),
      grouping: oneOf<Grouping>("group", ["none", "process", "thread"], FIRST_STATE.grouping),
      list: name("list", FIRST_STATE.list),
    },
  };
}

function parseBaseline(text: string | null, where: Condition[]): Baseline | null {
  if (text === "previous") return { time: "previous", where };
  const earlier = parseNumber(text?.startsWith("earlier-") ? text.slice("earlier-".length) : null);
  if (earlier !== null) return { time: { earlier }, where };
  const range = parseRange(text);
  return range ? { time: range, where } : null;
}

/** The times that a state stands for when the history ends at `end`. */
export interface Times {
  /** What the time line shows. */
  period: Range;
  /** What the graph shows. */
  current: Range;
  baseline: Range | null;
}

/** The time line grows up to this many times its period to hold what is compared; beyond that all would be slivers. */
const WIDEST_VIEW = 15;

export function timesOf(state: LiveState, end: number): Times {
  const period = "last" in state.period ? { from: Math.max(0, end - state.period.last), to: end } : state.period;
  const current = state.selected ?? period;
  const time = state.baseline?.time ?? null;
  const shifted = (by: number) => ({ from: Math.max(0, current.from - by), to: Math.max(1, current.to - by) });
  const baseline = time === null ? null : time === "previous" ? shifted(current.to - current.from) : "earlier" in time ? shifted(time.earlier) : time;
  const all = [period, current, baseline].filter((each) => each !== null);
  const whole = { from: Math.min(...all.map(({ from }) => from)), to: Math.max(...all.map(({ to }) => to)) };
  const near = whole.to - whole.from <= WIDEST_VIEW * (period.to - period.from);
  return { period: near ? whole : period, current, baseline };
}

/** The state with a condition more, on both sides of a comparison if they had the same; a second of the same is none. */
export function withCondition(state: LiveState, condition: Condition): LiveState {
  const add = (where: Condition[]) => (where.some((each) => conditionText(each) === conditionText(condition)) || where.length >= MAX_CONDITIONS ? where : [...where, condition]);
  const { baseline } = state;
  const same = baseline && sameConditions(state.where, baseline.where);
  return { ...state, where: add(state.where), baseline: same ? { ...baseline, where: add(baseline.where) } : baseline };
}

/**
 * The state with these values of a label alone, on both sides of a comparison if they had the same filters; the same state where that
 * is so already, or where no more filters fit.
 */
export function withOnly(state: LiveState, label: string, values: string[]): LiveState {
  const wanted = values.map((value): Condition => ({ label, operator: "=", value }));
  const only = (where: Condition[]) => {
    const [others, there] = [where.filter((each) => each.label !== label), where.filter((each) => each.label === label)];
    // Filters that stay where they are give the same address: nothing to go back to.
    return sameConditions(there, wanted) || others.length + wanted.length > MAX_CONDITIONS ? where : [...others, ...wanted];
  };
  const { baseline } = state;
  const where = only(state.where);
  if (where === state.where) return state;
  const same = baseline && sameConditions(state.where, baseline.where);
  return { ...state, where, baseline: same ? { ...baseline, where: only(baseline.where) } : baseline };
}

export function sameConditions(a: Condition[], b: Condition[]): boolean {
  const text = (where: Condition[]) => where.map(conditionText).sort().join("\n");
  return text(a) === text(b);
}
