// Anomalies: found by the job, looked at and decided about.

import assert from "node:assert/strict";
import { chart, has, open, please, ready, settled } from "../browser.mjs";

export default ({ check, browser, base }) => {
  check("an anomaly is found by its filters, acknowledged, commented and closed, and everybody sees it", async () => {
    const [page, other] = await Promise.all([open(browser, base, { path: "/#/anomalies" }), open(browser, base, { role: "viewer", path: "/#/anomalies" })]);
    await Promise.all([ready(page, "anomalies"), ready(other, "anomalies")]);
    const items = page.locator(".anomaly-item");
    const before = await items.count();
    assert.ok(before >= 3, `${before} anomalies`);
    assert.equal(await page.locator("#bar nav .count").innerText(), String(before));
    await page.getByLabel("Kind").selectOption("stuck");
    await page.waitForFunction(() => document.querySelectorAll(".anomaly-item").length === 1);
    assert.match(await items.innerText(), /Stuck sensor\s*open\s*Hill · Pressure[\s\S]*goes on for/);
    await page.getByLabel("Node").selectOption("DIST_001");
    await has(page, "No anomaly fits these filters.");
    await page.getByText("Show all that are open or acknowledged").click();
    await page.waitForFunction((all) => document.querySelectorAll(".anomaly-item").length === all, before);

    await page.locator(".anomaly-item", { hasText: "Stuck sensor" }).click();
    await page.getByRole("heading", { name: "Stuck sensor" }).waitFor();
    const address = page.url();
    await page.getByLabel("Comment", { exact: true }).fill("Somebody drives there.");
    await page.getByRole("button", { name: "Acknowledge" }).click();
    await page.locator(".notes").getByText("bianchi").waitFor();
    await page.locator(".anomaly > .row .badge").getByText("acknowledged").waitFor();
    await page.getByRole("button", { name: "Acknowledge" }).waitFor({ state: "hidden" });
    await page.waitForFunction((all) => document.querySelector("#bar nav .count").textContent === String(all - 1), before);
    // On the other one's screen without a hand.
    await other.locator(".anomaly-item", { hasText: "Stuck sensor" }).getByText("acknowledged").waitFor({ timeout: 15_000 });
    await page.getByLabel("Comment", { exact: true }).fill("A new one is fitted.");
    await page.getByRole("button", { name: "Comment" }).click();
    await page.locator(".notes").getByText("A new one is fitted.").waitFor();
    await page.getByLabel("Because").selectOption("sensor");
    await page.getByRole("button", { name: "Close" }).click();
    await page.locator(".notes").getByText("Sensor fault").waitFor();
    await page.waitForFunction((all) => document.querySelectorAll(".anomaly-item").length === all - 1, before);
    await page.goto(address);
    await page.goto(`${base}/#/anomalies?state=closed`);
    await page.locator(".anomaly-item").getByText("closed").waitFor();
    assert.equal(other.errors.length, 0, other.errors.join("\n"));
    await other.context().close();
    return page;
  });

  check("where nothing was found it says how far that was looked for", async () => {
    const page = await open(browser, base, { path: null });
    const none = { items: [], truncated: false };
    await page.route(/\/api\/v1\/anomalies/, (route) => route.fulfill({ json: none }));
    await page.route(/\/api\/v1\/jobs\/runs/, (route) => route.fulfill({ json: none }));
    await page.goto(`${base}/#/anomalies`);
    await has(page, "Nothing has been compared with its past yet.");
    const run = { status: "done", finished_at: new Date().toISOString(), detail: "0 new in 10 series; 4 have no eight days behind them yet" };
    await page.unroute(/\/api\/v1\/jobs\/runs/);
    await page.route(/\/api\/v1\/jobs\/runs/, (route) => route.fulfill({ json: { ...none, items: [run] } }));
    await page.reload();
    await has(page, "Nothing out of the ordinary was found.");
    await has(page, /Last looked .*: 0 new in 10 series; 4 have no eight days behind them yet\./);
    return page;
  });

  check("evidence: the readings around, what is usual, and the way to the node's page", async () => {
    const page = await open(browser, base, { path: "/#/anomalies?kind=profile&node=DIST_002" });
    await ready(page, "anomalies");
    await settled(page);
    const keys = await page.locator(".anomaly .keys").innerText();
    assert.match(keys, /this anomaly[\s\S]*expected[\s\S]*the four weeks before/);
    assert.match(await page.locator(".anomaly .facts").innerText(), /L\/s instead of/);
    await page.locator(".anomaly .anomaly-where a").click();
    await settled(page);
    await chart(page, "Flow").locator(".anomaly-link").first().waitFor();
    assert.match(page.url(), /node\/DIST_002\?(from|span)=/);
    return page;
  });

  check("a value that can't be is an anomaly on every page at once, without reloading", async () => {
    const [page, list] = await Promise.all([open(browser, base), open(browser, base, { path: "/#/anomalies" })]);
    await Promise.all([ready(page, "overview"), ready(list, "anomalies")]);
    const before = Number(await page.locator("#bar nav .count").innerText());
    const [card, item] = [page.locator("li.card[data-node=RES_001] .count"), list.locator(".anomaly-item", { hasText: "Out of range" })];
    const began = performance.now();
    await please("say RES_001 level 2000");
    await Promise.all([card.getByText("1").waitFor(), item.waitFor()]);
    console.log(`  on both pages after ${(performance.now() - began).toFixed(0)} ms`);
    assert.match(await item.innerText(), /Low basin · Level[\s\S]*2,000 m instead of 1,000/);
    assert.equal(Number(await page.locator("#bar nav .count").innerText()), before + 1);
    // The same again is no other one; and it is gone where it is closed, and everywhere else.
    await please("say RES_001 level 2001");
    await item.click();
    await list.getByRole("heading", { name: "Out of range" }).waitFor();
    await list.getByLabel("Because").selectOption("sensor");
    await list.getByRole("button", { name: "Close" }).click();
    await card.waitFor({ state: "hidden" });
    assert.equal(Number(await page.locator("#bar nav .count").innerText()), before);
    await please("say RES_001 level 3.4");
    assert.equal(list.errors.length, 0, list.errors.join("\n"));
    await list.context().close();
    return page;
  });
};
