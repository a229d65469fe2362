// The pictures of docs/guides/console.md, of two small scenes. They are written where BATON_TOUR names a directory; the
// scenes are played in any case, so that the tour stays true.
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { Baton, commit, git, openBrowser, until, Visitor } from "./stage.mjs";

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

test("the tour of the crew", async () => {
  const shop = join(baton.work, "shop");
  mkdirSync(shop);
  git(shop, "init", "-q", "-b", "main");
  commit(shop, { "prices.txt": "tea 3\ncake 4\n" }, "The shop");
  const agent = (name, role, ...args) =>
    baton.cli("agents", "create", name, "--role", role, "--harness", "demo", "--permission-mode", "auto", "--cwd", shop, ...args);
  await agent("Dora", "director");
  await agent("Ann", "worker", "--capability", "prices");
  await agent("Ben", "worker");
  await agent("Sam", "steward", "--cron", "0 7 * * 1-5 Europe/Berlin: say: good morning", "--when", "task_in_review: say: I look at it");
  const task = async (title, body, ...args) => (await baton.json("tasks", "create", title, "--body", body, ...args))[0];
  const shown = async ({ id }) => (await baton.json("tasks", "show", id))[0];

  const swept = await task("Sweep the shop", "say: swept", "--type", "chore");
  await baton.cli("tasks", "complete", swept.id, "--close");
  const cake = await task("Write down the price of cake", "cost: 0.42\nsay: cake is 4", "--type", "task", "-p", "2");
  await baton.cli("tasks", "dispatch", cake.id, "Ben");
  await until("it is looked at", async () => (await shown(cake)).status === "review");
  const tea = await task("Raise the price of tea", "cost: 1.10\nstream: 4000 50", "--type", "feature", "-p", "1");
  await baton.cli("tasks", "dispatch", tea.id, "Ann");
  await until("Ann works", async () => (await shown(tea)).status === "in_progress");
  const oven = await task("Mend the oven", "say: warm", "--type", "bug", "--require", "ovens");
  await task("Bake bread", "say: baked", "--after", oven.id);
  await task("Print a menu", "say: printed", "--after", tea.id, "--after", cake.id);
  await task("Answer the letter from the bank", "say: answered", "--status", "backlog", "-p", "4");
  await baton.cli("budgets", "set", "--everything", "--day", "--soft", "cost=5", "--hard", "cost=10");
  await baton.cli("budgets", "set", "--agent", "Ben", "--hard", "cost=0.50");
  await baton.cli("scheduler", "resume");

  const visitor = await Visitor.open(browser, baton, { viewport: { width: 1100, height: 700 } });
  const page = await visitor.signIn();
  await page.goto(`${baton.url}/agents`);
  await page.locator('[data-agent="Ann"]').getByText("working").first().waitFor();
  await picture(page, "agents");
  await page.goto(`${baton.url}/tasks`);
  await page.locator('.lane[data-column="in_progress"]').getByText("Raise the price of tea").waitFor();
  await picture(page, "tasks");
  await page.goto(`${baton.url}/tasks/scheduler`);
  await page.getByRole("heading", { name: "Scheduler" }).waitFor();
  await page.getByText("Raise the price of tea").waitFor();
  await picture(page, "scheduler");
  await page.goto(`${baton.url}/budgets`);
  await page.getByText("Ben").first().waitFor();
  await picture(page, "budgets");
  await visitor.close();
});
