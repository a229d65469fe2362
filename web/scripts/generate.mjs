// Generates src/gen from ../proto. With --check it changes nothing and fails if src/gen is not what the
// protos generate.
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const web = dirname(dirname(fileURLToPath(import.meta.url)));
const root = dirname(web);
const pinned = join(root, "scripts/tools/node_modules/.bin/buf");
const buf = existsSync(pinned) ? pinned : "buf";

function generate(out) {
  rmSync(out, { recursive: true, force: true });
  const template = join(web, "buf.gen.yaml");
  execFileSync(buf, ["generate", "--template", template, "--path", "proto/baton/v1", "-o", out], {
    cwd: root,
    stdio: "inherit",
  });
}

function files(dir, at = "") {
  return readdirSync(join(dir, at), { withFileTypes: true })
    .flatMap((entry) => {
      const path = join(at, entry.name);
      return entry.isDirectory() ? files(dir, path) : [path];
    })
    .sort();
}

const committed = join(web, "src/gen");
if (process.argv.includes("--check")) {
  const fresh = mkdtempSync(join(tmpdir(), "baton-gen-"));
  generate(fresh);
  const stale = [...new Set([...files(fresh), ...files(committed)])].filter((path) => {
    const both = [fresh, committed].map((dir) => join(dir, path));
    return !both.every(existsSync) || !readFileSync(both[0]).equals(readFileSync(both[1]));
  });
  rmSync(fresh, { recursive: true });
  if (stale.length > 0) {
    console.error(`web/src/gen is not what proto/ generates: ${stale.join(", ")}; run: npm run generate --prefix web`);
    process.exit(1);
  }
} else {
  generate(committed);
}
