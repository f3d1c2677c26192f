// Every page in both themes, from phone to wall: pictures for people, and what can be checked of them by a program.

import assert from "node:assert/strict";
import { join } from "node:path";
import { PAGES, findings, open, overflow, please, ready, settled } from "../browser.mjs";

const SIZES = [["phone", 390, 844], ["wall", 3840, 2160]];

export default ({ check, browser, base, folder }) => {
  for (const theme of ["light", "dark"]) {
    for (const [name, { path, role }] of Object.entries(PAGES)) {
      check(`${name}, ${theme}: pictures from phone to wall, and for everybody`, async () => {
        const page = await open(browser, base, { path, theme, role });
        await please("say-all");
        await ready(page, name);
        await page.screenshot({ path: join(folder, `${name}-${theme}.png`) });
        assert.deepEqual(await findings(page), []);
        for (const [size, width, height] of SIZES) {
          await page.setViewportSize({ width, height });
          await page.waitForFunction((wanted) => innerWidth === wanted, width);
          if (await page.locator("section.chart").count()) await settled(page);
          // Letters of the map can be read, and that it goes on is said.
          if (name === "overview") assert.ok(await page.locator(".map-node .map-label").first().evaluate((one) => one.getBoundingClientRect().height) >= 9);
          if (name === "overview" && size === "phone") await page.locator(".map-hint").waitFor();
          assert.ok(await overflow(page) <= 0, `${size}: ${await overflow(page)} px too wide`);
          if (theme === "dark" && !process.env.SCREENS) continue; // the layout is the same, and looking takes its time
          await page.screenshot({ path: join(folder, `${name}-${theme}-${size}.png`), fullPage: size === "phone" });
          if (size === "phone") assert.deepEqual(await findings(page), []);
        }
        return page;
      });
    }
  }
};
