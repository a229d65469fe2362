// Characters that are not seen, or that make a text look like another: a person who decides must see them.
import type { ReactNode } from "react";

const NAMES: Record<string, string> = {
  "00AD": "soft hyphen",
  "061C": "Arabic letter mark",
  "180E": "Mongolian vowel separator",
  "200B": "zero-width space",
  "200C": "zero-width non-joiner",
  "200D": "zero-width joiner",
  "200E": "left-to-right mark",
  "200F": "right-to-left mark",
  "202A": "left-to-right embedding",
  "202B": "right-to-left embedding",
  "202C": "end of embedding",
  "202D": "left-to-right override",
  "202E": "right-to-left override",
  "2060": "word joiner",
  "2066": "left-to-right isolate",
  "2067": "right-to-left isolate",
  "2068": "first strong isolate",
  "2069": "end of isolate",
  FEFF: "byte order mark",
  "001B": "escape",
  "0000": "null",
  "0007": "bell",
  "0008": "backspace",
  "000D": "carriage return",
  "007F": "delete",
};

// Controls but tab and newline, format characters, line separators, tags, variation selectors, odd spaces.
const HIDDEN =
  // eslint-disable-next-line no-control-regex, no-misleading-character-class -- these are what is looked for
  /[\u0000-\u0008\u000B-\u001F\u007F-\u00A0\u00AD\u061C\u115F\u1160\u17B4\u17B5\u180E\u2000-\u200F\u2028-\u202F\u205F-\u206F\u3000\u3164\uFE00-\uFE0F\uFEFF\uFFA0\uFFF9-\uFFFB]|\uDB40[\uDC00-\uDFFF]/g;

export interface Piece {
  text: string;
  /** The code point, where the piece is a hidden character. */
  code?: string;
}

export function pieces(text: string): Piece[] {
  const found: Piece[] = [];
  let at = 0;
  for (const match of text.matchAll(HIDDEN)) {
    if (match.index > at) found.push({ text: text.slice(at, match.index) });
    const code = (match[0].codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0");
    found.push({ text: match[0], code });
    at = match.index + match[0].length;
  }
  if (at < text.length) found.push({ text: text.slice(at) });
  return found;
}

export function hasHidden(text: string): boolean {
  return text.search(HIDDEN) >= 0;
}

/** The text with what is hidden spelled out. */
export function Visible({ text }: { text: string }): ReactNode {
  return pieces(text).map((piece, at) =>
    piece.code === undefined ? (
      piece.text
    ) : (
      <mark key={at} className="hidden-char" title={NAMES[piece.code] ?? "a character that is not seen"}>
        U+{piece.code}
      </mark>
    ),
  );
}
