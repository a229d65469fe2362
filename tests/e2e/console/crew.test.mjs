// The crew in the console: agents, tasks and worktrees, with a real server, a real daemon, demo agents and a real git
// repository.
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { Baton, commit, git, mustEndWithin, openBrowser, shot, until, violations, Visitor } from "./stage.mjs";

mustEndWithin(1_200_000);

let baton;
let browser;
let visitor;
let shop;

before(async () => {
  baton = await Baton.start();
  shop = join(baton.work, "shop");
  mkdirSync(shop);
  git(shop, "init", "-q", "-b", "main");
  commit(shop, { "greeting.txt": "Hello.\nHow are you?\n", "prices.txt": "tea 3\ncake 4\n" }, "The shop");
  browser = await openBrowser();
  visitor = await Visitor.open(browser, baton);
  await (await visitor.signIn()).close();
});

after(async () => {
  await browser?.close();
  await baton?.stop();
});

async function task(...args) {
  const [made] = await baton.json("tasks", "create", ...args);
  return made;
}

async function shown(id) {
  const [found] = await baton.json("tasks", "show", id);
  return found;
}

async function agent(name) {
  return (await baton.json("agents")).find((one) => one.name === name);
}

async function status(id) {
  return (await shown(id)).status;
}

/** A card or a row is there when the list has come. */
async function board(query = "") {
  const page = await visitor.page(`/tasks${query}`);
  await page.locator(".lane").first().waitFor();
  return page;
}

const lane = (page, column) => page.locator(`.lane[data-column="${column}"]`);
const card = (page, id) => page.locator(`.task-card[data-task="${id}"]`);
const into = (page, column, id) => lane(page, column).locator(`[data-task="${id}"]`).waitFor();

test("without agents, tasks and worktrees, the views say what they are", async () => {
  const page = await visitor.page("/agents");
  await page.getByText("No agents yet.").waitFor();
  await shot(page, "agents-empty-1280-light");
  await page.goto(`${baton.url}/worktrees`);
  await page.getByText("No worktrees.").waitFor();
  await page.goto(`${baton.url}/tasks?as=list`);
  await page.getByText("No task fits.").waitFor();
  for (const [path, text] of [
    ["/agents/agt_00000000000000000000000000", "There is no such agent."],
    ["/tasks/tsk_00000000000000000000000000", "There is no such task."],
    ["/worktrees/wkt_00000000000000000000000000", "There is no such worktree."],
  ]) {
    await page.goto(baton.url + path);
    await page.getByText(text).waitFor();
  }
  await page.close();
});

test("an agent is made, started, stopped, gone on with, changed, disabled and deleted", async () => {
  const page = await visitor.page("/agents");
  await page.getByRole("button", { name: "New agent" }).first().click();
  const form = page.getByRole("dialog");
  await form.getByLabel("Name", { exact: true }).fill("Alice");
  await form.getByLabel("Role").selectOption({ label: "worker" });
  await form.getByLabel("Kind of worker").selectOption({ label: "persistent: works with a person" });
  await form.getByRole("radio", { name: /demo/ }).check();
  await form.getByLabel("Directory").fill(shop);
  await form.getByLabel("Instructions").fill("Be brief.");
  await form.getByLabel("Capabilities").fill("rust, review");
  await form.getByText("Labels, limits, environment").click();
  await form.getByLabel("turns").fill("30");
  await shot(page, "agent-form-1280-light");
  assert.deepEqual(await violations(page), []);
  await form.getByRole("button", { name: "Make the agent" }).click();
  await page.getByRole("heading", { name: "Alice", exact: true }).waitFor();
  const alice = await agent("Alice");
  assert.equal(alice.role, "worker");
  assert.deepEqual(alice.capabilities, ["rust", "review"]);
  await page.getByText("It has not run yet.").waitFor();

  await page.getByRole("button", { name: "Start…" }).click();
  await page.getByRole("dialog").getByLabel("What to do").fill("say: good morning");
  await shot(page, "agent-start-1280-light");
  await page.getByRole("dialog").getByRole("button", { name: "Start", exact: true }).click();
  await page.locator(".row.agent").getByText(/^good morning$/).waitFor();
  const session = new URL(page.url()).pathname.split("/")[2];
  assert.equal((await baton.record(session)).agent.name, "Alice");

  await page.goto(`${baton.url}/agents`);
  const line = page.locator('[data-agent="Alice"]');
  await line.getByText("waits for input").waitFor();
  await line.getByRole("button", { name: "Session of Alice" }).click();
  await page.waitForURL(`**/sessions/${session}`);

  await page.goto(`${baton.url}/agents/${alice.id}`);
  await page.getByRole("button", { name: "Stop…" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Stop", exact: true }).click();
  const before = page.getByRole("list", { name: "Earlier sessions" });
  await before.locator(`a[href="/sessions/${session}"]`).waitFor();
  await page.getByText("idle", { exact: true }).waitFor();
  await before.getByRole("button", { name: /^Go on with/ }).click();
  await page.getByRole("dialog").getByLabel("What to do").fill("say: where were we");
  await page.getByRole("dialog").getByRole("button", { name: "Go on", exact: true }).click();
  await page.locator(".row.agent").getByText(/^where were we$/).waitFor();
  const second = new URL(page.url()).pathname.split("/")[2];
  assert.notEqual(second, session);
  assert.equal((await baton.record(second)).resumed_from, session);
  await baton.isIdle(second);

  // It asks: the list says so, and puts it first.
  await baton.cli("agents", "create", "Aaron", "--role", "worker", "--harness", "demo", "--cwd", shop);
  await baton.cli("agents", "send", "Alice", "run: touch asked");
  await page.goto(`${baton.url}/agents`);
  await line.getByText("asks you").waitFor();
  assert.equal(await page.locator(".agent-line").first().getAttribute("data-agent"), "Alice");
  await shot(page, "agents-1280-light");
  assert.deepEqual(await violations(page), []);
  await baton.cli("agents", "stop", "Alice", "--force");

  await page.goto(`${baton.url}/agents/${alice.id}`);
  await page.getByText("idle", { exact: true }).waitFor();
  await shot(page, "agent-1280-light");
  assert.deepEqual(await violations(page), []);
  await page.getByRole("button", { name: "Edit" }).click();
  assert.equal(await form.getByLabel("Instructions").inputValue(), "Be brief.");
  await form.getByLabel("Name", { exact: true }).fill("Alice the second");
  await form.getByRole("button", { name: "Save" }).click();
  await page.getByRole("heading", { name: "Alice the second" }).waitFor();
  const renamed = await agent("Alice the second");
  assert.equal(renamed.definition.instructions, "Be brief.");
  assert.deepEqual([renamed.id, renamed.role, renamed.limits.turns], [alice.id, "worker", alice.limits.turns]);
  await page.getByRole("button", { name: "Disable" }).click();
  await page.locator(".badge").getByText("disabled").waitFor();
  assert.equal(await page.getByRole("button", { name: "Start…" }).isDisabled(), true);
  assert.equal((await agent("Alice the second")).disabled, true);
  await page.getByRole("button", { name: "Enable" }).click();
  await page.locator(".badge").getByText("disabled").waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Delete…" }).click();
  await page.getByRole("button", { name: "Delete it" }).click();
  await page.waitForURL("**/agents");
  await page.locator('[data-agent="Aaron"]').waitFor();
  await page.locator('[data-agent="Alice the second"]').waitFor({ state: "detached" });
  await page.close();
});

test("a steward is set to start by itself, says what keeps it, and is started by what happens", async () => {
  const page = await visitor.page("/agents");
  await page.getByRole("button", { name: "New agent" }).first().click();
  const form = page.getByRole("dialog");
  await form.getByLabel("Name", { exact: true }).fill("Keeper");
  await form.getByLabel("Role").selectOption({ label: "steward" });
  await form.getByRole("radio", { name: /demo/ }).check();
  await form.getByLabel("Directory").fill(shop);
  await form.getByRole("button", { name: "Add a start" }).click();
  const first = form.getByRole("group", { name: "Start 1" });
  await first.getByLabel("Schedule").fill("0 7 * * 8");
  await first.getByLabel("Time zone").fill("Europe/Berlin");
  await first.getByLabel("What it is told").fill("say: good morning");
  await form.getByRole("button", { name: "Add a start" }).click();
  const second = form.getByRole("group", { name: "Start 2" });
  await second.getByLabel("When").selectOption({ label: "a task is closed" });
  await second.getByLabel("Only with the labels").fill("team=keepers");
  await second.getByLabel("What it is told").fill("say: seen");
  assert.deepEqual(await violations(page), []);
  await shot(page, "agent-triggers-1280-light");
  await form.getByRole("button", { name: "Make the agent" }).click();
  await form.getByText(/is not a schedule of five fields/).waitFor();
  await first.getByLabel("Schedule").fill("0 7 * * 1-5");
  await form.getByRole("button", { name: "Make the agent" }).click();
  await page.getByRole("heading", { name: "Keeper", exact: true }).waitFor();
  const starts = page.getByRole("region", { name: "Starts by itself" });
  await starts.getByText("0 7 * * 1-5").waitFor();
  await starts.getByText("when a task is closed with team=keepers").waitFor();
  await starts.getByText(/the scheduler is paused/).first().waitFor();
  assert.deepEqual(await violations(page), []);
  await shot(page, "agent-starts-1280-light");

  // Another change leaves them as they are.
  const keeper = await agent("Keeper");
  await page.getByRole("button", { name: "Edit" }).click();
  await page.getByRole("dialog").getByLabel("Model").fill("small");
  await page.getByRole("dialog").getByRole("button", { name: "Save" }).click();
  await page.getByRole("dialog").waitFor({ state: "detached" });
  assert.deepEqual((await agent("Keeper")).triggers, keeper.triggers);
  assert.deepEqual(keeper.triggers, [
    { cron: "0 7 * * 1-5", time_zone: "Europe/Berlin", input: "say: good morning" },
    { event: "task_closed", labels: { team: "keepers" }, input: "say: seen" },
  ]);

  const news = await task("news", "--label", "team=keepers");
  await baton.cli("tasks", "complete", news.id, "--close");
  await baton.cli("scheduler", "resume");
  const before = page.getByRole("list", { name: "Earlier sessions" });
  await before.getByRole("link", { name: /^Keeper: say: seen/ }).waitFor();
  await baton.cli("scheduler", "pause");
  await baton.cli("tasks", "delete", news.id);
  await page.getByRole("button", { name: "Delete…" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete it" }).click();
  await page.locator('[data-agent="Keeper"]').waitFor({ state: "detached" });
  await page.close();
});

test("two starts of one agent give one session, and the second is led to it", async () => {
  await baton.cli("agents", "create", "Bob", "--role", "worker", "--harness", "demo", "--cwd", shop);
  const bob = await agent("Bob");
  const pages = [await visitor.page(`/agents/${bob.id}`), await visitor.page(`/agents/${bob.id}`)];
  for (const page of pages) {
    await page.getByRole("button", { name: "Start…" }).click();
    await page.getByRole("dialog").getByLabel("What to do").fill("say: only once");
  }
  await Promise.all(pages.map((page) => page.getByRole("dialog").getByRole("button", { name: "Start", exact: true }).click()));
  const address = async (page) => {
    const here = () => /^\/sessions\/(.+)$/.exec(new URL(page.url()).pathname)?.[1];
    const other = page.getByRole("button", { name: "Go to its session" });
    await until("a session, or the way to it", async () => here() !== undefined || (await other.isVisible()));
    if (here() !== undefined) return { id: here(), led: false };
    await page.getByRole("alert").waitFor();
    await shot(page, "agent-session-exists-1280-light");
    await other.click();
    await page.waitForURL("**/sessions/*");
    return { id: here(), led: true };
  };
  const found = await Promise.all(pages.map(address));
  assert.equal(found[0].id, found[1].id);
  assert.deepEqual(found.map(({ led }) => led).sort(), [false, true]);
  assert.equal((await baton.json("ps", "-a")).filter((session) => session.agent?.name === "Bob").length, 1);
  await Promise.all(pages.map((page) => page.close()));
  await baton.cli("agents", "stop", "Bob");
});

test("a task goes through its life by drag, as far as the status machine lets it", async () => {
  const page = await board();
  await page.getByRole("button", { name: "New task" }).click();
  const form = page.getByRole("dialog");
  await form.getByLabel("Title").fill("Mend the door");
  await form.getByLabel("What is to be done").fill("It *creaks*.");
  await form.getByLabel("Priority").selectOption({ label: "2, high" });
  await form.getByLabel("Type").selectOption({ label: "bug" });
  await form.getByText("Labels, schedule, capabilities, acceptance, directory").click();
  await form.getByLabel("Labels").fill("house=front");
  await shot(page, "task-form-1280-light");
  assert.deepEqual(await violations(page), []);
  await form.getByRole("button", { name: "Make the task" }).click();
  await lane(page, "open").getByText("Mend the door").waitFor();
  const [made] = (await baton.json("tasks")).filter(({ title }) => title === "Mend the door");
  assert.deepEqual([made.priority, made.type, made.labels.house], [2, "bug", "front"]);
  const { id } = made;
  const drag = async (column) => {
    await card(page, id).dragTo(lane(page, column));
  };
  await drag("deferred");
  await into(page, "deferred", id);
  assert.equal(await status(id), "deferred");
  await drag("backlog");
  await into(page, "backlog", id);
  // There is no way from the backlog to review: nothing moves, and the column says why.
  await card(page, id).hover();
  await page.mouse.down();
  await lane(page, "review").hover();
  await lane(page, "review").hover();
  await lane(page, "review").getByText("There is nothing to review before an agent has begun.").waitFor();
  await shot(page, "board-drag-1280-light");
  await page.mouse.up();
  await lane(page, "review").getByText("There is nothing to review").waitFor({ state: "detached" });
  assert.equal(await status(id), "backlog");
  await into(page, "backlog", id);
  await drag("closed");
  await into(page, "closed", id);
  assert.equal(await status(id), "closed");
  // What is over is opened again with a word.
  await drag("open");
  await page.getByRole("dialog").getByLabel("Why").fill("It creaks still");
  await page.getByRole("button", { name: "Open it again" }).click();
  await into(page, "open", id);
  const found = await shown(id);
  assert.equal(found.status, "open");
  assert.ok(JSON.stringify(found).includes("It creaks still"));
  await page.close();
});

test("a task goes through its life by keys alone, and the board follows what others do", async () => {
  const one = await task("Sweep the floor", "-p", "1");
  const other = await task("Wash the window");
  const page = await board();
  await into(page, "open", one.id);
  await into(page, "open", other.id);
  const focused = () => page.evaluate(() => document.activeElement?.closest("[data-task]")?.getAttribute("data-task"));
  await lane(page, "open").locator('[data-task] a[tabindex="0"]').focus();
  assert.equal(await focused(), other.id);
  await page.keyboard.press("ArrowDown");
  await until("the next card has the focus", async () => (await focused()) === one.id);
  await page.keyboard.press("m");
  const dialog = page.getByRole("dialog", { name: "Move “Sweep the floor”" });
  await dialog.waitFor();
  assert.deepEqual(await dialog.locator(".move-list button:enabled").allInnerTexts(), ["Backlog", "Deferred", "In progress", "Closed"]);
  await dialog.getByText("There is nothing to review before an agent has begun.").waitFor();
  await shot(page, "task-move-1280-light");
  assert.deepEqual(await violations(page), []);
  await dialog.getByRole("button", { name: "Deferred" }).press("Enter");
  await into(page, "deferred", one.id);
  assert.equal(await status(one.id), "deferred");
  // The focus goes with the card.
  await until("the moved card has the focus", async () => (await focused()) === one.id);
  await page.keyboard.press("m");
  await dialog.getByRole("button", { name: "Open", exact: true }).press("Enter");
  await into(page, "open", one.id);
  await until("the moved card has the focus", async () => (await focused()) === one.id);
  await page.keyboard.press("m");
  await dialog.getByRole("button", { name: "Closed" }).press("Enter");
  await into(page, "closed", one.id);
  assert.equal(await status(one.id), "closed");
  // From somewhere else: made, renamed, moved and deleted.
  const third = await task("Made elsewhere");
  await into(page, "open", third.id);
  await baton.cli("tasks", "update", third.id, "--title", "Renamed elsewhere");
  await card(page, third.id).getByText("Renamed elsewhere").waitFor();
  await baton.cli("tasks", "update", third.id, "--status", "backlog");
  await into(page, "backlog", third.id);
  await baton.cli("tasks", "delete", third.id);
  await card(page, third.id).waitFor({ state: "detached" });
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Sweep the floor" }).waitFor();
  await page.close();
});

test("dependencies block and give urgency, a circle is refused with its tasks, and closing frees", async () => {
  const base = await task("Buy wood", "-p", "4");
  const top = await task("Build the shelf", "-p", "1", "--after", base.id);
  const page = await board();
  await into(page, "blocked", top.id);
  await card(page, top.id).getByText("waits for 1 task").waitFor();
  await card(page, base.id).getByText("P1 (4)").waitFor();
  await shot(page, "board-1280-light");
  assert.deepEqual(await violations(page), []);

  await page.goto(`${baton.url}/tasks/${base.id}`);
  await page.getByText("It is as urgent as 1 because of").waitFor();
  await page.getByRole("list", { name: "Waits for this" }).getByText("Build the shelf").waitFor();
  await page.getByRole("button", { name: "Add a dependency" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Task").fill("build the sh");
  await dialog.getByRole("button", { name: "Take Build the shelf" }).click();
  await dialog.getByRole("button", { name: "Add it" }).click();
  await dialog.getByText("The circle:").waitFor();
  assert.match(await dialog.locator(".cycle").innerText(), /Buy wood waits for Build the shelf waits for Buy wood/);
  await shot(page, "task-cycle-1280-light");
  assert.deepEqual(await violations(page), []);
  await dialog.getByRole("button", { name: "Back" }).click();

  // A gate, opened here; then the other is closed, and what waited is free.
  await page.goto(`${baton.url}/tasks/${top.id}`);
  await page.getByText("Not ready.").waitFor();
  await page.getByRole("button", { name: "Add a dependency" }).click();
  await dialog.getByLabel("Kind").selectOption({ label: "waits for a gate" });
  await dialog.getByLabel("What is to be approved").fill("the drawing");
  await dialog.getByRole("button", { name: "Add it" }).click();
  const list = page.getByRole("list", { name: "Depends on" });
  await list.getByText("somebody's approval: the drawing").waitFor();
  await shot(page, "task-1280-light");
  assert.deepEqual(await violations(page), []);
  await list.getByRole("button", { name: "Open the gate" }).click();
  await list.getByText("the drawing").waitFor({ state: "detached" });
  await baton.cli("tasks", "complete", base.id, "--close");
  await page.getByText("Ready.", { exact: true }).waitFor();
  await page.close();
});

test("a task is given to an agent, handed on with a note, and filters find it", async () => {
  await baton.cli("agents", "create", "Carol", "--role", "worker", "--harness", "demo", "--cwd", shop);
  const one = await task("Paint the fence", "-p", "1", "--label", "team=garden");
  await task("Paint the gate", "-p", "3", "--type", "chore");
  const page = await visitor.page(`/tasks/${one.id}`);
  await page.getByRole("button", { name: "Assign…" }).click();
  await page.getByRole("dialog").getByLabel("Agent").selectOption({ label: "Bob" });
  await shot(page, "task-assign-1280-light");
  await page.getByRole("button", { name: "Give it" }).click();
  const had = page.getByRole("list", { name: "Who had it" });
  await had.getByText("not begun").waitFor();
  await page.getByText("Bob has it, and has not begun.").waitFor();
  await page.getByRole("button", { name: "Hand on…" }).click();
  await page.getByRole("dialog").getByLabel("Who has it next").selectOption({ label: "Carol" });
  await page.getByRole("dialog").getByLabel("Note").fill("The brush is in the shed.");
  await page.getByRole("button", { name: "Hand it on" }).click();
  await had.getByText("The brush is in the shed.").waitFor();
  await page.getByText("Carol has it, and has not begun.").waitFor();
  const history = page.getByRole("list", { name: "History" });
  await history.getByText(/took it from Bob/).waitFor();
  await history.getByText(/gave it to Carol/).waitFor();
  const found = await shown(one.id);
  assert.equal(found.assignment.agent_id, (await agent("Carol")).id);

  // The agent's own page says what it has to do.
  await had.getByRole("link", { name: "Carol" }).click();
  await page.getByRole("list", { name: "Its tasks" }).getByText("Paint the fence").waitFor();

  await page.goto(`${baton.url}/tasks?as=list`);
  const rows = page.getByRole("list", { name: "Tasks" });
  const titles = async () => (await rows.locator(".task-row-title .clip").allInnerTexts()).sort();
  await rows.getByText("Paint the gate").waitFor();
  await page.getByLabel("Search titles and labels").fill("paint");
  await until("both are found", async () => (await titles()).join() === "Paint the fence,Paint the gate");
  await page.getByLabel("Search titles and labels").fill("paint team=garden");
  await until("one has the label", async () => (await titles()).join() === "Paint the fence");
  await page.getByLabel("Search titles and labels").fill("paint");
  await page.getByLabel("Who has it").selectOption({ label: "nobody's" });
  await until("one is nobody's", async () => (await titles()).join() === "Paint the gate");
  await page.getByLabel("Type").selectOption("bug");
  await page.getByText("No task fits.").waitFor();
  await page.getByLabel("Type").selectOption("chore");
  await page.reload();
  await until("the address keeps the filter", async () => (await titles()).join() === "Paint the gate");
  await page.goto(`${baton.url}/tasks?as=list`);
  await rows.getByText("Paint the gate").waitFor();
  await shot(page, "tasks-list-1280-light");
  assert.deepEqual(await violations(page), []);

  // The queue is the server's order, live.
  await page.getByRole("button", { name: "Ready queue" }).click();
  const queue = page.getByRole("list", { name: "Ready queue" });
  await queue.getByText("Paint the gate").waitFor();
  const order = (await baton.json("tasks", "ready")).map(({ title }) => title);
  assert.deepEqual(await queue.locator(".task-row-title .clip").allInnerTexts(), order);
  const first = await task("Put out the fire", "-p", "1");
  await queue.getByText("Put out the fire").waitFor();
  await shot(page, "tasks-ready-1280-light");
  assert.deepEqual(await violations(page), []);
  await baton.cli("tasks", "complete", first.id, "--close");
  await queue.getByText("Put out the fire").waitFor({ state: "detached" });
  await page.close();
});

test("an agent goes on with what it was given, and its task goes to review, back, and is merged", async () => {
  await baton.cli("agents", "create", "Erin", "--role", "worker", "--harness", "demo", "--cwd", shop);
  await baton.cli("agents", "start", "Erin", "say: hello");
  await baton.isIdle((await agent("Erin")).active_session_id);
  await baton.cli("agents", "stop", "Erin");
  const erin = await agent("Erin");
  await until("she is idle", async () => (await agent("Erin")).active_session_id === null);
  const one = await task("Bake the bread", "--body", "say: it is in the oven");
  await baton.cli("tasks", "assign", one.id, erin.id);
  const page = await board();
  await into(page, "open", one.id);
  await card(page, one.id).getByText("Erin").waitFor();

  const other = await visitor.page(`/agents/${erin.id}`);
  await other.getByRole("list", { name: "Its tasks" }).getByText("Bake the bread").waitFor();
  await other.getByRole("button", { name: "Go on…" }).first().click();
  await other.getByRole("dialog").getByLabel("Tasks that it has come first").waitFor();
  await other.getByRole("dialog").getByRole("button", { name: "Go on", exact: true }).click();
  await other.waitForURL("**/sessions/*");
  await other.getByText("It begins with “Bake the bread”.").waitFor();
  await into(page, "in_progress", one.id);
  await other.goto(`${baton.url}/agents`);
  await other.locator('[data-agent="Erin"]').getByText("works on: Bake the bread").waitFor();
  await other.close();

  await card(page, one.id).dragTo(lane(page, "review"));
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("What was done").fill("It is brown.");
  await shot(page, "task-complete-1280-light");
  await dialog.getByRole("button", { name: "To review" }).click();
  await into(page, "review", one.id);
  assert.equal(await status(one.id), "review");
  // Not good enough: back to the same agent, by keys.
  await card(page, one.id).locator("a").focus();
  await page.keyboard.press("m");
  await dialog.getByRole("button", { name: "Open", exact: true }).press("Enter");
  await dialog.getByLabel("Why").fill("Browner");
  await dialog.getByLabel("Erin has it again").check();
  await dialog.getByRole("button", { name: "Open it again" }).click();
  await into(page, "open", one.id);
  assert.equal((await shown(one.id)).assignment.agent_id, erin.id);
  await baton.cli("agents", "stop", "Erin");
  await until("she is idle", async () => (await agent("Erin")).active_session_id === null);
  await baton.cli("agents", "resume", "Erin");
  await into(page, "in_progress", one.id);
  // Taken back with a note, begun again, and merged at last.
  await card(page, one.id).dragTo(lane(page, "open"));
  await dialog.getByLabel("Note").fill("The oven is cold");
  await dialog.getByLabel("Who has it next").selectOption({ label: "Erin" });
  await dialog.getByRole("button", { name: "Hand it on" }).click();
  await into(page, "open", one.id);
  await baton.cli("agents", "stop", "Erin");
  await until("she is idle", async () => (await agent("Erin")).active_session_id === null);
  await baton.cli("agents", "resume", "Erin");
  await into(page, "in_progress", one.id);
  await page.goto(`${baton.url}/tasks/${one.id}`);
  await page.getByRole("button", { name: "Done…" }).click();
  await dialog.getByRole("button", { name: "To review" }).click();
  await page.getByRole("button", { name: "End the review…" }).click();
  await shot(page, "task-settle-1280-light");
  await dialog.getByRole("button", { name: "It is merged" }).click();
  await page.locator(".task-badges").getByText("closed").waitFor();
  await page.locator(".task-badges").getByText("merged").waitFor();
  const history = page.getByRole("list", { name: "History" });
  await history.getByText("completed it: merged and closed").waitFor();
  await history.getByText("opened it again: Browner").waitFor();
  await shot(page, "task-closed-1280-light");
  assert.deepEqual(await violations(page), []);
  assert.equal((await shown(one.id)).merge_status, "merged");
  await page.close();
  await baton.cli("agents", "stop", "Erin");
});

test("a board of very many tasks holds a screenful of cards, and reads pages as it is scrolled", async () => {
  const many = 600;
  const maker = await visitor.page("/settings");
  await maker.evaluate(async (count) => {
    const make = async (number) => {
      const text = new TextEncoder().encode(`Many ${String(number).padStart(4, "0")}`);
      // CreateTaskRequest: title is field 2, status field 7 (backlog).
      const message = new Uint8Array([0x12, text.length, ...text, 0x38, 4]);
      const body = new Uint8Array([0, 0, 0, 0, message.length, ...message]);
      const answer = await fetch("/baton.v1.TaskService/CreateTask", { method: "POST", headers: { "content-type": "application/grpc-web+proto", "x-grpc-web": "1" }, body });
      if (!answer.ok || answer.headers.get("grpc-status")) throw new Error(`CreateTask: ${answer.status} ${answer.headers.get("grpc-status")}`);
      await answer.arrayBuffer();
    };
    const numbers = Array.from({ length: count }, (_, at) => at);
    await Promise.all(Array.from({ length: 4 }, async () => {
      for (let number = numbers.shift(); number !== undefined; number = numbers.shift()) await make(number);
    }));
  }, many);
  await maker.close();
  const page = await visitor.context.newPage();
  let pages = 0;
  page.on("request", (request) => {
    if (request.url().endsWith("/ListTasks")) pages += 1;
  });
  await page.goto(`${baton.url}/tasks`);
  const backlog = lane(page, "backlog");
  await backlog.locator("[data-task]").first().waitFor();
  await page.locator(".loading").waitFor({ state: "detached" });
  // A page of each status, not all there is.
  await until("the first page is there", async () => (await backlog.locator("h2").innerText()).includes("100+"));
  const atFirst = pages;
  assert.ok(atFirst <= 12, `${atFirst} pages`);
  assert.ok((await backlog.locator("[data-task]").count()) < 40);
  const scroll = () => backlog.locator(".windowed").evaluate((box) => box.scrollTo(0, box.scrollHeight));
  await until("the end is there", async () => {
    await scroll();
    return (await backlog.locator("h2").innerText()).endsWith(` ${many}`) || (await backlog.locator('[aria-posinset]').last().getAttribute("aria-setsize")) !== "-1";
  }, 60_000);
  await scroll();
  await backlog.getByText("Many 0000").waitFor();
  assert.ok((await backlog.locator("[data-task]").count()) < 40);
  assert.ok(pages - atFirst >= 5);
  await shot(page, "board-many-1280-light");
  // What is changed beyond the screen does not move what is looked at.
  const from = await backlog.locator(".windowed").evaluate((box) => box.scrollTop);
  await card(page, await backlog.locator("[data-task]").last().getAttribute("data-task")).locator("a").focus();
  await page.keyboard.press("ArrowUp");
  assert.ok(Math.abs((await backlog.locator(".windowed").evaluate((box) => box.scrollTop)) - from) < 400);
  await page.close();
});

test("a worktree is made, its changes seen, a failed test and a conflict shown, and it is merged", async () => {
  const forTask = await task("Greet warmly");
  const page = await visitor.page("/worktrees");
  await page.getByRole("button", { name: "New worktree" }).click();
  const form = page.getByRole("dialog");
  await form.getByLabel("Repository").fill(shop);
  await form.getByLabel("Agent").fill("Bob");
  await form.getByLabel("Task", { exact: true }).fill("greet w");
  await form.getByRole("button", { name: "Take Greet warmly" }).click();
  await form.getByText("Set-up command, files to copy, names").click();
  await form.getByLabel("Set-up command").fill("sh -c 'echo ready > set-up.log'");
  await shot(page, "worktree-form-1280-light");
  assert.deepEqual(await violations(page), []);
  await form.getByRole("button", { name: "Make it" }).click();
  await page.getByRole("heading", { name: `agent/bob/${forTask.id}-greet-warmly` }).waitFor();
  const [tree] = await baton.json("worktrees");
  assert.equal(readFileSync(join(tree.path, "set-up.log"), "utf8"), "ready\n");

  // Uncommitted work refuses a merge.
  writeFileSync(join(tree.path, "greeting.txt"), "Welcome!\nHow are you?\n");
  writeFileSync(join(tree.path, ".gitignore"), "set-up.log\n");
  await page.getByRole("button", { name: "Look again" }).click();
  await page.getByText("1 uncommitted, 1 untracked").waitFor();
  const changes = page.getByRole("region", { name: "Changes" });
  await changes.locator("tr.added").getByText("Welcome!").waitFor();
  await changes.locator("tr.removed").getByText("Hello.").waitFor();
  await changes.getByText("2 files").waitFor();
  await shot(page, "worktree-1280-light");
  assert.deepEqual(await violations(page), []);
  const merge = async (test) => {
    await page.getByRole("button", { name: "Merge…" }).click();
    await page.getByRole("dialog").getByLabel("Test command").fill(test);
    await page.getByRole("dialog").getByRole("button", { name: "Merge", exact: true }).click();
  };
  const dialog = page.getByRole("dialog");
  const back = () => dialog.getByRole("button", { name: "Back" }).click();
  await merge("");
  await dialog.getByRole("alert").getByText(/uncommitted/).waitFor();
  await back();

  git(tree.path, "add", "-A");
  git(tree.path, "commit", "-qm", "Warm");
  const was = git(shop, "rev-parse", "main");
  await merge("sh -c 'echo the greeting is too warm; exit 3'");
  await dialog.getByText("The test failed.").waitFor();
  await dialog.getByText("the greeting is too warm").waitFor();
  await shot(page, "worktree-test-failed-1280-light");
  assert.deepEqual(await violations(page), []);
  await back();
  assert.equal(git(shop, "rev-parse", "main"), was);

  commit(shop, { "greeting.txt": "Good evening.\nHow are you?\n" }, "Evening");
  const evening = git(shop, "rev-parse", "main");
  await merge("");
  await dialog.getByText("It does not fit.").waitFor();
  await dialog.getByRole("list", { name: "Files that do not fit" }).getByText("greeting.txt").waitFor();
  await shot(page, "worktree-conflict-1280-light");
  await back();
  assert.equal(git(shop, "rev-parse", "main"), evening);

  git(tree.path, "reset", "-q", "--hard", "main");
  commit(tree.path, { "greeting.txt": "Good evening, and welcome!\nHow are you?\n", ".gitignore": "set-up.log\n" }, "Warm again");
  await merge("grep -q welcome greeting.txt");
  await dialog.getByText(/main is at .* now\. Nothing was pushed\./).waitFor();
  await dialog.getByRole("button", { name: "Done" }).click();
  await page.getByText("merged into main").waitFor();
  await changes.locator("tr.added").first().waitFor();
  assert.deepEqual(await page.getByRole("alert").allInnerTexts(), []);
  assert.equal(git(shop, "show", "main:greeting.txt"), "Good evening, and welcome!\nHow are you?");

  // The list says it too, and who is in it.
  await baton.cli("run", "--harness", "demo", "--no-follow", "--cwd", tree.path, "say: here", "--title", "Within");
  await page.goto(`${baton.url}/worktrees`);
  const line = page.locator(".session-line").filter({ hasText: "greet-warmly" });
  await line.getByText("1 session", { exact: true }).waitFor();
  await line.getByText("merged").waitFor();
  await line.getByText("Greet warmly").waitFor();
  await shot(page, "worktrees-1280-light");
  assert.deepEqual(await violations(page), []);
  await page.close();
});

test("removing is refused with work, forced only after a confirmation, and what was removed is recovered", async () => {
  await baton.cli("worktrees", "create", "--agent", "Carol", "--title", "Raise the prices", "--repo", shop);
  const tree = (await baton.json("worktrees")).find(({ branch }) => branch.includes("carol"));
  commit(tree.path, { "prices.txt": "tea 4\ncake 5\n" }, "Higher");
  writeFileSync(join(tree.path, "notes.txt"), "not in git\n");
  const page = await visitor.page("/worktrees");
  const line = page.locator(".session-line").filter({ hasText: "session/carol" });
  await line.getByText("1 untracked, 1 commit not merged").waitFor();
  await line.click();
  await page.getByRole("button", { name: "Delete…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Delete its branch too").check();
  await dialog.getByRole("button", { name: "Delete it", exact: true }).click();
  await dialog.getByRole("alert").waitFor();
  const force = dialog.getByRole("button", { name: "Delete it by force" });
  assert.equal(await force.isDisabled(), true);
  assert.ok(existsSync(join(tree.path, "notes.txt")));
  await shot(page, "worktree-refused-1280-light");
  assert.deepEqual(await violations(page), []);
  await dialog.getByLabel("Delete it with its work").check();
  await force.click();
  await dialog.getByText(/^refs\/baton\/recover\//).waitFor();
  assert.equal(existsSync(tree.path), false);
  await dialog.getByRole("button", { name: "Recover…" }).click();
  await dialog.getByRole("button", { name: "Show what was kept" }).click();
  await dialog.getByRole("list", { name: "Recoverable" }).waitFor();
  await shot(page, "worktree-recover-1280-light");
  assert.deepEqual(await violations(page), []);
  await dialog.getByRole("button", { name: /^Recover / }).first().click();
  await page.getByRole("heading", { name: /^recover\// }).waitFor();
  const again = (await baton.json("worktrees")).find(({ branch }) => branch.startsWith("recover/"));
  assert.equal(readFileSync(join(again.path, "notes.txt"), "utf8"), "not in git\n");
  assert.equal(readFileSync(join(again.path, "prices.txt"), "utf8"), "tea 4\ncake 5\n");
  // The one that is gone is shown to who asks for it.
  await page.goto(`${baton.url}/worktrees`);
  await page.locator(".session-line").filter({ hasText: "recover/" }).waitFor();
  assert.equal(await line.count(), 0);
  await page.getByLabel("gone ones too").check();
  await line.getByText("gone", { exact: true }).waitFor();
  await page.close();
});

test("pruning shows first what would go, and then removes that", async () => {
  await baton.cli("worktrees", "create", "--agent", "Dan", "--title", "Nothing to do", "--repo", shop);
  const tree = (await baton.json("worktrees")).find(({ branch }) => branch.includes("dan"));
  const page = await visitor.page("/worktrees");
  await page.getByRole("button", { name: "Prune…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("button", { name: "Show what would go" }).click();
  await dialog.getByText("There is nothing to remove.").waitFor();
  await dialog.getByLabel("Left alone for, in days").fill("0");
  await dialog.getByRole("button", { name: "Show what would go" }).click();
  const list = dialog.getByRole("list", { name: "Could go" });
  await list.getByText(/dan-session/).waitFor();
  assert.ok(existsSync(tree.path));
  await shot(page, "worktrees-prune-1280-light");
  assert.deepEqual(await violations(page), []);
  await dialog.getByRole("button", { name: /^Remove / }).click();
  await dialog.getByRole("list", { name: "Pruned" }).getByText("gone").first().waitFor();
  assert.equal(existsSync(tree.path), false);
  // What has work is still there.
  assert.ok((await baton.json("worktrees")).some(({ branch }) => branch.startsWith("recover/")));
  await page.close();
});

test("a viewer sees all of it and is offered nothing that changes it", async () => {
  const made = await baton.json("token", "create", "only looks", "--scope", "viewer");
  const one = await Visitor.open(browser, baton);
  const viewer = await one.signIn("--scope", "viewer");
  const bob = await agent("Bob");
  const [tree] = await baton.json("worktrees");
  const some = await task("Looked at only");
  const offered = [];
  for (const path of ["/agents", `/agents/${bob.id}`, "/tasks", "/tasks?as=list", `/tasks/${some.id}`, "/worktrees", `/worktrees/${tree.id}`]) {
    await viewer.goto(baton.url + path);
    await viewer.locator("h1").waitFor();
    await viewer.locator(".loading").first().waitFor({ state: "detached" });
    const names = await viewer.locator("#main button:visible").evaluateAll((all) => all.map((button) => button.getAttribute("aria-label") ?? button.innerText));
    offered.push(...names.filter((name) => !/^(Board|List|Ready queue|Copy.*|Session.*|\d+ more)$/.test(name)).map((name) => `${path}: ${name}`));
  }
  assert.deepEqual(offered, []);
  await viewer.goto(`${baton.url}/tasks`);
  await card(viewer, some.id).waitFor();
  assert.equal(await card(viewer, some.id).getAttribute("draggable"), "false");
  await card(viewer, some.id).locator("a").focus();
  await viewer.keyboard.press("m");
  assert.equal(await viewer.getByRole("dialog").count(), 0);
  // What is not offered is not allowed either.
  const refused = await fetch(`${baton.url}/baton.v1.TaskService/CreateTask`, {
    method: "POST",
    headers: { "content-type": "application/grpc-web+proto", authorization: `Bearer ${made[0].secret}` },
    body: new Uint8Array([0, 0, 0, 0, 3, 0x12, 1, 0x78]),
  });
  assert.equal(refused.headers.get("grpc-status"), "7");
  await one.close();
});

test("what fails says what, and can be tried again", async () => {
  await baton.cli("agents", "create", "Frank", "--role", "worker", "--harness", "demo", "--cwd", shop);
  const frank = await agent("Frank");
  await baton.cli("worktrees", "create", "--agent", "Frank", "--title", "Read badly", "--repo", shop);
  const tree = (await baton.json("worktrees")).find(({ branch }) => branch.includes("frank"));
  writeFileSync(join(tree.path, "new.txt"), "new\n");
  const some = await task("Read badly");
  const page = await visitor.context.newPage();
  const cases = [
    [`/agents/${frank.id}`, "AgentService/GetAgentStatus", page.getByText("It has not run yet.")],
    ["/tasks?as=list", "TaskService/ListTasks", page.getByRole("list", { name: "Tasks" })],
    ["/tasks?as=ready", "TaskService/ListReadyTasks", page.getByRole("list", { name: "Ready queue" })],
    [`/tasks/${some.id}`, "TaskService/GetTask", page.getByRole("heading", { name: "Read badly" })],
    [`/worktrees/${tree.id}`, "WorktreeService/GetWorktreeDiff", page.locator("tr.added").getByText("new", { exact: true })],
  ];
  for (const [path, call, good] of cases) {
    const pattern = `**/baton.v1.${call}`;
    await page.route(pattern, (route) => route.abort());
    await page.goto(baton.url + path);
    await page.getByRole("alert").first().waitFor();
    await page.unroute(pattern);
    await page.getByRole("alert").getByRole("button", { name: "Try again" }).first().click();
    await good.first().waitFor();
    assert.deepEqual(await page.getByRole("alert").allInnerTexts(), [], call);
  }
  await page.close();
});

test("the views have their places in the frame, by pointer and by key, light and dark", async () => {
  const page = await visitor.page("/sessions");
  const nav = page.getByRole("navigation", { name: "Views" });
  for (const name of ["Agents", "Tasks", "Worktrees"]) {
    await nav.getByRole("link", { name }).click();
    await page.getByRole("heading", { name, exact: true }).waitFor();
    assert.equal(await page.title(), `${name} · Baton`);
  }
  for (const [key, name] of [["a", "Agents"], ["t", "Tasks"], ["w", "Worktrees"]]) {
    await page.locator("#main").focus();
    await page.keyboard.press("g");
    await page.keyboard.press(key);
    await page.getByRole("heading", { name, exact: true }).waitFor();
  }
  await page.emulateMedia({ colorScheme: "dark" });
  const [tree] = await baton.json("worktrees");
  const bob = await agent("Bob");
  const some = await task("Seen in the dark", "-p", "1", "--body", "With *text*.");
  for (const [path, name] of [["/agents", "agents"], [`/agents/${bob.id}`, "agent"], ["/tasks", "board"], [`/tasks/${some.id}`, "task"], ["/worktrees", "worktrees"], [`/worktrees/${tree.id}`, "worktree"]]) {
    await page.goto(baton.url + path);
    await page.locator("h1").waitFor();
    await page.locator(".loading").first().waitFor({ state: "detached" });
    await page.waitForTimeout(150);
    await shot(page, `${name}-1280-dark`);
    assert.deepEqual(await violations(page), [], path);
  }
  await page.close();
});

for (const width of [360, 390]) {
  test(`at ${width} px every view and dialog fits, with nothing cut off`, async () => {
    const long = "a-very-long-name-without-any-place-to-break-it-".repeat(4);
    const wide = await task(`A long title: ${long}`.slice(0, 190), "--body", `Read \`${long}\``, "--label", `area=${long.slice(0, 60)}`, "-p", "2");
    const bob = await agent("Bob");
    const [tree] = await baton.json("worktrees");
    const one = await Visitor.open(browser, baton, { viewport: { width, height: 740 }, hasTouch: true, isMobile: true, colorScheme: width === 390 ? "dark" : "light" });
    const page = await one.signIn();
    const found = [];
    const fits = async (name) => {
      await page.waitForTimeout(200);
      await shot(page, `${name}-${width}-${width === 390 ? "dark" : "light"}`);
      found.push(
        ...(await page.evaluate((view) => {
          const wrong = [];
          const wider = document.documentElement.scrollWidth - innerWidth;
          if (wider > 0) wrong.push(`${view}: ${wider} px wider than the window`);
          const scope = document.querySelector("dialog[open]") ?? document;
          for (const element of scope.querySelectorAll("button, input, select, textarea, a, h1, h2, .badge, .task-card, .option")) {
            const place = element.getBoundingClientRect();
            if (place.width === 0 || place.height === 0 || element.closest(".skip, .visually-hidden, .code, .diff, pre, table")) continue;
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
    const dialog = page.getByRole("dialog");
    const press = async (name) => {
      await page.getByRole("button", { name }).first().click();
      await dialog.waitFor();
    };
    for (const [path, name] of [["/agents", "agents"], [`/agents/${bob.id}`, "agent"], ["/tasks", "board"], ["/tasks?as=list", "tasks-list"], ["/tasks?as=ready", "tasks-ready"], [`/tasks/${wide.id}`, "task"], ["/worktrees", "worktrees"], [`/worktrees/${tree.id}`, "worktree"]]) {
      await open(path);
      await fits(name);
    }
    // The dialogs are as wide as the window, however wide that is: the smallest shows.
    for (const [path, button, name, more] of [
      ["/agents", "New agent", "agent-form", "Labels, limits, environment"],
      [`/agents/${bob.id}`, "Start…", "agent-start"],
      ["/tasks", "New task", "task-form", "Labels, schedule, capabilities, acceptance, directory"],
      [`/tasks/${wide.id}`, "Assign…", "task-assign"],
      [`/tasks/${wide.id}`, "Move…", "task-move"],
      [`/tasks/${wide.id}`, "Add a dependency", "task-depend"],
      [`/tasks/${wide.id}`, "Delete…", "task-delete"],
      ["/worktrees", "New worktree", "worktree-form", "Set-up command, files to copy, names"],
      ["/worktrees", "Prune…", "worktrees-prune"],
      ["/worktrees", "Recover…", "worktrees-recover"],
      [`/worktrees/${tree.id}`, "Merge…", "worktree-merge", "Subject, time for the test, uncommitted changes"],
      [`/worktrees/${tree.id}`, "Delete…", "worktree-delete"],
    ].slice(0, width === 360 ? undefined : 1)) {
      await open(path);
      await press(button);
      if (more) await dialog.getByText(more).click();
      await fits(name);
    }
    // A column at a time, and a card moved with a finger.
    await open("/tasks");
    await page.getByLabel("Column").selectOption("closed");
    await lane(page, "closed").locator("[data-task]").first().waitFor();
    await page.getByLabel("Column").selectOption("open");
    await card(page, wide.id).getByRole("button", { name: /^Move/ }).tap();
    await dialog.getByRole("button", { name: "Deferred" }).tap();
    await until("it is deferred", async () => (await status(wide.id)) === "deferred");
    await page.getByRole("button", { name: "More views" }).tap();
    await fits("more");
    await page.locator(".menu-items").getByRole("button", { name: "Machines" }).tap();
    await page.getByRole("heading", { name: "Machines" }).waitFor();
    assert.deepEqual(found, []);
    assert.deepEqual(one.unexpected(), []);
    await one.close();
  });
}

test("no request left the origin, and nothing was complained about but what was made to fail", () => {
  assert.deepEqual(visitor.foreign, []);
  assert.deepEqual(visitor.unexpected(/ERR_(FAILED|CONNECTION_REFUSED|ABORTED)/), []);
});
