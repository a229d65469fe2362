// Browsers keep six connections to an origin over HTTP/1.1, for all its tabs together. A tab that holds a
// stream holds one of them; so at most four tabs do, and the others look from time to time. The tab that is
// looked at goes first. Over HTTP/2 there is no such bound.
import type { Place } from "./watch";

const PLACES = 4;
const NAME = "baton-stream-";

function unbounded(): boolean {
  const [entry] = performance.getEntriesByType("navigation");
  const protocol = entry && "nextHopProtocol" in entry ? entry.nextHopProtocol : "";
  return protocol === "h2" || protocol === "h3";
}

/** What holds nothing and is never asked for. */
const FREE: Place = { release: () => undefined, wanted: new Promise(() => undefined) };

export class Places {
  private readonly channel = "BroadcastChannel" in self ? new BroadcastChannel("baton-stream") : undefined;
  private give: (() => void) | undefined;

  constructor() {
    this.channel?.addEventListener("message", () => {
      // Somebody looks at another tab and found no place.
      if (!document.hasFocus()) this.give?.();
    });
  }

  async take(): Promise<Place | undefined> {
    // Without locks (a plain-HTTP address that is not this machine) tabs cannot agree.
    if (unbounded() || !("locks" in navigator)) return FREE;
    for (let at = 0; at < PLACES; at += 1) {
      const place = await this.lock(`${NAME}${at}`);
      if (place) return place;
    }
    if (document.hasFocus()) this.channel?.postMessage("want");
    return undefined;
  }

  /** One tab at most holds what is named. */
  async lock(name: string): Promise<Place | undefined> {
    let wanted: () => void = () => undefined;
    const asked = new Promise<void>((done) => (wanted = done));
    return new Promise((resolve) => {
      const held = navigator.locks.request(name, { ifAvailable: true }, (lock) => {
        if (!lock) {
          resolve(undefined);
          return undefined;
        }
        return new Promise<void>((release) => {
          this.give = wanted;
          resolve({ release, wanted: asked });
        });
      });
      // Locks are refused in a page that is being left.
      held.catch(() => resolve(FREE));
    });
  }
}
