// How xterm.js has its styles under a policy without inline styles; the build puts these in (scripts/xterm.mjs).

/** Stands where xterm.js would put a <style> element: what is written into it becomes a style sheet of the page. */
export function batonSheet(): HTMLElement {
  const sheet = new CSSStyleSheet();
  const holder = document.createElement("span");
  holder.hidden = true;
  const remove = holder.remove.bind(holder);
  Object.defineProperties(holder, {
    textContent: { set: (css: string) => sheet.replaceSync(css), get: () => "" },
    remove: {
      value: () => {
        document.adoptedStyleSheets = document.adoptedStyleSheets.filter((other) => other !== sheet);
        remove();
      },
    },
  });
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
  return holder;
}

/** Adds declarations to those of an element: by a property, which the policy lets through, instead of the attribute. */
export function batonStyle(element: HTMLElement, css: string): void {
  element.style.cssText += `${css};`;
}
