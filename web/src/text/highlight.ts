// The highlighter: a part of the page that is loaded when there is code to colour.
import type { RootContent } from "hast";
import { common, createLowlight } from "lowlight";

const lowlight = createLowlight(common);

export function highlight(language: string, text: string): RootContent[] | undefined {
  const name = language.toLowerCase();
  if (!lowlight.registered(name)) return undefined;
  return lowlight.highlight(name, text).children;
}
