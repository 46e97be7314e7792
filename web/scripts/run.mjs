// Runs one TypeScript file: bundles it next to nothing (packages stay outside) and imports it.
import { rmSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const out = `${root}node_modules/.everflame-run-${process.pid}.mjs`;
await build({
  absWorkingDir: root,
  entryPoints: [process.argv[2]],
  bundle: true,
  platform: "node",
  format: "esm",
  packages: "external",
  outfile: out,
  logLevel: "warning",
});
try {
  await import(pathToFileURL(out));
} finally {
  rmSync(out, { force: true });
}
