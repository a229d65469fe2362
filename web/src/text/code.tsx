// Code: shown as it is at once, coloured when the highlighter has been loaded.
import type { RootContent } from "hast";
import { memo, type ReactNode, useEffect, useState } from "react";

import { CopyButton } from "../ui/bits";
import { Visible } from "./hidden";

/** Longer code is not coloured. */
const COLOURED_MAX = 60_000;

type Highlight = (language: string, text: string) => RootContent[] | undefined;
let highlight: Highlight | undefined;
let loading: Promise<Highlight> | undefined;

function load(): Promise<Highlight> {
  loading ??= import("./highlight").then((module) => (highlight = module.highlight));
  return loading;
}

function nodes(content: RootContent[]): ReactNode {
  return content.map((node, at) => {
    if (node.type === "text") return node.value;
    if (node.type !== "element") return null;
    const classes = node.properties.className;
    return (
      <span key={at} className={Array.isArray(classes) ? classes.join(" ") : undefined}>
        {nodes(node.children)}
      </span>
    );
  });
}

export const Code = memo(function Code({ text, language, visible }: { text: string; language: string; visible?: boolean }) {
  const [ready, setReady] = useState(highlight !== undefined);
  const wanted = language !== "" && text.length <= COLOURED_MAX && visible !== true;
  useEffect(() => {
    if (wanted && !ready) load().then(() => setReady(true), () => undefined);
  }, [wanted, ready]);
  const coloured = wanted && ready ? highlight?.(language, text) : undefined;
  return (
    <div className="code">
      {/* A region that scrolls sideways must be reachable by keyboard. */}
      <pre tabIndex={0} role="group" aria-label={language === "" ? "code" : `code, ${language}`}>
        <code>{coloured ? nodes(coloured) : visible ? <Visible text={text} /> : text}</code>
      </pre>
      <CopyButton text={text} />
    </div>
  );
});

/** The language of a file by its name. */
export function languageOf(path: string): string {
  const name = path.slice(path.lastIndexOf("/") + 1);
  if (/^(Makefile|Dockerfile)$/i.test(name)) return name.toLowerCase();
  return name.includes(".") ? name.slice(name.lastIndexOf(".") + 1) : "";
}
