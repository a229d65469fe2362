// A quick look at what the older design takes in, with no viewer: acknowledged events a second and what each cost
// the relay in CPU time. `node drive.mjs [SECONDS]`; `baton bench` is the real measurement.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import WebSocket from "ws";

const here = import.meta.dirname;
const seconds = Number(process.argv[2] ?? 4);
const bun = join(here, "node_modules/.bin/bun");
/** Events on their way. */
const WINDOW = 256;
const payload = "x".repeat(200);
const home = mkdtempSync(join(tmpdir(), "baton-drive-"));
/** Every relay that was started; none outlives this process. */
const relays = [];
process.on("exit", () => relays.forEach((relay) => relay.kill()));

/** CPU seconds of a process, all its threads, user and system (Linux, where a tick is 10 ms). */
function cpu(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

async function measure(name, program, ...args) {
  const relay = spawn(program, [join(here, "relay.mjs"), ...args], { stdio: ["pipe", "pipe", "inherit"] });
  relays.push(relay);
  const { port } = JSON.parse((await once(relay.stdout, "data"))[0]);
  const daemon = new WebSocket(`ws://127.0.0.1:${port}/daemon?session=a`);
  await once(daemon, "open");
  let sent = 0;
  let acked = 0;
  const fill = () => {
    while (sent - acked < WINDOW) {
      sent += 1;
      daemon.send(`{"seq":${sent},"t":"${process.hrtime.bigint()}","payload":"${payload}"}`);
    }
  };
  daemon.on("message", (data) => {
    acked = JSON.parse(data).seq;
    fill();
  });
  fill();
  // The first second warms it up.
  await new Promise((done) => setTimeout(done, 1_000));
  const [began, before, spent] = [performance.now(), acked, cpu(relay.pid)];
  await new Promise((done) => setTimeout(done, seconds * 1_000));
  const took = (performance.now() - began) / 1_000;
  const events = acked - before;
  const each = ((cpu(relay.pid) - spent) * 1e6) / events;
  console.log(`${name.padEnd(18)} ${Math.round(events / took).toString().padStart(8)} events/s ${each.toFixed(1).padStart(7)} µs CPU each`);
  daemon.terminate();
  relay.stdin.end();
  await once(relay, "exit");
}

const db = (name) => ["--db", join(home, `${name}.db`)];
try {
  for (let round = 1; round <= 3; round += 1) {
    await measure("node none", process.execPath);
    await measure("bun none", bun);
    await measure("bun normal", bun, "--store", "normal", ...db(`normal${round}`));
    await measure("bun full", bun, "--store", "full", ...db(`full${round}`));
    await measure("bun full, batch", bun, "--store", "full", "--batch", ...db(`batch${round}`));
  }
} finally {
  rmSync(home, { recursive: true, force: true });
}
