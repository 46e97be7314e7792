/**
 * What changed in a node between two profiles, and whether chance explains it.
 *
 * Constraint: a sampled value of n samples is uncertain by √n samples. A difference below two such deviations is shown as none:
 * of differences that are chance alone, 1 in 20 is larger.
 */
import type { Comparison } from "../data/format.ts";
import type { ViewTree } from "./tree.ts";

/** Standard deviations up to which a difference is taken for chance. */
export const CHANCE_DEVIATIONS = 2;

export interface Change {
  current: number;
  baseline: number;
  /** The difference is no more than chance explains. */
  chance: boolean;
  /** -1 (only in the baseline) to 1 (only in the current profile); 0 where chance explains it. */
  strength: number;
}

/** Compares two values; `samples` are the counts that they were made of, or -1 where these are not known. */
export function change(current: number, baseline: number, currentSamples: number, baselineSamples: number): Change {
  const difference = current - baseline;
  const variance = (value: number, samples: number) => (samples > 0 ? (value * value) / samples : 0);
  const deviation = Math.sqrt(variance(current, currentSamples) + variance(baseline, baselineSamples));
  const chance = difference === 0 || Math.abs(difference) <= CHANCE_DEVIATIONS * deviation;
  return { current, baseline, chance, strength: chance ? 0 : difference / Math.max(current, baseline) };
}

/** The change of a node, with all below it or its own. */
export function changeOf(comparison: Comparison, tree: ViewTree, node: number, column: "total" | "self" = "total"): Change {
  const value = (type: number) => (type < 0 ? -1 : tree.values(type)[column][node]);
  return change(value(comparison.current), value(comparison.baseline), value(comparison.currentSamples), value(comparison.baselineSamples));
}
