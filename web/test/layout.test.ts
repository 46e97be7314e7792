import assert from "node:assert/strict";
import { test } from "node:test";
import { buildTree, makeDirectory } from "../src/model/build.ts";
import { depthOf } from "../src/model/tree.ts";
import { boxAt, boxOf, layoutTree, levelCount, MIN_WIDTH } from "../src/model/layout.ts";
import { largeProfile, smallProfile } from "./generate.ts";
import { frameText, makeProfile } from "./reference.ts";

function treeOf(made = smallProfile()) {
  const profile = makeProfile(made);
  return { profile, ...buildTree(profile, makeDirectory(profile), { process: null, thread: null, grouping: "none", type: 0 }) };
}

/** Each level as `name x..end`. */
function picture(zoom: number, width = 1000) {
  const { profile, tree } = treeOf();
  const layout = layoutTree(tree, zoom, width);
  return Array.from({ length: levelCount(layout) }, (_, level) => {
    const boxes: string[] = [];
    for (let box = layout.levels[level]; box < layout.levels[level + 1]; box++) {
      const node = layout.node[box];
      const name = node < 0 ? "…" : tree.frame[node] < 0 ? "all" : frameText(profile, tree.frame[node]);
      boxes.push(`${name} ${Math.round(layout.x[box])}..${Math.round(layout.x[box] + layout.width[box])}`);
    }
    return boxes;
  });
}

test("boxes are as wide as their share of the zoomed one", () => {
  assert.deepEqual(picture(0).slice(0, 4), [
    ["all 0..1000"],
    ["_start 0..700", "runtime.main 700..950", "[truncated] 950..1000"],
    ["main 0..700", "entry_SYSCALL_64 700..950", "server::parse 950..1000"],
    ["server::handle<Request> 0..650", "[unknown] libz.so+0x4f10 650..700"],
  ]);
});

test("zoomed, the ancestors are as wide as the view, and nothing beside them is left", () => {
  const { profile, tree } = treeOf();
  const handle = Array.from({ length: tree.count }, (_, node) => node).find((node) => node > 0 && frameText(profile, tree.frame[node]) === "server::handle<Request>") as number;
  assert.deepEqual(picture(handle, 650), [
    ["all 0..650"],
    ["_start 0..650"],
    ["main 0..650"],
    ["server::handle<Request> 0..650"],
    ["server::parse 0..500", "entry_SYSCALL_64 500..650"],
    ["~core::str::from_utf8 0..400", "server::parse 400..500", "ext4_file_read_iter 500..650"],
  ]);
});

test("siblings too narrow to draw become one strip, which stands for all of them", () => {
  const { tree } = treeOf(largeProfile(500));
  const layout = layoutTree(tree, 0, 200);
  let strips = 0;
  for (let box = 0; box < layout.node.length; box++) {
    assert.ok(layout.width[box] >= MIN_WIDTH - 1e-4);
    if (layout.node[box] >= 0) continue;
    strips++;
    const first = ~layout.node[box];
    const parent = tree.parent[first];
    let rest = 0;
    for (let child = first; child < parent + tree.size[parent]; child += tree.size[child]) rest += tree.total[child];
    assert.ok(Math.abs(layout.width[box] - (rest / tree.total[0]) * 200) < 1e-3);
  }
  assert.ok(strips > 0);
});

test("a point finds its box, and nothing where there is none", () => {
  const { tree } = treeOf();
  const layout = layoutTree(tree, 0, 1000);
  assert.equal(layout.node[boxAt(layout, 0, 999)], 0);
  assert.equal(layout.node[boxAt(layout, 1, 699.9)], 1);
  assert.equal(layout.node[boxAt(layout, 1, 700)], 1 + tree.size[1]);
  assert.equal(boxAt(layout, 3, 800), -1);
  assert.equal(boxAt(layout, -1, 5), -1);
  assert.equal(boxAt(layout, 99, 5), -1);
  assert.equal(boxAt(layout, 1, 1000.5), -1);
  for (let box = 0; box < layout.node.length; box++) {
    const node = layout.node[box];
    const level = depthOf(tree, node);
    assert.equal(boxAt(layout, level, layout.x[box] + layout.width[box] / 2), box);
    assert.equal(boxOf(layout, tree, node), box);
  }
});

test("however many stacks there are, a level has no more boxes than pixels", () => {
  const { tree } = treeOf(largeProfile(3000));
  const layout = layoutTree(tree, 0, 300);
  for (let level = 0; level < levelCount(layout); level++) {
    const count = layout.levels[level + 1] - layout.levels[level];
    assert.ok(count <= 300 / MIN_WIDTH, `level ${level}: ${count}`);
  }
});
