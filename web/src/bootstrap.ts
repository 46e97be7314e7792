/** The self-contained file: reads the profile that lies in the page, and shows it. */
import { readEmbedded } from "./data/embedded.ts";
import { decode } from "./data/format.ts";
import { mount } from "./view/app.ts";

async function start(): Promise<void> {
  const root = document.getElementById("everflame");
  const data = document.getElementById("everflame-profile");
  if (!root || !data) throw new Error("the page is not complete");
  const profile = decode(await readEmbedded(data));
  data.remove();
  document.title = `${profile.title} · Everflame`;
  mount(root, profile);
  requestAnimationFrame(() => setTimeout(() => performance.mark("everflame-painted")));
}

start().catch((error: unknown) => {
  const root = document.getElementById("everflame");
  if (root) root.textContent = `This profile cannot be shown: ${error instanceof Error ? error.message : String(error)}`;
});
