/**
 * Colours by kind of code, for light and dark pages.
 *
 * Constraint: told apart by people who see colours differently (palette.test.ts measures it), and black-enough text on each.
 * An inlined function has the colour of its kind, paler.
 */

/** What a box is painted with. */
export interface Paint {
  fill: string;
  text: string;
}

/** All colours of a canvas. */
export interface Palette {
  background: string;
  outline: string;
  hover: string;
  match: Paint;
  rest: string;
  group: Paint;
  kinds: Record<string, { plain: Paint; inlined: Paint }>;
  /** For comparisons: from all gone (blue) over unchanged (grey) to all new (orange). An odd number of them. */
  change: Paint[];
  /** For stacked areas: the largest first, then what is left over. */
  series: string[];
  seriesRest: string;
}

/** The order of the legend. */
export const KIND_ORDER = [
  "native", "go", "jit", "interpreter", "vdso", "kernel", "kernel module", "bpf", "unknown", "marker",
] as const;

/** What the legend says. */
export const KIND_TITLES: Record<string, string> = {
  native: "Native",
  go: "Go",
  jit: "JIT",
  interpreter: "Interpreter",
  vdso: "vDSO",
  kernel: "Kernel",
  "kernel module": "Kernel module",
  bpf: "BPF",
  unknown: "Unknown",
  marker: "Marker",
};

const LIGHT: Record<string, string> = {
  native: "#ebb028",
  go: "#61bfe6",
  jit: "#1fa37c",
  interpreter: "#bef3cf",
  vdso: "#8f8be0",
  kernel: "#e56a4c",
  "kernel module": "#f2c69c",
  bpf: "#c475af",
  unknown: "#b1b6bc",
  marker: "#e0e5f0",
};

const DARK: Record<string, string> = {
  native: "#e4a633",
  go: "#54b0d5",
  jit: "#119271",
  interpreter: "#9bd3ad",
  vdso: "#8382d4",
  kernel: "#e1654b",
  "kernel module": "#cda37b",
  bpf: "#b466a0",
  unknown: "#a1a3a9",
  marker: "#d0d2da",
};

const INK = "#16130c";

/** Mixes two `#rrggbb` colours; `share` of the second. */
export function mix(first: string, second: string, share: number): string {
  const channel = (at: number) => {
    const a = parseInt(first.slice(at, at + 2), 16);
    const b = parseInt(second.slice(at, at + 2), 16);
    return Math.round(a + (b - a) * share).toString(16).padStart(2, "0");
  };
  return `#${channel(1)}${channel(3)}${channel(5)}`;
}

/** Blue, grey, orange: the two ends differ for every sight, which red and green do not. */
const CHANGE = { light: ["#5aa2ee", "#e3e6ea", "#f58f1d"], dark: ["#4f9df2", "#a9adb5", "#f28a1c"] };
/** Steps from unchanged to either end. */
const CHANGE_STEPS = 5;

function changePaints([less, same, more]: string[]): Paint[] {
  const paints: Paint[] = [];
  for (let step = -CHANGE_STEPS; step <= CHANGE_STEPS; step++) {
    paints.push({ fill: mix(same, step < 0 ? less : more, Math.abs(step) / CHANGE_STEPS), text: INK });
  }
  return paints;
}

/** The paint for a change between -1 (only in the baseline) and 1 (only in the current profile). */
export function changePaint(palette: Palette, strength: number): Paint {
  const middle = (palette.change.length - 1) / 2;
  // Away from the middle, so that the smallest change that is one can be seen.
  const step = Math.sign(strength) * Math.min(middle, Math.ceil(Math.abs(strength) * middle));
  return palette.change[middle + step];
}

function makePalette(fills: Record<string, string>, rest: Omit<Palette, "kinds">): Palette {
  const kinds: Palette["kinds"] = {};
  for (const [kind, fill] of Object.entries(fills)) {
    kinds[kind] = { plain: { fill, text: INK }, inlined: { fill: mix(fill, "#ffffff", 0.42), text: INK } };
  }
  return { ...rest, kinds };
}

/** The palette of a theme. */
export const PALETTES: Record<"light" | "dark", Palette> = {
  light: makePalette(LIGHT, {
    background: "#ffffff",
    outline: "#16130c",
    hover: "#16130c",
    match: { fill: "#7a1fa2", text: "#ffffff" },
    rest: "#c9ced5",
    group: { fill: "#e4e8ee", text: "#1b1f24" },
    change: changePaints(CHANGE.light),
    series: ["#3f7fc4", "#bfae56", "#3eb47f", "#b55384", "#8ea3c9", "#6343c1", "#a7e896", "#bf4945"],
    seriesRest: "#c9ced5",
  }),
  dark: makePalette(DARK, {
    background: "#181b21",
    outline: "#ffffff",
    hover: "#ffffff",
    match: { fill: "#8a2fc0", text: "#ffffff" },
    rest: "#4a515c",
    group: { fill: "#39404b", text: "#eef1f5" },
    change: changePaints(CHANGE.dark),
    series: ["#5b9be0", "#bead51", "#92e1db", "#da8890", "#7841aa", "#d3e39c", "#493ed0", "#c72b3c"],
    seriesRest: "#5a616c",
  }),
};

/** The paint of a kind; kinds that this page does not know look unknown. */
export function paintOf(palette: Palette, kind: string, inlined: boolean): Paint {
  const pair = Object.hasOwn(palette.kinds, kind) ? palette.kinds[kind] : palette.kinds.unknown;
  return inlined ? pair.inlined : pair.plain;
}
