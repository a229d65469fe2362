// Vite's part in running xterm.js under the console's content security policy, which lets in no inline style.
//
// xterm.js draws with elements and puts its colours and sizes into <style> elements and `style` attributes. A policy
// of style-src 'self' blocks both, but neither style sheets made by a script nor properties that a script sets. So its
// few places that do it are made to do the same in those ways (src/terminal/styles.ts). The version is pinned; where
// a new one does it in another place, the build fails here.
const ID = /\/@xterm\/xterm\/lib\/xterm\.mjs$/;

/** What is replaced, by what, and how often it must be there. */
const PLACES = [
  { what: /[\w$]+(?:\.[\w$]+)*\.createElement\("style"\)/g, by: () => "batonSheet()", times: 3 },
  {
    what: /([\w$]+)\.setAttribute\("style",`\$\{\1\.getAttribute\("style"\)\|\|""\}\$\{([\w$]+)\};`\)/g,
    by: (_, element, css) => `batonStyle(${element},${css})`,
    times: 1,
  },
];
/** What would be blocked, and must be nowhere after that. */
const LEFT = /createElement\(["'`]style["'`]\)|setAttribute\(["'`]style["'`]|\.innerHTML\b|insertAdjacentHTML/;

export function xtermUnderPolicy() {
  return {
    name: "xterm-under-policy",
    enforce: "pre",
    transform(code, id) {
      if (!ID.test(id.split("?")[0])) return undefined;
      let changed = code;
      for (const { what, by, times } of PLACES) {
        const found = [...code.matchAll(what)].length;
        if (found !== times) this.error(`xterm.js has ${found} instead of ${times} of ${what}: look at scripts/xterm.mjs`);
        changed = changed.replace(what, by);
      }
      if (LEFT.test(changed)) this.error(`xterm.js has styles that the policy blocks: ${LEFT.exec(changed)[0]}`);
      return { code: `import { batonSheet, batonStyle } from "/src/terminal/styles.ts";\n${changed}`, map: null };
    },
  };
}
