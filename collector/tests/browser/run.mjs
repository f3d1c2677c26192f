// node run.mjs ADDRESS FOLDER [demo]: checks of the dashboard, or of the demo behind it; pictures go into the folder. ONLY=…
// leaves out those whose name hasn't this in it; with SCREENS only pictures of every page are made. See main.rs.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { launch } from "./browser.mjs";

const [base, folder, only_demo] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });
const browser = await launch();
const checks = [];
const check = (name, work) => checks.push([name, work]);
// What changes the network for those behind it comes last.
const files = only_demo ? ["demo"] : process.env.SCREENS ? ["pictures"] : ["pictures", "people", "live", "charts", "forecasts", "anomalies", "entry", "operations"];
for (const file of files) (await import(`./checks/${file}.mjs`)).default({ check, browser, base, folder });

let failed = 0;
const only = process.env.ONLY;
const chosen = checks.filter(([name]) => !only || name.includes(only));
for (const [name, work] of chosen) {
  const began = performance.now();
  try {
    const page = await work();
    assert.equal(page.errors.length, 0, `errors in the browser:\n${page.errors.join("\n")}`);
    await page.context().close();
    console.log(`ok ${name} (${((performance.now() - began) / 1000).toFixed(1)} s)`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED ${name}\n${error.stack}`);
    for (const context of browser.contexts()) {
      for (const page of context.pages()) {
        const notices = await page.locator("#notices").innerText({ timeout: 1_000 }).catch(() => "");
        console.log(`  at ${page.url()}; ${[...(page.errors ?? []), notices].join(" | ")}`);
        await page.screenshot({ path: join(folder, `failed-${failed}.png`) }).catch(() => {});
      }
      await context.close();
    }
  }
}
await browser.close();
console.log(`browser: ${chosen.length - failed} passed, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
