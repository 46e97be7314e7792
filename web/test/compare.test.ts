import assert from "node:assert/strict";
import { test } from "node:test";
import type { Profile } from "../src/data/format.ts";
import { buildTree, makeDirectory, type Grouping } from "../src/model/build.ts";
import { change, changeOf } from "../src/model/change.ts";
import { compare } from "../src/model/compare.ts";
import { nodeOfPath, pathKey } from "../src/model/paths.ts";
import { functionTotals, keyTotals, reasonTotals } from "../src/model/totals.ts";
import { pathTo, type ViewTree } from "../src/model/tree.ts";
import { PERIOD_NS, smallProfile } from "./generate.ts";
import { frameText, makeProfile, plainTree, randomMade, toPlain } from "./reference.ts";

const treeOf = (profile: Profile, type: number, grouping: Grouping = "none") =>
  buildTree(profile, makeDirectory(profile), { process: null, thread: null, grouping, type });

/** Stacks of a made profile as names, with `~` before inlined functions. */
const stacksOf = (made: ReturnType<typeof randomMade>, factor: number) => made.rows.map(({ stack, samples }) => ({ names: stack, value: samples * factor }));

test("two profiles side by side have each stack once, with the values of both", () => {
  for (let seed = 1; seed <= 20; seed++) {
    const [a, b] = [randomMade(seed), randomMade(seed + 100)];
    const profile = compare({ profile: makeProfile(a), duration: PERIOD_NS }, { profile: makeProfile(b), duration: PERIOD_NS * 2 }, "rate");
    const { tree } = treeOf(profile, 0);
    const both = [...stacksOf(a, 0.5), ...stacksOf(b, 0.25)].filter(({ value }) => value > 0);
    assert.deepEqual(toPlain(profile, tree, []), plainTree(both), `seed ${seed}`);
    const sideTotal = (type: number) => tree.values(type).total[0];
    assert.equal(sideTotal(1), stacksOf(a, 1).reduce((sum, { value }) => sum + value, 0));
    assert.equal(sideTotal(2), stacksOf(b, 0.5).reduce((sum, { value }) => sum + value, 0));
    assert.equal(sideTotal(4), stacksOf(b, 1).reduce((sum, { value }) => sum + value, 0));
  }
});

test("by share both sides add up to one, and an empty side to nothing", () => {
  const full = makeProfile(smallProfile());
  const empty = makeProfile({ functions: [], owners: [], rows: [] });
  const both = compare({ profile: full, duration: 1 }, { profile: full, duration: 1 }, "share");
  const same = treeOf(both, 0).tree;
  assert.deepEqual([1, 2].map((type) => same.values(type).total[0].toFixed(9)), ["1.000000000", "1.000000000"]);
  const one = treeOf(compare({ profile: full, duration: 1 }, { profile: empty, duration: 1 }, "share"), 0).tree;
  assert.deepEqual([1, 2].map((type) => one.values(type).total[0].toFixed(9)), ["1.000000000", "0.000000000"]);
});

test("a function is the same if name, kind and file are, whatever its line and executable", () => {
  const made = (file: string, line: number, mapping: string, kind = "native") =>
    makeProfile({ functions: [{ name: "f", file, line, mapping, kind }], owners: [], rows: [{ stack: ["f"], samples: 1 }] });
  const functionsOf = (a: Profile, b: Profile) => compare({ profile: a, duration: 1 }, { profile: b, duration: 1 }, "rate").functions.count;
  assert.equal(functionsOf(made("f.rs", 1, "v1"), made("f.rs", 9, "v2")), 1);
  assert.equal(functionsOf(made("f.rs", 1, "v1"), made("g.rs", 1, "v1")), 2);
  assert.equal(functionsOf(made("", 0, "v1"), made("", 0, "v2")), 2);
  assert.equal(functionsOf(made("", 0, "v1"), made("", 0, "v1", "go")), 2);
});

test("processes of both sides are one group if they have the same name", () => {
  const made = (pid: number) => makeProfile({ functions: [{ name: "f" }], owners: [{ pid, process: "web", tid: pid, thread: "main" }], rows: [{ stack: ["f"], samples: 2, owner: 0 }] });
  const profile = compare({ profile: made(10), duration: PERIOD_NS }, { profile: made(20), duration: PERIOD_NS }, "rate");
  const { tree, groups } = treeOf(profile, 0, "process");
  assert.deepEqual(toPlain(profile, tree, groups), plainTree([{ names: ["web", "f"], value: 2 }]));
});

test("a difference counts only beyond what chance explains", () => {
  // 100 and 130 samples: √230 ≈ 15.2, two of them 30.3.
  assert.equal(change(130, 100, 130, 100).chance, true);
  assert.equal(change(131, 100, 131, 100).chance, false);
  assert.equal(change(131, 100, 131, 100).strength, 31 / 131);
  assert.equal(change(0, 5, 0, 25).strength, -1);
  assert.equal(change(5, 0, 25, 0).strength, 1);
  assert.equal(change(1, 0, 1, 0).chance, true, "one sample is not yet a change");
  assert.equal(change(1, 0, -1, -1).strength, 1, "numbers of samples not known");
  assert.equal(change(0, 0, 0, 0).strength, 0);
});

test("what one side alone has is there, new or gone", () => {
  const made = (name: string) => makeProfile({ functions: [{ name: "main" }, { name }], owners: [], rows: [{ stack: ["main", name], samples: 50 }] });
  const profile = compare({ profile: made("after"), duration: 1e9 }, { profile: made("before"), duration: 1e9 }, "rate");
  const { tree } = treeOf(profile, 0);
  const strengths: Record<string, number> = {};
  for (let node = 1; node < tree.count; node++) strengths[frameText(profile, tree.frame[node])] = changeOf(profile.comparison!, tree, node).strength;
  assert.deepEqual(strengths, { main: 0, after: 1, before: -1 });
});

test("the key of a place finds it in another profile of the same programs", () => {
  const small = makeProfile(smallProfile());
  const other = makeProfile({ ...smallProfile(), functions: [...smallProfile().functions].reverse() });
  const nameOf = (profile: Profile) => (frame: number) => frameText(profile, frame);
  const [from, to] = [treeOf(small, 1).tree, treeOf(other, 1).tree];
  const namesTo = (profile: Profile, tree: ViewTree, node: number) => pathTo(tree, node).slice(1).map((each) => frameText(profile, tree.frame[each]));
  const keys = new Set<string>();
  for (let node = 1; node < from.count; node++) {
    const key = pathKey(from, node, nameOf(small));
    assert.match(key, /^[0-9a-f]{16}$/);
    keys.add(key);
    assert.deepEqual(namesTo(other, to, nodeOfPath(to, key, nameOf(other))), namesTo(small, from, node));
  }
  assert.equal(keys.size, from.count - 1);
  assert.equal(pathKey(from, 0, nameOf(small)), "");
  for (const unknown of ["", "0123456789abcdef", "nonsense", "__proto__"]) assert.equal(nodeOfPath(to, unknown, nameOf(other)), 0);
});

test("sums by file count a stack once, however many functions of the file it has", () => {
  for (let seed = 1; seed <= 10; seed++) {
    const made = randomMade(seed);
    const profile = makeProfile(made);
    const { tree } = treeOf(profile, 0);
    const totals = keyTotals(profile, tree, profile.functions.file, profile.strings.length);
    const fileOf = new Map(made.functions.map(({ name, file }) => [name, file]));
    for (const file of ["file0.rs", "file1.rs"]) {
      const hits = made.rows.filter(({ stack }) => stack.some((name) => fileOf.get(name.replace("~", "")) === file));
      assert.equal(totals.total[profile.strings.indexOf(file)], hits.reduce((sum, { samples }) => sum + samples, 0), `seed ${seed} ${file}`);
      const last = made.rows.filter(({ stack }) => stack.length > 0 && fileOf.get(stack[stack.length - 1].replace("~", "")) === file);
      assert.equal(totals.self[profile.strings.indexOf(file)], last.reduce((sum, { samples }) => sum + samples, 0));
    }
    const names = functionTotals(profile, tree);
    assert.deepEqual(keyTotals(profile, tree, profile.functions.name, profile.strings.length).total[profile.functions.name[2]], names.total[2]);
  }
});

test("reasons why stacks end are summed for the owners shown", () => {
  const profile = makeProfile({
    functions: [{ name: "f" }],
    owners: [{ pid: 1, process: "a", tid: 1, thread: "a" }],
    rows: [{ stack: ["f"], samples: 3 }, { stack: ["f"], samples: 4, reason: "bad_read", owner: 0 }, { stack: ["f"], samples: 5, reason: "bad_read" }],
  });
  const bad = profile.strings.indexOf("bad_read");
  assert.deepEqual([...reasonTotals(profile, 0, () => true)].sort(), [[0, 3], [bad, 9]]);
  assert.deepEqual([...reasonTotals(profile, 0, (owner) => owner === 0)], [[bad, 4]]);
});
