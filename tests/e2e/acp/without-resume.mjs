// An agent that cannot take a conversation up without telling it anew: the program that its arguments name, without
// `resume` among what it says it can do. Everything else passes through as it is.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

const [program, ...rest] = process.argv.slice(2);
const agent = spawn(program, rest, { stdio: ["pipe", "pipe", "inherit"] });
process.stdin.pipe(agent.stdin);
createInterface({ input: agent.stdout }).on("line", (line) => {
  const message = JSON.parse(line);
  delete message.result?.agentCapabilities?.sessionCapabilities?.resume;
  process.stdout.write(`${JSON.stringify(message)}\n`);
});
agent.on("exit", (code) => {
  process.exitCode = code ?? 1;
});
