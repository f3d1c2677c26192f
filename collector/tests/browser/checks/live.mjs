// Newest values, and what becomes of the page when something is away.

import assert from "node:assert/strict";
import { join } from "node:path";
import { chart, findings, has, open, overflow, please, ready, settled } from "../browser.mjs";

export default ({ check, browser, base, folder }) => {
  check("overview shows every node, with values, units and totals", async () => {
    const page = await open(browser, base);
    await ready(page, "overview");
    await please("say-all");
    assert.equal(await page.locator("li.card").count(), 5);
    const card = page.locator("li.card[data-node=DIST_001]");
    await card.getByText("33.30").waitFor();
    assert.match(await card.innerText(), /Old town\s+DIST_001[\s\S]*Flow[\s\S]*33\.30\s*L\/s[\s\S]*Pressure[\s\S]*4\.20\s*bar/);
    await page.locator(".figure").first().getByText("71.5 L/s").waitFor();
    await page.locator(".figure").first().getByText("from Low basin").waitFor();
    await page.locator(".figure").nth(1).getByText(/at <b>Harbour<\/b> and Hill|at Hill and <b>Harbour<\/b>/).waitFor();
    await page.locator(".figure").nth(3).getByText("1 / 1").waitFor();
    await card.locator(".count").waitFor({ state: "hidden" });
    assert.equal(await page.locator(".map-node").count(), 5);
    await page.locator("li.card[data-node=DIST_002] .count").click();
    await page.locator(".anomaly-item").first().waitFor();
    return page;
  });

  check("a logger that speaks every hour has a line, and only cards that are seen are asked for, once", async () => {
    const page = await open(browser, base, { path: null });
    const asked = [];
    await page.route(/\/api\/v1\/history/, async (route) => {
      asked.push(new URL(route.request().url()).searchParams);
      await route.continue();
    });
    await page.goto(base);
    await ready(page, "overview");
    const drawn = await page.evaluate(async () => {
      const { draw, picture } = await import("/spark.js");
      const hour = 3_600_000, points = Array.from({ length: 24 }, (_, n) => [n * hour, n % 5, n % 5]), svg = picture();
      draw(svg, { from: 0, to: 24 * hour, points, gap: 3 * hour }, "gauge");
      return svg.querySelector(".spark-line").getAttribute("d").match(/M/g).length;
    });
    assert.equal(drawn, 1); // one line, no holes
    const series = asked.flatMap((params) => params.get("series").split(",").map((number) => `${number} ${params.get("resolution")}`));
    assert.equal(new Set(series).size, series.length, "twice");
    assert.ok(asked.every((params) => params.get("pixels") || params.get("resolution") === "1h" || params.get("series").split(",").length < 3), asked.map(String).join());
    return page;
  });

  check("names that are markup are shown as they are", async () => {
    const page = await open(browser, base);
    await ready(page, "overview");
    await has(page, "Pressure <img src=x onerror=alert(1)>");
    assert.equal(await page.locator("li.card[data-node=DIST_002] h3").innerText(), "<b>Harbour</b>");
    assert.equal(await page.locator("main img, main b").count(), 0);
    await page.goto(`${base}/#/node/${encodeURIComponent("<img src=x onerror=alert(2)>")}`);
    await has(page, "There is no node <img");
    return page;
  });

  check("a new value is on the screen within a second of the sensor", async () => {
    const [page, node] = await Promise.all([open(browser, base), open(browser, base, { path: "/#/node/DIST_001?span=300" })]);
    await Promise.all([ready(page, "overview"), settled(node)]);
    for (const value of [5.01, 5.02, 5.03, 5.04, 5.05]) {
      const [card, tile] = ["li.card[data-node=DIST_001]", ".tile"].map((place, n) => [page, node][n].locator(place).getByText(value.toFixed(2), { exact: true }).waitFor());
      const began = performance.now();
      await please(`say DIST_001 pressure ${value}`);
      await Promise.all([card, tile]);
      const took = performance.now() - began;
      console.log(`  ${value} after ${took.toFixed(0)} ms`);
      assert.ok(took < 1000, `${took} ms`);
    }
    assert.equal(node.errors.length, 0, node.errors.join("\n"));
    await node.context().close();
    return page;
  });

  check("a bad value is told apart", async () => {
    const page = await open(browser, base);
    await ready(page, "overview");
    await please("fail DIST_001 pressure");
    await page.locator("li.card[data-node=DIST_001][data-state=bad]").getByText("bad: timeout").waitFor();
    await please("say DIST_001 pressure 4.2");
    await page.locator("li.card[data-node=DIST_001]:not([data-state=bad])").waitFor();
    return page;
  });

  check("a lost live feed is said, and found again", async () => {
    const page = await open(browser, base, { path: null });
    await page.addInitScript(() => {
      window.sockets = [];
      window.WebSocket = class extends WebSocket {
        constructor(...more) { super(...more); sockets.push(this); }
      };
    });
    await page.goto(base);
    await ready(page, "overview");
    await page.evaluate(() => sockets[0].close());
    await has(page, /No live feed, next try in/);
    await page.locator(".pill[data-is=live]").waitFor({ timeout: 15_000 });
    await please("say DIST_001 pressure 4.45");
    await page.locator("li.card[data-node=DIST_001]").getByText("4.45", { exact: true }).waitFor();
    return page;
  });

  check("with nothing there yet it says what to do, and goes on by itself when there is something", async () => {
    const page = await open(browser, base, { path: null, expected: ["503"] });
    const lists = /\/api\/v1\/(series|nodes|gateways|gaps|anomalies|jobs\/runs)/;
    await page.route(lists, (route) => route.fulfill({ json: { items: [], truncated: false, degraded: [] } }));
    // And without what comes with the page.
    await page.addInitScript(() => new MutationObserver(() => document.getElementById("given")?.remove()).observe(document, { childList: true, subtree: true }));
    await page.goto(base);
    await has(page, "Nothing has arrived yet");
    assert.match(await page.locator(".alone").innerText(), /collector ca issue/);
    await page.screenshot({ path: join(folder, "empty.png") });
    assert.deepEqual(await findings(page), []);
    let refused = 0;
    await page.route(/\/api\/v1\/history/, (route) => (refused++ === 0 ? route.fulfill({ status: 503, json: { detail: "busy" } }) : route.continue()));
    await page.unroute(lists);
    await page.locator("li.card").first().waitFor({ timeout: 10_000 });
    await ready(page, "overview"); // with lines, though they were refused at first
    assert.ok(refused > 1);
    return page;
  });

  check("a page that isn't there is told so, with a way back, and the API's description is a click away", async () => {
    const page = await open(browser, base, { path: "/#/nosuch" });
    await has(page, "There is no such page");
    await has(page, /Nothing is at #\/nosuch/);
    assert.deepEqual(await findings(page), []);
    await page.getByText("To the overview").click();
    await ready(page, "overview");
    await page.getByText("API for programs").click();
    await page.waitForURL(`${base}/api/docs`);
    await has(page, "/api/v1/anomalies/{id}/acknowledge");
    assert.deepEqual(await findings(page), []);
    for (const width of [390, 1440]) {
      await page.setViewportSize({ width, height: 844 });
      assert.ok(await overflow(page) <= 0, `${width}: ${await overflow(page)} px too wide`);
    }
    return page;
  });

  check("a tier is killed, and back", async () => {
    const page = await open(browser, base);
    await ready(page, "overview");
    await please("kill redis");
    await has(page, /The memory for newest values is away since \d\d:\d\d\. They come from the database/, 30_000);
    assert.doesNotMatch(await page.locator("#notices").innerText(), /redis|os error|refused/i); // that is for whoever mends it
    await please("say DIST_001 pressure 6.66");
    await page.locator("li.card[data-node=DIST_001]").getByText("6.66", { exact: true }).waitFor({ timeout: 15_000 });
    await page.screenshot({ path: join(folder, "overview-degraded.png") });
    await please("start redis");
    await page.locator("#notices").getByText(/memory for newest values is away/).waitFor({ state: "detached", timeout: 30_000 });
    await please("say DIST_001 pressure 4.44");
    await page.locator("li.card[data-node=DIST_001]").getByText("4.44", { exact: true }).waitFor();
    page.expected.push("503");
    return page;
  });

  check("the database is killed, and back: values go on, the archive answers, nobody loses what they wrote", async () => {
    const expected = ["503"];
    const [page, entry, anomaly, node] = await Promise.all([null, "/#/entry", "/#/anomalies", "/#/node/DIST_001?span=172800"].map((path) => open(browser, base, { path: path ?? "/", expected })));
    await Promise.all([ready(page, "overview"), ready(entry, "entry"), ready(anomaly, "anomalies"), settled(node)]);
    await entry.getByLabel("Node", { exact: true }).first().selectOption("DIST_001");
    await entry.getByLabel("Series", { exact: true }).selectOption({ label: "Flow" });
    await entry.locator(".around tbody tr").first().waitFor();
    await entry.getByLabel("Value", { exact: true }).fill("32.5");
    await entry.getByLabel("Reason", { exact: true }).fill("read while it was away");
    await anomaly.getByLabel("Comment", { exact: true }).fill("Seen while it was away.");

    await please("kill postgres");
    await Promise.all([page, entry, anomaly, node].map((one) => has(one, /The database is away since \d\d:\d\d\./, 30_000)));
    assert.doesNotMatch(await page.locator("#notices").innerText(), /postgres|os error|refused|sqlx/i); // that is for whoever mends it
    // What is newest goes on, on the overview and on the node's page.
    await please("say DIST_001 pressure 6.77");
    await Promise.all([page.locator("li.card[data-node=DIST_001]"), node.locator(".tile", { hasText: "Pressure" })].map((place) => place.getByText("6.77", { exact: true }).waitFor()));
    await page.screenshot({ path: join(folder, "overview-database-away.png") });
    await entry.getByRole("button", { name: "Store", exact: true }).click();
    await entry.locator(".form").first().getByText(/database is away/i).waitFor();
    assert.equal(await entry.getByLabel("Value", { exact: true }).inputValue(), "32.5");
    assert.equal(await entry.getByLabel("Reason", { exact: true }).inputValue(), "read while it was away");
    await anomaly.getByRole("button", { name: "Comment" }).click();
    await anomaly.locator(".anomaly").getByText(/database is away/i).waitFor();
    assert.equal(await anomaly.getByLabel("Comment", { exact: true }).inputValue(), "Seen while it was away.");
    // Days of two years ago are in the archive.
    const day = 86_400_000, old = (from, to) => `/#/node/DIST_001?from=${new Date(Date.now() - from * day).toISOString()}&to=${new Date(Date.now() - to * day).toISOString()}`;
    const archive = await open(browser, base, { path: old(726, 724), expected });
    const label = chart(archive, "Flow").locator(".label");
    await label.getByText(/all readings.*from archive.*Partial: what is not in the archive yet is missing/).waitFor();
    await chart(archive, "Flow").getByText(/1\d\.\d\d L\/s … 5\d\.\d\d L\/s/).waitFor();
    await archive.screenshot({ path: join(folder, "node-archive-only.png") });

    await please("start postgres");
    await Promise.all([page, entry, anomaly, node].map((one) => one.locator("#notices").getByText(/database is away/).waitFor({ state: "detached", timeout: 30_000 })));
    await entry.getByRole("button", { name: "Store", exact: true }).click();
    await has(entry, /(Stored|Corrected): 32\.50 L\/s/);
    await anomaly.getByRole("button", { name: "Comment" }).click();
    await anomaly.locator(".notes").getByText("Seen while it was away.").waitFor();
    await label.getByText(/100\s% known/).waitFor({ timeout: 30_000 }); // what was partial is asked for again
    await please("say DIST_001 pressure 4.2");
    await node.locator(".tile", { hasText: "Pressure" }).getByText("4.20", { exact: true }).waitFor();
    for (const one of [entry, anomaly, node, archive]) {
      assert.equal(one.errors.length, 0, one.errors.join("\n"));
      await one.context().close();
    }
    return page;
  });
};
