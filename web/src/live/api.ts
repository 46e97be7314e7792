/**
 * The server's HTTP interface (docs/http.md), typed. One of the two files that know the network; the other is main.ts.
 *
 * Constraint: requests go to the page's own server only, and what comes back is checked before anybody uses it.
 */
import { conditionText, type Condition, type Range } from "./state.ts";

export interface Status {
  node: string;
  version: string;
  frequency: number;
  cpus: number;
  now: number;
  history: Range | null;
  lost: number;
  notes: string[];
}

export interface LabelCount {
  name: string;
  values: number;
}

export interface Values {
  values: { value: string; cpu: number }[];
  distinct: number;
  other: number;
  skipped: number;
}

/** CPU time in ns by step; all lists have the same length. */
export interface Series {
  from: number;
  step: number;
  series: { value: string; cpu: number[] }[];
  other: number[];
  skipped: number;
}

/** `gone`: no answer. `token`: not let in. `busy`: later. `refused`: not like this. */
export type Failure = "gone" | "token" | "busy" | "refused";

export class ApiError extends Error {
  override name = "ApiError";
  /** `worked`: the server had work with the question. */
  constructor(readonly failure: Failure, message: string, readonly worked = failure !== "gone") {
    super(message);
  }
}

/** Which samples. */
export interface Slice {
  range: Range;
  where: Condition[];
}

export type DownloadForm = "pb.gz" | "svg" | "folded" | "html";

const PATH = "/api/v1/";
/** Answers longer than this are not read: a tab could not hold them. */
const MAX_PROFILE_BYTES = 1 << 30;
/** Steps of a series; more than the pixels of a usual screen would not be seen. */
export const STEPS = 240;

export class Api {
  async status(signal: AbortSignal): Promise<Status> {
    const body = await this.json("status", new URLSearchParams(), signal);
    const history = isRecord(body.history) ? { from: number(body.history.from), to: number(body.history.to) } : null;
    return {
      node: text(body.node), version: text(body.version), frequency: number(body.frequency_hz), cpus: number(body.cpus),
      now: number(body.now), history, lost: number(body.lost), notes: list(body.notes).map(text),
    };
  }

  async labels(slice: Slice, signal: AbortSignal): Promise<LabelCount[]> {
    const body = await this.json("labels", parameters(slice), signal);
    return list(body.labels).map(record).map((each) => ({ name: text(each.name), values: number(each.values) }));
  }

  async values(label: string, slice: Slice, limit: number, signal: AbortSignal): Promise<Values> {
    const body = await this.json("values", parameters(slice, { label, limit: String(limit) }), signal);
    const values = list(body.values).map(record).map((each) => ({ value: text(each.value), cpu: number(each.cpu_ns) }));
    return { values, distinct: number(body.distinct), other: number(body.other_ns), skipped: number(body.skipped) };
  }

  async series(by: string, slice: Slice, signal: AbortSignal): Promise<Series> {
    const body = await this.json("series", parameters(slice, { by, steps: String(STEPS), limit: "8" }), signal);
    const series = list(body.series).map(record).map((each) => ({ value: text(each.value), cpu: list(each.cpu_ns).map(number) }));
    const made = { from: number(body.from), step: number(body.step), series, other: list(body.other).map(number), skipped: number(body.skipped) };
    if (made.step <= 0 || made.series.some(({ cpu }) => cpu.length !== made.other.length)) throw new ApiError("refused", "The server's answer about CPU over time makes no sense.");
    return made;
  }

  /** The container (web/FORMAT.md), not yet decoded. */
  async profile(slice: Slice, signal: AbortSignal): Promise<Uint8Array> {
    const response = await this.get("profile", parameters(slice), signal);
    const bytes = await read(() => response.arrayBuffer(), signal);
    if (bytes.byteLength > MAX_PROFILE_BYTES) throw new ApiError("refused", "The profile is too large for a browser: choose a shorter range.");
    return new Uint8Array(bytes);
  }

  /** Where a file of these samples is. */
  downloadAddress(form: DownloadForm, slice: Slice): string {
    return `${PATH}download?${parameters(slice, { form })}`;
  }

  private async json(what: string, query: URLSearchParams, signal: AbortSignal): Promise<Record<string, unknown>> {
    const response = await this.get(what, query, signal);
    return record(await read(() => response.json() as Promise<unknown>, signal));
  }

  private async get(what: string, query: URLSearchParams, signal: AbortSignal): Promise<Response> {
    const asked = query.toString();
    let response: Response;
    try {
      response = await fetch(`${PATH}${what}${asked === "" ? "" : `?${asked}`}`, { signal, credentials: "same-origin", cache: "no-store", redirect: "error" });
    } catch (error) {
      if (signal.aborted) throw error;
      throw new ApiError("gone", "The server does not answer.");
    }
    if (response.ok) return response;
    const said = await response.json().then((body: unknown) => (isRecord(body) && typeof body.error === "string" ? body.error.slice(0, 500) : null), () => null);
    if (response.status === 401) throw new ApiError("token", said ?? "A token is needed.");
    if (response.status === 503 || response.status === 429) throw new ApiError("busy", said ?? "The server is busy.", !response.headers.has("retry-after"));
    throw new ApiError(response.status >= 500 ? "busy" : "refused", said ?? `The server refused: ${response.status}.`);
  }
}

async function read<T>(body: () => Promise<T>, signal: AbortSignal): Promise<T> {
  try {
    return await body();
  } catch (error) {
    if (signal.aborted) throw error;
    throw new ApiError("gone", "The server's answer broke off.");
  }
}

function parameters({ range, where }: Slice, more: Record<string, string> = {}): URLSearchParams {
  const query = new URLSearchParams({ ...more, from: String(Math.floor(range.from)), to: String(Math.ceil(range.to)) });
  for (const condition of where) query.append("where", conditionText(condition));
  return query;
}

const bad = () => new ApiError("refused", "The server's answer makes no sense.");

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function record(value: unknown): Record<string, unknown> {
  if (!isRecord(value)) throw bad();
  return value;
}

function list(value: unknown): unknown[] {
  if (!Array.isArray(value)) throw bad();
  return value;
}

function text(value: unknown): string {
  if (typeof value !== "string") throw bad();
  return value;
}

function number(value: unknown): number {
  if (typeof value !== "number" || !Number.isFinite(value) || value < 0) throw bad();
  return value;
}
