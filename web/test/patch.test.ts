import { expect, test } from "vitest";

import { parsePatch, unquoted } from "../src/text/patch";

const PATCH = `diff --git a/src/one.ts b/src/one.ts
index 1111111..2222222 100644
--- a/src/one.ts
+++ b/src/one.ts
@@ -10,3 +10,4 @@ function one() {
 same
---- a rule
+++ a plus
+new
 end
@@ -40,1 +41,1 @@
-old
\\ No newline at end of file
+young
diff --git a/gone b/gone
deleted file mode 100644
index 3333333..0000000
--- a/gone
+++ /dev/null
@@ -1 +0,0 @@
-last
diff --git "a/t\\303\\266\\tr" "b/t\\303\\266\\tr"
new file mode 100644
--- /dev/null
+++ "b/t\\303\\266\\tr"
@@ -0,0 +1,2 @@
+x
+
diff --git a/a.png b/a.png
Binary files a/a.png and b/a.png differ
diff --git a/from me b/to me
similarity index 100%
rename from from me
rename to to me
`;

test("a patch is read file by file, with line numbers, and text that looks like a header stays text", () => {
  const [one, gone, odd, picture, moved] = parsePatch(PATCH);
  expect(one).toMatchObject({ path: "src/one.ts", kind: "changed", added: 3, removed: 2 });
  expect(one?.lines.map(({ kind, text, old, new: now }) => [kind, text, old, now])).toEqual([
    ["skipped", "9", 0, 0],
    ["same", "same", 10, 10],
    ["removed", "--- a rule", 11, 0],
    ["added", "++ a plus", 0, 11],
    ["added", "new", 0, 12],
    ["same", "end", 12, 13],
    ["skipped", "27", 0, 0],
    ["removed", "old", 40, 0],
    ["added", "young", 0, 41],
  ]);
  expect(gone).toMatchObject({ path: "gone", kind: "removed", added: 0, removed: 1 });
  expect(odd).toMatchObject({ path: "tö\tr", kind: "added", added: 2 });
  expect(picture).toMatchObject({ path: "a.png", binary: true });
  expect(moved).toMatchObject({ path: "to me", from: "from me", kind: "renamed" });
});

test("a patch that is cut off gives what is there", () => {
  const [file] = parsePatch("diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1,9 +1,9 @@\n one\n+tw");
  expect(file?.lines.map(({ text }) => text)).toEqual(["one", "tw"]);
  expect(parsePatch("")).toEqual([]);
});

test("names are read as git quotes them", () => {
  expect(unquoted("plain name")).toBe("plain name");
  expect(unquoted('"a\\"b\\\\c\\n"')).toBe('a"b\\c\n');
});
