/** The live page's rim: finds its element and starts. */
import { LivePage } from "./page.ts";

const root = document.getElementById("everflame");
if (root) new LivePage(root);
