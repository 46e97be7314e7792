/** From a frame of a tree to what is shown of it. A frame past the profile's frames is a group (process or thread). */
import type { Profile } from "../data/format.ts";
import { changeOf } from "../model/change.ts";
import { ROOT_FRAME, type ViewTree } from "../model/tree.ts";
import { changePaint, paintOf, type Paint, type Palette } from "./palette.ts";
import { formatChange, formatRatio, formatShare, formatValue, printable } from "./text.ts";

export class Labels {
  constructor(
    readonly profile: Profile,
    readonly groups: string[],
  ) {}

  /** The function of a frame, or -1 for the root and groups. */
  functionOf(frame: number): number {
    return frame >= 0 && frame < this.profile.frames.count ? this.profile.frames.function[frame] : -1;
  }

  /** The whole name. */
  name(frame: number): string {
    if (frame === ROOT_FRAME) return "all";
    const functionIndex = this.functionOf(frame);
    if (functionIndex < 0) return printable(this.groups[frame - this.profile.frames.count] ?? "");
    return this.functionName(functionIndex);
  }

  functionName(functionIndex: number): string {
    return printable(this.profile.strings[this.profile.functions.name[functionIndex]]);
  }

  /** Name of the kind of code; empty for the root and groups. */
  kind(frame: number): string {
    const functionIndex = this.functionOf(frame);
    return functionIndex < 0 ? "" : this.profile.kinds[this.profile.functions.kind[functionIndex]];
  }

  inlined(frame: number): boolean {
    return this.functionOf(frame) >= 0 && this.profile.frames.inlined[frame] !== 0;
  }

  paint(palette: Palette, frame: number): Paint {
    return this.functionOf(frame) < 0 ? palette.group : paintOf(palette, this.kind(frame), this.inlined(frame));
  }

  /** In a comparison the paint of a node is that of its change; otherwise it hangs on the frame alone: `null`. */
  changePaints(palette: Palette, tree: ViewTree): ((node: number) => Paint) | null {
    const { comparison } = this.profile;
    return comparison ? (node) => changePaint(palette, changeOf(comparison, tree, node).strength) : null;
  }

  /** `src/main.rs:12`; empty if the file is unknown. */
  place(functionIndex: number): string {
    const { functions, strings } = this.profile;
    const file = printable(strings[functions.file[functionIndex]]);
    return file === "" || functions.line[functionIndex] === 0 ? file : `${file}:${functions.line[functionIndex]}`;
  }

  mapping(functionIndex: number): string {
    return printable(this.profile.strings[this.profile.functions.mapping[functionIndex]]);
  }

  /** Facts about a node, as label and text: kind, place, mapping, then total and self in every type. */
  facts(tree: ViewTree, node: number): [string, string][] {
    const frame = tree.frame[node];
    const functionIndex = this.functionOf(frame);
    const facts: [string, string][] = [];
    if (functionIndex >= 0) {
      facts.push(["Kind", this.kind(frame) + (this.inlined(frame) ? ", inlined" : "")]);
      const place = this.place(functionIndex);
      if (place !== "") facts.push(["Source", place]);
      const mapping = this.mapping(functionIndex);
      if (mapping !== "") facts.push(["Binary", mapping]);
    }
    const { comparison } = this.profile;
    if (comparison) {
      const unit = this.profile.sampleTypes[comparison.both].unit;
      const { current, baseline, chance } = changeOf(comparison, tree, node);
      const own = changeOf(comparison, tree, node, "self");
      const side = (value: number, type: number) => (unit === "share" ? formatShare(value, 1) : `${formatShare(value, tree.values(type).total[0])} · ${formatValue(value, unit)}`);
      facts.push(["Current", side(current, comparison.current)], ["Baseline", side(baseline, comparison.baseline)]);
      const ratio = formatRatio(current, baseline);
      facts.push(["Change", `${formatChange(current - baseline, unit)}${ratio === "" ? "" : ` (${ratio})`}${chance ? ", no more than chance" : ""}`]);
      facts.push(["Self", `${formatValue(own.current, unit)}, was ${formatValue(own.baseline, unit)}`]);
      return facts;
    }
    facts.push(["Total", this.values(tree, "total", node)], ["Self", this.values(tree, "self", node)]);
    return facts;
  }

  /** `12.3 % · 1.23 s · 123 samples`. */
  values(tree: ViewTree, column: "self" | "total", node: number): string {
    const { sampleTypes } = this.profile;
    const order = [tree.type, ...sampleTypes.map((_, type) => type).filter((type) => type !== tree.type)];
    const parts = order.map((type) => {
      const value = typedValue(tree.values(type)[column][node], sampleTypes[type]);
      const { name, unit } = sampleTypes[type];
      const alone = unit === "count" || sampleTypes.every((other, index) => index === type || other.unit !== unit);
      return alone ? value : `${value} ${printable(name)}`;
    });
    return [formatShare(tree[column][node], tree.total[0]), ...parts].join(" · ");
  }
}

/** A value with its unit, and its name where the unit alone does not say what is counted. */
export function typedValue(value: number, type: { name: string; unit: string }): string {
  return type.unit === "count" ? `${formatValue(value, type.unit)} ${printable(type.name)}` : formatValue(value, printable(type.unit));
}
