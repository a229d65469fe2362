// Everything that is checked about the console without a browser: generated types, lint, types, tests,
// licences, that dist/ is what the sources build to, and how much a first visit loads.
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const web = dirname(dirname(fileURLToPath(import.meta.url)));
/** What the first visit may load, compressed, in bytes. */
const INITIAL_BYTES_MAX = 250_000;
/** Licences that ask for nothing but to be named. */
const PERMISSIVE = new Set([
  "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BlueOak-1.0.0", "ISC", "MIT",
  "(Apache-2.0 AND BSD-3-Clause)",
]);

function run(command, ...args) {
  execFileSync(join(web, "node_modules/.bin", command), args, { cwd: web, stdio: "inherit" });
}

function fail(text) {
  console.error(`web: ${text}`);
  process.exit(1);
}

function licences() {
  const lock = JSON.parse(readFileSync(join(web, "package-lock.json"), "utf8"));
  const shipped = Object.entries(lock.packages).filter(([path, entry]) => path !== "" && !entry.dev);
  const odd = shipped.filter(([, entry]) => !PERMISSIVE.has(entry.license));
  if (odd.length > 0) {
    fail(`licences that are not on the list: ${odd.map(([path, entry]) => `${path} ${entry.license}`).join(", ")}`);
  }
  const loose = Object.entries({
    ...JSON.parse(readFileSync(join(web, "package.json"), "utf8")).dependencies,
    ...JSON.parse(readFileSync(join(web, "package.json"), "utf8")).devDependencies,
  }).filter(([, version]) => !/^\d/.test(version));
  if (loose.length > 0) fail(`not pinned exactly: ${loose.map(([name]) => name).join(", ")}`);
}

function files(dir, at = "") {
  return readdirSync(join(dir, at), { withFileTypes: true })
    .flatMap((entry) => {
      const path = join(at, entry.name);
      return entry.isDirectory() ? files(dir, path) : [path];
    })
    .sort();
}

function bundle() {
  const built = mkdtempSync(join(tmpdir(), "baton-dist-"));
  run("vite", "build", "--logLevel", "warn", "--outDir", built);
  const committed = join(web, "dist");
  const names = existsSync(committed) ? files(committed) : [];
  const stale = [...new Set([...files(built), ...names])].filter((path) => {
    const both = [built, committed].map((dir) => join(dir, path));
    return !both.every(existsSync) || !readFileSync(both[0]).equals(readFileSync(both[1]));
  });
  rmSync(built, { recursive: true });
  if (stale.length > 0) {
    fail(`web/dist is not what the sources build to: ${stale.join(", ")}; run: npm run build --prefix web, and commit it`);
  }
}

function firstLoad() {
  const html = readFileSync(join(web, "dist/index.html"), "utf8");
  if (/<script(?![^>]*\ssrc=)|<style|\sstyle=|https?:\/\//.test(html)) {
    fail("dist/index.html has an inline script or style, or names another origin");
  }
  const loaded = ["index.html", ...[...html.matchAll(/(?:src|href)="\/([^"]+)"/g)].map((found) => found[1])];
  const bytes = loaded
    .map((path) => gzipSync(readFileSync(join(web, "dist", path)), { level: 9 }).length)
    .reduce((sum, size) => sum + size, 0);
  console.log(`web: a first visit loads ${bytes} bytes compressed (${loaded.length} files), at most ${INITIAL_BYTES_MAX}`);
  if (bytes > INITIAL_BYTES_MAX) fail("that is too much");
}

execFileSync(process.execPath, [join(web, "scripts/generate.mjs"), "--check"], { stdio: "inherit" });
run("eslint", "--max-warnings", "0", ".");
run("tsc", "--noEmit");
run("vitest", "run");
licences();
bundle();
firstLoad();
