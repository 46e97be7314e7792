/**
 * One graph on a canvas: draws a `ViewTree`, and turns pointer and keys into selections and zooms.
 *
 * Constraint: only boxes in view are drawn, at most once a frame of the display. It shows what it is told; what a click means
 * beyond this graph is the business of its owner (app.ts).
 */
import { boxAt, boxOf, layoutTree, levelCount, type Layout } from "../model/layout.ts";
import { depthOf, type ViewTree } from "../model/tree.ts";
import { element } from "./dom.ts";
import type { Labels } from "./labels.ts";
import type { Paint, Palette } from "./palette.ts";
import { shortName } from "./text.ts";

/** `icicle`: the root on top; `flame`: at the bottom. */
export type Orientation = "icicle" | "flame";

/** What a graph tells its owner. `null` = nothing under the pointer. */
export interface GraphEvents {
  onHover(graph: Graph, node: number | null, rest: boolean, point: { x: number; y: number }): void;
  onSelect(graph: Graph, node: number): void;
  onZoom(graph: Graph, node: number): void;
}

const ROW = 19;
const FONT_SIZE = 11.5;
const FONT = `${FONT_SIZE}px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace`;
const TEXT_INSET = 5;
const MIN_TEXT_WIDTH = 22;

export class Graph {
  readonly root: HTMLElement;
  tree: ViewTree | null = null;
  labels: Labels | null = null;
  zoom = 0;
  selected = 0;
  private readonly canvas: HTMLCanvasElement;
  private readonly spacer: HTMLElement;
  private layout: Layout | null = null;
  private orientation: Orientation;
  private palette: Palette;
  private matches: Uint8Array | null = null;
  private paints: Paint[] = [];
  /** In a comparison; otherwise a node's paint is its frame's. */
  private paintOfNode: ((node: number) => Paint) | null = null;
  private hovered = -1;
  private width = 0;
  private height = 0;
  private characterWidth = 0;
  private scheduled = false;
  private readonly resizes: ResizeObserver;

  constructor(label: string, orientation: Orientation, palette: Palette, private readonly events: GraphEvents) {
    this.orientation = orientation;
    this.palette = palette;
    this.canvas = element("canvas", { "aria-hidden": "true" });
    this.spacer = element("div", { class: "graph-spacer" });
    this.root = element(
      "div",
      { class: "graph", tabindex: "0", role: "application", "aria-label": label, "aria-describedby": "everflame-keys" },
      this.canvas,
      this.spacer,
    );
    this.root.addEventListener("scroll", () => this.invalidate(), { passive: true });
    this.root.addEventListener("pointermove", (event) => this.pointerMoved(event));
    this.root.addEventListener("pointerleave", () => this.hover(-1, { x: 0, y: 0 }));
    this.root.addEventListener("click", (event) => this.clicked(event));
    this.root.addEventListener("keydown", (event) => this.keyPressed(event));
    this.resizes = new ResizeObserver(() => this.measure());
    this.resizes.observe(this.root);
  }

  destroy(): void {
    this.resizes.disconnect();
  }

  /** Shows another tree, zoomed out. */
  setTree(tree: ViewTree, labels: Labels): void {
    this.tree = tree;
    this.labels = labels;
    this.zoom = 0;
    this.selected = 0;
    this.hovered = -1;
    this.makePaints();
    this.relayout();
    this.scrollToRoot();
  }

  setPalette(palette: Palette): void {
    this.palette = palette;
    this.makePaints();
    this.invalidate();
  }

  setOrientation(orientation: Orientation): void {
    this.orientation = orientation;
    this.resizeSpacer();
    this.scrollToRoot();
    this.invalidate();
  }

  /** One byte for each frame: 1 = highlighted. `null` = no search. */
  setMatches(matches: Uint8Array | null): void {
    this.matches = matches;
    this.invalidate();
  }

  setZoom(node: number): void {
    this.zoom = node;
    this.selected = node;
    this.hovered = -1;
    this.relayout();
    this.reveal(node);
  }

  select(node: number): void {
    this.selected = node;
    this.reveal(node);
    this.invalidate();
  }

  /** Where a node is drawn, in pixels of the page; `null` if it is not visible. For tests and for placing things. */
  rectOf(node: number): DOMRect | null {
    if (!this.layout || !this.tree) return null;
    const box = boxOf(this.layout, this.tree, node);
    if (box < 0) return null;
    const bounds = this.canvas.getBoundingClientRect();
    const top = this.rowTop(depthOf(this.tree, node)) - this.root.scrollTop;
    return new DOMRect(bounds.left + this.layout.x[box], bounds.top + top, this.layout.width[box], ROW);
  }

  private makePaints(): void {
    const { labels, palette } = this;
    if (!labels) return;
    const count = labels.profile.frames.count + labels.groups.length;
    this.paintOfNode = this.tree ? labels.changePaints(palette, this.tree) : null;
    this.paints = this.paintOfNode ? [] : Array.from({ length: count }, (_, frame) => labels.paint(palette, frame));
  }

  private measure(): void {
    const width = this.root.clientWidth;
    const height = this.root.clientHeight;
    if (width === this.width && height === this.height) return;
    const rescale = width !== this.width;
    this.width = width;
    this.height = height;
    if (rescale) this.relayout();
    this.resizeSpacer();
    if (this.orientation === "flame") this.scrollToRoot();
    this.draw();
  }

  private relayout(): void {
    if (!this.tree) return;
    if (this.width === 0) {
      this.width = this.root.clientWidth;
      this.height = this.root.clientHeight;
    }
    if (this.width === 0) return;
    this.layout = layoutTree(this.tree, this.zoom, this.width);
    this.resizeSpacer();
    this.invalidate();
  }

  private contentHeight(): number {
    return Math.max(this.layout ? levelCount(this.layout) * ROW + 1 : 0, this.height);
  }

  private resizeSpacer(): void {
    this.spacer.style.height = `${Math.max(0, this.contentHeight() - this.height)}px`;
    this.canvas.style.height = `${this.height}px`;
  }

  private scrollToRoot(): void {
    this.root.scrollTop = this.orientation === "icicle" ? 0 : this.contentHeight();
  }

  private rowTop(level: number): number {
    return this.orientation === "icicle" ? level * ROW : this.contentHeight() - (level + 1) * ROW;
  }

  private levelAt(contentY: number): number {
    return Math.floor((this.orientation === "icicle" ? contentY : this.contentHeight() - contentY) / ROW);
  }

  private reveal(node: number): void {
    if (!this.tree) return;
    const top = this.rowTop(depthOf(this.tree, node));
    if (top < this.root.scrollTop) this.root.scrollTop = top - ROW;
    else if (top + ROW > this.root.scrollTop + this.height) this.root.scrollTop = top + 2 * ROW - this.height;
  }

  /** Draws before the next frame of the display. */
  invalidate(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      if (this.scheduled) this.draw();
    });
  }

  private draw(): void {
    this.scheduled = false;
    const { layout, tree, labels, palette, canvas, width, height } = this;
    const context = canvas.getContext("2d", { alpha: false });
    if (!context || !layout || !tree || !labels || width === 0 || height === 0) return;
    const ratio = Math.min(window.devicePixelRatio || 1, 3);
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.width = `${width}px`;
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = palette.background;
    context.fillRect(0, 0, width, height);
    context.font = FONT;
    context.textBaseline = "middle";
    if (this.characterWidth === 0) this.characterWidth = context.measureText("0".repeat(50)).width / 50;

    const scroll = this.root.scrollTop;
    const bands = [this.levelAt(scroll), this.levelAt(scroll + height)];
    const from = Math.max(0, Math.min(...bands));
    const to = Math.min(levelCount(layout) - 1, Math.max(...bands));
    for (let level = from; level <= to; level++) {
      const top = this.rowTop(level) - scroll;
      for (let box = layout.levels[level]; box < layout.levels[level + 1]; box++) {
        this.drawBox(context, layout, box, top, ratio, level < layout.zoomLevel);
      }
    }
    context.globalAlpha = 1;
    this.drawOutline(context, scroll);
  }

  private drawBox(context: CanvasRenderingContext2D, layout: Layout, box: number, top: number, ratio: number, above: boolean): void {
    const { palette, matches } = this;
    const tree = this.tree as ViewTree;
    const node = layout.node[box];
    const width = layout.width[box];
    // Edges on whole pixels of the device: thousands of blurred ones look like a pattern that is not there.
    const x = Math.round(layout.x[box] * ratio) / ratio;
    const right = Math.round((layout.x[box] + width) * ratio) / ratio;
    // Without a gap, many small ones would look like one large one.
    const drawn = Math.max(right - x - (right - x >= 2 ? 1 : 0), 1 / ratio);
    if (node < 0) {
      context.globalAlpha = matches ? 0.4 : 0.7;
      context.fillStyle = palette.rest;
      context.fillRect(x, top + ROW / 2 - 3, drawn, 6);
      return;
    }
    const frame = tree.frame[node];
    const matched = matches !== null && frame >= 0 && matches[frame] === 1;
    const paint = matched ? palette.match : this.paintOfNode ? this.paintOfNode(node) : frame < 0 ? palette.group : this.paints[frame];
    context.globalAlpha = above ? 0.6 : matches && !matched ? 0.5 : 1;
    context.fillStyle = paint.fill;
    context.fillRect(x, top, drawn, ROW - 1);
    if (width < MIN_TEXT_WIDTH) return;
    context.globalAlpha = matches && !matched ? 0.75 : 1;
    context.fillStyle = above || (matches && !matched) ? this.palette.group.text : paint.text;
    this.drawText(context, frame, x + TEXT_INSET, top + ROW / 2, width - 2 * TEXT_INSET);
  }

  private drawText(context: CanvasRenderingContext2D, frame: number, x: number, y: number, room: number): void {
    const labels = this.labels as Labels;
    const fits = (text: string) => Math.floor(this.roomFor(context, text, room));
    let text = labels.name(frame);
    if (fits(text) < text.length) text = shortName(text);
    const length = fits(text);
    if (length < text.length) {
      if (length < 3) return;
      text = `${text.slice(0, length - 1)}…`;
    }
    context.fillText(text, x, y);
  }

  /** How many characters of a text have room. Other scripts are wider than the font's own characters. */
  private roomFor(context: CanvasRenderingContext2D, text: string, room: number): number {
    if (/^[\x20-\x7e]*$/.test(text)) return room / this.characterWidth;
    const measured = context.measureText(text).width;
    return measured <= room ? text.length : (text.length * room) / measured;
  }

  private drawOutline(context: CanvasRenderingContext2D, scroll: number): void {
    const { layout, tree, palette } = this;
    if (!layout || !tree) return;
    const outline = (box: number, level: number, lineWidth: number) => {
      const inset = lineWidth / 2;
      context.lineWidth = lineWidth;
      context.strokeStyle = palette.outline;
      const width = Math.max(layout.width[box] - 1, 2);
      context.strokeRect(layout.x[box] + inset, this.rowTop(level) - scroll + inset, width - lineWidth, ROW - 1 - lineWidth);
    };
    if (this.hovered >= 0) outline(this.hovered, this.levelOfBox(this.hovered), 1);
    const box = boxOf(layout, tree, this.selected);
    if (box >= 0 && (this.selected !== 0 || document.activeElement === this.root)) outline(box, depthOf(tree, this.selected), 2);
  }

  private levelOfBox(box: number): number {
    const levels = (this.layout as Layout).levels;
    let level = 0;
    while (levels[level + 1] <= box) level++;
    return level;
  }

  private boxAtPointer(event: MouseEvent): number {
    if (!this.layout) return -1;
    const bounds = this.canvas.getBoundingClientRect();
    const level = this.levelAt(event.clientY - bounds.top + this.root.scrollTop);
    return boxAt(this.layout, level, event.clientX - bounds.left);
  }

  private pointerMoved(event: PointerEvent): void {
    this.hover(event.pointerType === "touch" ? -1 : this.boxAtPointer(event), { x: event.clientX, y: event.clientY });
  }

  private hover(box: number, point: { x: number; y: number }): void {
    if (box !== this.hovered) {
      this.hovered = box;
      this.invalidate();
    }
    const node = box < 0 ? null : (this.layout as Layout).node[box];
    this.root.style.cursor = node === null ? "" : "pointer";
    this.events.onHover(this, node === null ? null : node < 0 ? ~node : node, node !== null && node < 0, point);
  }

  private clicked(event: MouseEvent): void {
    const box = this.boxAtPointer(event);
    if (box < 0 || !this.tree) return;
    const node = (this.layout as Layout).node[box];
    // The strip of small siblings zooms to their parent, where they have more room.
    this.events.onZoom(this, node < 0 ? this.tree.parent[~node] : node);
  }

  private keyPressed(event: KeyboardEvent): void {
    if (!this.tree || event.ctrlKey || event.metaKey || event.altKey) return;
    const deeper = this.orientation === "icicle" ? "ArrowDown" : "ArrowUp";
    const shallower = this.orientation === "icicle" ? "ArrowUp" : "ArrowDown";
    let target = -1;
    if (event.key === deeper) target = this.childOf(this.selected);
    else if (event.key === shallower) target = this.tree.parent[this.selected];
    else if (event.key === "ArrowLeft") target = this.neighbour(-1);
    else if (event.key === "ArrowRight") target = this.neighbour(1);
    else if (event.key === "Home") target = 0;
    else if (event.key === "Enter") {
      event.preventDefault();
      this.events.onZoom(this, this.selected);
      return;
    } else return;
    event.preventDefault();
    if (target < 0) return;
    this.select(target);
    this.events.onSelect(this, target);
  }

  /** The child that is drawn widest; above the zoomed node, the one that leads to it. */
  private childOf(node: number): number {
    const tree = this.tree as ViewTree;
    const layout = this.layout as Layout;
    const level = depthOf(tree, node) + 1;
    if (level <= layout.zoomLevel) return layout.node[layout.levels[level]];
    const child = tree.size[node] > 1 ? node + 1 : -1;
    return child >= 0 && boxOf(layout, tree, child) >= 0 ? child : -1;
  }

  /** The next box on the same level that is a single node. */
  private neighbour(step: number): number {
    const tree = this.tree as ViewTree;
    const layout = this.layout as Layout;
    const level = depthOf(tree, this.selected);
    let box = boxOf(layout, tree, this.selected);
    if (box < 0) return -1;
    do box += step;
    while (box >= layout.levels[level] && box < layout.levels[level + 1] && layout.node[box] < 0);
    return box >= layout.levels[level] && box < layout.levels[level + 1] ? layout.node[box] : -1;
  }
}
