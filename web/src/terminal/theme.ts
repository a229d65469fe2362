// The terminal's colours: the console's own ground and ink, and sixteen colours that can be read on it.
import type { ITheme } from "@xterm/xterm";

const LIGHT: ITheme = {
  background: "#fffefb", foreground: "#23261f", cursor: "#0d655c", cursorAccent: "#fffefb",
  selectionBackground: "#bfded7", selectionInactiveBackground: "#dcd8cc",
  scrollbarSliderBackground: "#8d8a7e66", scrollbarSliderHoverBackground: "#8d8a7e99", scrollbarSliderActiveBackground: "#8d8a7ecc",
  black: "#23261f", red: "#a8231a", green: "#2a6638", yellow: "#8a5a00", blue: "#1f5299", magenta: "#8a2f80", cyan: "#0d655c", white: "#6d6f66",
  brightBlack: "#5d5f56", brightRed: "#c0362b", brightGreen: "#2f7a41", brightYellow: "#93650a", brightBlue: "#2f66b8", brightMagenta: "#a23f97", brightCyan: "#12776c", brightWhite: "#3a3d35",
};
const DARK: ITheme = {
  background: "#10120f", foreground: "#e7e6de", cursor: "#63c5b6", cursorAccent: "#10120f",
  selectionBackground: "#2d544d", selectionInactiveBackground: "#343830",
  scrollbarSliderBackground: "#74786b66", scrollbarSliderHoverBackground: "#74786b99", scrollbarSliderActiveBackground: "#74786bcc",
  black: "#343830", red: "#f5948a", green: "#87cb94", yellow: "#f2b066", blue: "#94bdf4", magenta: "#dba3d8", cyan: "#63c5b6", white: "#e7e6de",
  brightBlack: "#8d9184", brightRed: "#ffb3ab", brightGreen: "#a8e3b3", brightYellow: "#ffcf94", brightBlue: "#bcd6ff", brightMagenta: "#efc4ec", brightCyan: "#93e3d6", brightWhite: "#ffffff",
};

/** What the page has now: set by the person, or by the system. */
export function theme(): ITheme {
  return getComputedStyle(document.documentElement).colorScheme.trim() === "dark" ? DARK : LIGHT;
}

export function matches(): { matchBackground: string; matchOverviewRuler: string; activeMatchBackground: string; activeMatchColorOverviewRuler: string } {
  const dark = theme() === DARK;
  return dark
    ? { matchBackground: "#4a3a12", matchOverviewRuler: "#f2b066", activeMatchBackground: "#8a5a00", activeMatchColorOverviewRuler: "#ffffff" }
    : { matchBackground: "#fbead3", matchOverviewRuler: "#93430a", activeMatchBackground: "#f3c27d", activeMatchColorOverviewRuler: "#23261f" };
}
