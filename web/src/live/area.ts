/** Draws a stack on a canvas: areas, axes, and the ranges that are chosen. Plain drawing: no events, no state of its own. */
import type { Palette } from "../view/palette.ts";
import { roundUp, type Stack } from "./stack.ts";
import type { Range } from "./state.ts";
import { ticks, tickText } from "./times.ts";

/** Pixels kept free: cores at the left, times below. */
export const MARGIN = { left: 44, right: 8, top: 6, bottom: 18 };

/** What is drawn. */
export interface AreaPicture {
  width: number;
  height: number;
  period: Range;
  stack: Stack | null;
  /** CPUs of the node: a line, where it is near. */
  cpus: number;
  current: Range | null;
  baseline: Range | null;
  /** A time to mark; `null` = none. */
  hover: number | null;
  palette: Palette;
  text: string;
  grid: string;
  accents: { current: string; baseline: string };
}

/** From a time to pixels, not bounded. */
export function xOf(time: number, period: Range, width: number): number {
  return MARGIN.left + ((time - period.from) / (period.to - period.from)) * (width - MARGIN.left - MARGIN.right);
}

/** From pixels to a time within the period. */
export function timeAt(x: number, period: Range, width: number): number {
  const share = (x - MARGIN.left) / Math.max(1, width - MARGIN.left - MARGIN.right);
  return period.from + Math.min(1, Math.max(0, share)) * (period.to - period.from);
}

/** The colour of a layer. */
export function layerColour(palette: Palette, slot: number): string {
  return slot < 0 ? palette.seriesRest : palette.series[slot % palette.series.length];
}

export function drawArea(context: CanvasRenderingContext2D, picture: AreaPicture): void {
  const { width, height, period, stack, palette } = picture;
  const bottom = height - MARGIN.bottom;
  const highest = stack ? stack.total.reduce((high, value) => Math.max(high, value), 0) : 0;
  const top = roundUp(Math.max(highest, 0.01));
  const yOf = (cores: number) => bottom - (cores / top) * (bottom - MARGIN.top);
  context.fillStyle = palette.background;
  context.fillRect(0, 0, width, height);
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";

  // Cores.
  context.textAlign = "right";
  for (const cores of [0, top / 2, top]) {
    const y = Math.round(yOf(cores)) + 0.5;
    context.fillStyle = picture.grid;
    context.fillRect(MARGIN.left, y - 0.5, width - MARGIN.left - MARGIN.right, 1);
    context.fillStyle = picture.text;
    const number = String(Number(cores.toPrecision(3)));
    context.fillText(number, MARGIN.left - 6, Math.max(y, 7));
  }
  if (stack) drawLayers(context, picture, stack, yOf);
  if (picture.cpus > 0 && picture.cpus < top) {
    context.fillStyle = picture.text;
    context.fillRect(MARGIN.left, Math.round(yOf(picture.cpus)), width - MARGIN.left - MARGIN.right, 1);
  }

  // Times.
  context.textAlign = "center";
  const most = Math.max(2, Math.floor((width - MARGIN.left) / 76));
  for (const time of ticks(period, most)) {
    const x = Math.round(xOf(time, period, width));
    context.fillStyle = picture.text;
    context.fillRect(x, bottom, 1, 4);
    const text = tickText(time, period);
    const half = context.measureText(text).width / 2;
    if (x - half >= MARGIN.left - 8 && x + half <= width) context.fillText(text, x, bottom + 11);
  }
  drawRanges(context, picture, bottom);
  context.textAlign = "left";
  context.fillStyle = picture.text;
  context.fillText("cores", MARGIN.left + 5, MARGIN.top + 8);
}

/** Steps, not slopes: a step is a sum, and nothing is known about its inside. */
function drawLayers(context: CanvasRenderingContext2D, picture: AreaPicture, stack: Stack, yOf: (cores: number) => number): void {
  const { width, period, palette } = picture;
  const below = new Float64Array(stack.total.length);
  context.save();
  context.beginPath();
  context.rect(MARGIN.left, 0, width - MARGIN.left - MARGIN.right, yOf(0));
  context.clip();
  for (const layer of stack.layers) {
    context.fillStyle = layerColour(palette, layer.slot);
    context.beginPath();
    for (let step = 0; step < below.length; step++) {
      const y = yOf(below[step] + layer.cores[step]);
      context.lineTo(xOf(stack.from + step * stack.step, period, width), y);
      context.lineTo(xOf(stack.from + (step + 1) * stack.step, period, width), y);
    }
    for (let step = below.length - 1; step >= 0; step--) {
      const y = yOf(below[step]);
      context.lineTo(xOf(stack.from + (step + 1) * stack.step, period, width), y);
      context.lineTo(xOf(stack.from + step * stack.step, period, width), y);
      below[step] += layer.cores[step];
    }
    context.fill();
  }
  context.restore();
}

function drawRanges(context: CanvasRenderingContext2D, picture: AreaPicture, bottom: number): void {
  const { width, period, palette } = picture;
  const clamp = (x: number) => Math.min(width - MARGIN.right, Math.max(MARGIN.left, x));
  const edges = (range: Range) => [clamp(xOf(range.from, period, width)), clamp(xOf(range.to, period, width))];
  if (picture.current) {
    // What is not chosen fades.
    context.globalAlpha = 0.62;
    context.fillStyle = palette.background;
    const kept = [picture.current, picture.baseline].filter((each) => each !== null).map(edges).sort((a, b) => a[0] - b[0]);
    let from = MARGIN.left;
    for (const [left, right] of [...kept, [width - MARGIN.right, width]]) {
      if (left > from) context.fillRect(from, 0, left - from, bottom);
      from = Math.max(from, right);
    }
    context.globalAlpha = 1;
  }
  const frame = (range: Range | null, colour: string) => {
    if (!range) return;
    const [left, right] = edges(range);
    if (right - left < 0.5) return;
    context.fillStyle = colour;
    context.fillRect(left, 0, right - left, 3);
    for (const x of [left, right]) context.fillRect(Math.min(Math.round(x) - 1, width - MARGIN.right - 2), 0, 2, bottom);
  };
  frame(picture.baseline, picture.accents.baseline);
  frame(picture.current, picture.accents.current);
  if (picture.hover !== null) {
    context.globalAlpha = 0.6;
    context.fillStyle = palette.outline;
    context.fillRect(Math.round(xOf(picture.hover, period, width)), 0, 1, bottom);
    context.globalAlpha = 1;
  }
}
