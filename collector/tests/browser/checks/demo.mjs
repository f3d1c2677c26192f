// The demo, as people see it: what its API says on every page, the past that it brought in, and how soon a sensor's value
// is on the screen.

import assert from "node:assert/strict";
import { join } from "node:path";
import { chart, findings, has, open, ready, settled, until, zoom } from "../browser.mjs";

const HOUR = 3_600_000, DAY = 24 * HOUR;
const TWO_YEARS_S = 63_072_000;
/** Of all sensors, and those of them that are no meters. */
const SERIES = 21, GAUGES = 16;
const iso = (ms) => new Date(ms).toISOString();
/** A number as pages write it. */
const numeral = (text) => Number(text.replaceAll(",", ""));
const near = (one, other, off) => Math.abs(one - other) <= off;

export default ({ check: plain, browser, base, folder }) => {
  /** A page of the demo, where nobody has to log in; at the end it is looked over. */
  const check = (name, path, work) => plain(`demo: ${name}`, async () => {
    const page = await open(browser, base, { role: null, path });
    await work(page, (path) => ask(page, path));
    assert.deepEqual(await findings(page), []);
    return page;
  });
  const ask = async (page, path) => {
    const answer = await page.request.get(`${base}/api/v1/${path}`);
    assert.ok(answer.ok(), `${path}: ${await answer.text()}`);
    return answer.json();
  };
  const stretch = (node, from, to) => `/#/node/${node}?from=${iso(from)}&to=${iso(to)}`;

  check("its past comes in while it runs, and the jobs look at it", "/", async (page, get) => {
    const began = performance.now();
    await ready(page, "overview"); // it can be used at once
    const at = ((performance.now() - began) / 1000).toFixed(1);
    await until(page, async () => {
      const runs = (await get("jobs/runs")).items, failed = runs.find(({ status }) => status === "failed");
      assert.equal(failed, undefined, JSON.stringify(failed));
      const done = (job) => runs.some((run) => run.job === job && run.status === "done");
      return done("anomaly_detection") && done("forecast") && (await get("quality")).items.length === SERIES;
    }, 120_000);
    console.log(`  live after ${at} s, the past was in after ${((performance.now() - began) / 1000).toFixed(1)} s`);
    // Meters go on from the past without a step.
    for (const node of ["DIST_001", "DIST_002", "DIST_003", "PUMP_001"]) {
      const { points } = await get(`history?node=${node}&metric=total_volume&from=now-6d&resolution=1d`);
      assert.ok(points.length > 5 && points.every(({ resets, increase }) => !resets && increase >= 0 && increase < 6_000), `${node}: ${JSON.stringify(points.at(-1))}`);
    }
  });

  check("overview says of every node what the API says", "/", async (page, get) => {
    await ready(page, "overview");
    const cards = () => page.locator("li.card").evaluateAll((cards) => cards.map((card) => [card.dataset.node, [...card.querySelectorAll(".measure")].map((one) => ({
      value: one.querySelector(".value").textContent, unit: one.querySelector(".unit").textContent,
    }))]));
    await page.waitForFunction((all) => document.querySelectorAll(".spark-line[d]").length === all, GAUGES); // not of meters
    const [shown, { items }] = [Object.fromEntries(await cards()), await get("latest")];
    assert.equal(Object.keys(shown).length, 6);
    assert.equal(items.length, SERIES);
    for (const { node, metric, unit, value } of items) {
      const same = ({ value: text, unit: as }) => unit === "1" ? text === (value ? "on" : "off") : as === unit && near(numeral(text), value, 0.02 * Math.abs(value) + 0.3);
      assert.ok(shown[node].some(same), `${node} ${metric} is ${value} ${unit}, shown is ${JSON.stringify(shown[node])}`);
    }
    assert.equal(Object.values(shown).flat().length, items.length);
    const figure = (name) => page.locator(".figure", { hasText: name }).innerText();
    const inflow = items.find(({ channel }) => channel === "inlet").value;
    assert.ok(near(numeral((await figure("Inflow")).match(/([\d.]+) L\/s/)[1]), inflow, 2));
    const { items: alerts } = await get("anomalies?state=open");
    assert.match(await figure("Open anomalies"), new RegExp(`\\n${alerts.length}\\n`));
    assert.match(await figure("Gateways online"), /1 \/ 1/);
    const { day, nodes } = await get("quality");
    assert.equal(nodes.length, 6);
    assert.ok((await figure("Data quality")).includes(day));
    await page.screenshot({ path: join(folder, "overview.png"), fullPage: true });
  });

  check("what was bad or missing is seen, and a meter's hole is no hour of much", null, async (page, get) => {
    const now = Date.now();
    await page.goto(base + stretch("DIST_001", now - 10 * DAY, now - 8 * DAY));
    await settled(page);
    await chart(page, "Pressure").getByText(/60 bad/).waitFor(); // five hours at five minutes
    await page.goto(base + stretch("DIST_001", now - 17 * DAY, now - 15 * DAY));
    await settled(page);
    for (const name of ["Flow", "Pressure", "Volume"]) await chart(page, name).getByText(/8[56](\.\d)? % known/).waitFor(); // seven hours of 48
    const most = async () => numeral((await chart(page, "Volume").innerText()).match(/… ([\d.,]+) m³/)[1]);
    await page.goto(base + stretch("DIST_001", now - 20 * DAY, now));
    await chart(page, "Volume").getByText(/1\sh buckets/).waitFor();
    const hours = (await get(`history?node=DIST_001&metric=total_volume&from=${iso(now - 20 * DAY)}&resolution=1h`)).points.map(({ increase }) => increase);
    assert.ok(Math.max(...hours) > 200, "what the hole hid is in the API's next hour");
    assert.ok(await most() < 200, `${await most()} m³`);
    await page.screenshot({ path: join(folder, "node-month.png"), fullPage: true });
  });

  check("last week beside it, what is expected, and a file of it", "/#/node/DIST_002?span=172800", async (page, get) => {
    await settled(page);
    const flow = chart(page, "Flow");
    await page.getByLabel("Compare with last week").check();
    await settled(page);
    await page.getByLabel("Forecast").check();
    await settled(page);
    await page.mouse.move(0, 0);
    await page.waitForFunction(() => !document.querySelector("section.chart[aria-busy]"));
    const box = await flow.locator(".u-over").boundingBox();
    await page.mouse.move(box.x + box.width * 0.9, box.y + box.height / 2);
    await flow.locator(".reading").getByText(/expected [\d.]+ L\/s \([\d.]+ … [\d.]+\)/).waitFor();
    await page.mouse.move(box.x + box.width * 0.3, box.y + box.height / 2);
    await flow.locator(".reading").getByText(/a week before/i).waitFor();
    await page.screenshot({ path: join(folder, "node-forecast.png"), fullPage: true });
    const from = iso(Date.now() - 3 * DAY), to = iso(Date.now() - 3 * DAY + HOUR);
    await page.goto(`${base}/#/node/DIST_002?from=${from}&to=${to}`);
    await flow.getByText(/all readings/).waitFor();
    const [file] = await Promise.all([page.waitForEvent("download"), chart(page, "Flow").getByText("CSV").click()]);
    const text = Buffer.concat(await (await file.createReadStream()).toArray()).toString().trim().split("\n");
    const { points } = await get(`history?node=DIST_002&metric=flow_rate&from=${from}&to=${to}&resolution=raw&limit=10000`);
    assert.equal(text[0], "time,value (L/s),quality,reason");
    assert.equal(text.length - 1, points.length);
    assert.ok(near(Number(text[1].split(",")[1]), points[0].value, 1e-9));
  });

  check("the product found what went wrong, and somebody takes care of it", "/#/anomalies", async (page, get) => {
    await page.locator(".anomaly-item").first().waitFor();
    await settled(page);
    const { items } = await get("anomalies?state=open");
    assert.equal(await page.locator(".anomaly-item").count(), items.length);
    const of = (kind, node) => items.filter((one) => one.kind === kind && one.node === node);
    assert.equal(of("stuck", "DIST_003").length, 1, "the pressure in the gardens stood still");
    assert.ok(of("profile", "DIST_001").length > 0, "a hydrant was open in the old town");
    const item = page.locator(".anomaly-item", { hasText: "Stuck sensor" });
    assert.match(await item.innerText(), /Gardens · Pressure[\s\S]*took 12 h/);
    await item.click();
    await page.getByRole("heading", { name: "Stuck sensor" }).waitFor();
    await settled(page);
    await page.screenshot({ path: join(folder, "anomalies.png"), fullPage: true });
    await page.getByLabel("Your name").fill("Rossi");
    await page.getByLabel("Comment", { exact: true }).fill("It hung.");
    await page.getByRole("button", { name: "Acknowledge" }).click();
    await page.locator(".anomaly > .row .badge").getByText("acknowledged").waitFor();
    const [one] = (await get("anomalies?kind=stuck&node=DIST_003")).items;
    assert.equal(one.state, "acknowledged");
    assert.equal(one.notes[0].comment, "It hung.");
  });

  check("a day and a week ahead, and how right that would have been", "/#/forecasts?node=DIST_001", async (page, get) => {
    await page.locator("section.chart").first().waitFor();
    await settled(page);
    const one = (await get("forecasts?node=DIST_001&metric=flow_rate")).items[0];
    const flow = chart(page, "Old town, Flow");
    const said = async (what) => (await flow.getByText(what).innerText()).match(/from ([\d.]+) L\/s .* to ([\d.]+) L\/s/).slice(1).map(Number);
    const extremes = (hours) => { const values = one.points.filter(({ at }) => Date.parse(at) - Date.parse(one.points[0].at) < hours * HOUR).map(({ value }) => value); return [Math.min(...values), Math.max(...values)]; };
    for (const [name, hours] of [["Next 24 h", 24], ["Next 7 days", 168]]) {
      if (hours === 168) await page.getByRole("button", { name: "7 days" }).click();
      await flow.getByText(new RegExp(name)).waitFor();
      await settled(page);
      const [low, high] = await said(new RegExp(name)), [least, most] = extremes(hours);
      assert.ok(near(low, least, 1) && near(high, most, 1.5), `${name}: ${low} to ${high}, the API has ${least} to ${most}`);
      await page.screenshot({ path: join(folder, `forecasts-${hours}.png`), fullPage: true });
    }
    const rows = await page.locator("table", { hasText: "Within 90 %" }).locator("tbody tr").allInnerTexts();
    const row = (horizon) => rows.find((row) => /Old town · Flow\s+median8w/.test(row) && row.includes(horizon));
    assert.match(row("24 h"), /24 h\s+2\d\d\s/); // nine days of 24 hours
    assert.match(row("7 days"), /7 days\s+1,\d\d\d\s/);
  });

  check("operations shows gateway, jobs, tiers, quality and who did what", "/#/operations", async (page, get) => {
    for (const part of ["gateways", "quality", "audit", "jobs"]) await page.locator(`#${part} tbody tr`).first().waitFor();
    assert.match(await page.locator("#gateways tbody tr").innerText(), /demo-gateway\s+online[\s\S]*\b21\b/);
    assert.equal(await page.locator("#tiers .card").count(), 4);
    const jobs = await page.locator("#jobs").innerText();
    for (const job of (await get("jobs")).items) assert.ok(jobs.includes(job.job), job.job);
    assert.equal(await page.locator("#quality tbody tr").count(), SERIES);
    await page.locator("#gaps").getByText("Nothing is known to be missing.").waitFor();
    const audit = await page.locator("#audit").innerText();
    assert.match(audit, /demo\s+brought in a file: 1\d\d,\d\d\d readings in 7,\d\d\d rows\s+the network's past/);
    assert.match(audit, /started the job Forecasting/);
    await page.screenshot({ path: join(folder, "operations.png"), fullPage: true });
  });

  check("a file with mistakes fills a hole as far as it is right", "/#/entry", async (page, get) => {
    await ready(page, "entry");
    // In the hours in which the gateway had no power.
    const begins = Math.floor((Date.now() - 16 * DAY + 2 * HOUR) / HOUR) * HOUR;
    const rows = [[0, "11.2"], [10, "a lot"], [20, "11.9"], [30, "1e9"], [40, "12.4"]].map(([minutes, value]) => `${iso(begins + minutes * 60_000)},DIST_002,flow_rate,${value}`);
    await page.getByLabel("File", { exact: true }).setInputFiles({ name: "logger.csv", mimeType: "text/csv", buffer: Buffer.from(`timestamp,node,metric,value\n${rows.join("\n")}\n`) });
    await page.getByLabel("Your name").last().fill("Rossi");
    await page.getByRole("button", { name: "Check, without storing" }).click();
    await has(page, "5 rows: 3 readings can be stored, 2 can't be taken.");
    assert.match(await page.locator(".report").innerText(), /'a lot' is no number/);
    await page.getByRole("button", { name: "Store 3 readings" }).click();
    await has(page, "3 readings: 3 new or changed, 0 there already, 2 not taken.");
    const { points } = await get(`history?node=DIST_002&metric=flow_rate&from=${iso(begins)}&to=${iso(begins + HOUR)}&resolution=raw`);
    assert.deepEqual(points.map(({ value }) => value), [11.2, 11.9, 12.4]);
  });

  check("from two years to five minutes, each in its resolution", null, async (page, get) => {
    // Years are summed up while nobody asks; before that an answer is put together from readings.
    await until(page, async () => (await get("health")).tiers.warm.state.dirty_buckets < 1_000, 240_000);
    const { points: days, coverage } = await get("history?node=DIST_001&metric=flow_rate&from=now-729d&resolution=1d");
    assert.ok(days.length > 720 && coverage > 0.98 && coverage < 0.999, `${days.length} days, ${coverage} known`);
    await page.goto(`${base}/#/node/DIST_001?span=${TWO_YEARS_S}`);
    await settled(page);
    const flow = chart(page, "Flow");
    await flow.getByText(/1\sd buckets.*99\.\d\s% known/).waitFor();
    await page.screenshot({ path: join(folder, "node-years.png"), fullPage: true });
    const seen = await zoom(page, flow);
    console.log(`  resolutions on the way: ${seen.join(", ")}`);
    assert.deepEqual(seen, ["1d", "1h", "5m", "raw"]);
    await flow.getByText(/all readings/).waitFor();
    const { points } = await get("history?node=DIST_001&metric=flow_rate&from=now-5m&resolution=raw");
    assert.ok(points.length > 10, "readings of this minute");
  });

  check("a sensor's value is on the screen within a second", null, async (page) => {
    // A message of DIST_002 has the moment in it at which its sensors measured.
    const heard = [];
    page.on("websocket", (socket) => socket.on("framereceived", ({ payload }) => {
      const said = JSON.parse(payload);
      for (const item of said.items ?? []) if (item.at && item.value !== undefined) heard.push(item);
    }));
    await page.goto(base);
    await ready(page, "overview");
    const series = (await ask(page, "latest")).items.find(({ node, metric }) => node === "DIST_002" && metric === "flow_rate");
    await page.evaluate(() => {
      window.shown = [];
      const text = document.querySelector("li.card[data-node=DIST_002] .value"); // flow is the first
      new MutationObserver(() => window.shown.push([Date.now(), text.textContent])).observe(text, { childList: true, characterData: true, subtree: true });
    });
    heard.length = 0;
    await page.waitForFunction(() => window.shown.length >= 8, null, { timeout: 30_000 });
    const shown = await page.evaluate(() => window.shown);
    const text = await page.evaluate(async (values) => {
      const [{ value }, { series }] = await Promise.all([import("/format.js"), import("/network.js")]);
      return values.map(({ series: number, value: held }) => value(series.get(number), held));
    }, heard.filter((item) => item.series === series.series));
    const took = heard.filter((item) => item.series === series.series).flatMap(({ at }, n) => {
      const [when] = shown.find(([moment, what]) => what === text[n] && moment >= Date.parse(at)) ?? [];
      return when ? [when - Date.parse(at)] : [];
    }).sort((a, b) => a - b);
    console.log(`  from the sensor to the screen: ${took.join(", ")} ms`);
    assert.ok(took.length >= 5, `${took.length} of ${heard.length}`);
    assert.ok(took[Math.floor(took.length / 2)] < 1_000, `${took} ms`);
  });
};
