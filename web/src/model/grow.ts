/** Integers in one stretch of memory; a plain array of a million numbers would be slower and larger. */
export class Grow {
  array: Int32Array;
  length = 0;

  constructor(capacity: number) {
    this.array = new Int32Array(Math.max(16, capacity));
  }

  push(value: number): void {
    if (this.length === this.array.length) {
      const larger = new Int32Array(this.array.length * 2);
      larger.set(this.array);
      this.array = larger;
    }
    this.array[this.length++] = value;
  }

  pop(): number {
    return this.array[--this.length];
  }

  /** Makes the list at least as long; what is new holds anything. */
  resize(length: number): void {
    if (length > this.array.length) {
      const larger = new Int32Array(Math.max(length, this.array.length * 2));
      larger.set(this.array);
      this.array = larger;
    }
    this.length = length;
  }
}
