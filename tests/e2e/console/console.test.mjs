// The console in a real browser against the real server and the demo agent.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Baton, mustEndWithin, openBrowser, PATIENCE, shot, until, violations, Visitor, within } from "./stage.mjs";

mustEndWithin(25 * PATIENCE);

let baton;
let browser;
let visitor;

before(async () => {
  baton = await Baton.start();
  browser = await openBrowser();
  visitor = await Visitor.open(browser, baton);
  await (await visitor.signIn()).close();
});

after(async () => {
  try {
    await within("the browser ends", browser?.close());
  } finally {
    await baton?.stop();
  }
});

/** The session's page, when the stream is there. */
async function open(id, hash = "") {
  const page = await visitor.page(`/sessions/${id}${hash}`);
  await page.getByRole("log", { name: "Transcript" }).waitFor();
  return page;
}

async function record(id) {
  return (await baton.json("ps", "-a")).find((session) => session.id === id);
}

async function isIdle(id) {
  await until("the agent is idle", async () => (await record(id)).activity === "awaiting_input");
}

/** Seqs of all rows in the page, in the order they stand there. */
async function seqs(page) {
  return page.locator("[data-seq]").evaluateAll((rows) => rows.map((row) => Number(row.dataset.seq)));
}

test("the link signs in once, and leaves neither code nor token in the page", async () => {
  const other = await Visitor.open(browser, baton);
  const link = await baton.link();
  const page = await other.context.newPage();
  await page.goto(link);
  await page.getByRole("heading", { name: "Sessions", exact: true }).waitFor();
  assert.equal(page.url(), `${baton.url}/`);
  const cookie = (await other.context.cookies()).find((one) => one.name === "baton_session");
  assert.ok(cookie?.httpOnly);
  assert.equal(await page.evaluate(() => document.cookie), "");

  const late = await Visitor.open(browser, baton);
  const second = await late.context.newPage();
  await second.goto(link);
  await second.getByRole("alert").getByText(/used already|too old/).waitFor();

  await page.goto(`${baton.url}/settings`);
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { name: "Sign in to Baton" }).waitFor();
  assert.deepEqual(other.unexpected(/401/), []);
  await other.close();
  await late.close();
});

test("a session is started by keyboard, streams, and its text is there for good", async () => {
  const page = await visitor.page("/sessions");
  await page.getByRole("heading", { name: "Sessions", exact: true }).waitFor();
  await page.keyboard.press("g");
  await page.keyboard.press("n");
  await page.getByRole("heading", { name: "New session" }).waitFor();
  // The first field has the focus.
  await page.getByLabel("What to do").waitFor();
  await page.keyboard.type("stream: 60 150");
  await page.getByRole("radio", { name: /demo/ }).check();
  await page.getByRole("button", { name: "Browse" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("button", { name: /project/ }).click();
  await dialog.getByText(/work\/project$/).waitFor();
  await dialog.getByRole("button", { name: "Take this directory" }).click();
  await shot(page, "new-1280-light");
  await page.getByRole("button", { name: "Start", exact: true }).click();
  const live = page.locator(".row.live");
  await live.getByText(/chunk 3\./).waitFor();
  const once = await live.innerText();
  await live.getByText(/chunk 20\./).waitFor();
  assert.ok((await live.innerText()).startsWith(once.trim().slice(0, 20)));
  await page.locator(".row.agent:not(.live)").getByText(/chunk 60\./).waitFor();
  await live.waitFor({ state: "detached" });
  assert.equal(await page.getByText(/chunk 60\./).count(), 1);
  const id = page.url().split("/").pop();
  assert.equal((await record(id)).cwd, `${baton.work}/project`);
  await page.close();
});

test("a permission is allowed and denied by keyboard, and everybody sees who did it", async () => {
  const id = await baton.demo("run: echo allowed-one\nrun: echo denied-two\nsay: over");
  const page = await open(id);
  const cards = page.locator(".dock .prompt.pending");
  await cards.getByText("echo allowed-one").first().waitFor();
  assert.match(await page.title(), /^\(\d+\) /);
  // A key that comes before the card could be seen is no answer; this one comes after.
  await page.waitForTimeout(600);
  await page.locator("body").press("a");
  await page.locator(".tool-card.done").getByText(/allowed by/).waitFor();
  await cards.getByText("echo denied-two").first().waitFor();
  await page.waitForTimeout(600);
  await page.locator("body").press("d");
  await page.keyboard.type("not this one");
  await page.keyboard.press("Enter");
  await page.locator(".tool-card.failed").getByText(/denied by .*not this one/).waitFor();
  await page.locator(".row.agent").getByText(/^over$/).waitFor();
  await isIdle(id);
  const asked = (await baton.json("logs", id)).filter((event) => event.kind === "prompt_answered");
  assert.deepEqual(asked.map((event) => event.body.answer.decision.allow), [true, false]);
  await page.close();
});

test("two questions are answered by number keys, several labels and own words", async () => {
  const id = await baton.demo("ask: Which colour?|red|blue ;; Which sizes?*|S|M|L\nsay: thanks");
  const page = await open(id);
  await page.getByRole("group", { name: /Which sizes/ }).waitFor();
  await page.waitForTimeout(600);
  await page.locator("body").press("2");
  await page.locator("body").press("1");
  await page.locator("body").press("3");
  await shot(page, "question-1280-light");
  await page.locator("body").press("Enter");
  await page.locator(".row.agent").getByText(/^thanks$/).waitFor();
  const answered = (await baton.json("logs", id)).find((event) => event.kind === "prompt_answered");
  assert.deepEqual(answered.body.answer.answers.map((answer) => answer.labels), [["blue"], ["S", "L"]]);
  await page.close();
});

test("a plan is read and approved", async () => {
  const id = await baton.demo("plan: First **this**, then that.\nsay: planned");
  const page = await open(id);
  await page.locator(".prompt-plan strong").getByText("this").waitFor();
  await page.getByRole("button", { name: "Approve" }).click();
  await page.locator(".row.agent").getByText(/^planned$/).waitFor();
  await page.close();
});

test("hidden characters of a command are spelled out, and markup stays text", async () => {
  const id = await baton.demo("run: echo a\u202Eb\u200Bc <img src=x onerror=alert(1)>");
  const page = await open(id);
  const card = page.locator(".dock .prompt.pending");
  await card.getByText("U+202E").waitFor();
  // In the title, which is made from the text, too.
  await page.getByRole("heading", { level: 1 }).getByText("U+202E").waitFor();
  await card.getByText("U+200B").waitFor();
  await card.getByRole("note").waitFor();
  await page.getByRole("button", { name: "Deny…" }).click();
  await page.getByRole("button", { name: "Deny", exact: true }).click();
  await isIdle(id);
  await baton.cli("send", id, "say: <script>window.bad=1</script> <b>x</b> [l](javascript:alert(1))");
  await page.locator(".row.agent").getByText("<script>window.bad=1</script>").waitFor();
  assert.equal(await page.evaluate(() => window.bad), undefined);
  assert.equal(await page.locator("main a[href^=javascript], .md img, .md b").count(), 0);
  await page.close();
});

test("a rule made from a prompt answers the next one", async () => {
  const id = await baton.demo("run: printf rule-one\nrun: printf rule-two");
  const page = await open(id);
  await page.getByRole("button", { name: "Make a rule…" }).click();
  assert.equal(await page.getByLabel(/from now on/).inputValue(), "Bash(printf:*)");
  await page.getByRole("button", { name: "Allow and make the rule" }).click();
  await page.getByText(/allowed by the rule/).waitFor();
  await isIdle(id);
  await page.goto(`${baton.url}/prompts`);
  await page.getByText("Bash(printf:*)").first().waitFor();
  await page.getByRole("button", { name: "Delete the rule Bash(printf:*)" }).click();
  await page.getByRole("button", { name: "Delete the rule Bash(printf:*)" }).waitFor({ state: "detached" });
  await page.close();
});

test("what is typed while the agent works waits, and can be changed, moved and taken back", async () => {
  const id = await baton.demo("stream: 400 25");
  const page = await open(id);
  const input = page.getByLabel("Message to the agent");
  await page.locator(".row.live").waitFor();
  for (const text of ["say: one", "say: two", "say: three"]) {
    await input.fill(text);
    await input.press("Enter");
    await page.locator(".queue-text").getByText(text, { exact: true }).waitFor();
  }
  await page.getByRole("listitem").filter({ hasText: "say: three" }).getByRole("button", { name: "Earlier" }).click();
  await until("the order changed", async () => (await page.locator(".queue-text").allInnerTexts()).join() === "say: one,say: three,say: two");
  await page.getByRole("listitem").filter({ hasText: "say: one" }).getByRole("button", { name: "Take back" }).click();
  await page.locator(".queue-text").getByText("say: one").waitFor({ state: "detached" });
  await page.getByRole("listitem").filter({ hasText: "say: two" }).getByRole("button", { name: "Change" }).click();
  await page.getByLabel("The waiting text").fill("say: second");
  await page.getByRole("button", { name: "Save" }).click();
  await page.locator(".queue-text").getByText("say: second").waitFor();
  await shot(page, "queue-1280-light");
  await page.getByRole("button", { name: "Interrupt" }).click();
  await page.getByText("turn interrupted").first().waitFor();
  await page.locator(".row.agent").getByText(/^second$/).waitFor();
  await isIdle(id);
  const said = (await baton.json("logs", id)).filter((event) => event.kind === "turn_ended").map((event) => event.body.text);
  assert.deepEqual(said.slice(1), ["three", "second"]);
  await page.close();
});

test("model and permission mode are changed while it runs", async () => {
  const id = await baton.demo("say: hello");
  await isIdle(id);
  const page = await open(id);
  await page.getByLabel("Permission mode").selectOption("auto");
  await until("the mode changed", async () => (await record(id)).permission_mode === "auto");
  await page.getByText(/permission mode auto/).waitFor();
  await page.getByLabel("Model").selectOption("…");
  await page.getByRole("dialog").getByLabel("Model").fill("demo-2");
  await page.getByRole("button", { name: "Switch" }).click();
  await until("the model changed", async () => (await record(id)).model === "demo-2");
  await page.close();
});

test("a page that is loaded again in mid-stream shows all of it once", async () => {
  const id = await baton.demo("stream: 480 25\nsay: after");
  const page = await open(id);
  await page.locator(".row.live").getByText(/chunk 5\./).waitFor();
  await page.reload();
  await page.locator(".row.live").getByText(/chunk 10\./).waitFor();
  assert.match(await page.locator(".row.live").innerText(), /^chunk 1\. chunk 2\./);
  await page.locator(".row.agent:not(.live)").getByText(/^after$/).waitFor();
  assert.equal(await page.getByText(/chunk 480\./).count(), 1);
  const shown = await seqs(page);
  assert.deepEqual(shown, [...new Set(shown)].sort((a, b) => a - b));
  await page.close();
});

test("a server that is restarted in mid-stream costs nothing", async () => {
  const id = await baton.demo("say: before\nstream: 600 25\nsay: after the restart");
  const page = await open(id);
  await page.locator(".row.live").getByText(/chunk 5\./).waitFor();
  await baton.down("SIGKILL");
  await page.getByText(/Trying again in/).waitFor();
  await shot(page, "not-connected-1280-light");
  await baton.up();
  await page.locator(".row.agent:not(.live)").getByText(/^after the restart$/).waitFor({ timeout: 60_000 });
  await page.locator(".banner").waitFor({ state: "detached" });
  await isIdle(id);
  const log = await baton.json("logs", id);
  const wanted = log.filter((event) => event.kind === "message" && event.body.role === "agent").map((event) => event.seq);
  const shown = await until("all is shown", async () => {
    const now = await seqs(page);
    return wanted.every((seq) => now.includes(seq)) && now;
  });
  assert.deepEqual(shown, [...new Set(shown)].sort((a, b) => a - b));
  await page.close();
});

test("two tabs answer one prompt: the first wins, the other is told", async () => {
  const id = await baton.demo("run: echo who\nsay: done");
  const [one, two] = [await open(id), await open(id)];
  const buttons = [];
  for (const page of [one, two]) buttons.push(await page.getByRole("button", { name: "Allow", exact: true }).elementHandle());
  // At once, without waiting for anything: whichever comes second may find its button gone, and that is fine.
  await Promise.all(buttons.map((button) => button.evaluate((it) => it.click())));
  for (const page of [one, two]) await page.locator(".tool-card").getByText(/allowed by/).first().waitFor();
  const answers = (await baton.json("logs", id)).filter((event) => event.kind === "prompt_answered");
  assert.equal(answers.length, 1);
  await one.close();
  await two.close();
});

test("seven tabs over HTTP/1.1 all live, and none starves the others", async () => {
  const id = await baton.demo("say: hello");
  await isIdle(id);
  const pages = [];
  for (let at = 0; at < 7; at += 1) pages.push(await open(id));
  for (const page of pages) await page.locator(".connection[data-phase=live], .connection[data-phase=polling]").waitFor();
  const last = pages.at(-1);
  await last.getByLabel("Message to the agent").fill("say: to all seven");
  await last.getByLabel("Message to the agent").press("Enter");
  for (const page of pages) await page.locator(".row.agent").getByText(/^to all seven$/).waitFor();
  for (const page of pages) await page.close();
});

test("offline and back: it says so, and catches up by itself", async () => {
  const id = await baton.demo("say: hello");
  await isIdle(id);
  const page = await open(id);
  await page.locator(".connection[data-phase=live]").waitFor();
  await visitor.context.setOffline(true);
  await page.getByText(/Trying again in/).waitFor();
  await baton.cli("send", id, "say: while you were away");
  await isIdle(id);
  await visitor.context.setOffline(false);
  await page.locator(".row.agent").getByText(/^while you were away$/).waitFor();
  await page.locator(".banner").waitFor({ state: "detached" });
  await page.close();
});

test("a session is ended, resumed, and the old one leads to the new", async () => {
  const id = await baton.demo("say: remember me");
  await isIdle(id);
  const page = await open(id);
  await page.getByRole("button", { name: "End…" }).click();
  await page.getByRole("button", { name: "End it" }).click();
  await page.getByText(/The session ended/).waitFor();
  await page.getByRole("button", { name: "Resume" }).click();
  await page.waitForURL((url) => url.pathname.startsWith("/sessions/") && !url.pathname.endsWith(id));
  await page.getByLabel("Message to the agent").fill("recall:");
  await page.getByLabel("Message to the agent").press("Enter");
  await page.locator(".row.agent").getByText(/remember me/).waitFor();
  await page.goto(`${baton.url}/sessions/${id}`);
  await page.getByText(/Continued in/).waitFor();
  await page.close();
});

test("transcripts are searched, and a hit opens at its event", async () => {
  const id = await baton.demo("say: a needle called Zeitgeistqx");
  await isIdle(id);
  const page = await visitor.page("/sessions");
  await page.getByLabel("Search sessions and transcripts").fill("Zeitgeistqx");
  const hit = page.locator(".session-line.hit").first();
  await hit.waitFor();
  await hit.click();
  await page.locator(".row.target").waitFor();
  assert.match(page.url(), /#\d+$/);
  await page.keyboard.press("Control+f");
  await page.getByLabel("Find in this session").fill("needle");
  await page.locator(".find-count").getByText(/\d/).waitFor();
  await page.keyboard.press("Enter");
  await page.locator(".find-snippet mark").first().waitFor();
  await page.close();
});

test("every view is accessible, in light and dark, wide and narrow", async () => {
  await baton.demo("think: What could be shown here?\nsay: # A title\\n\nsay: Some `code`, a [link](https://example.com), and **words**.\nwrite: project/greeting.txt hello\nrun: ls -la\nask: Ready?|yes|no");
  const asks = await baton.demo("run: cargo test --workspace\nsay: ok");
  await baton.demo("ask: Which database?|PostgreSQL|SQLite ;; Which features?*|search|export|metrics");
  await baton.demo("plan: ## Plan\\n\n1. Read the code 2. Change it");
  const wide = { width: 1280, height: 800 };
  const narrow = { width: 390, height: 844 };
  const paths = ["/sessions", "/prompts", "/new", "/machines", "/access", "/settings", `/sessions/${asks}`];
  const found = [];
  for (const colorScheme of ["light", "dark"]) {
    for (const viewport of [wide, narrow]) {
      const one = await Visitor.open(browser, baton, { viewport, colorScheme, hasTouch: viewport === narrow });
      const page = await one.signIn();
      for (const path of paths) {
        await page.goto(baton.url + path);
        await page.locator(".loading").waitFor({ state: "detached" });
        await page.getByRole("heading", { level: 1 }).first().waitFor();
        await page.waitForTimeout(250);
        const name = `${path.startsWith("/sessions/") ? "session" : path.slice(1)}-${viewport.width}-${colorScheme}`;
        await shot(page, name);
        for (const violation of await violations(page)) found.push(`${name}: ${violation}`);
        const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        if (wider > 0) found.push(`${name}: ${wider} px wider than the window`);
      }
      assert.deepEqual(one.unexpected(), []);
      assert.deepEqual(one.foreign, []);
      await one.close();
    }
  }
  assert.deepEqual(found, []);
});

test("a viewer looks and changes nothing", async () => {
  const id = await baton.demo("run: echo no");
  const one = await Visitor.open(browser, baton);
  const page = await one.signIn("--scope", "viewer");
  await page.goto(`${baton.url}/sessions/${id}`);
  await page.getByText("may only look").waitFor();
  assert.equal(await page.getByRole("button", { name: /Allow|Deny|Send|End…/ }).count(), 0);
  await one.close();
});

test("no request left the origin, and nothing was complained about", () => {
  assert.deepEqual(visitor.foreign, []);
  // The server was killed and the network cut on purpose; a browser says so.
  assert.deepEqual(visitor.unexpected(/ERR_(CONNECTION_REFUSED|INTERNET_DISCONNECTED|EMPTY_RESPONSE|CONNECTION_RESET|INCOMPLETE_CHUNKED_ENCODING|NETWORK_CHANGED|ABORTED|FAILED)/, /status of 401/), []);
});
