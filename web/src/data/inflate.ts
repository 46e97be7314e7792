/**
 * Raw deflate (RFC 1951) → bytes, for browsers without `DecompressionStream("deflate-raw")`.
 *
 * Constraint: the length of the result is known beforehand and is the bound; data that needs more, or less, is refused.
 * It is slower than the browser's own, and used only when that one is missing.
 */

const LENGTH_BASE = [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258];
const LENGTH_EXTRA = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DISTANCE_BASE = [
  1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385,
  24577,
];
const CODE_LENGTH_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const LONGEST_CODE = 15;

/** A canonical Huffman code: how many codes of each length, and the symbols in order of their codes. */
interface Code {
  counts: Uint16Array;
  symbols: Uint16Array;
}

function makeCode(lengths: ArrayLike<number>): Code {
  const counts = new Uint16Array(LONGEST_CODE + 1);
  for (let symbol = 0; symbol < lengths.length; symbol++) counts[lengths[symbol]]++;
  counts[0] = 0;
  const next = new Uint16Array(LONGEST_CODE + 2);
  for (let length = 1; length <= LONGEST_CODE; length++) next[length + 1] = next[length] + counts[length];
  const symbols = new Uint16Array(lengths.length);
  for (let symbol = 0; symbol < lengths.length; symbol++) {
    if (lengths[symbol] !== 0) symbols[next[lengths[symbol]]++] = symbol;
  }
  return { counts, symbols };
}

/** Inflates `input` into exactly `length` bytes. Throws a `RangeError` when the data is damaged or has another length. */
export function inflateRaw(input: Uint8Array, length: number): Uint8Array {
  const output = new Uint8Array(length);
  let written = 0;
  let position = 0;
  let hold = 0;
  let held = 0;
  const damaged = () => new RangeError("the embedded profile is damaged");

  const bits = (count: number): number => {
    while (held < count) {
      if (position >= input.length) throw damaged();
      hold |= input[position++] << held;
      held += 8;
    }
    const value = hold & ((1 << count) - 1);
    hold >>>= count;
    held -= count;
    return value;
  };
  const symbol = ({ counts, symbols }: Code): number => {
    let code = 0;
    let first = 0;
    let index = 0;
    for (let size = 1; size <= LONGEST_CODE; size++) {
      code |= bits(1);
      const count = counts[size];
      if (code - first < count) return symbols[index + code - first];
      index += count;
      first = (first + count) << 1;
      code <<= 1;
    }
    throw damaged();
  };
  const stored = () => {
    hold = 0;
    held = 0;
    if (position + 4 > input.length) throw damaged();
    const size = input[position] | (input[position + 1] << 8);
    position += 4;
    if (position + size > input.length || written + size > length) throw damaged();
    output.set(input.subarray(position, position + size), written);
    position += size;
    written += size;
  };
  const compressed = (literals: Code, distances: Code) => {
    for (;;) {
      const value = symbol(literals);
      if (value === 256) return;
      if (value < 256) {
        if (written >= length) throw damaged();
        output[written++] = value;
        continue;
      }
      const size = LENGTH_BASE[value - 257] + bits(LENGTH_EXTRA[value - 257] ?? 0);
      const distanceSymbol = symbol(distances);
      const extra = distanceSymbol < 4 ? 0 : (distanceSymbol >> 1) - 1;
      const distance = DISTANCE_BASE[distanceSymbol] + bits(extra);
      if (!(distance <= written) || !(written + size <= length)) throw damaged();
      for (const end = written + size; written < end; written++) output[written] = output[written - distance];
    }
  };
  const dynamic = () => {
    const literalCount = bits(5) + 257;
    const distanceCount = bits(5) + 1;
    const codeCount = bits(4) + 4;
    const codeLengths = new Uint8Array(19);
    for (let index = 0; index < codeCount; index++) codeLengths[CODE_LENGTH_ORDER[index]] = bits(3);
    const codes = makeCode(codeLengths);
    const lengths = new Uint8Array(literalCount + distanceCount);
    for (let index = 0; index < lengths.length; ) {
      const value = symbol(codes);
      if (value < 16) {
        lengths[index++] = value;
        continue;
      }
      if (value === 16 && index === 0) throw damaged();
      const repeated = value === 16 ? lengths[index - 1] : 0;
      const times = value === 16 ? 3 + bits(2) : value === 17 ? 3 + bits(3) : 11 + bits(7);
      if (index + times > lengths.length) throw damaged();
      lengths.fill(repeated, index, index + times);
      index += times;
    }
    compressed(makeCode(lengths.subarray(0, literalCount)), makeCode(lengths.subarray(literalCount)));
  };
  const fixed = () => {
    const lengths = new Uint8Array(288).fill(8, 0, 144).fill(9, 144, 256).fill(7, 256, 280).fill(8, 280);
    compressed(makeCode(lengths), makeCode(new Uint8Array(30).fill(5)));
  };

  for (let last = 0; last === 0; ) {
    last = bits(1);
    const kind = bits(2);
    if (kind === 0) stored();
    else if (kind === 1) fixed();
    else if (kind === 2) dynamic();
    else throw damaged();
  }
  if (written !== length) throw damaged();
  return output;
}
