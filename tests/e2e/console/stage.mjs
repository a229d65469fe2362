// A real server with a real daemon, in a directory of its own, and a real browser: Debian's Chromium.
//
// BATON is the program, BATON_SHOTS a directory for pictures. BATON_CONSOLE_DIST makes the browser take the
// console's files from a directory instead of the program, for work on the console without compiling.
import { execFile, execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, existsSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { chromium } from "playwright-core";

const run = promisify(execFile);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** How long anything may take before it has failed, in ms. */
export const PATIENCE = Number(process.env.BATON_TEST_PATIENCE_MS ?? 30_000);

/** What a promise gives; an error that names it when it does not come in time. */
export async function within(what, promise, patience = PATIENCE) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${patience} ms: ${what}`)), patience);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Every program that was started. Those that are still there when this process ends are ended with it. */
const children = new Set();
process.once("exit", () => {
  for (const child of children) child.kill("SIGKILL");
});

/** Ends this process when it is still there after so long: a file that hangs has failed, and says what held it. */
export function mustEndWithin(patience) {
  const end = () => {
    console.error(`still there after ${patience} ms; open are: ${process.getActiveResourcesInfo().join(", ")}`);
    process.exit(1);
  };
  setTimeout(end, patience).unref();
}

async function freePort() {
  const server = createServer();
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

export async function until(what, check, patience = PATIENCE) {
  const end = Date.now() + patience;
  for (;;) {
    const found = await within(what, check(), patience);
    if (found) return found;
    if (Date.now() > end) throw new Error(`not within ${patience} ms: ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

async function end(child, signal) {
  if (!child || child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((done) => child.once("exit", done));
  child.kill(signal);
  try {
    await within(`${child.spawnargs.slice(0, 2).join(" ")} ends after ${signal}`, ended);
  } finally {
    child.kill("SIGKILL");
  }
}

/** Git as a person uses it; gives what it prints. */
export function git(dir, ...args) {
  const env = { ...process.env, GIT_CONFIG_GLOBAL: "/dev/null", GIT_CONFIG_NOSYSTEM: "1" };
  for (const one of ["AUTHOR", "COMMITTER"]) Object.assign(env, { [`GIT_${one}_NAME`]: "Ana", [`GIT_${one}_EMAIL`]: "ana@example.org" });
  return execFileSync("git", args, { cwd: dir, env, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).trim();
}

/** Writes files and commits them. */
export function commit(dir, files, subject) {
  for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text);
  git(dir, "add", "-A");
  git(dir, "commit", "-qm", subject);
}

export class Baton {
  /** `serverArgs`, `daemonArgs` and `daemonEnv` are for them, beside what they are always started with;
   * `prepare` may lay out its directories before. */
  static async start({ serverArgs = [], daemonArgs = [], daemonEnv = {}, prepare = () => undefined } = {}) {
    const baton = new Baton();
    baton.serverArgs = serverArgs;
    baton.daemonArgs = daemonArgs;
    baton.daemonEnv = daemonEnv;
    baton.program = process.env.BATON ?? "target/debug/baton";
    baton.home = mkdtempSync(join(tmpdir(), "baton-console-"));
    baton.work = join(baton.home, "work");
    mkdirSync(join(baton.work, "project", ".git"), { recursive: true });
    mkdirSync(join(baton.work, "notes"));
    prepare(baton);
    baton.port = await freePort();
    baton.url = `http://127.0.0.1:${baton.port}`;
    await baton.up();
    return baton;
  }

  get env() {
    // The program refuses variables of its prefix that it does not know, and ours are not for it.
    const rest = Object.entries(process.env).filter(([name]) => !name.startsWith("BATON"));
    return { ...Object.fromEntries(rest), HOME: this.home, NO_COLOR: "1" };
  }

  /** Server and daemon as two processes, so that one can be killed without the other. Options are the server's. */
  async up(...options) {
    this.server = await this.spawn("baton serve", ["serve", "--listen", `127.0.0.1:${this.port}`, "--data-dir", join(this.home, "data"), "--metrics-listen", "off", ...this.serverArgs, ...options], {});
    await until("the server answers", () => this.cli("daemons").then(() => true, () => false));
    if (this.daemon) return;
    const [{ command }] = await this.json("daemons", "join");
    const [, secret] = /BATON_JOIN_TOKEN='?([^' ]+)/.exec(command);
    await this.daemonUp({ BATON_JOIN_TOKEN: secret });
  }

  /** The daemon; one that has joined before needs no token. */
  async daemonUp(env = {}) {
    const args = ["daemon", "--server", this.url, "--data-dir", join(this.home, "daemon"), "--name", "workbench", "--root", this.work, "--allow-commands", "--max-sessions", "64", ...this.daemonArgs];
    this.daemon = await this.spawn("baton daemon", args, { ...this.daemonEnv, ...env });
    await until("the daemon is linked", async () => (await this.json("daemons")).some((daemon) => daemon.attached));
  }

  async daemonDown(signal) {
    await end(this.daemon, signal);
  }

  async spawn(name, args, env) {
    const child = spawn(this.program, args, { cwd: this.work, env: { ...this.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
    children.add(child);
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (output = (output + data).slice(-20_000)));
    child.once("exit", (code) => {
      children.delete(child);
      if (code) console.error(`${name} ended (${code}): ${output}`);
    });
    return child;
  }

  async down(signal = "SIGTERM") {
    await end(this.server, signal);
  }

  async cli(...args) {
    const connection = ["--server", this.url, "--token-file", join(this.home, "data", "admin.token")];
    const limits = { timeout: PATIENCE, killSignal: "SIGKILL", maxBuffer: 1 << 28 };
    const { stdout } = await run(this.program, [...connection, ...args], { cwd: this.work, env: this.env, ...limits });
    return stdout.trim();
  }

  async json(...args) {
    const out = await this.cli("--json", ...args);
    return out.split("\n").filter(Boolean).map((line) => JSON.parse(line));
  }

  async link(...args) {
    return (await this.json("console-link", ...args))[0].link;
  }

  /** A link that signs a browser in as the token in the file. */
  async linkOf(tokenFile) {
    const args = ["--server", this.url, "--token-file", tokenFile, "--json", "console-link"];
    const { stdout } = await run(this.program, args, { cwd: this.work, env: this.env, timeout: PATIENCE });
    return JSON.parse(stdout).link;
  }

  /** A session of the demo agent; gives its id. */
  async demo(text, ...args) {
    return this.cli("run", "--harness", "demo", "--no-follow", "--cwd", this.work, ...args, text);
  }

  async record(id) {
    return (await this.json("ps", "-a")).find((session) => session.id === id);
  }

  async isIdle(id) {
    await until("the agent is idle", async () => (await this.record(id)).activity === "awaiting_input");
  }

  async stop() {
    for (const session of await this.json("ps").catch(() => [])) {
      await this.cli("end", "--force", session.id).catch(() => undefined);
    }
    try {
      await Promise.all([this.server, this.daemon].map((child) => end(child, "SIGTERM")));
    } finally {
      rmSync(this.home, { recursive: true, force: true, maxRetries: 5 });
    }
  }
}

export async function openBrowser(...options) {
  const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser"].find(existsSync);
  if (!executablePath) throw new Error("chromium is missing (Debian: chromium)");
  return chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage", "--js-flags=--expose-gc", ...options] });
}

/** A browser of its own, with what it asked for and what it complained about. */
export class Visitor {
  static async open(browser, baton, options = {}) {
    const visitor = new Visitor();
    visitor.baton = baton;
    visitor.foreign = [];
    visitor.complaints = [];
    visitor.context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
    visitor.context.setDefaultTimeout(PATIENCE);
    visitor.context.on("request", (request) => {
      const url = new URL(request.url());
      if (url.origin !== baton.url && !["data:", "blob:"].includes(url.protocol)) visitor.foreign.push(request.url());
    });
    visitor.context.on("weberror", (error) => visitor.complaints.push(String(error.error())));
    visitor.context.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warning") visitor.complaints.push(message.text());
    });
    const dist = process.env.BATON_CONSOLE_DIST;
    if (dist) await visitor.serve(dist);
    return visitor;
  }

  async serve(dist) {
    const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    const types = { js: "text/javascript", css: "text/css", html: "text/html", md: "text/plain" };
    await this.context.route(/^http:\/\/127\.0\.0\.1:\d+\/(assets\/.*|sessions.*|agents.*|tasks.*|worktrees.*|budgets.*|prompts|terminals|machines|access|settings|new)?(\?.*)?(#.*)?$/, async (route) => {
      const path = new URL(route.request().url()).pathname;
      const file = path.startsWith("/assets/") ? path : "/index.html";
      await route.fulfill({
        body: readFileSync(join(dist, file)),
        headers: { "content-type": types[file.split(".").pop()] ?? "application/octet-stream", "content-security-policy": policy },
      });
    });
  }

  async page(path = "/") {
    const page = await this.context.newPage();
    await page.goto(this.baton.url + path);
    return page;
  }

  async signIn(...args) {
    const page = await this.context.newPage();
    await page.goto(await this.baton.link(...args));
    await page.getByRole("heading", { name: "Sessions", exact: true }).waitFor();
    return page;
  }

  /** What was complained about, but for what a test makes happen on purpose. */
  unexpected(...expected) {
    return this.complaints.filter((text) => !expected.some((pattern) => pattern.test(text)));
  }

  async close() {
    await this.context.close();
  }
}

/** Violations of what axe-core knows about accessibility, in short. */
export async function violations(page) {
  // As a script of the browser's own and not of the page: the page's policy lets no script in.
  await page.evaluate(axe);
  const found = await page.evaluate(() =>
    globalThis.axe.run(document, {
      runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
      // An agent's text has the headings that it has.
      rules: { "heading-order": { enabled: false } },
    }),
  );
  return found.violations.map((one) => `${one.id}: ${one.help}: ${one.nodes.slice(0, 3).map((node) => `${node.html} (${node.failureSummary?.split("\n")[1]?.trim()})`).join(" | ")}`);
}

const shots = process.env.BATON_SHOTS;

export async function shot(page, name) {
  if (!shots) return;
  mkdirSync(shots, { recursive: true });
  await page.screenshot({ path: join(shots, `${name}.png`) });
}
