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
  native: "#f0b93a",
  go: "#62bfe6",
  jit: "#1fa37c",
  interpreter: "#a7dfb9",
  vdso: "#8f8be0",
  kernel: "#e8744f",
  "kernel module": "#f6b59b",
  bpf: "#d77fb4",
  unknown: "#a9b1ba",
  marker: "#dde1e6",
};

const DARK: Record<string, string> = {
  native: "#d9a62e",
  go: "#55aed3",
  jit: "#1d9a75",
  interpreter: "#97cfa9",
  vdso: "#8985d6",
  kernel: "#dc6f4c",
  "kernel module": "#e3a58c",
  bpf: "#c873a6",
  unknown: "#8f98a3",
  marker: "#c3c9d0",
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
  }),
  dark: makePalette(DARK, {
    background: "#181b21",
    outline: "#ffffff",
    hover: "#ffffff",
    match: { fill: "#f3c4ff", text: "#2a0038" },
    rest: "#4a515c",
    group: { fill: "#39404b", text: "#eef1f5" },
  }),
};

/** The paint of a kind; kinds that this page does not know look unknown. */
export function paintOf(palette: Palette, kind: string, inlined: boolean): Paint {
  const pair = Object.hasOwn(palette.kinds, kind) ? palette.kinds[kind] : palette.kinds.unknown;
  return inlined ? pair.inlined : pair.plain;
}
