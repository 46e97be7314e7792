/**
 * When the page asks again: often enough to feel live, never so often that it costs the node more than it shows.
 *
 * Nothing is asked while nobody looks (the tab is hidden), and one question is asked at a time.
 */

/** The shortest time between two questions, in ms. */
export const SHORTEST = 5_000;
/** The same as long as there is nothing to see: a newcomer waits for the first samples. */
export const SHORTEST_WHILE_EMPTY = 1_000;
/** The longest. */
export const LONGEST = 60_000;
/** The longest wait after failures that came at once. */
const LONGEST_WAIT = 30_000;
/** The longest wait after a failure that took long: somebody waits for the end of what is wrong. */
const LONGEST_REST = 300_000;
/** How many times longer than its answer took a question waits: at most a tenth of the time is spent on answers. */
const REST = 10;

/**
 * ms until the next question about the last `period` ms, if the last answer, or that there is none, took `took` ms and `failures` up to
 * now failed. `empty`: there is no history yet.
 */
export function nextDelay(period: number, took: number, failures: number, empty: boolean): number {
  // What the server gave up for its length cost as much as an answer.
  if (failures > 0) return Math.max(Math.min(LONGEST_WAIT, 1000 * 2 ** Math.min(failures - 1, 10)), Math.min(took * REST, LONGEST_REST));
  // An answer about nothing costs nothing; where it takes long, the machine is busy with other things.
  if (empty) return Math.max(SHORTEST_WHILE_EMPTY, took);
  return Math.min(Math.max(period / 60, SHORTEST, took * REST), Math.max(LONGEST, took * REST));
}

/** A timer that waits while the page is hidden. */
export class Refresher {
  private timer: ReturnType<typeof setTimeout> | undefined;
  private due = false;

  constructor(private readonly act: () => void, signal: AbortSignal) {
    document.addEventListener("visibilitychange", () => this.due && !document.hidden && this.run(), { signal });
    signal.addEventListener("abort", () => this.stop());
  }

  /** Acts once, so many ms from now; replaces what was planned. */
  plan(delay: number): void {
    this.stop();
    this.timer = setTimeout(() => {
      this.due = true;
      if (!document.hidden) this.run();
    }, delay);
  }

  stop(): void {
    clearTimeout(this.timer);
    this.due = false;
  }

  private run(): void {
    this.due = false;
    this.act();
  }
}
