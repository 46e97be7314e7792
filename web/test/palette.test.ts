import assert from "node:assert/strict";
import { test } from "node:test";
import { KIND_ORDER, PALETTES, paintOf, type Palette } from "../src/view/palette.ts";

type Color = [number, number, number];

const linear = (hex: string): Color => {
  const channel = (at: number) => {
    const value = parseInt(hex.slice(at, at + 2), 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  };
  return [channel(1), channel(3), channel(5)];
};
const luminance = ([red, green, blue]: Color) => 0.2126 * red + 0.7152 * green + 0.0722 * blue;
const contrast = (a: string, b: string) => {
  const [high, low] = [luminance(linear(a)), luminance(linear(b))].sort((x, y) => y - x);
  return (high + 0.05) / (low + 0.05);
};

/** What people with one kind of cone missing see (Machado, Oliveira and Fernandes 2009, full severity), in linear RGB. */
const SIGHTS: Record<string, number[]> = {
  usual: [1, 0, 0, 0, 1, 0, 0, 0, 1],
  protan: [0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998],
  deutan: [0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.01182, 0.04294, 0.968881],
  tritan: [1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602, 0.004733, 0.691367, 0.3039],
};

/** CIE L*a*b* of a colour as somebody sees it. */
function lab(hex: string, sight: string): Color {
  const [red, green, blue] = linear(hex);
  const seen = [0, 3, 6].map((row) => {
    const [a, b, c] = SIGHTS[sight].slice(row, row + 3);
    return Math.min(1, Math.max(0, a * red + b * green + c * blue));
  });
  const [x, y, z] = [
    (0.4124 * seen[0] + 0.3576 * seen[1] + 0.1805 * seen[2]) / 0.95047,
    0.2126 * seen[0] + 0.7152 * seen[1] + 0.0722 * seen[2],
    (0.0193 * seen[0] + 0.1192 * seen[1] + 0.9505 * seen[2]) / 1.08883,
  ].map((value) => (value > 0.008856 ? Math.cbrt(value) : 7.787 * value + 16 / 116));
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}
const distance = (a: Color, b: Color) => Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);

/** The least difference between two of the kinds; about 2.3 is just noticeable. */
const APART = 14;

for (const [theme, palette] of Object.entries(PALETTES) as [string, Palette][]) {
  test(`${theme}: every kind can be told from every other one, whatever cones one has`, () => {
    for (const sight of Object.keys(SIGHTS)) {
      const colors = KIND_ORDER.map((kind) => lab(paintOf(palette, kind, false).fill, sight));
      for (let a = 0; a < colors.length; a++) {
        for (let b = a + 1; b < colors.length; b++) {
          const apart = distance(colors[a], colors[b]);
          assert.ok(apart >= APART, `${sight}: ${KIND_ORDER[a]} and ${KIND_ORDER[b]} are ${apart.toFixed(1)} apart`);
        }
        const match = distance(colors[a], lab(palette.match.fill, sight));
        assert.ok(match >= 20, `${sight}: ${KIND_ORDER[a]} and what was found are ${match.toFixed(1)} apart`);
      }
    }
  });

  test(`${theme}: the layers of the time line can be told from each other, whatever cones one has`, () => {
    for (const sight of Object.keys(SIGHTS)) {
      const colors = [...palette.series, palette.seriesRest].map((fill) => lab(fill, sight));
      for (let a = 0; a < colors.length; a++) {
        for (let b = a + 1; b < colors.length; b++) assert.ok(distance(colors[a], colors[b]) >= APART, `${sight}: ${a} and ${b} are ${distance(colors[a], colors[b]).toFixed(1)} apart`);
      }
    }
  });

  test(`${theme}: less, unchanged and more can be told apart, whatever cones one has`, () => {
    assert.equal(palette.change.length % 2, 1);
    const middle = (palette.change.length - 1) / 2;
    for (const sight of Object.keys(SIGHTS)) {
      const [less, same, more] = [0, middle, 2 * middle].map((step) => lab(palette.change[step].fill, sight));
      const [lessStep, moreStep] = [middle - 1, middle + 1].map((step) => lab(palette.change[step].fill, sight));
      // Tritan sight is the hardest for blue and orange; it is also the rarest.
      assert.ok(distance(less, more) >= 40, `${sight}: the ends are ${distance(less, more).toFixed(1)} apart`);
      for (const end of [less, more]) assert.ok(distance(same, end) >= APART, `${sight}: an end is ${distance(same, end).toFixed(1)} from unchanged`);
      assert.ok(distance(lessStep, moreStep) >= 6, `${sight}: the smallest changes are ${distance(lessStep, moreStep).toFixed(1)} apart`);
    }
  });

  test(`${theme}: text on boxes has the contrast that small text needs`, () => {
    const paints = [palette.match, palette.group, ...palette.change, ...KIND_ORDER.flatMap((kind) => [paintOf(palette, kind, false), paintOf(palette, kind, true)])];
    for (const { fill, text } of paints) assert.ok(contrast(fill, text) >= 4.5, `${text} on ${fill}: ${contrast(fill, text).toFixed(2)}`);
  });
}

test("a kind that this page does not know looks unknown", () => {
  assert.deepEqual(paintOf(PALETTES.light, "constructor", false), paintOf(PALETTES.light, "unknown", false));
});
