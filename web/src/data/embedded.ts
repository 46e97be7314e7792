/**
 * The profile that lies in the page itself: base64 of raw deflate, in a `<script>` that is data and never runs.
 *
 * No request is made: `fetch` of a `data:` address would need a hole in the content security policy.
 */
import { FormatError } from "./format.ts";
import { inflateRaw } from "./inflate.ts";

/** A profile larger than this is not shown: a browser tab could not hold it anyway. */
export const MAX_BYTES = 1 << 30;

/** Reads the container out of the element. Throws `FormatError` or `RangeError`. */
export async function readEmbedded(element: Element): Promise<Uint8Array> {
  const length = Number(element.getAttribute("data-length"));
  if (!Number.isInteger(length) || length < 0 || length > MAX_BYTES) throw new FormatError("the profile's length is not plausible");
  if (element.getAttribute("data-encoding") !== "deflate-raw;base64") throw new FormatError("the profile's encoding is not known");
  return await inflate(fromBase64(element.textContent ?? ""), length);
}

/** Base64 → bytes, with the browser's own function where it has one. */
export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  const native = (Uint8Array as unknown as { fromBase64?: (text: string) => Uint8Array<ArrayBuffer> }).fromBase64;
  if (native) return native(text);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let index = 0; index < binary.length; index++) bytes[index] = binary.charCodeAt(index);
  return bytes;
}

/** Raw deflate → exactly `length` bytes. */
export async function inflate(bytes: Uint8Array<ArrayBuffer>, length: number): Promise<Uint8Array> {
  let stream: DecompressionStream;
  try {
    stream = new DecompressionStream("deflate-raw");
  } catch {
    // Browsers before 2023 know neither the class nor this format.
    return inflateRaw(bytes, length);
  }
  const reader = new Blob([bytes]).stream().pipeThrough(stream).getReader();
  const output = new Uint8Array(length);
  let written = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (written + value.length > length) throw new RangeError("the embedded profile is damaged");
    output.set(value, written);
    written += value.length;
  }
  if (written !== length) throw new RangeError("the embedded profile is damaged");
  return output;
}
