import { expect, test } from "vitest";

import { codeOf } from "../src/store/code";
import { diff, folded } from "../src/text/diff";
import { hasHidden, pieces } from "../src/text/hidden";
import { Layout } from "../src/views/session/layout";

/** Applies a diff: what it says was there, and what it says is there now. */
function sides(before: string, after: string) {
  const lines = diff(before, after);
  return {
    before: lines.filter((line) => line.kind !== "added").map((line) => line.text),
    after: lines.filter((line) => line.kind !== "removed").map((line) => line.text),
  };
}

test("a diff says both texts and no more changes than there are", () => {
  const before = "a\nb\nc\nd\ne";
  const after = "a\nB\nc\ne\nf";
  expect(sides(before, after)).toEqual({ before: before.split("\n"), after: after.split("\n") });
  expect(diff(before, after).filter((line) => line.kind !== "same")).toHaveLength(4);
  expect(diff("x\ny", "x\ny").every((line) => line.kind === "same")).toBe(true);
  expect(diff("", "one\n").map((line) => line.kind)).toEqual(["added"]);
});

test("a diff of anything is right", () => {
  let seed = 42;
  const random = () => (seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648) / 2_147_483_648;
  for (let round = 0; round < 200; round += 1) {
    const text = () => Array.from({ length: Math.floor(random() * 12) }, () => "abc"[Math.floor(random() * 3)]).join("\n");
    const [before, after] = [text(), text()];
    const split = (whole: string) => (whole === "" ? [] : whole.split("\n"));
    expect(sides(before, after)).toEqual({ before: split(before), after: split(after) });
  }
});

test("long unchanged parts are left out and counted", () => {
  const lines = Array.from({ length: 100 }, (_, at) => `line ${at}`);
  const changed = lines.map((line, at) => (at === 50 ? "other" : line));
  const shown = folded(diff(lines.join("\n"), changed.join("\n")));
  expect(shown.filter((line) => line.kind === "skipped").map((line) => line.text)).toEqual(["47", "46"]);
});

test("characters that deceive are spelled out", () => {
  expect(pieces("rm \u202Etxt.exe").map((piece) => piece.code)).toEqual([undefined, "202E", undefined]);
  for (const code of [0x00, 0x1b, 0xad, 0x200b, 0x2066, 0xfeff, 0xe0041, 0xa0, 0x2028]) {
    expect(hasHidden(`a${String.fromCodePoint(code)}b`), code.toString(16)).toBe(true);
  }
  expect(hasHidden("plain text,\n\twith ümläuts and 漢字")).toBe(false);
});

test("a sign-in code is found in the link, and nothing else is taken for one", () => {
  expect(codeOf("http://127.0.0.1:7420/#code=abc-DEF_123")).toBe("abc-DEF_123");
  expect(codeOf("  bc_0123456789 ")).toBe("bc_0123456789");
  expect(codeOf("http://127.0.0.1:7420/")).toBeUndefined();
  expect(codeOf("#42")).toBeUndefined();
});

test("a place in the log and a place on the page belong together", () => {
  const layout = new Layout();
  layout.measured(0, 100);
  layout.measured(1, 300);
  const average = layout.average();
  expect(layout.top(0, 2)).toBe(400);
  expect(layout.top(0, 10)).toBe(400 + 8 * average);
  expect(layout.range(0, 10, 150, 350)).toEqual({ start: 1, end: 2 });
  const far = layout.range(0, 2000, layout.top(0, 1000) + 1, layout.top(0, 1000) + 2);
  expect(far.start).toBe(1000);
});
