// Elements from data. Text becomes text, never markup: names come from gateways, and a gateway may be hostile.

const SVG = "http://www.w3.org/2000/svg";

function put(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, to] of Object.entries(value)) element.style.setProperty(key, to);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name === "value" || name === "checked" || name === "open") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(3).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

/** An HTML element: `h("p", { class: "x", onclick }, "text", child)`. */
export const h = (tag, props, ...children) => put(document.createElement(tag), props, children);

/** An SVG element. */
export const s = (tag, props, ...children) => put(document.createElementNS(SVG, tag), props, children);

/** Text that somebody else wrote: signs in it that turn the direction of writing turn nothing beside it. */
export const foreign = (text) => (text === undefined || text === null || text === "" ? null : h("bdi", null, text));

/** Puts these in the place of all children. */
export const fill = (element, ...children) => put(element, null, (element.replaceChildren(), children));

/** Sets the text when it is another one: what doesn't change isn't drawn or read out again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets an attribute when it is another one; without a value it goes. */
export function mark(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/** Loads a style sheet; fulfilled when it holds, or can't be had. */
export const styled = (href) => new Promise((done) => {
  document.head.append(h("link", { rel: "stylesheet", href, onload: done, onerror: done }));
});

/** A table that scrolls for itself, and on a phone is a list in which each cell says its head, unless it is `narrow`. The roles
 *  are there because a table that is laid out otherwise is none to some screen readers; a group, because the section around it
 *  is the landmark. */
export function table(caption, heads, rows, narrow = false) {
  const cell = (held, n) => (n === 0 ? h("th", { scope: "row", role: "rowheader" }, held) : h("td", { role: "cell", data: { head: heads[n] } }, held ? h("span", null, held) : held));
  const column = (head) => (head ? h("th", { scope: "col", role: "columnheader" }, head) : h("td", { role: "cell" })); // buttons have none
  return h("div", { class: narrow ? "scroll" : "scroll stacked", tabindex: 0, role: "group", "aria-label": caption },
    h("table", { role: "table" },
      h("caption", { class: "unseen" }, caption),
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads.map(column))),
      h("tbody", { role: "rowgroup" }, rows.map((cells) => h("tr", { role: "row" }, cells.map(cell))))));
}
