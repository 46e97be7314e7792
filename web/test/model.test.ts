import assert from "node:assert/strict";
import { test } from "node:test";
import { buildTree, makeDirectory, NOBODY, type Choice } from "../src/model/build.ts";
import { compare } from "../src/model/compare.ts";
import { mergeCallees, mergeCallers, mergeInverted } from "../src/model/merge.ts";
import { functionKey, functionOfKey } from "../src/model/paths.ts";
import { coveredTotal, makeMatcher, matchFrames, matchFunctions } from "../src/model/search.ts";
import { functionTotals, hotLines } from "../src/model/totals.ts";
import { pathTo } from "../src/model/tree.ts";
import { PERIOD_NS, smallProfile, type MadeRow } from "./generate.ts";
import { frameText, makeProfile, ownerLabels, plainTree, randomMade, toPlain, type PlainStack } from "./reference.ts";

const ALL: Choice = { process: null, thread: null, grouping: "none", type: 0 };
const SEEDS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

const plain = (name: string) => name.replace(/^~/, "");
const stacksOf = (rows: MadeRow[]): PlainStack[] => rows.map(({ stack, samples }) => ({ names: stack, value: samples }));

function setup(seed: number) {
  const made = randomMade(seed);
  const profile = makeProfile(made);
  const directory = makeDirectory(profile);
  const slots = profile.frames.count + 20;
  return { made, profile, directory, slots };
}

test("stacks are merged from their root, whole or by process or thread", () => {
  for (const seed of SEEDS) {
    const { made, profile, directory } = setup(seed);
    const whole = buildTree(profile, directory, ALL);
    assert.deepEqual(toPlain(profile, whole.tree, whole.groups), plainTree(stacksOf(made.rows)), `seed ${seed}`);
    for (const grouping of ["process", "thread"] as const) {
      const { tree, groups } = buildTree(profile, directory, { ...ALL, grouping });
      const stacks = made.rows.map(({ stack, samples, owner }) => {
        const labels = owner === undefined ? { process: NOBODY, thread: NOBODY } : ownerLabels(profile, owner);
        const above = owner !== undefined && grouping === "thread" ? [labels.process, labels.thread] : [labels.process];
        return { names: [...above, ...stack], value: samples };
      });
      assert.deepEqual(toPlain(profile, tree, groups), plainTree(stacks), `seed ${seed}, by ${grouping}`);
    }
  }
});

test("a filter keeps one process, or one of its threads, and nobody else", () => {
  for (const seed of SEEDS) {
    const { made, profile, directory } = setup(seed);
    directory.processes.forEach((process, index) => {
      const inProcess = made.rows.filter(({ owner }) => owner !== undefined && made.owners[owner].pid === process.pid);
      for (const grouping of ["none", "process"] as const) {
        const { tree } = buildTree(profile, directory, { ...ALL, process: index, grouping });
        assert.equal(tree.total[0], inProcess.reduce((sum, { samples }) => sum + samples, 0));
      }
      for (const thread of process.threads) {
        const { tree, groups } = buildTree(profile, directory, { ...ALL, process: index, thread });
        assert.deepEqual(toPlain(profile, tree, groups), plainTree(stacksOf(made.rows.filter(({ owner }) => owner === thread))));
      }
    });
  }
});

test("siblings come largest first, each followed by everything below it", () => {
  for (const seed of SEEDS) {
    const { profile, directory } = setup(seed);
    for (const choice of [ALL, { ...ALL, type: 1 }, { ...ALL, grouping: "process" as const }]) {
      const { tree } = buildTree(profile, directory, choice);
      assert.equal(tree.parent[0] < 1, true);
      for (let node = 0; node < tree.count; node++) {
        const end = node + tree.size[node];
        let sum = tree.self[node];
        let before = Infinity;
        for (let child = node + 1; child < end; child += tree.size[child]) {
          assert.equal(tree.parent[child], node);
          assert.ok(tree.total[child] <= before && tree.total[child] > 0);
          before = tree.total[child];
          sum += tree.total[child];
        }
        assert.equal(sum, tree.total[node]);
      }
    }
  }
});

test("every view has its values in every type", () => {
  const { profile, directory, slots } = setup(3);
  for (const grouping of ["none", "process"] as const) {
    const { tree } = buildTree(profile, directory, { ...ALL, grouping });
    for (const view of [tree, mergeInverted(tree, slots), mergeCallers(profile, tree, 1, slots), mergeCallees(profile, tree, 1, slots)]) {
      const other = view.values(1);
      for (let node = 0; node < view.count; node++) {
        assert.equal(other.total[node], view.total[node] * PERIOD_NS);
        assert.equal(other.self[node], view.self[node] * PERIOD_NS);
      }
      assert.equal(view.values(0).total, view.total);
    }
  }
});

test("callers and callees of a function add up to its total, recursion counted once", () => {
  for (const seed of SEEDS) {
    const { made, profile, directory, slots } = setup(seed);
    const { tree } = buildTree(profile, directory, ALL);
    for (let index = 0; index < profile.functions.count; index++) {
      const name = profile.strings[profile.functions.name[index]];
      const withIt = made.rows.filter(({ stack, samples }) => samples > 0 && stack.some((each) => plain(each) === name));
      const at = ({ stack }: MadeRow) => stack.findIndex((each) => plain(each) === name);
      const callees = plainTree(withIt.map((row) => ({ names: row.stack.slice(at(row) + 1), value: row.samples })));
      const callers = plainTree(withIt.map((row) => ({ names: row.stack.slice(0, at(row)).reverse(), value: row.samples })));
      assert.deepEqual(toPlain(profile, mergeCallees(profile, tree, index, slots), []), callees, `${name}, seed ${seed}`);
      assert.deepEqual(toPlain(profile, mergeCallers(profile, tree, index, slots), []), callers, `${name}, seed ${seed}`);
    }
  }
});

test("upside down, every stack starts at the function that ran", () => {
  for (const seed of SEEDS) {
    const { made, profile, directory, slots } = setup(seed);
    const { tree } = buildTree(profile, directory, ALL);
    const stacks = made.rows.filter(({ stack }) => stack.length > 0).map(({ stack, samples }) => ({ names: [...stack].reverse(), value: samples }));
    assert.deepEqual(toPlain(profile, mergeInverted(tree, slots), []), plainTree(stacks), `seed ${seed}`);
  }
});

test("a function's total counts a stack once, its self only where it ran", () => {
  for (const seed of SEEDS) {
    const { made, profile, directory } = setup(seed);
    const { self, total } = functionTotals(profile, buildTree(profile, directory, ALL).tree);
    for (let index = 0; index < profile.functions.count; index++) {
      const name = profile.strings[profile.functions.name[index]];
      const sum = (rows: MadeRow[]) => rows.reduce((all, { samples }) => all + samples, 0);
      assert.equal(total[index], sum(made.rows.filter(({ stack }) => stack.some((each) => plain(each) === name))), name);
      assert.equal(self[index], sum(made.rows.filter(({ stack }) => stack.length > 0 && plain(stack[stack.length - 1]) === name)), name);
    }
  }
});

test("the share found counts a stack once, however many of its functions match", () => {
  for (const seed of SEEDS) {
    const { made, profile, directory } = setup(seed);
    const { tree } = buildTree(profile, directory, ALL);
    for (const [query, matches] of [
      ["f1", (name: string) => name === "f1"],
      ["F", () => true],
      ["nothing", () => false],
      ["file:file1", (name: string) => Number(name.slice(1)) % 2 === 1],
      ["mapping:lib2", (name: string) => Number(name.slice(1)) % 3 === 2],
    ] as const) {
      const matched = matchFunctions(profile, makeMatcher({ text: query, regex: false }));
      assert.ok(matched);
      const expected = made.rows.filter(({ stack }) => stack.some((each) => matches(plain(each)))).reduce((sum, { samples }) => sum + samples, 0);
      assert.equal(coveredTotal(tree, matchFrames(profile, matched)), expected, `${query}, seed ${seed}`);
    }
  }
});

test("searches: text, regular expressions, and what is neither", () => {
  const hits = (text: string, regex: boolean) => {
    const matcher = makeMatcher({ text, regex });
    return matcher && "test" in matcher ? ["Parse", "parse_all", "reparse", "f(x)"].filter((name) => matcher.test(name)) : matcher;
  };
  assert.deepEqual(hits("PARSE", false), ["Parse", "parse_all", "reparse"]);
  assert.deepEqual(hits("(x", false), ["f(x)"]);
  assert.deepEqual(hits("^parse", true), ["parse_all"]);
  assert.deepEqual(hits("(?i)^parse", true), ["Parse", "parse_all"]);
  assert.equal(hits("  ", false), null);
  assert.equal(hits("lib:", true), null);
  const wrong = makeMatcher({ text: "(", regex: true });
  assert.ok(wrong && "error" in wrong && wrong.error.length > 0);
  assert.equal(matchFunctions(makeProfile(smallProfile()), wrong), null);
});

test("the lines of a function are those it ran on itself, hottest first, for the owners shown", () => {
  const profile = makeProfile(smallProfile());
  const index = (name: string) => profile.functions.name.findIndex((text) => profile.strings[text] === name);
  assert.deepEqual(hotLines(profile, index("core::str::from_utf8"), 0, () => true), [{ line: 95, value: 30 }, { line: 99, value: 10 }]);
  assert.deepEqual(hotLines(profile, index("server::parse"), 0, (owner) => owner === 0), [{ line: 8, value: 10 }]);
  assert.deepEqual(hotLines(profile, index("main"), 0, () => true), []);
});

test("processes and threads are listed by value, and each value is a view", () => {
  const profile = makeProfile(smallProfile());
  const directory = makeDirectory(profile);
  assert.deepEqual(directory.processes.map(({ name, pid, threads, totals }) => [name, pid, threads, totals[0]]), [
    ["server", 100, [1, 0], 75],
    ["agent", 200, [2], 25],
  ]);
  for (const type of [0, 1]) {
    const { tree } = buildTree(profile, directory, { ...ALL, type });
    let hottest = 0;
    while (tree.size[hottest] > 1) hottest++;
    const path = pathTo(tree, hottest).slice(1).map((node) => frameText(profile, tree.frame[node]));
    assert.deepEqual(path, ["_start", "main", "server::handle<Request>", "server::parse", "~core::str::from_utf8"]);
    assert.equal(tree.total[0], type === 0 ? 100 : 1_010_101_000);
  }
});

test("a profile without samples is a tree with nothing but a root", () => {
  const profile = makeProfile({ functions: [], owners: [], rows: [] });
  const directory = makeDirectory(profile);
  for (const grouping of ["none", "process", "thread"] as const) {
    const { tree } = buildTree(profile, directory, { ...ALL, grouping });
    assert.equal(tree.count, 1);
    assert.deepEqual(functionTotals(profile, tree).total.length, 0);
    assert.equal(mergeInverted(tree, 4).count, 1);
  }
});

test("a function is found again by its key, whatever else has its name", () => {
  // Rows name functions by name, so none is here: only the table of functions counts.
  const of = (...functions: { name: string; file?: string; line?: number; mapping?: string; kind?: string }[]) => makeProfile({ functions, owners: [], rows: [] });
  const all = of(
    { name: "main", mapping: "one" },
    { name: "main", mapping: "two" },
    { name: "main", mapping: "one", kind: "go" },
    { name: "main", file: "src/main.rs", line: 3, mapping: "one" },
    { name: "main", file: "src/main.rs", line: 9, mapping: "one" },
    { name: "main", file: "src/main.rs", line: 3, mapping: "two" },
  );
  for (let index = 0; index < all.functions.count; index++) {
    const key = functionKey(all, index);
    for (const before of [-1, index, 0, 99]) assert.equal(functionOfKey(all, key, before), index, `${index} before ${before}`);
  }
  assert.equal(functionOfKey(all, "", 2), -1);
  // Another build: the line has changed. Another program: not the one that was chosen.
  const chosen = functionKey(all, 3);
  const rebuilt = of({ name: "main", mapping: "one" }, { name: "main", file: "src/main.rs", line: 5, mapping: "one" });
  const other = of({ name: "main", file: "src/main.rs", line: 3, mapping: "two" });
  assert.equal(functionOfKey(rebuilt, chosen, 0), 1);
  assert.equal(functionOfKey(other, chosen, 0), -1);
  // Compared, both are one.
  const both = compare({ profile: other, duration: 1 }, { profile: rebuilt, duration: 1 }, "rate");
  assert.equal(both.functions.mapping[functionOfKey(both, chosen, -1)], both.strings.indexOf("two"));
});
