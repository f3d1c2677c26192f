// Operations: tiers, gateways, jobs, quality, and what is missing or set aside.

import { away, get, lacks, link, metrics, post } from "./api.js";
import { showAside } from "./aside.js";
import { showAudit } from "./audit.js";
import { fill, foreign, h, say, table } from "./dom.js";
import { ago, bytes, length, moment, number, parse, percent, whole } from "./format.js";
import * as network from "./network.js";
import { may } from "./session.js";
import { jobName, seriesName, texts } from "./texts.js";

const EVERY_MS = 10_000;
const LOOKUPS_MIN = 10; // the share of fewer says nothing
const RUNNING_EVERY_MS = 1_000;
const LIST_MAX = 100;
const ASIDE_MAX = 10_000;
const POINTS_MAX = 10_000;
const AUDIT_MAX = 200; // a file of a million rows is fifty
const words = texts.operations;

/** Builds the page; gives back how to end it. */
export function operations(root, report) {
  const parts = [
    part(report, "tiers", words.tiers, async () => showTiers(...await Promise.all([get("health"), metrics(), get("costs").catch(() => null), get("storage").catch(() => null)]))),
    part(report, "gateways", words.gateways, async () => showGateways(await get("gateways"), (gateway) => showPoints(gateway).then(() => report("points", null), (error) => report("points", error)))),
    jobs(report),
    part(report, "quality", words.quality, async () => showQuality(await get("quality")), h("a", { class: "button small", href: link("quality", { format: "csv" }), download: "" }, words.csv)),
    part(report, "gaps", words.gaps, async () => showGaps(await get("gaps", { limit: LIST_MAX })), null, words.gapsWhat),
    aside(report),
    part(report, "parked", words.parked, async () => showParked(await get("parked", { limit: LIST_MAX }))),
    may("operator") && part(report, "audit", words.audit, async () => showAudit(await get("audit", { limit: AUDIT_MAX }), more), null, words.auditWhat),
  ].filter(Boolean);
  root.append(h("h1", { class: "unseen" }, texts.pages.operations), ...parts.map((one) => one.element));
  const all = () => { if (!document.hidden) parts.forEach((one) => one.refresh()); };
  all();
  const timer = setInterval(all, EVERY_MS);
  return () => { clearInterval(timer); parts.forEach((one) => one.end?.()); };
}

/** A section that asks for itself; when that fails, what it showed stays and says from when it is. */
function part(report, id, title, ask, aside, what) {
  const body = h("div", { class: "part-body" }, h("div", { class: "waiting line" }));
  const old = h("p", { class: "notice", data: { state: "warn" }, hidden: true });
  const element = h("section", { id, class: "part", "aria-labelledby": `${id}-title` },
    h("div", { class: "row" }, h("h2", { id: `${id}-title` }, title), what && h("span", { class: "faint" }, what), aside), old, body);
  let last = null, key = null;
  return { element, async refresh() {
    try {
      const shown = await ask();
      last = network.now();
      old.hidden = true;
      // What somebody reads, selects or has focused isn't made anew for nothing.
      const text = shown instanceof Node ? shown.textContent : null;
      if (text === null || text !== key) { key = text; keepFocus(body, () => fill(body, shown)); }
      report(id, null);
    } catch (error) {
      report(id, error);
      if (last === null) return fill(body, h("p", { class: "faint" }, error.tier ? words.unknown : error.message)); // the page says why, once
      say(old, texts.notice.old(moment(last)));
      old.hidden = false;
    }
  } };
}

function keepFocus(body, change) {
  const name = body.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  change();
  if (name) body.querySelector(`[data-key="${CSS.escape(name)}"]`)?.focus();
}

const fact = (name, text) => h("div", null, h("dt", null, name), h("dd", null, text));
const badge = (state, text) => h("span", { class: "badge", data: { state } }, text);
const none = (text, how) => h("div", { class: "none" }, h("p", null, text), how && h("p", { class: "faint" }, how));

/** What can't go on stands on the card that it concerns; a job that failed, in the list of jobs. */
const PLACES = { ingest: "spool", flush: "spool", hot: "hot", replica: "warm", archive: "cold" };

/** Why, for whoever can mend it. */
const why = (error) => may("operator") && h("details", { class: "why" }, h("summary", null, texts.notice.why), h("p", { class: "error" }, error));

function showTiers(health, figures, costs, storage) {
  const facts = (state, tier) => Object.entries(state ?? {}).filter(([, held]) => held !== null).map(([name, held]) => name === "replica" ? fact(words.replica, words.replicaState(held)) :
    fact(name === "bytes" && tier === "hot" ? words.memory : words.facts[name] ?? name, name === "bytes" ? bytes(held) : typeof held === "number" ? whole(held) : String(held)));
  // What comes of a tier that is away is said with it.
  const troubles = Map.groupBy(health.troubles.filter(({ part, severity, error }) => (part in PLACES || severity !== "warning") && health.tiers[away(error)]?.ok !== false), ({ part }) => PLACES[part] ?? "other");
  const said = (place) => (troubles.get(place) ?? []).map(({ part, error }) => h("div", { class: "trouble" }, h("p", { class: "error" }, texts.notice.failing(words.parts[part] ?? jobName(part))), why(error)));
  const card = (name, title, what, ok, held) => {
    const state = !ok ? ["bad", words.down] : troubles.has(name) ? ["bad", words.failing] : ["good", words.up];
    return h("article", { class: "card", data: { state: state[0] } }, h("div", { class: "card-head" }, h("h3", null, title), badge(...state)), h("p", { class: "faint" }, what), said(name), held);
  };
  const cards = ["hot", "warm", "cold"].filter((name) => health.tiers[name].state !== null).map((name) => {
    const tier = health.tiers[name];
    return card(name, words.tierNames[name], words.tierWhat[name], tier.ok, !tier.ok ? why(tier.error)
      : h("dl", { class: "facts" }, fact(words.answered, length(tier.answered_in_ms / 1000)), name === "hot" && [fact(words.hitRate, percent(hitRate(figures, /^collector_cache_lookups_total\{/))), fact(words.alone, percent(hitRate(figures, /^collector_hot_lookups_total\{/)))], costs && fact(words.month, words.money(costs[name], costs.currency)), name !== "hot" && storage?.[name]?.readings != null && fact(words.facts.readings, [whole(storage[name].readings), h("span", { class: "faint" }, ` ${words.counted(ago(parse(storage.at), network.now()))}`)]), facts(tier.state, name)));
  });
  const spool = [figures.get("collector_spool_bytes"), figures.get("collector_spool_bytes_max"), figures.get("collector_spool_records")];
  cards.push(card("spool", words.spool, words.spoolWhat, true, h("dl", { class: "facts" }, fact(words.spoolUse, `${bytes(spool[0])} / ${bytes(spool[1])}`), fact(words.spoolRecords, whole(spool[2])),
    fact(words.clients, whole(figures.get("collector_live_clients") ?? 0)), fact(words.version, health.version), fact(words.uptime, length(health.uptime_s)))));
  const sum = costs && h("p", { class: "faint" }, words.costs(costs));
  return h("div", null, h("div", { class: "cards tiers" }, cards), said("other"), sum);
}

function hitRate(figures, lookups) {
  const of = (outcome) => [...figures].reduce((sum, [name, count]) => (lookups.test(name) && name.includes(`outcome="${outcome}"`) ? sum + count : sum), 0);
  const all = of("hit") + of("miss");
  return all >= LOOKUPS_MIN ? of("hit") / all : null;
}

function showGateways({ items, degraded }, points) {
  const missing = lacks(degraded).map((what) => h("p", { class: "notice", data: { state: "warn" } }, what));
  if (items.length === 0) return missing.length ? h("div", null, missing) : none(words.gatewaysNone, words.gatewaysHow);
  const heads = [words.gateway, words.state, words.seen, words.agent, words.points, words.bad, words.waiting, words.oldest, words.clock, words.series, words.gapsOf];
  return h("div", null, missing, table(words.gateways, heads, items.map((one) => {
    const { session } = one;
    const status = session?.status ?? one.status;
    const online = session?.connected === true;
    return [one.gateway, badge(online ? "good" : "bad", online ? words.online : words.away), ago(parse(session?.heard ?? one.last_heard), network.now()), session?.version ?? one.version ?? "–",
      whole(status?.points), status?.points_bad ? h("button", { type: "button", class: "small danger", data: { key: `points ${one.gateway}` }, title: words.inError(one.gateway), onclick: () => points(one.gateway) }, whole(status.points_bad), h("span", { class: "unseen" }, ` ${words.inError(one.gateway)}`)) : whole(status?.points_bad),
      status ? `${words.blocks(status.spool_records)}, ${bytes(status.spool_bytes)}` : "–", status ? (status.oldest_unsent ? ago(parse(status.oldest_unsent), network.now()) : words.none) : "–",
      status ? clockText(status.clock) : "–", whole(one.series), one.gaps ? badge("stale", whole(one.gaps)) : whole(one.gaps)];
  })));
}

/** Which points of a gateway are in error. */
async function showPoints(gateway) {
  const { items } = await get(`gateways/${encodeURIComponent(gateway)}/points`, { limit: POINTS_MAX });
  const wrong = items.filter(({ stale, newest }) => stale || newest?.quality === "bad");
  const rows = wrong.map((one) => [h("span", null, foreign(network.nodeName(one.node)), h("span", { class: "faint" }, ` · ${seriesName(one)}`)),
    one.newest?.quality === "bad" ? badge("bad", texts.quality.bad + (one.newest.reason ? `: ${one.newest.reason}` : "")) : badge("stale", one.newest ? texts.quality.stale : texts.quality.missing),
    one.newest ? ago(parse(one.newest.at), network.now()) : texts.age.never]);
  const dialog = h("dialog", { class: "wide", "aria-labelledby": "points-title", onclose: () => dialog.remove() },
    h("form", { method: "dialog" }, h("h2", { id: "points-title" }, words.inError(gateway)),
      rows.length ? table(words.inError(gateway), [words.point, words.state, words.value], rows) : h("p", { class: "faint" }, words.noneInError),
      h("div", { class: "row end" }, h("button", { type: "submit" }, words.close))));
  document.body.append(dialog);
  dialog.showModal();
}

function clockText(clock) {
  const state = (typeof clock === "string" ? clock : Object.keys(clock)[0]).toLowerCase();
  return words.clocks[state] ?? state;
}

function showQuality({ day, items }) {
  if (items.length === 0) return none(words.qualityNone);
  const worst = [...items].sort((a, b) => a.score - b.score);
  return h("div", null, h("p", { class: "faint" }, texts.overview.qualityDay(day)), table(words.quality,
    [texts.node.choose, words.series, words.score, words.completeness, words.longest, words.counts],
    worst.map((one) => [one.node, seriesName(one), badge(one.score >= 90 ? "good" : one.score >= 70 ? "stale" : "bad", number(one.score, 0.1)), percent(one.completeness), length(one.longest_gap_s), `${whole(one.count.bad)} / ${whole(one.count.uncertain)}`])));
}

const more = (answer) => answer.truncated && h("p", { class: "faint" }, words.more);

function showGaps(answer) {
  if (answer.items.length === 0) return none(words.gapsNone);
  const time = (text) => (text ? moment(parse(text)) : words.unknownTime);
  return h("div", null, table(words.gaps, [words.gateway, words.reason, words.from, words.to, words.missing],
    answer.items.map((gap) => [gap.gateway, words.reasons[gap.reason] ?? gap.reason, time(gap.from), time(gap.to), whole(gap.blocks)])), more(answer));
}

function aside(report) {
  const one = part(report, "quarantine", words.quarantine, async () => showAside(await get("quarantine", { limit: ASIDE_MAX }), more, () => one.refresh()), null, words.quarantineWhat);
  return one;
}

function showParked(answer) {
  if (answer.items.length === 0) return none(words.none);
  return table(words.parked, [words.gateway, words.boot, words.clock, words.missing, words.received],
    answer.items.map((boot) => [boot.gateway, boot.boot, boot.clock, whole(boot.blocks), moment(parse(boot.received_first))]));
}

function jobs(report) {
  const said = h("p", { class: "faint", role: "status" });
  let soon = null;
  const one = part(report, "jobs", words.jobs, async () => {
    const [all, runs] = await Promise.all([get("jobs"), get("jobs/runs", { limit: 30 })]);
    clearTimeout(soon);
    if (runs.items.some((run) => run.status === "running")) soon = setTimeout(() => one.refresh(), RUNNING_EVERY_MS);
    return showJobs(all.items, runs.items, start);
  }, said);
  async function start(name) {
    try {
      await post(`jobs/${encodeURIComponent(name)}/run`);
      say(said, words.started(jobName(name)));
      report("run", null);
    } catch (error) {
      report("run", error);
    }
    one.refresh();
  }
  return { ...one, end: () => clearTimeout(soon) };
}

function showJobs(all, runs, start) {
  const state = { running: "line", done: "good", failed: "bad", interrupted: "stale" };
  const shown = (run) => (run ? [badge(state[run.status], words.status[run.status]), ` ${ago(parse(run.started_at), network.now())}`] : "–");
  const jobs = table(words.jobs, [words.job, words.schedule, words.next, words.lastRun, ""], all.map((job) => [
    h("span", null, jobName(job.job), " ", h("code", null, job.job), h("span", { class: "faint block" }, texts.jobs[job.job]?.[1] ?? job.what)), h("code", null, job.schedule ?? words.byHand), job.next ? moment(parse(job.next)) : words.off, h("span", null, shown(job.last), progress(job.last)),
    may("operator") && h("button", { type: "button", class: "small", data: { key: job.job }, disabled: job.last?.status === "running", onclick: () => start(job.job) }, words.run, h("span", { class: "unseen" }, ` ${job.job}`))]));
  const history = runs.length === 0 ? none(words.historyNone) : table(words.history, [words.job, words.when, words.took, words.how, words.rows, words.detail], runs.map((run) => [
    jobName(run.job) + (run.attempt > 1 ? ` (${words.attempt(run.attempt)})` : ""), moment(parse(run.started_at)),
    run.finished_at ? length((parse(run.finished_at) - parse(run.started_at)) / 1000) : "–", badge(state[run.status], words.status[run.status]), whole(run.rows), run.error ?? run.detail ?? "–"]));
  return h("div", null, jobs, h("h3", null, words.history), history);
}

function progress(run) {
  if (run?.status !== "running") return null;
  const known = run.steps > 0;
  const text = known ? percent(run.steps_done / run.steps) : whole(run.steps_done);
  const bar = h("progress", { "aria-label": words.progress(jobName(run.job), text), max: known ? run.steps : null });
  if (known) bar.value = run.steps_done;
  return [" ", bar, " ", text];
}
