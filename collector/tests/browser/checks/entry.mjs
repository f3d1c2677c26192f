// Entry: readings by hand, and files.

import assert from "node:assert/strict";
import { gzipSync } from "node:zlib";
import { chart, has, open, ready, settled } from "../browser.mjs";

const HOUR = 3_600_000;
const upload = (page, name, text) => page.getByLabel("File", { exact: true }).setInputFiles({ name, mimeType: "text/csv", buffer: Buffer.isBuffer(text) ? text : Buffer.from(text) });
const utc = (ms) => new Date(ms).toISOString().slice(0, 19) + "Z";

export default ({ check, browser, base }) => {
  check("a reading by hand, and a correction of one that is there", async () => {
    const page = await open(browser, base, { path: "/#/entry", expected: ["400"] });
    await ready(page, "entry");
    await page.getByLabel("Node", { exact: true }).first().selectOption("DIST_001");
    await page.getByLabel("Series", { exact: true }).selectOption({ label: "Flow" });
    await page.getByRole("button", { name: /^Correct/ }).nth(2).click();
    await page.getByLabel("Value", { exact: true }).fill("31,25");
    await page.getByRole("button", { name: "Store", exact: true }).click(); // without a reason the browser asks for one
    await page.getByLabel("Reason", { exact: true }).fill("read from the dial");
    await page.getByRole("button", { name: "Store", exact: true }).click();
    await has(page, /Corrected: 31\.25 L\/s instead of [\d.]+ L\/s/);
    await page.locator(".around tr", { hasText: "31.25" }).getByText("manual").waitFor();
    // A comma that may stand between thousands, as the page writes them, or begin a fraction: neither is stored.
    await page.getByLabel("Value", { exact: true }).fill("31,250");
    await page.getByRole("button", { name: "Store", exact: true }).click();
    await has(page, "31.25 or 31250?");
    await page.getByLabel("Value", { exact: true }).fill("1e9");
    await page.getByRole("button", { name: "Store", exact: true }).click();
    await has(page, /more than 100 times away from what stands around it/);
    assert.equal(await page.locator("p.notice[data-state=bad]").count(), 0);
    await page.getByRole("button", { name: "It is right, store it" }).click();
    await page.locator("p.notice[data-state=bad]").waitFor();
    await page.goto(`${base}/#/operations`);
    await page.locator("#audit").getByText("read from the dial").waitFor();
    assert.match(await page.locator("#audit tbody tr", { hasText: "read from the dial" }).innerText(), /bianchi/);
    return page;
  });

  check("a file is looked at, its errors are listed and taken along, and what is right is stored", async () => {
    const page = await open(browser, base, { path: "/#/entry" });
    await ready(page, "entry");
    const now = Math.floor(Date.now() / HOUR) * HOUR;
    const rows = Array.from({ length: 48 }, (_, n) => `${utc(now - (60 - n) * HOUR)};DIST_007;chlorine;${(0.3 + n / 1000).toFixed(3).replace(".", ",")}`);
    rows[4] = `${utc(now - 56 * HOUR)};DIST_007;chlorine;a lot`;
    rows[9] = "yesterday;DIST_007;chlorine;0,3";
    rows[20] = `${utc(now - 40 * HOUR)};DIST_007;chlorine;5000`;
    await upload(page, "lab.csv", `timestamp;node;metric;value\n${rows.join("\n")}\n`);
    await page.getByRole("button", { name: "Check, without storing" }).click();
    await has(page, /48 rows: 0 readings can be stored/);
    await has(page, /there is no series DIST_007\/chlorine/);
    await page.getByLabel("Make series that aren't there").check();
    await page.getByRole("button", { name: "Check, without storing" }).click();
    await has(page, "48 rows: 45 readings can be stored, 3 can't be taken.");
    const report = page.locator(".report");
    await report.getByText("It would make 1 series:").waitFor();
    assert.match(await report.innerText(), /separator semicolon, decimal sign comma, dates/);
    const lines = await report.locator("table").last().locator("tbody tr").allInnerTexts();
    assert.deepEqual(lines.map((line) => line.split("\t")[0].trim()), ["6", "11", "22"], lines.join("\n"));
    const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Download all as CSV" }).click()]);
    assert.equal(file.suggestedFilename(), "lab.csv.rejects.csv");
    const text = Buffer.concat(await (await file.createReadStream()).toArray()).toString();
    assert.match(text, /^line,reason,text\n6,.*a lot.*\n11,/);
    await page.getByRole("button", { name: "Store 45 readings" }).click();
    await has(page, "45 readings: 45 new or changed, 0 there already, 3 not taken.");
    // Once more changes nothing; packed with gzip it is the same file.
    await upload(page, "lab.csv.gz", gzipSync(`timestamp;node;metric;value\n${rows.join("\n")}\n`));
    await page.getByRole("button", { name: "Check, without storing" }).click();
    await page.getByRole("button", { name: "Store 45 readings" }).click();
    await has(page, "45 readings: 0 new or changed, 45 there already, 3 not taken.");
    await page.goto(`${base}/#/node/DIST_007?span=604800`);
    await settled(page);
    await chart(page, "Chlorine").getByText(/all readings/).waitFor();
    return page;
  });

  check("a large file goes in pieces, with how far it is", async () => {
    const page = await open(browser, base, { path: "/#/entry", expected: ["400"] });
    await ready(page, "entry");
    let sent = 0;
    page.on("request", (request) => { sent += Number(request.url().includes("/api/v1/import?")); });
    const begins = Date.UTC(2024, 0, 1);
    const text = ["timestamp,DIST_007/temperature", ...Array.from({ length: 60_000 }, (_, n) => `${utc(begins + n * 60_000)},${(10 + (n % 50) / 10).toFixed(1)}`)].join("\n");
    await upload(page, "large.csv", `${text}\n`);
    await page.getByLabel("Make series that aren't there").check();
    await page.getByRole("button", { name: "Check, without storing" }).click();
    await has(page, "60,000 rows: 60,000 readings can be stored, 0 can't be taken.", 60_000);
    assert.equal(sent, 2, "1.5 MB in pieces of one");
    await upload(page, "broken.csv", Buffer.from("timestamp,DIST_007/temperature\n2024-01-01T00:00:00Z,1\n\xff\n", "latin1"));
    await page.getByRole("button", { name: "Check, without storing" }).click();
    await page.locator("p.notice[data-state=bad]").getByText(/line 3 is not UTF-8/).waitFor();
    return page;
  });
};
