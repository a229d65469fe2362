// The smallest observable: something that changes, and those who want to know.
import { useSyncExternalStore } from "react";

export class Cell {
  private readonly listeners = new Set<() => void>();
  private queued = false;
  /** Grows with every change that listeners were told of. */
  version = 0;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  readonly snapshot = (): number => this.version;

  /** Tells listeners, once for all changes of the same turn of the event loop. */
  protected changed(): void {
    if (this.queued) return;
    this.queued = true;
    queueMicrotask(() => {
      this.queued = false;
      this.version += 1;
      for (const listener of [...this.listeners]) listener();
    });
  }
}

/** Renders again whenever the cell changes. */
export function useCell<T extends Cell>(cell: T): T {
  useSyncExternalStore(cell.subscribe, cell.snapshot);
  return cell;
}
