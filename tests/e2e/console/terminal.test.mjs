// Terminals in the console: real programs in real PTYs, in a real browser, beside `baton attach`.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { Model } from "./model.mjs";
import { Baton, mustEndWithin, openBrowser, PATIENCE, shot, until, violations, Visitor } from "./stage.mjs";

mustEndWithin(900_000);

/** A megabyte each. */
const ROUNDS = Number(process.env.BATON_TEST_ROUNDS ?? 20);
const KEY = "stub-key-of-no-account";
/** A browser whose server goes away says so. */
const AWAY = [/Failed to load resource/, /ERR_(CONNECTION_REFUSED|INCOMPLETE_CHUNKED_ENCODING|CONNECTION_RESET|EMPTY_RESPONSE)/];

let baton;
let browser;
let visitor;
let model;

before(async () => {
  model = await Model.start();
  const claude = fileURLToPath(new URL("../node_modules/.bin/claude", import.meta.url));
  // Not to be skipped: a person's agent in a person's terminal is what this is for.
  assert.ok(existsSync(claude), "Claude Code is not installed: npm ci in tests/e2e");
  browser = await openBrowser();
  baton = await start(claude);
  visitor = await Visitor.open(browser, baton, { permissions: ["clipboard-read", "clipboard-write"] });
  await (await visitor.signIn()).close();
});

after(async () => {
  await browser?.close();
  await baton?.stop();
  model?.stop();
});

// A page holds one of the few streams that a browser allows: one that a failed test left must not starve the next.
afterEach(async () => {
  for (const page of visitor?.context.pages() ?? []) await page.close();
});

/** The daemon finds the real CLI by its name; nothing of this machine's own installation or settings is found. */
async function start(claude) {
  const env = {
    ANTHROPIC_BASE_URL: model.url,
    ANTHROPIC_API_KEY: KEY,
    CLAUDE_CODE_MAX_RETRIES: "1",
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
    DISABLE_TELEMETRY: "1",
    DISABLE_ERROR_REPORTING: "1",
  };
  const passed = [...Object.keys(env), "CLAUDE_CONFIG_DIR"].flatMap((name) => ["--pass-env", name]);
  return Baton.start({
    serverArgs: ["--set", `terminals.scrollback=${ROUNDS + 16}MiB`],
    daemonArgs: passed,
    daemonEnv: env,
    prepare: (there) => {
      const programs = join(there.home, "bin");
      mkdirSync(programs);
      symlinkSync(claude, join(programs, "claude"));
      const config = join(there.home, "config");
      mkdirSync(config);
      const answers = {
        hasCompletedOnboarding: true,
        projects: { [join(there.work, "project")]: { hasTrustDialogAccepted: true } },
        customApiKeyResponses: { approved: [KEY.slice(-20)], rejected: [] },
      };
      writeFileSync(join(config, ".claude.json"), JSON.stringify(answers));
      Object.assign(there.daemonEnv, { PATH: `${programs}:${process.env.PATH}`, CLAUDE_CONFIG_DIR: config, SHELL: "/bin/sh", PS1: "$ " });
    },
  });
}

/** Opens a terminal with a program, or the shell; its record. */
async function opens(...argv) {
  const id = await baton.cli("terminal", "open", "-d", ...(argv.length > 0 ? ["--", ...argv] : []));
  return until("the program runs", async () => (await baton.json("terminal", "list", "-a")).find((one) => (one.id === id || one.terminal === id) && (one.session?.lifecycle ?? one.lifecycle) !== "starting" && (one.session?.lifecycle ?? one.lifecycle) !== "pending"));
}

const sessionOf = (record) => record.session?.id ?? record.session ?? record.id;

/** A page that shows a terminal. */
async function sees(record, who = visitor) {
  const page = await who.page(`/sessions/${sessionOf(record)}`);
  await page.locator(".terminal-view").waitFor();
  await page.locator(".terminal-view[data-phase=live], .terminal-view[data-phase=over]").waitFor();
  return page;
}

/** Waits until the terminal has the size of the page's own window. */
const fits = (page) => page.locator(".terminal-size.dim").waitFor();

/** What the screen shows, line by line. */
const rows = (page) => page.locator(".xterm-rows > div").evaluateAll((lines) => lines.map((line) => line.textContent.replaceAll("\u00a0", " ").trimEnd()));

/** Waits until a line of the screen is, or has, what is looked for. */
async function shows(page, pattern) {
  let last = [];
  const is = (row) => (pattern instanceof RegExp ? pattern.test(row) : row.includes(pattern));
  try {
    return await until(`${pattern} on the screen`, async () => (last = await rows(page)).find(is));
  } catch (late) {
    throw new Error(`${late.message}; it shows:\n${last.filter(Boolean).join("\n")}`);
  }
}

/** Types as a keyboard does: text in one piece, as an input method gives it, and keys for what is no text. */
async function types(page, text) {
  const keys = { "\r": "Enter", "\x04": "Control+D", "\x06": "Control+F", "\x15": "Control+U" };
  await page.locator(".xterm-helper-textarea").focus();
  // eslint-disable-next-line no-control-regex
  for (const part of text.split(/([\r\x04\x06\x15])/).filter(Boolean)) {
    if (keys[part]) await page.keyboard.press(keys[part]);
    else await page.keyboard.insertText(part);
  }
}

/** All that can be scrolled to, by the way that a person has. */
async function everything(page) {
  await page.evaluate(() => navigator.clipboard.writeText(""));
  await page.getByRole("button", { name: "Terminal", exact: true }).click();
  await page.getByRole("button", { name: "Copy everything" }).click();
  return until("a copy", () => page.evaluate(() => navigator.clipboard.readText()));
}

/** Pastes as the browser does it when a person asks. */
const pastes = (page, text) =>
  page.locator(".xterm-helper-textarea").evaluate((element, words) => {
    const clipboardData = new DataTransfer();
    clipboardData.setData("text/plain", words);
    element.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
  }, text);

/** Where on the page a text stands. */
async function place(page, text) {
  const at = (await rows(page)).findLastIndex((row) => row.includes(text));
  assert.ok(at >= 0, `${text} is not there`);
  const line = (await rows(page))[at];
  const box = await page.locator(".xterm-screen").boundingBox();
  const [cols, height] = await page.evaluate(() => [Number(document.querySelector(".terminal-size").textContent.split("×")[0]), document.querySelector(".xterm-rows > div").getBoundingClientRect().height]);
  return { x: box.x + ((line.indexOf(text) + 1.5) * box.width) / cols, y: box.y + (at + 0.5) * height };
}

/** Clicks a link where its text stands. */
async function clicks(page, text) {
  const { x, y } = await place(page, text);
  await page.mouse.move(x, y, { steps: 3 });
  await page.locator(".xterm-cursor-pointer").waitFor();
  await page.mouse.click(x, y);
}

test("a terminal is opened in the console, takes keys, shows what comes, and is the same after a reload", async () => {
  const page = await visitor.page("/terminals");
  await page.getByText("No terminals yet.").waitFor();
  await shot(page, "terminals-empty-1280-light");
  await page.getByRole("button", { name: "Open a terminal" }).first().click();
  const dialog = page.getByRole("dialog", { name: "Open a terminal" });
  await dialog.getByRole("radio", { name: /claude-code/ }).check();
  await dialog.getByRole("radio", { name: /^Shell/ }).check();
  await dialog.getByRole("button", { name: "Browse" }).click();
  const picker = page.getByRole("dialog", { name: /Directory on/ });
  await picker.getByRole("button", { name: "project" }).click();
  await picker.getByRole("button", { name: "Take this directory" }).click();
  assert.match(await dialog.getByLabel("Directory", { exact: true }).inputValue(), /\/work\/project$/);
  await shot(page, "terminal-open-1280-light");
  assert.deepEqual(await violations(page), []);
  await dialog.getByRole("button", { name: "Open", exact: true }).click();
  await page.locator(".terminal-view[data-phase=live]").waitFor();
  await fits(page);
  // It has the focus: what is typed goes to it, key by key.
  await page.keyboard.type("pwd; stty size\n");
  await shows(page, /\/work\/project$/);
  const [cols, lines] = (await page.locator(".terminal-size").textContent()).split("×").map(Number);
  await shows(page, `${lines} ${cols}`);
  assert.ok(cols > 100 && lines > 30, `${cols}×${lines}`);
  // Colours of all kinds, and characters of one and two cells, the last of which ends where it must.
  await types(page, String.raw`printf '\033[31mr\145d\033[0m \033[48;5;27mp\141lette\033[0m \033[38;2;120;200;80mtr\165e\033[0m \033[1mb\157ld\033[0m\n'` + "\r");
  await shows(page, /^red palette true bold$/);
  const look = (text) => page.locator(".xterm-rows span", { hasText: new RegExp(`^${text}$`) }).evaluate((span) => ({ color: getComputedStyle(span).color, ground: getComputedStyle(span).backgroundColor, weight: getComputedStyle(span).fontWeight }));
  assert.equal((await look("red")).color, "rgb(168, 35, 26)");
  assert.equal((await look("palette")).ground, "rgb(0, 95, 255)");
  assert.notEqual((await look("true")).color, (await look("bold")).color);
  assert.equal((await look("bold")).weight, "700");
  await types(page, "printf '\\346\\274\\242\\345\\255\\227|\\303\\251|\\342\\234\\223|\\360\\237\\230\\200|\\033[6n'; read -r x\r");
  await shows(page, /^漢字\|é\|✓\|😀\|/);
  // The program asked where the cursor is: the terminal answers as one that counts cells (4+1+1+1+1+1+2+1 before it).
  await shows(page, /\^\[\[\d+;13R/);
  await types(page, "\r");
  await types(page, "clear; echo be''fore\r");
  await shows(page, /^before$/);
  const before = await rows(page);
  await page.reload();
  await page.locator(".terminal-view[data-phase=live]").waitFor();
  await fits(page);
  await shows(page, /^before$/);
  assert.deepEqual(await rows(page), before);
  await shot(page, "terminal-1280-light");
  assert.deepEqual(await violations(page), []);
  // What was asked before is not answered anew when it is shown again: nothing is typed into the shell.
  await types(page, "echo af''ter\r");
  await shows(page, /^after$/);
  assert.ok(!(await everything(page)).split("before\n").at(-1).includes("R"), await everything(page));
  // The list has it, with its size and who looks.
  const list = await visitor.page("/terminals");
  await list.getByRole("list", { name: "Running" }).getByText("1 viewer").waitFor();
  await list.getByText(`${cols}×${lines}`).waitFor();
  await shot(list, "terminals-1280-light");
  assert.deepEqual(await violations(list), []);
  await list.close();
  await types(page, "exit 3\r");
  await page.getByText("The program ended with exit code 3.").waitFor();
  assert.deepEqual(await violations(page), []);
  await shot(page, "terminal-ended-1280-light");
  // And once more, in the same directory.
  const old = page.url();
  await page.getByRole("button", { name: "Open again" }).click();
  await page.waitForURL((url) => url.href !== old);
  await page.locator(".terminal-view[data-phase=live]").waitFor();
  await types(page, "pwd; kill -KILL $$\r");
  await page.getByText("The program was ended by SIGKILL 9").waitFor();
  await shows(page, /\/work\/project$/);
  assert.deepEqual([visitor.unexpected(), visitor.foreign], [[], []]);
  await page.close();
});

/** Numbered lines at the pace of a chatty program, until there is a file that stops it. */
const counter = (stop) => `i=0; while [ ! -e ${stop} ]; do echo "line $i"; i=$((i+1)); [ $((i % 50)) = 0 ] && sleep 0.05; done; echo "end $i"; cat`;

/** Checks that the numbered lines of a text are there once each, in order, to the last. */
function everyLineOnce(text) {
  const lines = text.split("\n").filter(Boolean);
  const [, count] = /^end (\d+)$/.exec(lines.at(-1)) ?? [];
  assert.ok(count, lines.slice(-3).join("|"));
  const numbers = lines.slice(0, -1).map((line) => Number(/^line (\d+)$/.exec(line)?.[1] ?? assert.fail(line)));
  // The oldest may have left the screen's own memory.
  assert.ok(numbers[0] === 0 || numbers.length > 9_000, `begins with ${numbers[0]}`);
  numbers.forEach((number, at) => assert.equal(number, numbers[0] + at));
  assert.equal(numbers.at(-1), Number(count) - 1);
}

test("a server killed in mid-output and back again: every line once", async () => {
  const page = await sees(await opens("sh", "-c", counter("stop-server")));
  await shows(page, /^line 2\d\d/);
  await baton.down("SIGKILL");
  await page.getByText("The program goes on").waitFor();
  await shot(page, "terminal-away-1280-light");
  // Keys are not kept for later.
  await types(page, "x");
  await page.getByText("what you type now is not kept").waitFor();
  await baton.up();
  await page.locator(".terminal-view[data-phase=live]").waitFor();
  const last = async () => Number((await rows(page)).findLast((row) => /^line \d+$/.test(row))?.slice(5) ?? 0);
  const then = await last();
  await until("it goes on", async () => (await last()) > then + 100);
  writeFileSync(join(baton.work, "stop-server"), "");
  await shows(page, /^end \d+$/);
  everyLineOnce(await everything(page));
  assert.equal(await page.getByText("are missing here").count(), 0);
  await types(page, "\x04");
  await page.getByText("exit code 0").waitFor();
  assert.deepEqual(visitor.unexpected(...AWAY), []);
  await page.close();
});

test("a daemon killed and started again: the program lives on, and every line comes once", async () => {
  const page = await sees(await opens("sh", "-c", counter("stop-daemon")));
  await shows(page, /^line 2\d\d/);
  await baton.daemonDown("SIGKILL");
  await page.getByText("away", { exact: false }).first().waitFor();
  await baton.daemonUp();
  const last = async () => Number((await rows(page)).findLast((row) => /^line \d+$/.test(row))?.slice(5) ?? 0);
  const then = await last();
  await until("it goes on", async () => (await last()) > then + 100);
  writeFileSync(join(baton.work, "stop-daemon"), "");
  await shows(page, /^end \d+$/);
  everyLineOnce(await everything(page));
  await types(page, "still here\r");
  // Shown by the terminal, and by cat.
  await until("an answer", async () => (await rows(page)).filter((row) => row === "still here").length === 2);
  await types(page, "\x04");
  await page.getByText("exit code 0").waitFor();
  await page.close();
});

test("two look: the smaller window has its say, or who types; and what one types the other sees", async () => {
  const record = await opens("sh");
  const wide = await sees(record);
  const other = await Visitor.open(browser, baton, { viewport: { width: 800, height: 600 } });
  await (await other.signIn()).close();
  const narrow = await sees(record, other);
  const size = async (page) => (await page.locator(".terminal-size").textContent()).replace(" not yours", "");
  await until("both have the smaller size", async () => (await size(wide)) === (await size(narrow)) && (await wide.locator(".terminal-size").textContent()).includes("not yours"));
  const small = await size(narrow);
  await types(narrow, "stty size\r");
  const [cols, lines] = small.split("×");
  for (const page of [wide, narrow]) await shows(page, `${lines} ${cols}`);
  await shot(wide, "terminal-smaller-1280-light");
  // Who types has it.
  await wide.getByLabel("Whose size holds").selectOption({ label: "size of who types" });
  await types(wide, "echo wi''de\r");
  for (const page of [wide, narrow]) await shows(page, /^wide$/);
  await until("the size is the typist's", async () => (await size(wide)) !== small && (await size(narrow)) === (await size(wide)));
  assert.ok(!(await wide.locator(".terminal-size").textContent()).includes("not yours"));
  // A screen larger than the window is drawn smaller, and nothing of the page is wider than the window.
  assert.ok((await narrow.evaluate(() => document.documentElement.scrollWidth)) <= 800);
  await types(narrow, "echo nar''row\r");
  for (const page of [wide, narrow]) await shows(page, /^narrow$/);
  await until("and back", async () => (await size(wide)) === small);
  await narrow.close();
  await types(wide, "exit\r");
  await wide.getByText("exit code 0").waitFor();
  await other.close();
  await wide.close();
});

test("who may only look sees all, types nothing, and has no say in the size", async () => {
  const record = await opens("sh");
  const mine = await sees(record);
  await fits(mine);
  const size = await mine.locator(".terminal-size").textContent();
  const other = await Visitor.open(browser, baton, { viewport: { width: 700, height: 500 } });
  const page = await other.signIn("--scope", "viewer");
  await page.goto(mine.url());
  await page.locator(".terminal-view[data-phase=live]").waitFor();
  await page.getByText("read only").waitFor();
  let writes = 0;
  other.context.on("request", (request) => (writes += /WriteTerminal|ResizeTerminal/.test(request.url()) ? 1 : 0));
  await types(page, "echo nev''er\r");
  await pastes(page, "echo nev''er\n");
  await types(mine, "echo se''en; printf '\\033[c'\r");
  for (const one of [mine, page]) await shows(one, /^seen/);
  assert.ok(!(await everything(mine)).includes("never"));
  assert.equal(writes, 0);
  assert.equal(await mine.locator(".terminal-size").textContent(), size);
  assert.equal(await page.getByLabel("Whose size holds").count(), 0);
  await page.goto(`${baton.url}/terminals`);
  await page.getByRole("list", { name: "Running" }).waitFor();
  assert.equal(await page.getByRole("button", { name: "Open a terminal" }).count(), 0);
  await types(mine, "\x15exit\r");
  await mine.getByText("exit code 0").waitFor();
  await other.close();
  await mine.close();
});

test("a program writes into no clipboard, opens no page, and gives itself no more than a name", async () => {
  const page = await sees(await opens("sh", "-c", "stty -echo; exec sh"));
  await page.evaluate(() => navigator.clipboard.writeText("mine"));
  const stolen = Buffer.from("stolen").toString("base64");
  await types(page, `printf '\\033]52;c;${stolen}\\007\\033]52;p;${stolen}\\033\\\\\\033]52;c;?\\007'; printf '\\033]2;t\\342\\200\\256itle <b>x</b>\\007\\007'; printf 'https://exam%s/a?b=c\\n' ple.invalid; printf '\\033]8;;https://hidden.invalid/real\\033\\\\go''od\\033]8;;\\033\\\\ \\033]8;;javascript:alert(1)\\033\\\\evil\\033]8;;\\033\\\\\\n'\r`);
  await shows(page, /good evil/);
  await types(page, "echo pl''ain words\r");
  await shows(page, /plain words/);
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "mine");
  // The title is text, and shows what hides in it; the bell is quiet.
  await page.locator(".terminal-title").getByText("<b>x</b>").waitFor();
  await page.locator(".terminal-title").getByText("U+202E").waitFor();
  const pages = visitor.context.pages().length;
  const dialog = page.getByRole("dialog", { name: "Open this link?" });
  for (const [text, url] of [["https://example", "https://example.invalid/a?b=c"], ["good", "https://hidden.invalid/real"]]) {
    await clicks(page, text);
    await dialog.getByText(url, { exact: true }).waitFor();
    const link = dialog.getByRole("link", { name: "Open in a new tab" });
    assert.deepEqual([await link.getAttribute("href"), await link.getAttribute("rel")], [url, "noopener noreferrer"]);
    if (text === "good") {
      await shot(page, "terminal-link-1280-light");
      assert.deepEqual(await violations(page), []);
    }
    await dialog.getByRole("button", { name: "Back" }).click();
    await dialog.waitFor({ state: "detached" });
  }
  const box = await page.locator(".xterm-rows span", { hasText: "evil" }).last().boundingBox();
  await page.mouse.click(box.x + box.width - 4, box.y + 4);
  assert.equal(await dialog.count(), 0);
  assert.deepEqual([visitor.context.pages().length, visitor.foreign], [pages, []]);
  // A selection is copied when the person says so, and ctrl-c is the program's.
  const at = await place(page, "plain");
  await page.mouse.dblclick(at.x, at.y);
  await page.getByRole("button", { name: "Copy", exact: true }).waitFor();
  await page.keyboard.press("Control+Shift+C");
  await until("it is copied", async () => (await page.evaluate(() => navigator.clipboard.readText())) === "plain");
  await types(page, `exec sh -c "trap 'exit 7' INT; echo rea''dy; while :; do sleep 1; done"\r`);
  await shows(page, /ready$/);
  await page.keyboard.press("Control+C");
  await page.getByText("exit code 7").waitFor();
  await page.close();
});

test("several lines are pasted after a question, but not where the program can tell a paste", async () => {
  const page = await sees(await opens("sh", "-c", "stty -echo; while IFS= read -r line; do printf '[%s]\\n' \"$line\" | cat -v; [ \"$line\" = on ] && printf '\\033[?2004h'; [ \"$line\" = end ] && exit; done"));
  await pastes(page, "one line");
  await types(page, "\r");
  await shows(page, "[one line]");
  const dialog = page.getByRole("dialog", { name: "Paste 3 lines?" });
  await pastes(page, "no\nnever\n");
  await dialog.getByLabel("What would be pasted").getByText("never").waitFor();
  await shot(page, "terminal-paste-1280-light");
  assert.deepEqual(await violations(page), []);
  await dialog.getByRole("button", { name: "Back" }).click();
  await pastes(page, "a\r\nb\x1b]0;x\x07\n");
  await dialog.getByRole("button", { name: "Paste them" }).click();
  await shows(page, "[b]0;x]");
  assert.ok(!(await everything(page)).includes("never"));
  await types(page, "on\r");
  await shows(page, "[on]");
  // Marked as a paste, and it cannot end its mark itself.
  await pastes(page, "c\nd\x1b[201~\n");
  await types(page, "\r");
  await shows(page, "200~c]");
  await shows(page, "[d[201~]");
  await types(page, "end\r");
  await page.getByText("exit code 0").waitFor();
  await page.close();
});

test("what it showed is searched with keys", async () => {
  const page = await sees(await opens("sh", "-c", "i=0; while [ $i -lt 300 ]; do echo \"apple $i\"; i=$((i+1)); done; echo Pear; exec cat"));
  await shows(page, /^Pear$/);
  await page.locator(".xterm-helper-textarea").focus();
  await page.keyboard.press("Control+Shift+F");
  const box = page.getByRole("searchbox", { name: "Find in the terminal" });
  await box.fill("apple 7");
  await page.getByText(/^\d+ of 11$/).waitFor();
  await page.keyboard.press("Enter");
  await page.keyboard.press("Enter");
  await shot(page, "terminal-find-1280-light");
  assert.deepEqual(await violations(page), []);
  await box.fill("APPLE 12");
  await page.getByLabel("exact case").check();
  await page.getByText("nothing", { exact: true }).waitFor();
  await box.fill("apple 3");
  await page.keyboard.press("Shift+Enter");
  await until("it is shown", async () => (await rows(page)).includes("apple 3") || (await rows(page)).some((row) => /^apple 3\d*$/.test(row)));
  await page.keyboard.press("Escape");
  // The keys are the program's again; and there is a way out by keys.
  await types(page, "back\r");
  await until("an answer", async () => (await rows(page)).filter((row) => row === "back").length === 2);
  await page.keyboard.press("Control+Shift+L");
  assert.equal(await page.evaluate(() => document.querySelector(".terminal-bar").contains(document.activeElement)), true);
  // Ctrl-F and the slash are the program's own while it has the keys.
  await page.locator(".xterm-helper-textarea").focus();
  for (const key of ["/", "Control+F", "Enter"]) await page.keyboard.press(key);
  await shows(page, "/^F");
  assert.equal(await page.locator(".find").count(), 0);
  await types(page, "\r\x04");
  await page.getByText("exit code 0").waitFor();
  await page.close();
});

/** In the page: what WatchTerminal brings, byte for byte, before the console takes it. */
function tap() {
  const seen = { bytes: 0, next: undefined, wrong: "", line: 0, rest: "" };
  globalThis.seen = seen;
  const plain = globalThis.fetch;
  const varint = (data, from) => {
    let [value, shift, at] = [0, 1, from];
    for (;;) {
      const byte = data[at++];
      value += (byte & 127) * shift;
      if (byte < 128) return [value, at];
      shift *= 128;
    }
  };
  const output = (message) => {
    // WatchTerminalResponse.output = 2, with offset = 1 and data = 2.
    if (message[0] !== 0x12) return;
    let [, at] = varint(message, 1);
    let offset = 0;
    if (message[at] === 0x08) [offset, at] = varint(message, at + 1);
    const [length, from] = varint(message, at + 1);
    seen.next ??= offset;
    if (offset !== seen.next && seen.wrong === "") seen.wrong = `offset ${offset} after ${seen.next}`;
    seen.next = offset + length;
    seen.bytes += length;
    const lines = (seen.rest + new TextDecoder().decode(message.subarray(from, from + length))).split("\n");
    seen.rest = lines.pop();
    for (const line of lines) {
      const number = Number(/^line (\d+)\r?$/.exec(line)?.[1] ?? -1);
      if (number < 0) continue;
      if (number !== seen.line + 1 && seen.wrong === "") seen.wrong = `line ${number} after ${seen.line}`;
      seen.line = number;
    }
  };
  globalThis.fetch = async (...args) => {
    const answer = await plain(...args);
    if (!String(args[0]?.url ?? args[0]).endsWith("/WatchTerminal")) return answer;
    let held = new Uint8Array(0);
    const pass = new TransformStream({
      transform(chunk, controller) {
        const all = new Uint8Array(held.length + chunk.length);
        all.set(held);
        all.set(chunk, held.length);
        let at = 0;
        while (all.length - at >= 5) {
          const size = new DataView(all.buffer, at + 1, 4).getUint32(0);
          if (all.length - at - 5 < size) break;
          if (all[at] === 0) output(all.subarray(at + 5, at + 5 + size));
          at += 5 + size;
        }
        held = all.slice(at);
        controller.enqueue(chunk);
      },
    });
    return new Response(answer.body.pipeThrough(pass), { status: answer.status, headers: answer.headers });
  };
}

const memory = (child) => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))[1]) * 1024;

test("a flood, with one that reads nothing: the other has all of it in order, and memory is bounded", async (t) => {
  const count = ROUNDS * 50_000;
  // 21 bytes a line with its end.
  const record = await opens("sh", "-c", `read -r go; seq -f 'line %014.0f' 1 ${count}; echo all; cat`);
  const page = await visitor.context.newPage();
  await page.addInitScript(tap);
  await page.goto(`${baton.url}/sessions/${sessionOf(record)}`);
  await page.locator(".terminal-view[data-phase=live]").waitFor();
  const other = await Visitor.open(browser, baton);
  await (await other.signIn()).close();
  const deaf = await other.context.newPage();
  await deaf.addInitScript(tap);
  await deaf.goto(`${baton.url}/sessions/${sessionOf(record)}`);
  await deaf.locator(".terminal-view[data-phase=live]").waitFor();
  // Its script stands still from the first byte on, as in a browser that is out of breath.
  const debug = await other.context.newCDPSession(deaf);
  await debug.send("Debugger.enable");
  const paused = new Promise((done) => debug.once("Debugger.paused", done));
  await debug.send("Debugger.pause");
  const before = memory(baton.server);
  let peak = before;
  await types(page, "\r");
  await paused;
  await until("all of it was shown", async () => {
    peak = Math.max(peak, memory(baton.server));
    return (await rows(page)).includes("all");
  }, 4 * PATIENCE + ROUNDS * 5_000);
  const seen = await page.evaluate(() => globalThis.seen);
  assert.deepEqual([seen.wrong, seen.line], ["", count]);
  const heap = await page.evaluate(() => (globalThis.gc(), performance.memory.usedJSHeapSize));
  t.diagnostic(`${seen.bytes} bytes; the server had ${before >> 20} MiB, at most ${peak >> 20}; the page ${heap >> 20} MiB`);
  assert.ok(peak - before < 160 << 20, `the server grew by ${(peak - before) >> 20} MiB`);
  assert.ok(heap < 160 << 20, `the page has ${heap >> 20} MiB`);
  // Keys go to the program while the deaf one is still there.
  await types(page, "quick\r");
  await until("an answer", async () => (await rows(page)).filter((row) => row === "quick").length === 2);
  // It breathes again, and has all of it, in order.
  await debug.send("Debugger.resume");
  await debug.send("Debugger.disable");
  await until("the other has it too", async () => (await rows(deaf)).includes("quick"), 4 * PATIENCE + ROUNDS * 5_000);
  const late = await deaf.evaluate(() => globalThis.seen);
  assert.deepEqual([late.wrong, late.line], ["", count]);
  await types(page, "\x04");
  await page.getByText("exit code 0").waitFor();
  await deaf.getByText("exit code 0").waitFor();
  await other.close();
  await page.close();
});

test("on a phone: the whole width, keys that its keyboard has not, and nothing cut off", async () => {
  const record = await opens("sh");
  const phone = await Visitor.open(browser, baton, { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2, colorScheme: "dark" });
  await (await phone.signIn()).close();
  const list = await phone.page("/terminals");
  await list.getByRole("list", { name: "Running" }).waitFor();
  await shot(list, "terminals-360-dark");
  assert.ok((await list.evaluate(() => document.documentElement.scrollWidth)) <= 360);
  assert.deepEqual(await violations(list), []);
  await list.getByRole("button", { name: "Open a terminal" }).click();
  await shot(list, "terminal-open-360-dark");
  assert.deepEqual(await violations(list), []);
  await list.close();
  const page = await sees(record, phone);
  await fits(page);
  await types(page, "ls -la /; stty size\r");
  await shows(page, /^\d+ \d+$/);
  const cols = Number((await page.locator(".terminal-size").textContent()).split("×")[0]);
  assert.ok(cols >= 38 && cols <= 60, `${cols} columns`);
  await page.getByRole("group", { name: "Keys" }).getByRole("button", { name: "↑" }).click();
  await page.getByRole("group", { name: "Keys" }).getByRole("button", { name: "Ctrl+C" }).click();
  await shows(page, /\^C/);
  assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 360);
  assert.deepEqual(await violations(page), []);
  await shot(page, "terminal-360-dark");
  await types(page, "exit\r");
  await page.getByText("The program ended").waitFor();
  await shot(page, "terminal-ended-360-dark");
  await phone.close();
});

/** `baton attach` in a PTY of its own. */
class Attached {
  static async open(record) {
    const attached = new Attached();
    const args = ["--server", baton.url, "--token-file", join(baton.home, "data", "admin.token"), "attach", sessionOf(record)];
    const command = ["stty cols 110 rows 36; exec", baton.program, ...args].join(" ");
    attached.child = spawn("script", ["-qfec", command, "/dev/null"], { cwd: process.cwd(), env: { ...baton.env, SHELL: "/bin/sh", TERM: "xterm-256color" }, stdio: ["pipe", "pipe", "inherit"] });
    attached.shown = "";
    attached.ended = new Promise((done) => attached.child.once("exit", done));
    attached.child.stdout.on("data", (data) => (attached.shown += data));
    return attached;
  }

  types(keys) {
    this.child.stdin.write(keys);
  }

  /** What was written, without what only moves and colours. */
  get text() {
    // eslint-disable-next-line no-control-regex
    return this.shown.replace(/\x1b\[[0-9;?>=<]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)|\x1b[()][A-Z0-9]|\x1b[=>78cDEHM]/g, "");
  }

  sees(text) {
    return until(`${text} in baton attach`, async () => this.text.includes(text));
  }
}

test("the real Claude Code, in the console and in baton attach at once: what is typed in one is seen in the other", async () => {
  const page = await visitor.page("/terminals");
  await page.getByRole("button", { name: "Open a terminal" }).first().click();
  const dialog = page.getByRole("dialog", { name: "Open a terminal" });
  await dialog.getByRole("radio", { name: /claude-code/ }).check();
  await dialog.getByLabel("Directory", { exact: true }).fill(join(baton.work, "project"));
  await dialog.getByText(/^Title, size/).click();
  await dialog.getByLabel("Whose size holds").selectOption({ index: 1 });
  await dialog.getByRole("button", { name: "Open", exact: true }).click();
  await page.locator(".terminal-view[data-phase=live]").waitFor();
  await shows(page, "shortcuts");
  const id = new URL(page.url()).pathname.split("/").pop();
  const pid = async () => (await baton.json("logs", id)).find((event) => JSON.stringify(event).includes('"pid"'));
  const before = JSON.stringify(await pid());
  const attached = await Attached.open({ id });
  await attached.sees("shortcuts");
  await types(page, "say: plum");
  await shows(page, "say: plum");
  await attached.sees("plum");
  attached.types("\r");
  await until("the model was asked", async () => model.asked.some((text) => text.includes("say: plum")));
  await shows(page, "PLUM");
  await attached.sees("PLUM");
  // Who types has the size: the program was told, and draws for it. No restart.
  await until("the size of baton attach", async () => (await page.locator(".terminal-size").textContent()).startsWith("110×36"));
  attached.types("say: cherry");
  await shows(page, "say: cherry");
  await shot(page, "terminal-claude-1280-light");
  await types(page, "\r");
  await shows(page, "CHERRY");
  await attached.sees("CHERRY");
  await until("the size of the console", async () => !(await page.locator(".terminal-size").textContent()).includes("not yours"));
  assert.equal(JSON.stringify(await pid()), before);
  // One leaves, and the other goes on; a reload brings the same.
  attached.types("\x1c");
  await attached.ended;
  await page.reload();
  await page.locator(".terminal-view[data-phase=live]").waitFor();
  await shows(page, "CHERRY");
  await shot(page, "terminal-claude-reload-1280-light");
  assert.deepEqual(await violations(page), []);
  // Ended and resumed: the conversation is there again, in a session after it.
  await page.getByRole("button", { name: "End…" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "End it" }).click();
  await page.getByText(/^The program (was ended|ended)/).waitFor();
  await shot(page, "terminal-claude-ended-1280-light");
  await page.getByRole("button", { name: "Resume", exact: true }).click();
  await page.waitForURL((url) => !url.pathname.endsWith(id));
  await page.locator(".terminal-view[data-phase=live]").waitFor();
  await shows(page, "CHERRY");
  await page.close();
});
