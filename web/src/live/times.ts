/** Times for people: ticks of an axis, and texts of times, ranges and durations in the browser's own time zone. */
import { DAY, HOUR, MINUTE, type Range } from "./state.ts";

const SECOND = 1000;
const STEPS = [
  SECOND, 2 * SECOND, 5 * SECOND, 10 * SECOND, 15 * SECOND, 30 * SECOND, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE,
  HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 30 * DAY, 365 * DAY,
];

/** Round times of a range, at most `most` of them; from a day on they are midnights, hours are those of the wall clock. */
export function ticks({ from, to }: Range, most: number): number[] {
  const step = STEPS.find((each) => (to - from) / each <= most) ?? Math.ceil((to - from) / most);
  // Half an hour of offset (India) is seen from 1 h on, so that ticks are round where the person lives.
  const offset = new Date(from).getTimezoneOffset() * MINUTE;
  const found: number[] = [];
  for (let time = Math.ceil((from - offset) / step) * step + offset; time <= to && found.length <= most; time += step) found.push(time);
  return found;
}

const two = (value: number) => String(value).padStart(2, "0");

/** `14:05`, `14:05:30` where seconds matter, `3 Mar` at midnight of longer ranges. */
export function tickText(time: number, { from, to }: Range): string {
  const date = new Date(time);
  if (to - from >= 20 * HOUR && date.getHours() === 0 && date.getMinutes() === 0) return dayText(date);
  const seconds = to - from < 10 * MINUTE && (date.getSeconds() !== 0 || to - from < 2 * MINUTE);
  return `${two(date.getHours())}:${two(date.getMinutes())}${seconds ? `:${two(date.getSeconds())}` : ""}`;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

function dayText(date: Date): string {
  return `${date.getDate()} ${MONTHS[date.getMonth()]}`;
}

/** `14:05:30`, after the day where it is another one than that of `now`. */
export function timeText(time: number, now: number): string {
  return new Date(time).toDateString() === new Date(now).toDateString() ? clockText(new Date(time)) : withDay(time, now);
}

function clockText(date: Date): string {
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

function withDay(time: number, now: number): string {
  const date = new Date(time);
  const year = date.getFullYear() === new Date(now).getFullYear() ? "" : ` ${date.getFullYear()}`;
  return `${dayText(date)}${year} ${clockText(date)}`;
}

/** `14:05:00 – 14:10:00`; with days where it is not all on the day of `now`. */
export function rangeText({ from, to }: Range, now: number): string {
  const day = (time: number) => new Date(time).toDateString();
  if (day(from) === day(to)) return `${timeText(from, now)} – ${timeText(to, to)}`;
  return `${withDay(from, now)} – ${withDay(to, now)}`;
}

/** `45 s`, `5 min`, `1 h 30 min`, `3 days`. */
export function durationText(duration: number): string {
  if (duration < 1000) return `${Math.round(duration)} ms`;
  const seconds = Math.round(duration / SECOND);
  if (seconds < 60) return duration < 10_000 && duration % 1000 !== 0 ? `${(duration / 1000).toFixed(1)} s` : `${seconds} s`;
  const parts: string[] = [];
  const units: [number, string][] = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  let rest = seconds;
  for (const [size, unit] of units) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0 && parts.length < 2) parts.push(`${count} ${unit}`);
  }
  return parts.join(" ");
}
