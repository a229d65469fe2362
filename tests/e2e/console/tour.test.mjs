// The pictures of docs/guides/console.md, of a small scene. They are written where BATON_TOUR names a directory; the
// scene is played in any case, so that the tour stays true.
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { Baton, openBrowser, until, Visitor } from "./stage.mjs";

/** Of one picture, in bytes. */
const BYTES_MAX = 60_000;

let baton;
let browser;

before(async () => {
  baton = await Baton.start();
  browser = await openBrowser();
});

after(async () => {
  await browser?.close();
  await baton?.stop();
});

/** Writes what the page shows, as WebP: the browser itself makes it. */
async function picture(page, name) {
  await page.waitForTimeout(400);
  const png = (await page.screenshot()).toString("base64");
  const blank = await page.context().newPage();
  const data = await blank.evaluate(async (source) => {
    const image = new Image();
    image.src = `data:image/png;base64,${source}`;
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = image.width;
    canvas.height = image.height;
    canvas.getContext("2d").drawImage(image, 0, 0);
    return canvas.toDataURL("image/webp", 0.8).split(",")[1];
  }, png);
  await blank.close();
  const bytes = Buffer.from(data, "base64");
  assert.ok(bytes.length <= BYTES_MAX, `${name}: ${bytes.length} bytes`);
  if (!process.env.BATON_TOUR) return;
  mkdirSync(process.env.BATON_TOUR, { recursive: true });
  writeFileSync(join(process.env.BATON_TOUR, `${name}.webp`), bytes);
}

test("the tour", async () => {
  const done = await baton.demo(
    [
      "think: The greeting is in one place, so one edit will do.",
      "todo: x Find the greeting|> Change it|Run the tests",
      "write: project/greeting.txt Hello, world.",
      "write: project/greeting.txt Hello, everybody.",
      "run: ls project",
      "todo: x Find the greeting|x Change it|x Run the tests",
      "say: The greeting is **Hello, everybody.** now, in `project/greeting.txt`. The tests pass.",
    ].join("\n"),
    "--title",
    "Greet everybody",
    "--permission-mode",
    "auto",
  );
  await baton.isIdle(done);
  const asks = await baton.demo("run: cargo test --workspace\nsay: ok", "--title", "Mend the failing test");
  await baton.demo("ask: Which database shall it be?|PostgreSQL|SQLite ;; Which features?*|search|export|metrics", "--title", "Choose a database");
  const streams = await baton.demo("stream: 4000 50", "--title", "Write the changelog");
  await until("it asks", async () => (await baton.record(asks)).pending_prompts > 0);
  await until("it writes", async () => (await baton.record(streams)).activity === "working");

  const wide = await Visitor.open(browser, baton, { viewport: { width: 1100, height: 700 } });
  const page = await wide.signIn();
  await page.getByText("Waits for you").first().waitFor();
  await picture(page, "sessions");
  await page.goto(`${baton.url}/sessions/${done}`);
  await page.locator(".row.agent").getByText(/The tests pass/).waitFor();
  await picture(page, "session");
  await page.goto(`${baton.url}/prompts`);
  await page.getByRole("group", { name: /Which features/ }).waitFor();
  await picture(page, "prompts");
  await page.goto(`${baton.url}/new`);
  await page.getByLabel("What to do").fill("say: hello");
  await page.getByRole("radio", { name: /demo/ }).check();
  await picture(page, "new");
  await page.goto(`${baton.url}/machines`);
  await page.locator("details.links summary").click();
  await picture(page, "machines");
  await wide.close();

  const phone = await Visitor.open(browser, baton, { viewport: { width: 390, height: 760 }, colorScheme: "dark", hasTouch: true, isMobile: true });
  const small = await phone.signIn();
  await small.goto(`${baton.url}/sessions/${asks}`);
  await small.getByRole("button", { name: "Allow", exact: true }).waitFor();
  await picture(small, "phone");
  await phone.close();
});
