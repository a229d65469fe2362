// What a person types, on its way to the program: in order, one call at a time, and never again. A call whose answer
// is lost may have typed its bytes, so nothing is repeated; what waited behind it is dropped, and the person is told.
import { problem } from "../api/problem";

/** The most bytes that one call takes. */
const PIECE_BYTES = 64 * 1024;
/** The most that waits; a paste beyond it is refused whole. */
export const WAITING_BYTES_MAX = 4 * 1024 * 1024;

export type Write = (data: Uint8Array) => Promise<unknown>;

export class Keyboard {
  private readonly write: Write;
  private readonly refused: (why: string) => void;
  private waiting: Uint8Array[] = [];
  private bytes = 0;
  private busy = false;

  /** `write` types bytes and is done when the program's terminal has taken them. */
  constructor(write: Write, refused: (why: string) => void) {
    this.write = write;
    this.refused = refused;
  }

  type(data: Uint8Array): void {
    if (data.length === 0) return;
    if (this.bytes + data.length > WAITING_BYTES_MAX) {
      this.refused("This is more than the program takes at once; it was not typed.");
      return;
    }
    this.waiting.push(data);
    this.bytes += data.length;
    if (!this.busy) void this.drain();
  }

  private async drain(): Promise<void> {
    this.busy = true;
    while (this.bytes > 0) {
      const piece = this.take();
      try {
        await this.write(piece);
      } catch (thrown) {
        const dropped = this.bytes;
        [this.waiting, this.bytes] = [[], 0];
        const { message, maybeDone, details } = problem(thrown);
        const first = maybeDone || details.get("effect") === "maybe_done" ? "What you typed last may not have arrived, or only in part." : "What you typed last was not typed.";
        this.refused(`${first}${dropped > 0 ? " What came after it was dropped." : ""} ${message}`);
      }
    }
    this.busy = false;
  }

  /** The next piece: all that waits, as far as one call takes it. */
  private take(): Uint8Array {
    const size = Math.min(this.bytes, PIECE_BYTES);
    const piece = new Uint8Array(size);
    let at = 0;
    while (at < size) {
      const first = this.waiting[0];
      if (!first) break;
      const part = first.subarray(0, size - at);
      piece.set(part, at);
      at += part.length;
      if (part.length < first.length) this.waiting[0] = first.subarray(part.length);
      else this.waiting.shift();
    }
    this.bytes -= size;
    return piece;
  }
}
