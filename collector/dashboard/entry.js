// Entry: a reading by hand, and whole files.

import { upload } from "./entry-file.js";
import { manual } from "./entry-reading.js";
import { fill, h } from "./dom.js";
import { may } from "./session.js";
import { texts } from "./texts.js";

const words = texts.entry;

/** Builds the page; gives back how to end it. */
export function entry(root, report, _, query) {
  const title = h("h1", { class: "unseen" }, texts.pages.entry);
  if (!may("operator")) {
    fill(root, title, h("section", { class: "alone" }, h("h2", null, words.viewer), h("p", null, words.viewerHow)));
    return () => {};
  }
  const parts = [manual(report, query), upload(report)];
  fill(root, title, h("div", { class: "entry-parts" }, parts.map((part) => part.element)));
  return () => parts.forEach((part) => part.end());
}
