/** Series of the server → a stacked area in cores, with colours that stay with their values while the page refreshes. */
import type { Series } from "./api.ts";
import type { Range } from "./state.ts";

/** Layers from the bottom up; `cores[step]`. The last one may be all values without a layer of their own. */
export interface Stack {
  from: number;
  step: number;
  layers: Layer[];
  /** Sum of all layers by step. */
  total: number[];
}

export interface Layer {
  value: string;
  /** All values without a layer of their own. */
  rest: boolean;
  /** Which colour; -1 for the rest. */
  slot: number;
  cores: number[];
  /** Of the whole time: CPU time in ns. */
  sum: number;
}

/** Remembers which value has which colour. */
export class Slots {
  private readonly slots = new Map<string, number>();

  constructor(private readonly count: number) {}

  /** Gives each value a colour: the one it had, else a free one. */
  assign(values: string[]): number[] {
    for (const known of [...this.slots.keys()]) if (!values.includes(known)) this.slots.delete(known);
    const used = new Set(this.slots.values());
    return values.map((value) => {
      let slot = this.slots.get(value);
      if (slot === undefined) {
        slot = 0;
        while (used.has(slot) && slot < this.count - 1) slot++;
        used.add(slot);
        this.slots.set(value, slot);
      }
      return slot;
    });
  }
}

/** The stack of an answer. A step of which only a part lies in the range counts by that part. */
export function makeStack(series: Series, range: Range, slots: Slots): Stack {
  const { from, step } = series;
  const length = series.other.length;
  const lasting = Array.from({ length }, (_, index) => {
    const start = from + index * step;
    return Math.max(0, Math.min(start + step, range.to) - Math.max(start, range.from));
  });
  const cores = (cpu: number[]) => cpu.map((time, index) => (lasting[index] > 0 ? time / (lasting[index] * 1e6) : 0));
  const sum = (cpu: number[]) => cpu.reduce((all, each) => all + each, 0);
  const colours = slots.assign(series.series.map(({ value }) => value));
  const layers: Layer[] = series.series.map(({ value, cpu }, index) => ({ value, rest: false, slot: colours[index], cores: cores(cpu), sum: sum(cpu) }));
  const rest = sum(series.other);
  if (rest > 0) layers.push({ value: "", rest: true, slot: -1, cores: cores(series.other), sum: rest });
  const total = Array.from({ length }, (_, index) => layers.reduce((all, layer) => all + layer.cores[index], 0));
  return { from, step, layers, total };
}

/** A round number at or above a value, whose half is one too. */
export function roundUp(value: number): number {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 1.2, 1.6, 2, 3, 4, 5, 6, 8].find((digit) => digit * power >= value * 0.999999) ?? 10) * power;
}
