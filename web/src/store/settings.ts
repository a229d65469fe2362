// What a person set for this browser.
import { Cell } from "./cell";

export type Theme = "light" | "dark" | "system";
export type Density = "comfortable" | "compact";

/** Limits of a session, as they are typed; empty is the server's own. */
export interface Bounds {
  minutes: string;
  idle: string;
  turns: string;
  usd: string;
  suspend: boolean;
}

export interface Template {
  name: string;
  daemonId: string;
  harness: string;
  model: string;
  mode: number;
  cwd: string;
  input: string;
  // Absent in what older versions kept.
  labels?: string;
  bounds?: Bounds;
  environment?: string[];
}

interface Stored {
  theme: Theme;
  density: Density;
  notify: boolean;
  templates: Template[];
  /** The size of type in terminals, in px. */
  terminalFont: number;
  /** Whether terminals are read aloud. */
  terminalReader: boolean;
}

const KEY = "baton-settings";
const DEFAULTS: Stored = { theme: "system", density: "comfortable", notify: false, templates: [], terminalFont: 13, terminalReader: false };

function read(): Stored {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    return { ...DEFAULTS, ...(typeof stored === "object" ? stored : {}) };
  } catch {
    // A browser without storage, or with somebody else's: defaults.
    return DEFAULTS;
  }
}

class Settings extends Cell {
  value: Stored = read();

  set(part: Partial<Stored>): void {
    this.value = { ...this.value, ...part };
    try {
      localStorage.setItem(KEY, JSON.stringify(this.value));
    } catch {
      // It holds for this page then.
    }
    this.show();
    this.changed();
  }

  /** Puts theme and density on the page. */
  show(): void {
    const root = document.documentElement;
    const { theme, density } = this.value;
    if (theme === "system") delete root.dataset.theme;
    else root.dataset.theme = theme;
    root.dataset.density = density;
  }
}

export const settings = new Settings();
