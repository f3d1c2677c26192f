// Questions to the collector. What goes wrong is an Error that says what, in words for people.

import { texts } from "./texts.js";

const ANSWER_WITHIN_MS = 35_000;

/** Answers that came with the page, by their address: each is for whoever asks for it first. */
const given = new Map(Object.entries(JSON.parse(document.getElementById("given")?.textContent || "{}")));

const AWAY = /^(hot|warm|cold) tier \([^)]*\) is not available: /;

/** Which tier the collector says is away: `hot`, `warm`, `cold`, or `null` when it says something else. Why is for whoever mends
 *  it, and stands once, under Operations. */
export const away = (text) => AWAY.exec(text)?.[1] ?? null;

/** What may be missing in an answer, each once: of a tier that is away only what comes of it, and not that the value before a
 *  chart may be another one. */
export const lacks = (degraded) => [...new Set(degraded.map((what) => (away(what) ? what.split(": ").at(-1) : what)))]
  .filter((what) => !/^the value before .* may be missing$/.test(what)).map(texts.notice.degraded);

/** An answer that isn't one: `status` 0 when there was none at all; `tier` is the one that is away, `parameter` what is at
 * fault, if that is known. */
export class Refused extends Error {
  constructor(status, message, parameter) {
    const tier = away(message);
    super(tier ? texts.errors.tier[tier] : message);
    Object.assign(this, { status, tier, parameter });
  }
}

function address(path, params) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params ?? {})) if (value !== undefined) query.set(name, value);
  const text = query.toString();
  return `/api/v1/${path}${text && "?" + text}`;
}

/** Asks with any method. */
export async function ask(method, path, params, signal, content) {
  const plain = content instanceof Uint8Array; // a piece of a file
  const late = AbortSignal.timeout(ANSWER_WITHIN_MS);
  let response;
  try {
    response = await fetch(address(path, params), {
      method,
      signal: signal ? AbortSignal.any([signal, late]) : late,
      headers: { accept: "application/json", ...(content && { "content-type": plain ? "text/csv" : "application/json" }) },
      body: plain ? content : content && JSON.stringify(content),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused(0, late.aborted ? texts.errors.slow : texts.errors.away);
  }
  const body = await response.json().catch(() => null);
  if (!response.ok) throw new Refused(response.status, body?.detail ?? texts.errors.status(response.status), body?.parameter);
  if (body === null) throw new Refused(response.status, texts.errors.garbled);
  return body;
}

/** The answer to `GET /api/v1/<path>`. */
export function get(path, params, signal) {
  const asked = address(path, params), came = given.get(asked);
  given.delete(asked);
  return came ? Promise.resolve(came) : ask("GET", path, params, signal);
}

/** Asks for something to be done, with what that needs: an object, or bytes of a file. */
export const post = (path, params, content, signal) => ask("POST", path, params, signal, content);

/** Where a file is to be had. */
export const link = (path, params) => address(path, params);

/** The numbers of `/metrics`: name with labels → value. */
export async function metrics() {
  const response = await fetch("/metrics", { signal: AbortSignal.timeout(ANSWER_WITHIN_MS) }).catch(() => null);
  if (!response?.ok) throw new Refused(response?.status ?? 0, texts.errors.away);
  const found = new Map();
  for (const line of (await response.text()).split("\n")) {
    const cut = line.lastIndexOf(" ");
    if (cut > 0 && !line.startsWith("#")) found.set(line.slice(0, cut), Number(line.slice(cut + 1)));
  }
  return found;
}
