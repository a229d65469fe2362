// Clients that others generated from proto/: Connect for JavaScript over gRPC-Web and grpcio for Python over gRPC.
// Both go through the same scenario (its steps have the same order and names in connect.mjs and in
// python_client.py) against the real server, and must come to the same end.
//
// GRPCIO is where the packages of requirements.txt are. Their protoc generates the code of both.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { Baton, mustEndWithin, PATIENCE } from "../console/stage.mjs";

const run = promisify(execFile);
const here = dirname(fileURLToPath(import.meta.url));
const root = resolve(here, "../../..");
const packages = resolve(process.env.GRPCIO ?? join(root, "target/tools/grpcio"));
const modules = join(here, "../node_modules");
// Beneath node_modules, where the generated modules find what they import and nothing is committed.
const javascript = join(modules, ".baton-v1");
const python = { ...process.env, PYTHONPATH: packages, PYTHONDONTWRITEBYTECODE: "1" };

/** What is waited for has deadlines of its own; these are for all else. */
const LIMIT = { timeout: 4 * PATIENCE };
mustEndWithin(8 * PATIENCE);

let baton;
let stubs;

before(async () => {
  baton = await Baton.start();
  stubs = join(baton.home, "stubs");
  for (const dir of [stubs, javascript]) {
    rmSync(dir, { recursive: true, force: true });
    mkdirSync(dir, { recursive: true });
  }
  writeFileSync(join(javascript, "package.json"), '{"type":"module"}');
  const protos = readdirSync(join(root, "proto/baton/v1")).map((name) => `baton/v1/${name}`);
  const generate = (...args) => run("python3", ["-m", "grpc_tools.protoc", `-I${join(root, "proto")}`, ...args, ...protos], { env: python, timeout: 2 * PATIENCE, killSignal: "SIGKILL" });
  await generate(`--python_out=${stubs}`, `--grpc_python_out=${stubs}`);
  const plugin = `--plugin=protoc-gen-es=${join(modules, ".bin/protoc-gen-es")}`;
  await generate(plugin, `-I${packages}`, `--es_out=${javascript}`, "--es_opt=target=js,import_extension=js", "google/rpc/error_details.proto");
}, LIMIT);

after(async () => {
  try {
    await baton?.stop();
  } finally {
    rmSync(javascript, { recursive: true, force: true });
  }
}, LIMIT);

/** Runs a client; gives its summary, when the agent did what it was allowed. */
async function summary(program, args, name, env) {
  const token = join(baton.home, "data", "admin.token");
  const asked = [...args, baton.url, token, baton.work, name, String(PATIENCE)];
  // What it waits for has deadlines of its own; this one is for a client that hangs.
  const { stdout } = await run(program, asked, { env, timeout: 3 * PATIENCE, killSignal: "SIGKILL" });
  assert.ok(existsSync(join(baton.work, name)), "the agent did what was allowed");
  return stdout.trim();
}

const expected =
  "created once, watched, asked Bash, allowed, second answer PROMPT_ANSWERED from baton (allow, not_done), listed, " +
  "ended STOPPED, followed by 3 watches: no gap, no duplicate";

test("a generated Connect client over gRPC-Web goes through the scenario", LIMIT, async (t) => {
  const said = await summary(process.execPath, [join(here, "connect.mjs"), javascript], "made-by-connect", process.env);
  t.diagnostic(said);
  assert.equal(said, expected);
});

test("a generated grpcio client in Python goes through the same", LIMIT, async (t) => {
  const env = { ...python, PYTHONPATH: `${stubs}:${packages}` };
  const said = await summary("python3", [join(here, "python_client.py")], "made-by-python", env);
  t.diagnostic(said);
  assert.equal(said, expected);
});
