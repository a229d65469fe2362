// Dispatch, the scheduler and budgets in the console, with a real server, a real daemon and demo agents.
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { Baton, commit, git, mustEndWithin, openBrowser, shot, until, violations, Visitor } from "./stage.mjs";

mustEndWithin(1_200_000);

let baton;
let browser;
let visitor;
let shop;

before(async () => {
  baton = await Baton.start({ serverArgs: ["--set", "scheduler.every=1s"] });
  shop = join(baton.work, "shop");
  mkdirSync(shop);
  git(shop, "init", "-q", "-b", "main");
  commit(shop, { "prices.txt": "tea 3\n" }, "The shop");
  await worker("Ann", shop, "--capability", "rust");
  await worker("Ben", shop);
  await worker("Nora", join(baton.work, "notes"), "--capability", "notes");
  await worker("Pam", shop, "--worker-mode", "persistent");
  browser = await openBrowser();
  visitor = await Visitor.open(browser, baton);
  await (await visitor.signIn()).close();
});

after(async () => {
  await browser?.close();
  await baton?.stop();
});

async function worker(name, cwd, ...args) {
  await baton.cli("agents", "create", name, "--role", "worker", "--harness", "demo", "--permission-mode", "auto", "--cwd", cwd, ...args);
}

async function task(title, body, ...args) {
  const [made] = await baton.json("tasks", "create", title, "--body", body, ...args);
  return made;
}

async function shown(id) {
  const [found] = await baton.json("tasks", "show", id);
  return found;
}

async function agent(name) {
  return (await baton.json("agents")).find((one) => one.name === name);
}

async function idle(name) {
  await until(`${name} is idle`, async () => (await agent(name)).active_session_id === null);
}

/** The session of a task that was dispatched is over; while the scheduler is paused, nobody else says that it is done. */
async function done(id, name) {
  await idle(name);
  await baton.cli("tasks", "complete", id, "--close");
}

const sessionOf = (page) => /^\/sessions\/(.+)$/.exec(new URL(page.url()).pathname)?.[1];
const lane = (page, column) => page.locator(`.lane[data-column="${column}"]`);
const card = (page, id) => page.locator(`.task-card[data-task="${id}"]`);

/** The page that the dispatch of a task leads to; gives the session. */
async function led(page) {
  await page.waitForURL("**/sessions/*");
  return sessionOf(page);
}

test("the scheduler is paused at first, is let work and paused with a reason, and other browsers see it", async () => {
  const other = await Visitor.open(browser, baton);
  const watcher = await other.signIn();
  await watcher.goto(`${baton.url}/tasks/scheduler`);
  const page = await visitor.page("/tasks");
  await page.getByRole("link", { name: "Scheduler: paused" }).click();
  await page.getByRole("heading", { name: "Scheduler" }).waitFor();
  await page.getByText("It is paused, as on every new server.").waitFor();
  await page.getByText("that costs money").waitFor();
  await page.getByText("0 of at most 8 agents").waitFor();
  const crew = page.getByRole("list", { name: "It gives tasks to" });
  assert.deepEqual(await crew.locator("li a").allInnerTexts(), ["Ann", "Ben", "Nora"]);
  await shot(page, "scheduler-new-1280-light");
  assert.deepEqual(await violations(page), []);
  await page.getByRole("button", { name: "Let it work…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText("agents begin by themselves").waitFor();
  await shot(page, "scheduler-resume-1280-light");
  assert.deepEqual(await violations(page), []);
  await dialog.getByRole("button", { name: "Let it work" }).click();
  await page.locator(".badge").getByText("works", { exact: true }).waitFor();
  assert.equal((await baton.json("scheduler"))[0].paused, false);
  await watcher.locator(".badge").getByText("works", { exact: true }).waitFor();

  await page.getByRole("button", { name: "Pause…" }).click();
  await dialog.getByLabel("Why").fill("release day");
  await dialog.getByRole("button", { name: "Pause it" }).click();
  await page.getByText("release day").waitFor();
  const [paused] = await baton.json("scheduler");
  assert.deepEqual([paused.paused, paused.reason], [true, "release day"]);
  await watcher.getByText("release day").waitFor();
  await watcher.locator(".badge").getByText("paused", { exact: true }).waitFor();
  await shot(page, "scheduler-paused-1280-light");
  // From the command line too, without a reload here.
  await baton.cli("scheduler", "resume");
  await page.locator(".badge").getByText("works", { exact: true }).waitFor();
  await page.getByText("release day").waitFor({ state: "detached" });
  await baton.cli("scheduler", "pause", "until later");
  await page.getByText("until later").waitFor();
  await other.close();
  await page.close();
});

test("a task's page says who could take it, and dispatching it leads to the session of who fits best", async () => {
  const one = await task("Oil the hinge", "say: it is oiled", "--require", "rust");
  const page = await visitor.page(`/tasks/${one.id}`);
  await page.getByText("The scheduler was paused by").waitFor();
  const thought = page.getByRole("list", { name: "Agents that could be given it" });
  await thought.getByText("can take it").waitFor();
  assert.match(await thought.locator("li").filter({ hasText: /^Ann/ }).innerText(), /score 100 can take it/);
  assert.match(await thought.locator("li").filter({ hasText: /^Ben/ }).innerText(), /lacks rust/);
  await shot(page, "task-why-1280-light");
  assert.deepEqual(await violations(page), []);
  await page.getByRole("button", { name: "Dispatch…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText("now Ann").waitFor();
  assert.equal(await dialog.getByRole("radio", { name: /The one that fits best/ }).isChecked(), true);
  await dialog.getByText("lacks rust").first().waitFor();
  await dialog.getByLabel("Note", { exact: true }).fill("Mind the cat.");
  await shot(page, "task-dispatch-1280-light");
  assert.deepEqual(await violations(page), []);
  await dialog.getByRole("button", { name: "Dispatch", exact: true }).click();
  const session = await led(page);
  await page.locator(".row.agent").getByText(/^it is oiled$/).waitFor();
  await page.getByText("Mind the cat.").first().waitFor();
  const record = await baton.record(session);
  assert.equal(record.agent.name, "Ann");
  assert.notEqual(record.cwd, shop);
  await done(one.id, "Ann");
  await page.close();
});

test("a card dropped on In progress asks whom it is for, and begins it", async () => {
  const one = await task("Count the cups", "say: twelve");
  const blocked = await task("Sell the cups", "say: sold", "--after", one.id);
  const page = await visitor.page("/tasks");
  await lane(page, "open").locator(`[data-task="${one.id}"]`).waitFor();
  // What waits for something cannot be begun, and the column says so.
  await card(page, blocked.id).hover();
  await page.mouse.down();
  await lane(page, "in_progress").hover();
  await lane(page, "in_progress").hover();
  await lane(page, "in_progress").getByText("It waits for something: nobody can begin it yet.").waitFor();
  await page.mouse.up();
  await card(page, one.id).dragTo(lane(page, "in_progress"));
  const dialog = page.getByRole("dialog", { name: "Let an agent begin “Count the cups”" });
  await dialog.getByRole("radio", { name: /Ben/ }).check();
  await dialog.getByLabel("Works in").selectOption({ label: "the directory itself" });
  await shot(page, "board-dispatch-1280-light");
  await dialog.getByRole("button", { name: "Dispatch", exact: true }).click();
  const session = await led(page);
  await page.locator(".row.agent").getByText(/^twelve$/).waitFor();
  const record = await baton.record(session);
  assert.deepEqual([record.agent.name, record.cwd], ["Ben", shop]);
  await done(one.id, "Ben");
  await page.close();
});

test("a task is dispatched by keys alone", async () => {
  const one = await task("Ring the bell", "say: ding");
  const page = await visitor.page("/tasks");
  await card(page, one.id).locator("a").focus();
  await page.keyboard.press("m");
  const move = page.getByRole("dialog", { name: "Move “Ring the bell”" });
  await move.getByRole("button", { name: "In progress" }).press("Enter");
  const dialog = page.getByRole("dialog", { name: "Let an agent begin “Ring the bell”" });
  const best = dialog.getByRole("radio", { name: /The one that fits best/ });
  await best.focus();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  const name = await dialog.locator("label.option.chosen b").innerText();
  assert.ok(["Ann", "Ben", "Nora"].includes(name), name);
  await dialog.getByLabel("Note", { exact: true }).focus();
  await page.keyboard.type("Softly.");
  await dialog.getByRole("button", { name: "Dispatch", exact: true }).focus();
  await page.keyboard.press("Enter");
  const session = await led(page);
  assert.equal((await baton.record(session)).agent.name, name);
  await page.locator(".row.agent").getByText(/^ding$/).waitFor();
  await done(one.id, name);
  await page.close();
});

test("what keeps agents is shown, and what is refused says what else can be done", async () => {
  const long = await task("Watch the oven", "stream: 4000 50");
  const ben = await agent("Ben");
  await baton.cli("tasks", "dispatch", long.id, "Ben");
  await baton.cli("agents", "update", "Ann", "--disable");
  const one = await task("Wipe the table", "say: wiped");
  const page = await visitor.page(`/tasks/${one.id}`);
  const thought = page.getByRole("list", { name: "Agents that could be given it" });
  await thought.getByText("is disabled").waitFor();
  await thought.getByText(/is busy, in session/).waitFor();
  // The session is named, and leads there.
  assert.match(await thought.locator("li").filter({ hasText: /^Ben/ }).locator("a").last().getAttribute("href"), /^\/sessions\/ses_/);
  await page.getByRole("button", { name: "Dispatch…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("radio", { name: /^Ben/ }).check();
  await dialog.getByRole("button", { name: "Dispatch", exact: true }).click();
  await dialog.getByRole("alert").getByText(/does one task at a time and is busy/).waitFor();
  await dialog.getByRole("button", { name: "Go to its session" }).waitFor();
  await shot(page, "task-dispatch-busy-1280-light");
  assert.deepEqual(await violations(page), []);
  await dialog.getByRole("button", { name: "Let Ben do it next" }).click();
  await page.getByText("Ben has it, and has not begun.").waitFor();
  assert.equal((await shown(one.id)).assignment.agent_id, ben.id);

  const two = await task("Sweep the step", "say: swept");
  await page.goto(`${baton.url}/tasks/${two.id}`);
  await page.getByRole("button", { name: "Dispatch…" }).click();
  await dialog.getByRole("radio", { name: /^Ann/ }).check();
  await dialog.getByRole("button", { name: "Dispatch", exact: true }).click();
  await dialog.getByRole("alert").getByText(/can be enabled/).waitFor();
  // No repository, so no worktree; the directory does.
  await dialog.getByRole("radio", { name: /^Nora/ }).check();
  await dialog.getByLabel("Works in").selectOption({ label: "a worktree" });
  await dialog.getByRole("button", { name: "Dispatch", exact: true }).click();
  await dialog.getByRole("button", { name: "Work in the directory itself" }).click();
  await dialog.getByRole("button", { name: "Dispatch", exact: true }).click();
  const session = await led(page);
  assert.equal((await baton.record(session)).cwd, join(baton.work, "notes"));
  await idle("Nora");

  // A persistent worker is not among the scheduler's, and can be named all the same.
  const three = await task("Greet the guests", "say: welcome");
  await page.goto(`${baton.url}/tasks/${three.id}`);
  await page.getByRole("button", { name: "Dispatch…" }).click();
  await dialog.getByLabel("Which other agent").selectOption({ label: "Pam" });
  await dialog.getByRole("button", { name: "Dispatch", exact: true }).click();
  const pam = await led(page);
  await page.locator(".row.agent").getByText(/^welcome$/).waitFor();
  assert.equal((await baton.record(pam)).agent.name, "Pam");
  await baton.cli("agents", "stop", "Pam");
  await baton.cli("tasks", "complete", three.id, "--close");
  await baton.cli("agents", "update", "Ann", "--enable");
  await baton.cli("agents", "stop", "Ben", "--force");
  await idle("Ben");
  for (const { id } of [long, one, two]) await baton.cli("tasks", "delete", "--force", id);
  await page.close();
});

test("a task at which a person must look says so everywhere, and is dispatched again", async (t) => {
  await baton.cli("scheduler", "resume");
  t.after(() => baton.cli("scheduler", "pause", "the next test is by hand"));
  const one = await task("Wind the clock", "stream: 4000 50", "-p", "1");
  const page = await visitor.page("/tasks/scheduler");
  // The scheduler gives it away by itself, and the view follows.
  await page.getByRole("list", { name: "It gives tasks to" }).getByText("Wind the clock").waitFor();
  await shot(page, "scheduler-works-1280-light");
  const { assignment } = await shown(one.id);
  const [first] = assignment.session_ids;
  await baton.cli("end", first);
  const looks = page.getByRole("list", { name: "A person must look" });
  await looks.getByRole("link", { name: "Wind the clock", exact: true }).waitFor();
  await shot(page, "scheduler-escalated-1280-light");
  assert.deepEqual(await violations(page), []);
  const board = await visitor.page("/tasks");
  await card(board, one.id).getByText("needs you").waitFor();
  await board.getByText("1 needs you").waitFor();
  await shot(board, "board-escalated-1280-light");
  assert.deepEqual(await violations(board), []);
  await board.goto(`${baton.url}/tasks?as=list`);
  await board.getByRole("link", { name: /Wind the clock/ }).getByText("needs you").waitFor();
  await board.close();

  await looks.getByRole("link", { name: "Wind the clock", exact: true }).click();
  const box = page.getByRole("region", { name: "A person must look at it" });
  await box.getByRole("link", { name: "its last session" }).waitFor();
  await shot(page, "task-escalated-1280-light");
  assert.deepEqual(await violations(page), []);
  await baton.cli("tasks", "update", one.id, "--body", "say: it ticks");
  await box.getByRole("button", { name: "Dispatch again…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText("goes on with it under the same assignment").waitFor();
  await dialog.getByRole("button", { name: "Dispatch again", exact: true }).click();
  const second = await led(page);
  assert.notEqual(second, first);
  await until("it is in review", async () => (await shown(one.id)).status === "review");
  const reviewed = (await shown(one.id)).past_assignments.at(-1);
  assert.deepEqual([reviewed.id, reviewed.session_ids], [assignment.id, [first, second]]);
  await page.goto(`${baton.url}/tasks/scheduler`);
  await page.getByText("Runs now").waitFor();
  assert.equal(await looks.count(), 0);
  await page.close();
});

test("a budget is set in the console, asks at its soft limit, parks at its hard one, and is raised", async () => {
  const page = await visitor.page("/budgets");
  await page.getByText("No budgets.").waitFor();
  await shot(page, "budgets-empty-1280-light");
  await page.getByRole("button", { name: "New budget" }).first().click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Agent", { exact: true }).selectOption({ label: "Pam" });
  const soft = dialog.getByRole("group", { name: /^Soft limit/ });
  const hard = dialog.getByRole("group", { name: /^Hard limit/ });
  await soft.getByLabel("US dollars").fill("0.10");
  await hard.getByLabel("US dollars").fill("a lot");
  await dialog.getByText("Money is like 12.50").waitFor();
  assert.equal(await dialog.getByRole("button", { name: "Set the budget" }).isDisabled(), true);
  await hard.getByLabel("US dollars").fill("0.40");
  await hard.getByLabel("output tokens").fill("5000000");
  await shot(page, "budget-form-1280-light");
  assert.deepEqual(await violations(page), []);
  await dialog.getByRole("button", { name: "Set the budget" }).click();
  await page.getByRole("heading", { name: "Budget of Pam" }).waitFor();
  const id = new URL(page.url()).pathname.split("/")[2];
  const [made] = await baton.json("budgets", "show", id);
  assert.deepEqual([made.soft.cost_micro_usd, made.hard.cost_micro_usd, made.hard.output_tokens], [100_000, 400_000, 5_000_000]);

  // At the soft limit a person is asked, by the budget's name.
  await baton.cli("agents", "start", "Pam", "cost: 0.15\nsay: tea");
  const session = (await agent("Pam")).active_session_id;
  await page.locator(".badge").getByText("at its soft limit").waitFor();
  const chat = await visitor.page(`/sessions/${session}`);
  const ask = chat.locator(".prompt.pending");
  await ask.getByRole("link", { name: "the budget of Pam" }).waitFor();
  await shot(chat, "session-budget-question-1280-light");
  await ask.getByRole("radio", { name: /^Go on/ }).check();
  await ask.getByRole("button", { name: "Answer" }).click();
  await chat.getByRole("region", { name: "Waits for you" }).waitFor({ state: "detached" });

  // At the hard one what it covers is parked; what was sent before waits.
  await baton.cli("send", session, "stream: 60 50\ncost: 0.30\nsay: cake");
  await baton.cli("send", session, "say: and more");
  const head = chat.locator(".session-head");
  await head.getByText("parked by").waitFor();
  await chat.getByText(/new inputs are refused until it is raised/).waitFor();
  await chat.locator(".note").getByText(/is spent, \$0\.\d\d of \$0\.40/).waitFor();
  assert.equal(await head.getByRole("link", { name: "the budget of Pam" }).getAttribute("href"), `/budgets/${id}`);
  await shot(chat, "session-parked-1280-light");
  assert.deepEqual(await violations(chat), []);
  const list = await visitor.page("/sessions");
  await list.locator(".line-parked").getByRole("link", { name: "the budget of Pam" }).waitFor();
  await shot(list, "sessions-parked-1280-light");
  assert.deepEqual(await violations(list), []);
  await list.locator(".line-parked a").click();
  await list.getByRole("heading", { name: "Budget of Pam" }).waitFor();
  await list.close();

  await page.locator(".badge").getByText("spent", { exact: true }).waitFor();
  await page.getByRole("list", { name: "Parked by it" }).locator(`a[href="/sessions/${session}"]`).waitFor();
  await page.getByText(/at \$0\.10/).waitFor();
  await shot(page, "budget-spent-1280-light");
  assert.deepEqual(await violations(page), []);
  // A task is not given to who has nothing left, and the dialog leads to the budget.
  const one = await task("Pour the tea", "say: poured");
  await chat.goto(`${baton.url}/tasks/${one.id}`);
  await chat.getByRole("button", { name: "Dispatch…" }).click();
  await chat.getByRole("dialog").getByLabel("Which other agent").selectOption({ label: "Pam" });
  await chat.getByRole("dialog").getByRole("button", { name: "Dispatch", exact: true }).click();
  await chat.getByRole("alert").locator(`a[href="/budgets/${id}"]`).first().waitFor();
  await shot(chat, "task-dispatch-budget-1280-light");
  await baton.cli("tasks", "delete", "--force", one.id);

  await page.getByRole("button", { name: "Raise…" }).click();
  assert.equal(await hard.getByLabel("US dollars").inputValue(), "0.40");
  assert.equal(await hard.getByLabel("output tokens").inputValue(), "5000000");
  await soft.getByLabel("US dollars").fill("");
  await hard.getByLabel("US dollars").fill("2.5");
  await dialog.getByRole("button", { name: "Save" }).click();
  await page.locator(".badge").getByText("within", { exact: true }).waitFor();
  assert.equal((await baton.json("budgets", "show", id))[0].hard.cost_micro_usd, 2_500_000);
  await chat.goto(`${baton.url}/sessions/${session}`);
  await chat.locator(".row.agent").getByText(/^and more$/).waitFor();
  await head.getByText("parked by").waitFor({ state: "detached" });
  await chat.close();

  // Somebody else changes it while the dialog is open: nothing is lost unseen.
  await page.getByRole("button", { name: "Change…" }).click();
  await hard.getByLabel("US dollars").fill("3");
  await dialog.getByRole("button", { name: "Back" }).click();
  await page.goto(`${baton.url}/budgets`);
  const line = page.locator(`[data-budget="${id}"]`);
  await line.getByRole("link", { name: "Pam" }).waitFor();
  await baton.cli("budgets", "set", "--everything", "--day", "--hard", "cost=100");
  await page.locator(".budget").filter({ hasText: "everything" }).getByText("begins anew").waitFor();
  await shot(page, "budgets-1280-light");
  assert.deepEqual(await violations(page), []);
  await page.close();
});

test("usage adds up by agent, day and model, and what is not known is never shown as nothing", async () => {
  // A turn that is cut off has reported nothing.
  const lostId = await baton.demo("stream: 4000 50", "--title", "A mystery");
  await baton.cli("budgets", "set", "--session", lostId, "--hard", "cost=1", "--hard", "input=1000");
  await until("it works", async () => (await baton.record(lostId)).activity === "working");
  const page = await visitor.page("/budgets?as=usage&by=agent");
  const table = page.getByRole("table");
  const pam = table.getByRole("row").filter({ hasText: "Pam" });
  await pam.waitFor();
  const rows = await baton.json("budgets", "usage", "--by", "agent");
  const { id } = await agent("Pam");
  const spent = rows.find((row) => row.agent === id);
  assert.equal(await pam.locator("td").first().innerText(), `$${(spent.cost_micro_usd / 1e6).toFixed(2)}`);
  await baton.cli("end", "--force", lostId);
  await until("it counts as unknown", async () => (await baton.json("budgets", "usage", "--by", "session")).some((row) => row.session === lostId && row.cost_micro_usd === null));
  const nobody = table.getByRole("row").filter({ hasText: "without an agent" });
  await nobody.getByText("without a report").waitFor();
  assert.match(await nobody.locator("td").first().innerText(), /^(unknown|at least )/);
  await shot(page, "usage-1280-light");
  assert.deepEqual(await violations(page), []);
  await page.getByLabel("By").selectOption("session");
  const lost = table.getByRole("row").filter({ hasText: "A mystery" });
  await lost.waitFor();
  assert.deepEqual((await lost.locator("td").allInnerTexts()).slice(0, 3), ["unknown", "unknown", "unknown"]);
  await page.getByLabel("By").selectOption("day");
  const today = new Date().toISOString().slice(0, 4);
  await table.locator("tbody th").getByText(today).first().waitFor();
  await page.getByLabel("By").selectOption("model");
  await table.locator("tfoot").getByText("All").waitFor();
  assert.match(await table.locator("tfoot td").first().innerText(), /^at least \$/);
  await page.getByLabel("From (UTC)").fill("2001-01-01");
  await page.getByLabel("To", { exact: true }).fill("2001-01-02");
  await page.getByText("Nothing was spent.").waitFor();
  // The budget says what its limits cannot hold.
  await page.goto(`${baton.url}/budgets`);
  const blind = page.locator(".budget").filter({ hasText: "A mystery" });
  await blind.getByText("Not all is held:").waitFor();
  assert.deepEqual(await blind.locator(".measure b").allInnerTexts(), ["unknown", "unknown"]);
  await shot(page, "budgets-unknown-1280-light");
  assert.deepEqual(await violations(page), []);
  await blind.getByRole("button", { name: "Take it away…" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Take it away" }).click();
  await blind.waitFor({ state: "detached" });
  assert.equal((await baton.json("budgets")).length, 2);
  await page.close();
});

test("a viewer looks and switches nothing, and a narrowed token is told what it does not see", async () => {
  const one = await task("Looked at only", "say: no", "--directory", shop);
  const [budget] = await baton.json("budgets");
  const viewer = await Visitor.open(browser, baton);
  const page = await viewer.signIn("--scope", "viewer");
  const offered = [];
  for (const path of ["/tasks/scheduler", `/tasks/${one.id}`, "/budgets", `/budgets/${budget.id}`, "/budgets?as=usage"]) {
    await page.goto(baton.url + path);
    await page.locator("h1").waitFor();
    await page.locator(".loading").first().waitFor({ state: "detached" });
    const names = await page.locator("#main button:visible").evaluateAll((all) => all.map((button) => button.getAttribute("aria-label") ?? button.innerText));
    offered.push(...names.filter((name) => !/^(Limits|Usage|Copy.*)$/.test(name)).map((name) => `${path}: ${name}`));
  }
  assert.deepEqual(offered, []);
  await viewer.close();

  const [narrow] = await baton.json("token", "create", "narrow", "--project", shop);
  const file = join(baton.home, "narrow.token");
  writeFileSync(file, narrow.secret, { mode: 0o600 });
  const guest = await Visitor.open(browser, baton);
  const inside = await guest.context.newPage();
  await inside.goto(await baton.linkOf(file));
  await inside.getByRole("heading", { name: "Sessions", exact: true }).waitFor();
  await inside.goto(`${baton.url}/tasks/scheduler`);
  await inside.getByText("This sign-in does not see the scheduler.").waitFor();
  await shot(inside, "scheduler-narrow-1280-light");
  assert.deepEqual(await violations(inside), []);
  await inside.goto(`${baton.url}/tasks/${one.id}`);
  await inside.getByText("The scheduler is paused.").waitFor();
  await inside.goto(`${baton.url}/budgets`);
  await inside.locator(".budget").filter({ hasText: "Pam" }).waitFor();
  assert.equal(await inside.locator(".budget").filter({ hasText: "everything" }).count(), 0);
  await inside.getByRole("button", { name: "New budget" }).click();
  assert.equal(await inside.getByLabel("Of", { exact: true }).locator("option").filter({ hasText: "everything" }).count(), 0);
  assert.deepEqual(guest.unexpected(), []);
  await guest.close();
  await baton.cli("tasks", "delete", one.id);
});

test("what fails says what, and can be tried again", async () => {
  const [budget] = await baton.json("budgets");
  const page = await visitor.context.newPage();
  for (const [path, call, good] of [
    ["/tasks/scheduler", "SchedulerService/GetScheduler", page.getByText("Runs now")],
    ["/budgets", "BudgetService/ListBudgets", page.getByRole("list", { name: "Budgets" })],
    ["/budgets?as=usage", "BudgetService/GetUsage", page.getByRole("table")],
    [`/budgets/${budget.id}`, "BudgetService/*Budget*", page.getByRole("heading", { name: /^Budget of/ })],
  ]) {
    const pattern = `**/baton.v1.${call}`;
    await page.route(pattern, (route) => route.abort());
    await page.goto(baton.url + path);
    await page.getByRole("alert").first().waitFor();
    await page.unroute(pattern);
    await page.getByRole("alert").getByRole("button", { name: "Try again" }).first().click();
    await good.first().waitFor();
    await until(`nothing is wrong any more with ${call}`, async () => (await page.getByRole("alert").count()) === 0);
  }
  await page.goto(`${baton.url}/budgets/bgt_00000000000000000000000000`);
  await page.getByText("There is no such budget.").waitFor();
  await page.close();
});

test("the views have their place in the frame, and in the dark", async () => {
  const page = await visitor.page("/sessions");
  await page.emulateMedia({ colorScheme: "dark" });
  await page.locator("#main").focus();
  await page.keyboard.press("g");
  await page.keyboard.press("b");
  await page.getByRole("heading", { name: "Budgets", exact: true }).waitFor();
  assert.equal(await page.title(), "Budgets · Baton");
  const [budget] = await baton.json("budgets");
  const one = await task("Seen in the dark", "say: dark");
  for (const [path, name] of [["/budgets", "budgets"], [`/budgets/${budget.id}`, "budget"], ["/budgets?as=usage&by=agent", "usage"], ["/tasks/scheduler", "scheduler"], [`/tasks/${one.id}`, "task-why"]]) {
    await page.goto(baton.url + path);
    await page.locator("h1").waitFor();
    await page.locator(".loading").first().waitFor({ state: "detached" });
    await shot(page, `${name}-1280-dark`);
    assert.deepEqual(await violations(page), [], path);
  }
  await page.getByRole("button", { name: "Dispatch…" }).click();
  await page.getByRole("dialog").getByRole("radio").first().waitFor();
  await shot(page, "task-dispatch-1280-dark");
  assert.deepEqual(await violations(page), []);
  await page.close();
  await baton.cli("tasks", "delete", one.id);
});

for (const width of [360, 390]) {
  test(`at ${width} px the views and dialogs fit, with nothing cut off`, async () => {
    const long = "a-very-long-name-without-any-place-to-break-it-".repeat(3);
    const wide = await task(`A long title: ${long}`.slice(0, 190), "say: x", "--require", "rust");
    const [set] = await baton.json("budgets", "set", "--task", wide.id, "--day", "--soft", "cost=0.05", "--hard", "cost=123456.75", "--hard", "input=123456789012");
    const one = await Visitor.open(browser, baton, { viewport: { width, height: 740 }, hasTouch: true, isMobile: true, colorScheme: width === 390 ? "dark" : "light" });
    const page = await one.signIn();
    const found = [];
    const dialog = page.getByRole("dialog");
    const fits = async (name) => {
      await shot(page, `${name}-${width}-${width === 390 ? "dark" : "light"}`);
      found.push(
        ...(await page.evaluate((view) => {
          const wrong = [];
          const wider = document.documentElement.scrollWidth - innerWidth;
          if (wider > 0) wrong.push(`${view}: ${wider} px wider than the window`);
          const scope = document.querySelector("dialog[open]") ?? document;
          for (const element of scope.querySelectorAll("button, input, select, textarea, a, h1, h2, .badge, .option, .measure, .bar")) {
            const place = element.getBoundingClientRect();
            if (place.width === 0 || place.height === 0 || element.closest(".skip, .visually-hidden, pre, table")) continue;
            if (place.right > innerWidth + 0.5 || place.left < -0.5) wrong.push(`${view}: ${element.outerHTML.slice(0, 120)} reaches from ${Math.round(place.left)} to ${Math.round(place.right)}`);
          }
          return wrong;
        }, name)),
      );
      found.push(...(await violations(page)).map((violation) => `${name}: ${violation}`));
    };
    const open = async (path) => {
      await page.goto(baton.url + path);
      await page.locator("h1").waitFor();
      await page.locator(".loading").first().waitFor({ state: "detached" });
    };
    for (const [path, name] of [["/tasks", "board-scheduler"], ["/tasks/scheduler", "scheduler"], [`/tasks/${wide.id}`, "task-why"], ["/budgets", "budgets"], [`/budgets/${set.id}`, "budget"], ["/budgets?as=usage&by=agent", "usage"]]) {
      await open(path);
      await fits(name);
    }
    for (const [path, button, name, ready] of [
      ["/tasks/scheduler", "Let it work…", "scheduler-resume", dialog.getByText("agents begin by themselves")],
      [`/tasks/${wide.id}`, "Dispatch…", "task-dispatch", dialog.getByRole("radio").first()],
      ["/budgets", "New budget", "budget-form", dialog.getByLabel("Agent", { exact: true })],
      [`/budgets/${set.id}`, "Change…", "budget-change", dialog.getByRole("button", { name: "Save" })],
      [`/budgets/${set.id}`, "Take it away…", "budget-remove", dialog.getByRole("button", { name: "Take it away" })],
    ]) {
      await open(path);
      await page.getByRole("button", { name: button }).first().click();
      await ready.waitFor();
      await fits(name);
    }
    // The board, with a finger.
    await open("/tasks");
    await page.getByLabel("Column").selectOption("open");
    await card(page, wide.id).getByRole("button", { name: /^Move/ }).tap();
    await dialog.getByRole("button", { name: "In progress" }).tap();
    await dialog.getByText("now Ann").waitFor();
    await fits("board-dispatch");
    assert.deepEqual(found, []);
    assert.deepEqual(one.unexpected(), []);
    await one.close();
    await baton.cli("budgets", "set", "--task", wide.id, "--day", "--remove");
    await baton.cli("tasks", "delete", wide.id);
  });
}

test("no request left the origin, and nothing was complained about but what was made to fail", () => {
  assert.deepEqual(visitor.foreign, []);
  assert.deepEqual(visitor.unexpected(/ERR_(FAILED|CONNECTION_REFUSED|ABORTED)/), []);
});
