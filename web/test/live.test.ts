import assert from "node:assert/strict";
import { test } from "node:test";
import { nextDelay } from "../src/live/refresh.ts";
import { makeStack, roundUp, Slots } from "../src/live/stack.ts";
import { DAY, FIRST_LIVE_STATE, formatState, HOUR, MINUTE, parseCondition, parseState, timesOf, withCondition, withOnly, type LiveState } from "../src/live/state.ts";
import { durationText, rangeText, ticks, tickText, timeText } from "../src/live/times.ts";
import { randomNumbers } from "./generate.ts";

process.env.TZ = "UTC";

const state = (change: Partial<LiveState>): LiveState => ({ ...FIRST_LIVE_STATE, ...change });

test("a state comes back from its address as it was", () => {
  const states: LiveState[] = [
    FIRST_LIVE_STATE,
    state({ period: { last: HOUR }, selected: { from: 5, to: 9 }, by: "pod" }),
    state({ period: { from: 1_700_000_000_000, to: 1_700_000_060_000 } }),
    state({ where: [{ label: "pod", operator: "=", value: "a=b&c#d%" }, { label: "process", operator: "^=", value: "<script>" }, { label: "node", operator: "~=", value: "ü\u202e\n" }, { label: "service", operator: "=", value: "" }] }),
    state({ baseline: { time: "previous", where: [] } }),
    state({ baseline: { time: { earlier: DAY }, where: [{ label: "pod", operator: "=", value: "x" }] }, measure: "share" }),
    state({ baseline: { time: { from: 3, to: 4 }, where: [] } }),
    state({ view: { picture: "callers", search: "^a|b c", regex: true, zoom: "0123456789abcdef", focus: "fedcba98765432100123456789ab", grouping: "thread", list: "pod" } }),
  ];
  for (const each of states) assert.deepEqual(parseState(`#${formatState(each)}`), each);
  assert.equal(formatState(FIRST_LIVE_STATE), "last=300000");
});

test("an address that nobody wrote like this gives what can be read of it", () => {
  for (const bad of ["", "#", "#last=0", "#last=-5", "#last=1e99", "#range=9-5", "#range=5-5", "#range=a-b", "#selected=1-99999999999999999", "#by=__proto__!", "#view=nothing&group=x&list=<b>", "#where=nothing", "#baseline=earlier-x", "#%E0%A4%A"]) {
    assert.deepEqual(parseState(bad), FIRST_LIVE_STATE, bad);
  }
  const many = parseState(`#${"where=pod%3Dx&".repeat(500)}search=${"a".repeat(10_000)}`);
  assert.equal(many.where.length, 32);
  assert.equal(many.view.search.length, 4096);
});

test("conditions are read as docs/http.md writes them", () => {
  assert.deepEqual(parseCondition("pod=checkout-1"), { label: "pod", operator: "=", value: "checkout-1" });
  assert.deepEqual(parseCondition("pod^=check=out"), { label: "pod", operator: "^=", value: "check=out" });
  assert.deepEqual(parseCondition("pod~="), { label: "pod", operator: "~=", value: "" });
  for (const bad of ["pod", "=x", "POD=x", ""]) assert.equal(parseCondition(bad), null);
});

test("the baseline's time follows the current range; what is near comes into the time line", () => {
  const end = 100 * HOUR;
  const times = (change: Partial<LiveState>) => timesOf(state(change), end);
  assert.deepEqual(times({}), { period: { from: end - 5 * MINUTE, to: end }, current: { from: end - 5 * MINUTE, to: end }, baseline: null });
  const previous = times({ baseline: { time: "previous", where: [] } });
  assert.deepEqual(previous.baseline, { from: end - 10 * MINUTE, to: end - 5 * MINUTE });
  assert.deepEqual(previous.period, { from: end - 10 * MINUTE, to: end });
  const day = times({ baseline: { time: { earlier: DAY }, where: [] } });
  assert.deepEqual(day.baseline, { from: end - DAY - 5 * MINUTE, to: end - DAY });
  assert.deepEqual(day.period, { from: end - 5 * MINUTE, to: end }, "a day away is too far");
  const selected = { from: end - 2 * MINUTE, to: end - MINUTE };
  assert.deepEqual(times({ selected, baseline: { time: { earlier: 0 }, where: [] } }).baseline, selected);
});

test("a new filter goes to both sides of a comparison if they had the same", () => {
  const x = { label: "pod", operator: "=", value: "x" } as const;
  const y = { label: "pod", operator: "=", value: "y" } as const;
  assert.deepEqual(withCondition(state({}), x).where, [x]);
  assert.deepEqual(withCondition(state({ where: [x] }), x).where, [x]);
  const both = withCondition(state({ where: [x], baseline: { time: "previous", where: [x] } }), y);
  assert.deepEqual([both.where, both.baseline?.where], [[x, y], [x, y]]);
  const one = withCondition(state({ where: [x], baseline: { time: "previous", where: [y] } }), { ...x, value: "z" });
  assert.deepEqual([one.where.length, one.baseline?.where], [2, [y]]);
});

test("a value alone takes the place of all filters on its label, and nothing that is so already is a step", () => {
  const pod = (operator: "=" | "^=", value: string) => ({ label: "pod", operator, value }) as const;
  const shop = { label: "namespace", operator: "=", value: "shop" } as const;
  const alone = (where: LiveState["where"], values: string[]) => withOnly(state({ where }), "pod", values).where;
  assert.deepEqual(alone([], ["x"]), [pod("=", "x")]);
  assert.deepEqual(alone([pod("^=", "x"), shop], ["x-1"]), [shop, pod("=", "x-1")]);
  assert.deepEqual(alone([pod("=", "x"), pod("=", "y"), shop], ["y"]), [shop, pod("=", "y")]);
  assert.deepEqual(alone([shop], ["x", "y"]), [shop, pod("=", "x"), pod("=", "y")]);
  assert.deepEqual(alone([shop], [""]), [shop, pod("=", "")]);

  const there = state({ where: [pod("=", "y"), shop, pod("=", "x")] });
  assert.equal(withOnly(there, "pod", ["x", "y"]), there);
  const full = state({ where: Array.from({ length: 31 }, (_, index) => ({ ...shop, value: String(index) })) });
  assert.equal(withOnly(full, "pod", ["x"]).where.length, 32);
  assert.equal(withOnly(full, "pod", ["x", "y"]), full, "the server takes no more");

  const both = withOnly(state({ where: [pod("^=", "x"), shop], baseline: { time: "previous", where: [shop, pod("^=", "x")] } }), "pod", ["x-1"]);
  assert.deepEqual([both.where, both.baseline?.where], [[shop, pod("=", "x-1")], [shop, pod("=", "x-1")]]);
  const one = withOnly(state({ where: [pod("=", "x")], baseline: { time: "previous", where: [pod("=", "y")] } }), "pod", ["z"]);
  assert.deepEqual([one.where, one.baseline?.where], [[pod("=", "z")], [pod("=", "y")]]);
});

test("a stack's steps are cores of the time that lies in the range", () => {
  const answer = { from: 0, step: 1000, series: [{ value: "a", cpu: [1e9, 5e8, 2.5e8] }, { value: "b", cpu: [0, 1e9, 0] }], other: [0, 0, 0], skipped: 0 };
  const stack = makeStack(answer, { from: 0, to: 2500 }, new Slots(8));
  assert.deepEqual(stack.layers.map(({ value, cores, rest }) => ({ value, cores, rest })), [{ value: "a", cores: [1, 0.5, 0.5], rest: false }, { value: "b", cores: [0, 1, 0], rest: false }]);
  assert.deepEqual(stack.total, [1, 1.5, 0.5]);
  const rest = makeStack({ ...answer, other: [1e9, 0, 0] }, { from: 0, to: 3000 }, new Slots(8));
  assert.deepEqual(rest.layers.map((layer) => [layer.rest, layer.slot]), [[false, 0], [false, 1], [true, -1]]);
});

test("a value keeps its colour while others come and go", () => {
  const slots = new Slots(3);
  assert.deepEqual(slots.assign(["a", "b", "c"]), [0, 1, 2]);
  assert.deepEqual(slots.assign(["c", "a"]), [2, 0]);
  assert.deepEqual(slots.assign(["d", "c", "__proto__"]), [0, 2, 1]);
});

test("the axis ends at a round number not far above the highest", () => {
  const random = randomNumbers(5);
  for (let round = 0; round < 500; round++) {
    const value = 10 ** (random() * 8 - 4);
    const top = roundUp(value);
    assert.ok(top >= value * 0.999 && top <= value * 1.51, `${value} → ${top}`);
  }
  assert.deepEqual([0, 0.45, 1, 3.2, 97].map(roundUp), [1, 0.5, 1, 4, 100]);
});

test("questions come as often as the range is short, and at most a tenth of the time is spent on answers", () => {
  const table: [period: number, took: number, failures: number, delay: number][] = [
    [5 * MINUTE, 20, 0, 5000], [15 * MINUTE, 20, 0, 15_000], [HOUR, 20, 0, 60_000], [DAY, 20, 0, 60_000], [5 * MINUTE, 2000, 0, 20_000], [DAY, 9000, 0, 90_000],
    [5 * MINUTE, 20, 1, 1000], [5 * MINUTE, 20, 4, 8000], [5 * MINUTE, 20, 900, 30_000],
    [5 * MINUTE, 3000, 1, 30_000], [DAY, 10_000, 3, 100_000], [DAY, 30_000, 3, 300_000], [DAY, 600_000, 1, 300_000],
  ];
  for (const [period, took, failures, delay] of table) assert.equal(nextDelay(period, took, failures, false), delay);
});

test("as long as there is no history questions come each second, and failures as seldom as ever", () => {
  const table: [period: number, took: number, failures: number, delay: number][] = [[5 * MINUTE, 20, 0, 1000], [DAY, 20, 0, 1000], [5 * MINUTE, 3000, 0, 3000], [5 * MINUTE, 20, 4, 8000]];
  for (const [period, took, failures, delay] of table) assert.equal(nextDelay(period, took, failures, true), delay);
});

test("times are short where they can be", () => {
  const now = Date.UTC(2026, 2, 2, 14, 0, 0);
  assert.equal(timeText(now - 90_000, now), "13:58:30");
  assert.equal(timeText(now - DAY, now), "1 Mar 14:00:00");
  assert.equal(rangeText({ from: now - HOUR, to: now }, now), "13:00:00 – 14:00:00");
  assert.equal(rangeText({ from: now - DAY, to: now }, now), "1 Mar 14:00:00 – 2 Mar 14:00:00");
  assert.deepEqual([900, 4500, 45_000, 5 * MINUTE, 90 * MINUTE, DAY, 3 * DAY + HOUR].map(durationText), ["900 ms", "4.5 s", "45 s", "5 min", "1 h 30 min", "1 d", "3 d 1 h"]);
});

test("ticks are round times, and never more than asked for", () => {
  const from = Date.UTC(2026, 2, 2, 9, 55, 3);
  const found = ticks({ from, to: from + 5 * MINUTE }, 8);
  assert.deepEqual(found.map((time) => tickText(time, { from, to: from + 5 * MINUTE })), ["09:56", "09:57", "09:58", "09:59", "10:00"]);
  const day = { from, to: from + DAY };
  assert.deepEqual(ticks(day, 5).map((time) => tickText(time, day)), ["12:00", "18:00", "3 Mar", "06:00"]);
  for (const length of [1, 999, 61_000, HOUR, 400 * DAY, 9e14]) assert.ok(ticks({ from: 0, to: length }, 6).length <= 7, String(length));
});
