// Where segments of a transcript stand, before all of them were ever drawn: drawn ones have their height,
// the others the average of those, so that the scroll bar tells about the whole log at once.

/** Height of a segment before any was drawn, in px. */
const GUESS = 1_400;

export class Layout {
  private readonly heights = new Map<number, number>();
  private sum = 0;
  /** The average in use: taken anew only when twice as many are known, so that what is read does not tremble. */
  private steady = GUESS;
  private takenAt = 0;

  /** Notes a drawn segment's height; says whether it is news. */
  measured(index: number, height: number): boolean {
    const known = this.heights.get(index);
    if (known !== undefined && Math.abs(known - height) < 0.5) return false;
    this.sum += height - (known ?? 0);
    this.heights.set(index, height);
    if (this.heights.size >= this.takenAt * 2 || this.heights.size === 1) {
      this.takenAt = this.heights.size;
      this.steady = Math.max(40, this.sum / this.heights.size);
    }
    return true;
  }

  average(): number {
    return this.steady;
  }

  height(index: number): number {
    return this.heights.get(index) ?? this.average();
  }

  /** Where segment `index` begins, when the first is `first`. */
  top(first: number, index: number): number {
    const average = this.average();
    let known = 0;
    let total = 0;
    for (const [at, height] of this.heights) {
      if (at < first || at >= index) continue;
      known += 1;
      total += height;
    }
    return total + (Math.max(0, index - first) - known) * average;
  }

  /** Which segments of [first, end) meet the stretch from `from` to `to`. */
  range(first: number, end: number, from: number, to: number): { start: number; end: number } {
    if (end <= first) return { start: first, end: first };
    const average = this.average();
    let at = first;
    let top = 0;
    while (at < end - 1) {
      const height = this.heights.get(at) ?? average;
      if (top + height > from) break;
      top += height;
      at += 1;
    }
    const start = at;
    while (at < end && top < to) {
      top += this.heights.get(at) ?? average;
      at += 1;
    }
    return { start, end: Math.max(at, start + 1) };
  }
}
