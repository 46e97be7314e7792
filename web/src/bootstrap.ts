/** The self-contained file: reads the profile that lies in the page, and shows it. */
import { readEmbedded } from "./data/embedded.ts";
import { decode } from "./data/format.ts";
import { mount } from "./view/app.ts";

async function start(): Promise<void> {
  const root = document.getElementById("everflame");
  const data = document.getElementById("everflame-profile");
  if (!root || !data) throw new Error("the page is not complete");
  const started = performance.now();
  const bytes = await readEmbedded(data);
  const unpacked = performance.now();
  const profile = decode(bytes);
  data.remove();
  const decoded = performance.now();
  document.title = `${profile.title} · Everflame`;
  // Asked for first, so that its task comes right after the first picture, before the work that waits for the picture.
  requestAnimationFrame(() => setTimeout(() => performance.mark("everflame-painted")));
  mount(root, profile);
  performance.measure("everflame-unpack", { start: started, end: unpacked });
  performance.measure("everflame-decode", { start: unpacked, end: decoded });
  performance.measure("everflame-mount", { start: decoded, end: performance.now() });
}

start().catch((error: unknown) => {
  const root = document.getElementById("everflame");
  if (root) root.textContent = `This profile cannot be shown: ${error instanceof Error ? error.message : String(error)}`;
});
