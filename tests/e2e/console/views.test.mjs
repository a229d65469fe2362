// What each view of the console shows and does beside the loop of a session: machines, access, rules, new sessions,
// settings, what calls for attention, what a session can hold, and what stands there when there is nothing or when
// something fails.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { Baton, openBrowser, shot, until, violations, Visitor } from "./stage.mjs";

let baton;
let browser;
let visitor;

before(async () => {
  baton = await Baton.start({ daemonArgs: ["--allow-env", "DEMO_WORD"], daemonEnv: { DEMO_WORD: "hush" } });
  browser = await openBrowser();
  visitor = await Visitor.open(browser, baton);
  await (await visitor.signIn()).close();
});

after(async () => {
  await browser?.close();
  await baton?.stop();
});

async function open(id, hash = "") {
  const page = await visitor.page(`/sessions/${id}${hash}`);
  await page.getByRole("log", { name: "Transcript" }).waitFor();
  return page;
}

async function more(page, name) {
  await page.getByRole("button", { name: "More", exact: true }).click();
  await page.locator(".menu-items").getByRole("button", { name }).click();
}

test("where there is nothing yet, the views say so, and what to do", async () => {
  const page = await visitor.page("/sessions");
  await page.getByText("No sessions yet.").waitFor();
  await shot(page, "sessions-empty-1280-light");
  await page.goto(`${baton.url}/prompts`);
  await page.getByText("Nobody waits for you.").waitFor();
  await page.getByText("There is none.").waitFor();
  await page.goto(`${baton.url}/sessions/ses_00000000000000000000000000`);
  await page.getByText("There is no such session.").waitFor();
  await page.close();
});

test("until the records have come, every view says that it loads", async () => {
  const page = await visitor.context.newPage();
  let free;
  const held = new Promise((done) => (free = done));
  await page.route("**/baton.v1.EventService/Watch", async (route) => {
    await held;
    await route.abort();
  });
  for (const path of ["sessions", "prompts", "agents", "tasks", "worktrees", "machines", "new"]) {
    await page.goto(`${baton.url}/${path}`);
    await page.getByRole("status").getByText(/^Loading/).first().waitFor();
  }
  free();
  await page.close();
});

test("what fails says what, and can be tried again", async () => {
  const id = await baton.demo("say: hello");
  await baton.isIdle(id);
  const page = await visitor.context.newPage();
  const cases = [
    ["/access", "AccessService/ListTokens", page.getByRole("list", { name: "Tokens" })],
    ["/prompts", "PromptService/ListPromptRules", page.getByText("There is none.")],
    ["/settings", "SystemService/GetServerInfo", page.getByText("machines linked")],
    [`/sessions/${id}`, "EventService/ListEvents", page.locator(".row.agent")],
    ["/sessions", "AccessService/GetCaller", page.getByRole("heading", { name: "Sessions", exact: true })],
  ];
  for (const [path, call, good] of cases) {
    const pattern = `**/baton.v1.${call}`;
    await page.route(pattern, (route) => route.abort());
    await page.goto(baton.url + path);
    await page.getByRole("alert").first().waitFor();
    if (call === "AccessService/ListTokens") await shot(page, "access-failed-1280-light");
    await page.unroute(pattern);
    await page.getByRole("alert").getByRole("button", { name: "Try again" }).click();
    await good.first().waitFor();
    assert.equal(await page.getByRole("alert").count(), 0, call);
  }
  // What a person asked for and what failed stays as it was typed.
  await page.route("**/baton.v1.SessionService/CreateSession", (route) => route.abort());
  await page.goto(`${baton.url}/new`);
  await page.getByLabel("What to do").fill("say: not lost");
  await page.getByRole("radio", { name: /demo/ }).check();
  await page.getByRole("button", { name: "Start", exact: true }).click();
  await page.getByRole("alert").waitFor();
  assert.equal(await page.getByLabel("What to do").inputValue(), "say: not lost");
  await page.unroute("**/baton.v1.SessionService/CreateSession");
  await page.getByRole("button", { name: "Start", exact: true }).click();
  await page.locator(".row.agent").getByText(/^not lost$/).waitFor();
  await page.close();
});

test("the tab's title and icon count what waits", async () => {
  const page = await visitor.page("/sessions");
  const icon = async () => decodeURIComponent(await page.locator("#favicon").getAttribute("href"));
  await page.getByRole("heading", { name: "Sessions", exact: true }).waitFor();
  await until("the icon is there", async () => (await icon()).startsWith("data:image/svg+xml"));
  assert.equal(await page.title(), "Sessions · Baton");
  assert.doesNotMatch(await icon(), /<text/);
  const ids = [await baton.demo("run: echo one"), await baton.demo("run: echo two")];
  await page.waitForFunction(() => document.title === "(2) Sessions · Baton");
  assert.match(await icon(), />2<\/text>/);
  await page.locator(".nav .count").getByText("2", { exact: true }).waitFor();
  // What waits is on top.
  assert.match(await page.locator("section h2").first().innerText(), /^Waits for you 2/);
  await page.locator(".line-prompt").getByText(/echo two/).waitFor();
  for (const id of ids) await baton.cli("end", "--force", id);
  await page.waitForFunction(() => document.title === "Sessions · Baton");
  assert.doesNotMatch(await icon(), /<text/);
  await page.close();
});

/** In the page: notifications as a browser with a screen has them, kept where the test finds them. */
function stubNotifications([permission]) {
  globalThis.shown = [];
  globalThis.Notification = class extends EventTarget {
    static permission = permission;
    static async requestPermission() {
      globalThis.asked = (globalThis.asked ?? 0) + 1;
      if (this.permission === "default") this.permission = "granted";
      return this.permission;
    }
    constructor(title, options) {
      super();
      globalThis.shown.push({ title, body: options.body, click: () => this.dispatchEvent(new Event("click")) });
    }
    close() {}
  };
}

test("a notification comes only where it was asked for, and only to who looks elsewhere", async () => {
  const page = await visitor.context.newPage();
  await page.addInitScript(stubNotifications, ["default"]);
  await page.goto(`${baton.url}/settings`);
  const box = page.getByRole("checkbox", { name: /Tell me when an agent asks/ });
  await box.waitFor();
  const away = (is) =>
    page.evaluate((hidden) => {
      document.hasFocus = () => !hidden;
      Object.defineProperty(document, "visibilityState", { configurable: true, get: () => (hidden ? "hidden" : "visible") });
      document.dispatchEvent(new Event("visibilitychange"));
    }, is);
  const waits = (count) => page.waitForFunction((n) => (n === 0 ? !document.title.startsWith("(") : document.title.startsWith(`(${n}) `)), count);
  const shown = () => page.evaluate(() => globalThis.shown.map(({ title, body }) => ({ title, body })));
  const ids = [];
  const ask = async (words) => ids.push(await baton.demo(`run: echo ${words}`, "--title", `title of ${words}`));

  // Nobody asked for it: nothing comes, and the browser was not asked for the right.
  await page.locator(".connection[data-phase=live]").waitFor();
  await away(true);
  await ask("unasked");
  await waits(1);
  assert.deepEqual([await shown(), await page.evaluate(() => globalThis.asked)], [[], undefined]);
  await away(false);
  await box.check();
  await until("it was allowed", () => page.evaluate(() => globalThis.asked === 1));
  assert.ok(await box.isChecked());
  // Who looks at the page needs none.
  await ask("watched");
  await waits(2);
  assert.deepEqual(await shown(), []);
  await away(true);
  await ask("elsewhere");
  await page.waitForFunction(() => globalThis.shown.length === 1);
  const [told] = await shown();
  assert.equal(told.title, "title of elsewhere");
  assert.match(told.body, /echo elsewhere/);
  await away(false);
  await page.evaluate(() => globalThis.shown[0].click());
  await page.waitForURL((url) => url.pathname === `/sessions/${ids.at(-1)}`);
  for (const id of ids) await baton.cli("end", "--force", id);
  await page.close();

  // A browser that was told no: the box stays off and says why.
  const denied = await visitor.context.newPage();
  await denied.addInitScript(stubNotifications, ["denied"]);
  await denied.goto(`${baton.url}/settings`);
  await denied.getByText(/was told not to show notifications/).waitFor();
  await denied.getByRole("checkbox", { name: /Tell me when an agent asks/ }).click();
  assert.equal(await denied.getByRole("checkbox", { name: /Tell me when an agent asks/ }).isChecked(), false);
  await denied.close();
});

test("a transcript shows a list of what is to be done, pictures, and a long text in parts", async () => {
  const picture = await visitor.page("/sessions");
  writeFileSync(join(baton.work, "picture.png"), await picture.screenshot({ clip: { x: 0, y: 0, width: 320, height: 200 } }));
  await picture.close();
  const id = await baton.demo("todo: x Read the code|> Write the test|Say what changed\nshow: picture.png\nbig: 300000\nsay: shown", "--permission-mode", "auto");
  const page = await open(id);
  await page.locator(".row.agent").getByText(/^shown$/).waitFor();
  const plan = page.locator(".card.plan").first();
  await plan.locator(".completed").getByText("Read the code").waitFor();
  await plan.locator(".in_progress").getByText("Write the test").waitFor();
  await plan.getByText("Say what changed").waitFor();
  const card = page.locator(".card").filter({ hasText: "picture.png" }).first();
  if ((await page.locator("img.picture").count()) === 0) await card.locator(".card-head").click();
  const image = page.locator("img.picture").first();
  await image.waitFor();
  await until("the picture is drawn", () => image.evaluate((it) => it.complete && it.naturalWidth === 320));
  assert.match(await image.getAttribute("alt"), /image\/png/);
  await page.getByText(/in all; the beginning and the end are shown/).first().waitFor();
  const long = page.locator(".long-text").first();
  const before = (await long.innerText()).length;
  await shot(page, "contents-1280-light");
  await page.getByRole("button", { name: "Load all of it" }).first().click();
  await until("all of it is there", async () => (await long.innerText()).length >= 290_000);
  assert.ok(before < 50_000, `${before} characters at first`);
  assert.deepEqual(await violations(page), []);
  await page.close();
});

test("a session is suspended and resumed, branched off, and deleted", async () => {
  const id = await baton.demo("say: remember the tree", "--title", "trunk");
  await baton.isIdle(id);
  const page = await open(id);
  await more(page, "Branch off");
  await page.waitForURL((url) => url.pathname.startsWith("/sessions/") && !url.pathname.endsWith(id));
  const branch = page.url().split("/").pop();
  await page.getByLabel("Message to the agent").fill("recall:");
  await page.getByLabel("Message to the agent").press("Enter");
  await page.locator(".row.agent").getByText(/remember the tree/).waitFor();
  await page.getByRole("button", { name: "More", exact: true }).click();
  await page.locator(".menu-items").getByText("branched off").waitFor();
  await page.locator(".menu-items a").first().click();
  await page.waitForURL((url) => url.pathname.endsWith(id));

  await more(page, "Suspend");
  await page.locator(".three-facts").getByText("suspended").waitFor();
  await page.getByRole("button", { name: "Resume" }).click();
  await page.getByLabel("Message to the agent").waitFor();
  await page.getByLabel("Message to the agent").fill("say: awake again");
  await page.getByLabel("Message to the agent").press("Enter");
  await page.locator(".row.agent").getByText(/^awake again$/).waitFor();

  await baton.cli("end", "--force", branch);
  await page.goto(`${baton.url}/sessions/${branch}`);
  await page.getByText(/The session ended/).waitFor();
  await more(page, "Delete…");
  await page.getByRole("dialog").getByText(/cannot be undone/).waitFor();
  await page.getByRole("button", { name: "Delete it" }).click();
  await page.getByText("Deleted.").waitFor();
  await page.waitForURL((url) => url.pathname === "/sessions");
  await page.goto(`${baton.url}/sessions/${branch}`);
  await page.getByText("There is no such session.").waitFor();
  assert.equal(await baton.record(branch), undefined);
  await page.close();
});

test("a rule made from a prompt holds where a person says, and a deny is remembered too", async () => {
  const make = async (words, where, verdict = "allow") => {
    const id = await baton.demo(`run: ${words} --now\nsay: went on`, "--title", `asks for ${words}`);
    const page = await open(id);
    await page.getByRole("button", { name: "Make a rule…" }).click();
    await page.getByLabel(/from now on/).fill(`Bash(${words}:*)`);
    await page.getByLabel("It holds").selectOption({ label: where });
    if (verdict === "deny") await page.getByLabel("Verdict").selectOption("deny");
    if (words === "true") await shot(page, "rule-1280-light");
    await page.getByRole("button", { name: verdict === "deny" ? "Deny and make the rule" : "Allow and make the rule" }).click();
    await page.locator(".row.agent").getByText(/^went on$/).waitFor();
    await page.close();
  };
  await make("true", "in this session");
  await make("echo beneath", "beneath …/" + baton.work.split("/").slice(-2).join("/"));
  await make("printf all", "everywhere");
  await make("false", "everywhere", "deny");
  const page = await visitor.page("/prompts");
  const rules = page.getByRole("list", { name: "Rules" }).getByRole("listitem");
  await rules.filter({ hasText: "Bash(true:*)" }).getByText(/^in session asks for true/).waitFor();
  await rules.filter({ hasText: "Bash(echo beneath:*)" }).getByText(`beneath ${baton.work},`).waitFor();
  await rules.filter({ hasText: "Bash(printf all:*)" }).getByText(/^everywhere/).waitFor();
  await rules.filter({ hasText: "Bash(false:*)" }).getByText("deny", { exact: true }).waitFor();
  // One made by hand.
  await page.getByLabel("New rule").fill("Read");
  await page.getByLabel("Only beneath").fill(`${baton.work}/notes`);
  await page.getByRole("button", { name: "Add" }).click();
  await rules.filter({ hasText: "Read" }).getByText(`beneath ${baton.work}/notes,`).waitFor();
  await shot(page, "rules-1280-light");
  // The rule of a directory answers another session there, and the one that denies beats all.
  const id = await baton.demo("run: echo beneath it\nrun: false --now\nsay: over");
  const other = await open(id);
  await other.locator(".row.agent").getByText(/^over$/).waitFor();
  const answers = (await baton.json("logs", id)).filter((event) => event.kind === "prompt_answered" || event.kind === "permission_decided");
  assert.equal((await baton.json("ps", "-a")).find((session) => session.id === id).pending_prompts ?? 0, 0, JSON.stringify(answers));
  await other.close();
  while ((await rules.count()) > 0) {
    const left = await rules.count();
    await page.getByRole("button", { name: /^Delete the rule/ }).first().click();
    await until("a rule is gone", async () => (await rules.count()) < left);
  }
  await page.close();
});

test("a question is declined with a word why", async () => {
  const id = await baton.demo("ask: Which colour?|red|blue\nsay: as you like");
  const page = await open(id);
  await page.getByRole("button", { name: "Decline…" }).waitFor();
  await page.waitForTimeout(600);
  await page.locator("body").press("d");
  await page.keyboard.type("choose yourself");
  await page.keyboard.press("Enter");
  await page.locator(".row.agent").getByText(/^as you like$/).waitFor();
  const answered = (await baton.json("logs", id)).find((event) => event.kind === "prompt_answered");
  assert.equal(answered.body.answer.decision.allow, false);
  assert.equal(answered.body.answer.decision.message, "choose yourself");
  await page.close();
});

test("a session gets labels, limits and variables, and a template remembers them", async () => {
  const page = await visitor.page("/new");
  await page.getByLabel("What to do").fill("run: printf 'the word is %s' \"$DEMO_WORD\"");
  await page.getByRole("radio", { name: /demo/ }).check();
  await page.getByLabel("Directory").fill(join(baton.work, "notes"));
  await page.getByLabel("Permissions").selectOption("auto");
  await page.getByText("Title, labels, limits, environment").click();
  await page.getByLabel("Title").fill("with bounds");
  await page.getByLabel("Labels").fill("team=web, ticket=42");
  await page.getByLabel("minutes in all").fill("90");
  await page.getByLabel("turns", { exact: true }).fill("7");
  await page.getByLabel("US dollars").fill("2.5");
  await page.getByLabel("then").selectOption("suspend");
  await page.getByRole("checkbox", { name: "DEMO_WORD" }).check();
  await page.getByRole("button", { name: "Keep as template" }).click();
  await page.getByRole("dialog").getByLabel("Name").fill("bounded");
  await page.getByRole("button", { name: "Keep", exact: true }).click();
  await shot(page, "new-more-1280-light");
  assert.deepEqual(await violations(page), []);
  await page.getByRole("button", { name: "Start", exact: true }).click();
  await page.waitForURL((url) => url.pathname.startsWith("/sessions/"));
  const id = page.url().split("/").pop();
  await page.getByText(/the word is hush/).first().waitFor();
  const session = await baton.record(id);
  assert.deepEqual(session.labels, { team: "web", ticket: "42" });
  assert.equal(session.title, "with bounds");
  assert.equal(session.limits.runtime_s, 5400);
  assert.equal(session.limits.turns, 7);
  assert.equal(session.limits.cost_usd ?? session.limits.cost_micro_usd / 1e6, 2.5);

  await page.goto(`${baton.url}/new`);
  await page.getByRole("button", { name: "bounded", exact: true }).click();
  assert.match(await page.getByLabel("What to do").inputValue(), /the word is/);
  await page.getByText("Title, labels, limits, environment").click();
  assert.equal(await page.getByLabel("Labels").inputValue(), "team=web, ticket=42");
  assert.equal(await page.getByLabel("minutes in all").inputValue(), "90");
  assert.ok(await page.getByRole("checkbox", { name: "DEMO_WORD" }).isChecked());
  // Directories of late are a touch away.
  const recent = page.getByRole("list", { name: "Recent directories" });
  await recent.getByRole("button", { name: /work$/ }).click();
  assert.equal(await page.getByLabel("Directory").inputValue(), baton.work);
  await page.getByRole("button", { name: "Forget the template bounded" }).click();
  await page.close();
});

test("a token says what it opens, what it sees and when it was last used, and is revoked", async () => {
  const page = await visitor.page("/access");
  await page.getByRole("button", { name: "New token" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Name").fill("for the web");
  await dialog.getByLabel("It may").selectOption({ label: "look (viewer)" });
  await dialog.getByLabel("Only sessions beneath").fill(`${baton.work}/project\n${baton.work}/notes`);
  await dialog.getByRole("button", { name: "Make it" }).click();
  const secret = (await dialog.locator("code").innerText()).trim();
  await dialog.getByRole("button", { name: "Done" }).click();
  const line = page.getByRole("list", { name: "Tokens" }).getByRole("listitem").filter({ hasText: "for the web" });
  await line.getByText("viewer").waitFor();
  await line.getByText("no use known").waitFor();
  assert.deepEqual(await line.getByRole("list", { name: "sees only" }).getByRole("listitem").allInnerTexts(), [`${baton.work}/project`, `${baton.work}/notes`]);
  const call = () => fetch(`${baton.url}/api/daemon/status`, { headers: { authorization: `Bearer ${secret}` } }).then((answer) => answer.status);
  assert.equal(await call(), 200);
  await page.reload();
  await line.getByText(/^used (now|\d+ s)$/).waitFor();
  await page.getByText("this browser").waitFor();
  await shot(page, "access-narrowed-1280-light");
  const listed = (await baton.json("token", "list")).find((token) => token.name === "for the web");
  assert.ok(Date.parse(listed.last_used_at) > Date.now() - 60_000, listed.last_used_at);
  await line.getByRole("button", { name: "Revoke…" }).click();
  await page.getByRole("button", { name: "Revoke it" }).click();
  await line.waitFor({ state: "detached" });
  await until("it opens nothing", async () => (await call()) === 401);
  await page.getByLabel("revoked and expired").check();
  await line.getByText(/revoked/).waitFor();
  await page.close();
});

test("a machine shows its versions, what it can, when its link came and went, and is drained", async () => {
  await baton.down("SIGKILL");
  await baton.up();
  await until("the daemon is back", async () => (await baton.json("daemons")).some((daemon) => daemon.attached));
  const page = await visitor.page("/machines");
  const machine = page.locator(".machine").filter({ hasText: "workbench" });
  await machine.locator(".badge").getByText(/^linked/).waitFor();
  const { version } = (await baton.json("daemons"))[0];
  await machine.getByText(`baton ${version}`).waitFor();
  await machine.getByText(/model switch/).first().waitFor();
  await machine.getByText(/may pass on DEMO_WORD/).waitFor();
  const links = machine.locator("details.links");
  await links.getByText(/last lost/).waitFor();
  await links.locator("summary").click();
  await links.getByText(/the server was started again/).last().waitFor();
  assert.deepEqual((await links.locator("li b").allInnerTexts()).slice(0, 3), ["linked", "away", "linked"]);
  await shot(page, "machine-links-1280-light");
  await machine.getByRole("button", { name: "Drain" }).click();
  await machine.getByText("draining").waitFor();
  assert.equal((await baton.json("daemons"))[0].draining, true);
  await machine.getByRole("button", { name: "Take sessions again" }).click();
  await machine.getByText("draining").waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Add a machine" }).click();
  await page.getByRole("button", { name: "Make the command" }).click();
  assert.match(await page.getByRole("dialog").locator("code").innerText(), /^BATON_JOIN_TOKEN=\S+ baton daemon --server/);
  await page.close();
});

test("theme and density are a person's, and stay", async () => {
  const page = await visitor.page("/settings");
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const size = () => page.evaluate(() => getComputedStyle(document.documentElement).fontSize);
  await page.getByLabel("Theme").waitFor();
  const [light, large] = [await ground(), await size()];
  await page.getByLabel("Theme").selectOption("dark");
  await page.getByLabel("Density").selectOption("compact");
  assert.notEqual(await ground(), light);
  assert.ok(parseFloat(await size()) < parseFloat(large));
  await page.reload();
  await page.getByLabel("Theme").waitFor();
  assert.equal(await page.getByLabel("Theme").inputValue(), "dark");
  assert.notEqual(await ground(), light);
  assert.deepEqual(await violations(page), []);
  await page.goto(`${baton.url}/sessions`);
  await page.locator(".session-line").first().waitFor();
  await shot(page, "sessions-compact-1280-dark");
  // The system's own choice is followed again.
  await page.goto(`${baton.url}/settings`);
  await page.getByLabel("Theme").selectOption("system");
  await page.getByLabel("Density").selectOption("comfortable");
  assert.equal(await ground(), light);
  await page.emulateMedia({ colorScheme: "dark" });
  assert.notEqual(await ground(), light);
  await page.close();
});

test("transcripts of all sessions are searched from the list, and nothing found says so", async () => {
  const ids = [await baton.demo("say: the word Kolibriqx is here"), await baton.demo("say: and Kolibriqx there")];
  for (const id of ids) await baton.isIdle(id);
  const page = await visitor.page("/sessions");
  const box = page.getByLabel("Search sessions and transcripts");
  await box.fill("Kolibriqx");
  await page.getByRole("heading", { name: /^In transcripts/ }).waitFor();
  const hits = page.locator(".session-line.hit");
  await until("both are found", async () => {
    const links = await hits.evaluateAll((all) => all.map((one) => one.getAttribute("href")));
    return ids.every((id) => links.some((link) => link.startsWith(`/sessions/${id}#`)));
  });
  await hits.first().locator("mark").getByText("Kolibriqx").waitFor();
  await shot(page, "search-1280-light");
  await box.fill("Nirgendwoxyz");
  await page.getByText("Nothing.", { exact: true }).waitFor();
  await box.fill("");
  await page.getByLabel("Which sessions").selectOption("ended");
  await until("only ended ones", async () => (await page.locator("section h2").allInnerTexts()).every((text) => text.startsWith("Ended")));
  await page.close();
});

test("at 360 px every view and dialog fits, with nothing cut off", async () => {
  const long = "a-very-long-name-without-any-place-to-break-it-".repeat(4);
  await baton.cli("token", "create", long.slice(0, 90), "--project", `${baton.work}/${long}`);
  await baton.demo("think: quietly\nsay: # A title\\n\nsay: Some `code` and a table\nwrite: project/greeting.txt hello\nsay: done", "--title", `A long title: ${long}`.slice(0, 150), "--permission-mode", "auto");
  const asks = await baton.demo(`run: cargo test --workspace --package ${long}`, "--title", "asks");
  await baton.demo("ask: Which database should it be, of all those that are there?|PostgreSQL|SQLite ;; Which features?*|search|export|metrics");
  await baton.demo(`plan: Read ${long} and then change it`);
  const one = await Visitor.open(browser, baton, { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true });
  const page = await one.signIn();
  const found = [];
  const fits = async (name) => {
    await page.waitForTimeout(200);
    await shot(page, `${name}-360-light`);
    found.push(
      ...(await page.evaluate((view) => {
        const wrong = [];
        const wider = document.documentElement.scrollWidth - innerWidth;
        if (wider > 0) wrong.push(`${view}: ${wider} px wider than the window`);
        const scope = document.querySelector("dialog[open]") ?? document;
        for (const element of scope.querySelectorAll("button, input, select, textarea, a, h1, h2, .badge, .card, .prompt, .option")) {
          const place = element.getBoundingClientRect();
          if (place.width === 0 || place.height === 0 || element.closest(".skip, .visually-hidden, .code, .diff, pre, table")) continue;
          if (place.right > innerWidth + 0.5 || place.left < -0.5) wrong.push(`${view}: ${element.outerHTML.slice(0, 120)} reaches from ${Math.round(place.left)} to ${Math.round(place.right)}`);
        }
        return wrong;
      }, name)),
    );
  };
  for (const path of ["/sessions", "/prompts", "/new", "/machines", "/access", "/settings", `/sessions/${asks}`]) {
    await page.goto(baton.url + path);
    await page.locator(".loading").waitFor({ state: "detached" });
    await page.locator("h1, .empty-title").first().waitFor();
    await fits(path.startsWith("/sessions/") ? "session" : path.slice(1));
  }
  await page.goto(`${baton.url}/sessions/${asks}`);
  await page.getByRole("button", { name: "Make a rule…" }).click();
  await fits("rule");
  await page.getByRole("button", { name: "Back" }).click();
  await page.getByRole("button", { name: "Deny…" }).click();
  await fits("deny");
  await page.getByRole("button", { name: "Back" }).click();
  await page.getByRole("button", { name: "More", exact: true }).click();
  await fits("menu");
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "End…" }).click();
  await fits("end");
  await page.goto(`${baton.url}/new`);
  await page.getByText("Title, labels, limits, environment").click();
  await fits("new-more");
  await page.getByRole("button", { name: "Browse" }).click();
  await page.getByRole("dialog").waitFor();
  await fits("picker");
  for (const [path, button, name] of [
    ["/access", "New token", "token"],
    ["/access", "Sign in a phone", "invite"],
    ["/machines", "Add a machine", "join"],
  ]) {
    await page.goto(baton.url + path);
    await page.getByRole("button", { name: button }).click();
    await page.getByRole("dialog").waitFor();
    await fits(name);
    const submit = page.getByRole("dialog").getByRole("button", { name: /^Make the/ });
    if ((await submit.count()) > 0) {
      await submit.click();
      await page.getByRole("button", { name: "Done" }).waitFor();
      await fits(`${name}-made`);
    }
  }
  await page.goto(`${baton.url}/machines`);
  await page.locator("details.links summary").click();
  await fits("machine-links");
  assert.deepEqual(found, []);
  assert.deepEqual(one.unexpected(), []);
  await one.close();
});

test("without a machine, the views say how one comes", async () => {
  for (const session of await baton.json("ps")) await baton.cli("end", "--force", session.id);
  const page = await visitor.page("/machines");
  await page.locator(".machine").getByRole("button", { name: "Remove…" }).click();
  await page.getByRole("button", { name: "Remove it" }).click();
  await page.getByText("No machine has joined.").waitFor();
  await page.goto(`${baton.url}/new`);
  await page.getByText("No machine is linked.").waitFor();
  await page.close();
});

test("no request left the origin, and nothing was complained about but what was made to fail", () => {
  assert.deepEqual(visitor.foreign, []);
  assert.deepEqual(visitor.unexpected(/ERR_(FAILED|CONNECTION_REFUSED|CONNECTION_RESET|INCOMPLETE_CHUNKED_ENCODING|EMPTY_RESPONSE|ABORTED)/), []);
});
