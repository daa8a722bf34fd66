/**
 * The dashboard's script. Built into one classic script that defines `dashboard`:
 *
 * `dashboard.put(key, payload)` is what every data file calls.
 *
 * `dashboard.mount(element, options)` shows one view inside another page, such as a notebook's cell, without data files:
 *
 *     dashboard.mount(element, {view: "latent", latent: 7, data: LATENT_SHARD, manifest, base, look})
 *     dashboard.mount(element, {view: "text", data: TEXT_PAGE, manifest, base, look})
 *
 * `data` is a LatentShard or a TextPage of `schema.ts`, as an object or as base64 of gzip of its JSON. Optional are `manifest`;
 * `base`, the address of a dashboard's index.html that links to latents lead to (opened in a new tab; without it there are no
 * links); and `look`, "light" or "dark" (else as the system has it). The promise that it returns is kept once the view stands.
 * The page has to hold `app.css` too. One view in a page: put each into its own iframe.
 *
 * In a folder's `index.html`, where an element has the id `dashboard`, the whole app starts there by itself.
 */

import { App } from "./app";

export { mount } from "./mount";
export { put } from "./store";

const root = document.getElementById("dashboard");
if (root) void new App(root).start();
