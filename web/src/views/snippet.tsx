// Text around a hit; the words found stand between U+2039 and U+203A.
import type { ReactNode } from "react";

export function Snippet({ text }: { text: string }): ReactNode {
  return text.split(/(\u2039[^\u203A]*\u203A)/).map((part, at) =>
    part.startsWith("\u2039") ? <mark key={at}>{part.slice(1, -1)}</mark> : part,
  );
}
