// The live feed: one WebSocket for the page that is open. When it is lost, it is tried again with growing, random pauses,
// and values are asked for meanwhile.

import * as alerts from "./alerts.js";
import { get } from "./api.js";
import { offer, setClock } from "./network.js";

const PAUSE_FIRST_MS = 500;
const PAUSE_MAX_MS = 30_000;
const OPEN_WITHIN_MS = 10_000;
const POLL_MS = 5_000;
const SILENCE_MAX_MS = 50_000; // the collector says something every 20 s

let socket = null;
let wanted = null;
let pause = PAUSE_FIRST_MS;
let timer = null;
let polling = null;
let watchdog = null;
let listeners = new Set();

/** How it stands: `{ is: "connecting" | "live" | "waiting", until, reason, degraded }`. */
export let status = { is: "connecting", degraded: [] };

/** Tells of changes of the status. */
export function listen(tell) {
  listeners.add(tell);
  return () => listeners.delete(tell);
}

function become(next) {
  status = { degraded: [], ...next };
  if (status.is === "live") stopPolling();
  else startPolling();
  listeners.forEach((tell) => tell(status));
}

/** Watches these from now on: `{ all: true }` or `{ nodes: [...] }`. */
export function watch(what) {
  wanted = what;
  if (socket?.readyState === WebSocket.OPEN) ask();
  else if (!socket) connect();
}

function ask() {
  socket.send(JSON.stringify({ type: "watch", anomalies: true, ...wanted }));
}

function connect() {
  clearTimeout(timer);
  become({ is: "connecting", reason: status.reason });
  const mine = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/v1/live`);
  socket = mine;
  expect(mine, OPEN_WITHIN_MS);
  mine.onopen = ask;
  mine.onmessage = (event) => { expect(mine, SILENCE_MAX_MS); take(JSON.parse(event.data)); };
  mine.onclose = (event) => { if (socket === mine) lost(event.reason); };
}

/** A connection on which nothing comes for so long is taken for dead: the system may not notice for minutes. */
function expect(mine, within) {
  clearTimeout(watchdog);
  watchdog = setTimeout(() => { if (socket === mine) { mine.close(); lost(""); } }, within);
}

function take(message) {
  setClock(message.now);
  if (message.type === "snapshot") {
    pause = PAUSE_FIRST_MS;
    become({ is: "live", degraded: message.degraded });
  }
  if (message.type === "anomalies") alerts.take(message);
  else if (message.items) offer(message.items);
}

function lost(reason) {
  socket = null;
  clearTimeout(watchdog);
  // Between half of the pause and all of it: a collector that comes back isn't met by everybody at once.
  const wait = pause * (0.5 + Math.random() / 2);
  pause = Math.min(pause * 2, PAUSE_MAX_MS);
  become({ is: "waiting", until: Date.now() + wait, reason });
  timer = setTimeout(connect, wait);
}

/** Begins anew, as whoever is logged in now. */
export function renew() {
  const before = socket;
  socket = null;
  before?.close();
  if (wanted) connect();
}

/** Tries at once: the network is back, or somebody looks again. */
export function now() {
  if (wanted && status.is === "waiting") connect();
}

function startPolling() {
  if (polling || status.is === "connecting") return;
  poll();
  polling = setInterval(poll, POLL_MS);
}

function stopPolling() {
  clearInterval(polling);
  polling = null;
}

async function poll() {
  if (document.hidden || !wanted) return;
  const node = wanted.nodes?.length === 1 ? wanted.nodes[0] : undefined;
  try {
    const latest = await get("latest", { node, limit: 10_000 });
    offer(latest.items);
  } catch (error) {
    // The status says already that there is no connection; the next round tries again. Who is out sees the way in.
    if (error.status === 401) dispatchEvent(new Event("lists"));
  }
}

/** Ends it for good. */
export function end() {
  wanted = null;
  clearTimeout(timer);
  clearTimeout(watchdog);
  stopPolling();
  listeners = new Set();
  const open = socket;
  socket = null;
  open?.close();
}

addEventListener("online", now);
document.addEventListener("visibilitychange", () => { if (!document.hidden) now(); });
