// Runs all `*.test.ts` of one folder (not of its subfolders) with node's own test runner.
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = process.argv[2];
const files = readdirSync(`${root}${folder}`).filter((name) => name.endsWith(".test.ts")).sort();
if (files.length === 0) throw new Error(`no tests in ${folder}`);
const out = mkdtempSync(`${root}node_modules/.everflame-test-`);
await build({
  absWorkingDir: root,
  entryPoints: files.map((name) => `${folder}/${name}`),
  bundle: true,
  platform: "node",
  format: "esm",
  packages: "external",
  sourcemap: "inline",
  outdir: out,
  outExtension: { ".js": ".mjs" },
  logLevel: "warning",
});
const names = files.map((name) => `${out}/${name.replace(/\.ts$/, ".mjs")}`);
const result = spawnSync(process.execPath, ["--enable-source-maps", "--test", "--test-reporter=spec", ...names], { stdio: "inherit", cwd: root });
rmSync(out, { recursive: true, force: true });
process.exit(result.status ?? 1);
