import assert from "node:assert/strict";
import { test } from "node:test";
import { deflateRawSync } from "node:zlib";
import { fromBase64, inflate } from "../src/data/embedded.ts";
import { decode, encode, FormatError, type Head } from "../src/data/format.ts";
import { inflateRaw } from "../src/data/inflate.ts";
import { encodeMade, hostileProfile, HOSTILE_NAMES, randomNumbers, smallProfile } from "./generate.ts";

test("a profile comes back as it was written", () => {
  const profile = decode(encodeMade(smallProfile()));
  assert.equal(profile.title, "node-7");
  assert.deepEqual(profile.sampleTypes, [{ name: "samples", unit: "count" }, { name: "cpu", unit: "nanoseconds" }]);
  assert.equal(profile.functions.count, 10);
  assert.equal(profile.rows.count, 7);
  assert.deepEqual([...profile.rows.values[0]], [30, 10, 10, 15, 5, 25, 5]);
  assert.deepEqual([...profile.nodes.parent], [0, 0, 1, 2, 3, 4, 4, 3, 7, 2, 0, 10, 0, 12]);
});

test("hostile names come through as they are", () => {
  const profile = decode(encodeMade(hostileProfile()));
  assert.equal(profile.functions.count, HOSTILE_NAMES.length);
  HOSTILE_NAMES.forEach((name, index) => assert.ok(profile.strings[profile.functions.name[index]] === name, name.slice(0, 80)));
});

test("a container that starts at an odd address is read all the same", () => {
  const bytes = encodeMade(smallProfile());
  const shifted = new Uint8Array(bytes.length + 1);
  shifted.set(bytes, 1);
  assert.deepEqual(decode(shifted.subarray(1)), decode(bytes));
});

test("damaged containers are refused with the name of what is wrong", () => {
  const head: Omit<Head, "version" | "columns"> = {
    title: "", facts: [], notes: [], sample_types: [{ name: "samples", unit: "count" }], default_type: 0, kinds: ["native"], strings: ["", "f"],
  };
  const u32 = (...values: number[]) => Uint32Array.from(values);
  const u16 = (...values: number[]) => Uint16Array.from(values);
  const f64 = (...values: number[]) => Float64Array.from(values);
  const good = {
    "functions.name": u32(1), "functions.file": u32(0), "functions.line": u32(0), "functions.mapping": u32(0), "functions.kind": u32(0),
    "frames.function": u32(0), "frames.inlined": u32(0),
    "nodes.frame": u32(0xffffffff, 0), "nodes.depth": u16(0, 1),
    "owners.pid": f64(), "owners.process": u32(), "owners.tid": f64(), "owners.thread": u32(),
    "rows.owner": u32(0xffffffff), "rows.node": u32(1), "rows.line": u32(0), "rows.reason": u32(0), "rows.value.0": f64(3),
  };
  assert.equal(decode(encode(head, good)).rows.values[0][0], 3);
  const cases: [string, Record<string, Uint16Array | Uint32Array | Float64Array>, Partial<typeof head>, RegExp][] = [
    ["a text", { "functions.name": u32(2) }, {}, /functions.name points outside/],
    ["a kind", { "functions.kind": u32(1) }, {}, /functions.kind points outside/],
    ["a function", { "frames.function": u32(1) }, {}, /frames.function points outside/],
    ["a frame", { "nodes.frame": u32(0xffffffff, 1) }, {}, /nodes.frame points outside/],
    ["a root below", { "nodes.frame": u32(0xffffffff, 0xffffffff) }, {}, /nodes.frame points outside/],
    ["no root", { "nodes.frame": u32(0, 0) }, {}, /first node is not a root/],
    ["no node at all", { "nodes.frame": u32(), "nodes.depth": u16() }, {}, /nodes.depth/],
    ["a second root", { "nodes.depth": u16(0, 0) }, {}, /not a tree/],
    ["a level left out", { "nodes.depth": u16(0, 2) }, {}, /not a tree/],
    ["a root that is not one", { "nodes.depth": u16(1, 1) }, {}, /first node is not a root/],
    ["fewer depths", { "nodes.depth": u16(0) }, {}, /nodes.depth has another length/],
    ["a row's node", { "rows.node": u32(2) }, {}, /rows.node points outside/],
    ["a row's owner", { "rows.owner": u32(0) }, {}, /rows.owner points outside/],
    ["fewer rows", { "rows.line": u32() }, {}, /columns of rows differ/],
    ["fewer values", { "rows.value.0": f64() }, {}, /rows.value has another length/],
    ["a negative value", { "rows.value.0": f64(-1) }, {}, /not a count/],
    ["no number", { "rows.value.0": f64(NaN) }, {}, /not a count/],
    ["a column of another type", { "rows.value.0": u32(3) }, {}, /rows.value.0 is missing or not f64/],
    ["no types", {}, { sample_types: [] }, /sample_types/],
    ["another type", {}, { default_type: 1 }, /default_type/],
    ["strings", {}, { strings: ["f", "g"] }, /first string/],
  ];
  for (const [what, columns, change, message] of cases) {
    assert.throws(() => decode(encode({ ...head, ...change }, { ...good, ...columns })), (error: Error) => error instanceof FormatError && message.test(error.message), what);
  }
  const bytes = encode(head, good);
  assert.throws(() => decode(bytes.subarray(0, 12)), /too short/);
  assert.throws(() => decode(bytes.subarray(0, 40)), /head is longer/);
  assert.throws(() => decode(bytes.subarray(0, bytes.length - 8)), /lies outside/);
  assert.throws(() => decode(bytes.slice().fill(0, 0, 1)), /not an Everflame/);
  const other = new TextDecoder().decode(bytes).replace('"version":1', '"version":2');
  assert.throws(() => decode(new TextEncoder().encode(other)), /version 2, this page reads 1|not an/);
});

test("our own inflate gives what the browser's gives: stored, fixed and dynamic blocks", async () => {
  const random = randomNumbers(3);
  const inputs = [
    new Uint8Array(0),
    Uint8Array.of(7),
    new Uint8Array(100_000),
    Uint8Array.from({ length: 70_000 }, () => random() * 256),
    Uint8Array.from({ length: 50_000 }, (_, index) => (index * index) >> 7),
    encodeMade(smallProfile()),
  ];
  for (const input of inputs) {
    for (const options of [{ level: 0 }, { level: 1 }, { level: 9 }, { level: 9, strategy: 4 }]) {
      const packed = Uint8Array.from(deflateRawSync(input, options));
      assert.deepEqual(inflateRaw(packed, input.length), input);
      assert.deepEqual(await inflate(packed, input.length), input);
    }
  }
});

test("our own inflate refuses damage and other lengths, and never runs on", () => {
  const input = encodeMade(smallProfile());
  const packed = Uint8Array.from(deflateRawSync(input));
  assert.throws(() => inflateRaw(packed, input.length - 1), RangeError);
  assert.throws(() => inflateRaw(packed, input.length + 1), RangeError);
  assert.throws(() => inflateRaw(packed.subarray(0, packed.length - 5), input.length), RangeError);
  assert.throws(() => inflateRaw(Uint8Array.of(7), 1), RangeError);
  const random = randomNumbers(11);
  let refused = 0;
  for (let round = 0; round < 500; round++) {
    const damaged = packed.slice();
    damaged[Math.floor(random() * damaged.length)] ^= 1 << Math.floor(random() * 8);
    try {
      inflateRaw(damaged, input.length);
    } catch (error) {
      assert.ok(error instanceof RangeError);
      refused++;
    }
  }
  assert.ok(refused > 100, `${refused} refused`);
});

test("the stream's length is checked too", async () => {
  const packed = Uint8Array.from(deflateRawSync(Uint8Array.of(1, 2, 3)));
  await assert.rejects(inflate(packed, 2), RangeError);
  await assert.rejects(inflate(packed, 4), RangeError);
});

test("base64 comes back as bytes", () => {
  assert.deepEqual(fromBase64("+//+"), Uint8Array.of(0xfb, 0xff, 0xfe));
  assert.deepEqual(fromBase64(""), new Uint8Array(0));
});
