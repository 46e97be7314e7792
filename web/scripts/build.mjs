// Builds dist/page.html: the whole page but for the profile. `--check` compares with the committed bytes instead of writing.
//
// The policy allows exactly this script and this style, by hash, and nothing else: no request, no eval, no handler in markup.
import { createHash } from "node:crypto";
import { readFileSync, mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const bundle = async (entry) => {
  const result = await build({
    absWorkingDir: root,
    entryPoints: [entry],
    bundle: true,
    minify: true,
    write: false,
    charset: "ascii",
    format: "iife",
    target: ["chrome100", "firefox100", "safari15.4"],
    legalComments: "none",
    logLevel: "warning",
  });
  const text = result.outputFiles[0].text.trimEnd();
  if (/<\/(script|style)|<!--/i.test(text)) throw new Error(`${entry}: holds text that would end its element early`);
  return text;
};
const hash = (text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

const script = await bundle("src/bootstrap.ts");
const style = await bundle("src/style.css");
const policy = [
  "default-src 'none'",
  `script-src ${hash(script)}`,
  `style-src ${hash(style)}`,
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");
const parts = { POLICY: policy, STYLE: style, SCRIPT: script, PROFILE: "<!--everflame-profile-->" };
const page = readFileSync(`${root}src/page.html`, "utf8").replace(/@@([A-Z]+)@@/g, (_, name) => parts[name]);

const target = `${root}dist/page.html`;
if (process.argv.includes("--check")) {
  if (readFileSync(target, "utf8") !== page) {
    console.error("dist/page.html is not what the sources give: run `npm run build` and commit it");
    process.exit(1);
  }
} else {
  mkdirSync(`${root}dist`, { recursive: true });
  writeFileSync(target, page);
}
console.log(`dist/page.html: ${page.length} bytes, ${gzipSync(page, { level: 9 }).length} compressed`);
