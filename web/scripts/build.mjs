// Builds dist/page.html, the self-contained page but for the profile, and dist/live.html, the live page. `--check` compares with the
// committed bytes instead of writing. Either fails for a page that is too large.
//
// The policy of the first allows exactly its script and its style, by hash, and nothing else: no request, no eval, no handler in
// markup. That of the second comes as a header from the server, which makes the same hashes of what the file carries.
import { createHash } from "node:crypto";
import { readFileSync, mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const check = process.argv.includes("--check");
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
  if (/<\/?(script|style)|<!--/i.test(text)) throw new Error(`${entry}: holds text that would end its element early`);
  return text;
};
/** What a page may weigh on its way to a browser, bytes. */
const MOST_COMPRESSED = 300_000;
const hash = (text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

async function page(target, template, scriptEntry, styleEntry, profile) {
  const script = await bundle(scriptEntry);
  const style = await bundle(styleEntry);
  const policy = [
    "default-src 'none'",
    `script-src ${hash(script)}`,
    `style-src ${hash(style)}`,
    "base-uri 'none'",
    "form-action 'none'",
  ].join("; ");
  const parts = { POLICY: policy, STYLE: style, SCRIPT: script, PROFILE: profile };
  const html = readFileSync(`${root}${template}`, "utf8").replace(/@@([A-Z]+)@@/g, (_, name) => parts[name]);
  if (check) {
    if (readFileSync(`${root}${target}`, "utf8") !== html) {
      console.error(`${target} is not what the sources give: run \`npm run build\` and commit it`);
      process.exitCode = 1;
    }
  } else {
    mkdirSync(`${root}dist`, { recursive: true });
    writeFileSync(`${root}${target}`, html);
  }
  const compressed = gzipSync(html, { level: 9 }).length;
  console.log(`${target}: ${html.length} bytes, ${compressed} compressed`);
  if (compressed > MOST_COMPRESSED) {
    console.error(`${target}: more than ${MOST_COMPRESSED} bytes compressed`);
    process.exitCode = 1;
  }
}

await page("dist/page.html", "src/page.html", "src/bootstrap.ts", "src/style.css", "<!--everflame-profile-->");
await page("dist/live.html", "src/live.html", "src/live/main.ts", "src/live/live.css", "");
