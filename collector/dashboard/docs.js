// What can be asked, for people: the OpenAPI document as a page.

import { get } from "./api.js";
import { fill, h, mark, table } from "./dom.js";
import { texts } from "./texts.js";

const words = texts.docs;
const DEPTH_MAX = 8; // a schema that holds itself ends somewhere
const main = document.getElementById("main");
let all; // the document

/** What a reference stands for. */
const whole = (thing) => (thing?.$ref ? thing.$ref.split("/").slice(1).reduce((at, part) => at?.[part], all) : thing) ?? {};

const piece = (part) =>
  part.startsWith("`") ? h("code", null, part.slice(1, -1)) : part.startsWith("**") ? h("strong", null, part.slice(2, -2)) : part.startsWith("*") ? h("em", null, part.slice(1, -1)) : part;

/** A line with `code` and **weight**: all of Markdown that our texts have. */
const line = (text) => (text ?? "").split(/(`[^`]+`|\*\*[^*]+\*\*|\*[^*\s][^*]*\*)/).filter(Boolean).map(piece);

/** Paragraphs of such lines. */
const prose = (text) => (text ?? "").split(/\n\n+/).filter(Boolean).map((paragraph) => h("p", null, line(paragraph)));

const types = (schema) => [schema.type ?? []].flat().filter((type) => type !== "null");

/** A schema's type in a few words. */
function kind(given) {
  const schema = whole(given);
  const some = schema.oneOf ?? schema.anyOf;
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (some) return some.map((one) => whole(one)).filter((one) => one.type !== "null").map(kind).join(` ${words.or} `);
  if (types(schema).includes("array")) return words.list(kind(schema.items ?? {}));
  if (schema.properties || schema.allOf) return given.$ref?.split("/").at(-1).split(/[._]/)[0] ?? words.object;
  return [types(schema).join(" | ") || words.anything, schema.format && `(${schema.format})`].filter(Boolean).join(" ");
}

const bounds = ({ minimum, maximum, maxLength, pattern, default: standard }) => [
  minimum !== undefined || maximum !== undefined ? words.between(minimum, maximum) : null,
  maxLength !== undefined ? words.longest(maxLength) : null,
  pattern !== undefined ? h("code", null, pattern) : null,
  standard !== undefined ? words.standard(JSON.stringify(standard)) : null,
].filter(Boolean).flatMap((one) => ["; ", one]).slice(1);

/** The parts of a schema: its fields, those of its parts, its alternatives. */
function fields(given, depth = 0) {
  const schema = whole(given);
  if (depth > DEPTH_MAX) return [];
  if (types(schema).includes("array")) return fields(schema.items ?? {}, depth + 1);
  const alternatives = (schema.oneOf ?? schema.anyOf ?? []).filter((one) => whole(one).type !== "null");
  if (alternatives.length === 1) return fields(alternatives[0], depth + 1);
  return [
    ...(schema.allOf ?? []).flatMap((part) => fields(part, depth + 1)),
    ...alternatives.filter((one) => fields(one, depth + 1).length).map((one, n) =>
      h("div", null, h("em", null, n ? words.otherwise : words.either), h("div", { class: "parts" }, fields(one, depth + 1)))),
    ...Object.entries(schema.properties ?? {}).map(([name, property]) => field(name, property, schema.required?.includes(name), depth)),
  ];
}

function field(name, property, required, depth) {
  const about = [h("code", null, h("strong", null, name)), " ", h("span", { class: "faint" }, kind(property), required ? "" : `, ${words.optional}`), " ",
    line(property.description ?? whole(property).description?.split("\n")[0]), " ", h("span", { class: "faint" }, bounds(whole(property)))];
  const inner = fields(property, depth + 1);
  return inner.length ? h("details", null, h("summary", null, about), h("div", { class: "parts" }, inner)) : h("div", null, about);
}

const sample = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));

function content(of) {
  return Object.entries(of.content ?? {}).map(([type, media]) => {
    const inner = fields(media.schema ?? {});
    const example = media.example ?? whole(media.schema).example;
    return h("div", null, h("code", null, type), inner.length ? h("div", { class: "parts" }, inner) : ` ${kind(media.schema ?? {})}`,
      example !== undefined && h("pre", { tabindex: 0 }, sample(example)));
  });
}

function parameters(list) {
  const row = (parameter) => [
    h("code", null, parameter.name), kind(parameter.schema ?? {}),
    h("div", { class: "block" }, line(parameter.description), " ", h("span", { class: "faint" }, bounds(parameter.schema ?? {}))),
    parameter.example === undefined ? "" : h("code", null, sample(parameter.example)),
  ];
  return table(words.parameters, words.columns, list.map(whole).map(row));
}

/** As it is asked on a command line. */
function command(method, path, operation) {
  const given = (operation.parameters ?? []).map(whole).filter((parameter) => parameter.example !== undefined);
  const place = given.filter((parameter) => parameter.in === "path").reduce((at, { name, example }) => at.replace(`{${name}}`, example), path);
  const query = new URLSearchParams(given.filter((parameter) => parameter.in === "query").slice(0, 3).map(({ name, example }) => [name, example]));
  const [type, body] = Object.entries(operation.requestBody?.content ?? {})[0] ?? [];
  const example = body?.example ?? whole(body?.schema).example;
  return ["curl", method === "post" && "-X POST", operation["x-role"] && (operation["x-of-people"] ? "-H 'Cookie: session=…'" : "-H 'Authorization: Bearer wtc_…'"),
    example !== undefined && `-H 'Content-Type: ${type}' --data-binary '${typeof example === "string" ? example.trim() : JSON.stringify(example)}'`,
    `'${location.origin}${place}${query.size ? `?${query}` : ""}'`].filter(Boolean).join(" ");
}

function show(method, path, operation) {
  const answers = Object.entries(operation.responses ?? {}).map(([status, of]) => {
    const answer = whole(of);
    const inside = content(answer);
    const about = [h("strong", null, status), " ", answer.description];
    return inside.length ? h("details", { open: false }, h("summary", null, about), h("div", null, inside)) : h("div", null, about);
  });
  return h("article", { id: operation.operationId, data: { text: `${path} ${operation.summary}`.toLowerCase() } },
    h("h3", null, h("span", { class: "method", data: { method } }, method.toUpperCase()), h("code", null, path),
      h("span", { class: "badge" }, operation["x-of-people"] ? words.people : operation["x-role"] ? words.role(operation["x-role"]) : words.open)),
    h("p", null, h("strong", null, operation.summary)), prose(operation.description),
    operation.parameters?.length && [h("h4", null, words.parameters), parameters(operation.parameters)],
    operation.requestBody && [h("h4", null, words.body), h("p", null, operation.requestBody.description ?? ""), content(operation.requestBody)],
    h("h4", null, words.answers), answers, h("h4", null, words.example), h("pre", { tabindex: 0 }, command(method, path, operation)));
}

function page() {
  const operations = Object.entries(all.paths).flatMap(([path, item]) =>
    ["get", "post", "put", "delete"].filter((method) => item[method]).map((method) => [method, path, item[method]]));
  const groups = all.tags.map((tag) => [tag, operations.filter(([, , operation]) => operation.tags?.includes(tag.name))]).filter(([, list]) => list.length);
  const link = ([method, path, operation]) => h("li", { data: { text: `${path} ${operation.summary}`.toLowerCase() } },
    h("a", { href: `#${operation.operationId}`, title: `${method.toUpperCase()} ${path}` }, operation.summary));
  const search = h("input", { type: "search", placeholder: words.search, "aria-label": words.search, oninput: () => narrow(search.value.toLowerCase()) });
  fill(main, h("div", { class: "docs" },
    h("nav", { "aria-label": words.title }, search, groups.map(([tag, list]) => h("div", null, h("h2", null, tag.name), h("ul", null, list.map(link))))),
    h("div", null, h("section", null, h("h1", null, `${all.info.title} ${all.info.version}`), prose(all.info.description)),
      groups.map(([tag, list]) => h("section", null, h("h2", null, tag.name), prose(tag.description), list.map((one) => show(...one)))))));
  document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

function narrow(text) {
  for (const one of main.querySelectorAll("[data-text]")) mark(one, "hidden", !one.dataset.text.includes(text));
}

document.documentElement.lang = texts.language;
document.title = words.title;
fill(document.getElementById("bar"),
  h("a", { class: "brand", href: "/", "aria-label": texts.title }, h("img", { src: "/icon.svg", alt: "", width: 26, height: 26 }), h("span", null, texts.title)),
  h("span", null, words.title), h("div", { class: "bar-end" }, h("a", { href: "/api/v1/openapi.json" }, "OpenAPI")));
try {
  all = await get("openapi.json");
  page();
} catch (error) {
  fill(main, h("section", { class: "alone" }, h("h1", null, texts.errors.page), h("p", null, error.message)));
}
