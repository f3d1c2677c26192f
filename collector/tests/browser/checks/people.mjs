// Who may come in, and what they may do there: with real users, passwords and sessions.

import assert from "node:assert/strict";
import { PASSWORD, PEOPLE, STRANGER, findings, has, open, ready } from "../browser.mjs";

const menu = (page) => page.locator("#bar nav a:visible").evaluateAll((all) => all.map((link) => link.firstChild.textContent));

export default ({ check, browser, base }) => {
  check("whoever must log in is asked to, and is out again after logging out", async () => {
    const page = await open(browser, base, { role: null });
    await has(page, "Who are you?");
    await page.waitForLoadState("networkidle"); // nothing is asked that would be refused
    assert.deepEqual(page.errors, []);
    page.expected.push(...STRANGER);
    assert.deepEqual(await menu(page), []);
    assert.deepEqual(await findings(page), []);
    const enter = async (password) => {
      await page.getByLabel("Name").fill(PEOPLE.viewer);
      await page.getByLabel("Password").fill(password);
      await page.keyboard.press("Enter");
    };
    await enter("wrong password");
    await has(page, "name or password is wrong");
    await enter(PASSWORD);
    await page.locator("li.card").first().waitFor();
    await has(page, "rossi, viewer");
    const [cookie] = await page.context().cookies();
    assert.ok(cookie.httpOnly && cookie.sameSite === "Strict", JSON.stringify(cookie));
    await page.getByRole("button", { name: "Log out" }).click();
    await has(page, "Who are you?");
    // The old cookie opens nothing any more.
    await page.context().addCookies([cookie]);
    await page.reload();
    await has(page, "Who are you?");
    return page;
  });

  check("a viewer isn't offered what would be refused", async () => {
    const page = await open(browser, base, { role: "viewer", path: "/#/operations" });
    page.expected.push("403");
    await page.locator("#jobs tbody tr").first().waitFor();
    assert.deepEqual(await menu(page), ["Overview", "Anomalies", "Forecasts", "Operations"]);
    await page.locator("#quarantine tbody tr").first().waitFor();
    assert.equal(await page.getByRole("button", { name: /Run now|Release|Drop/ }).count(), 0);
    assert.equal(await page.locator("#audit").count(), 0);
    await page.goto(`${base}/#/anomalies`);
    await has(page, "Operators can acknowledge, comment on and close it.");
    assert.equal(await page.getByRole("button", { name: "Acknowledge" }).count(), 0);
    await page.goto(`${base}/#/entry`);
    await has(page, "Entry is for operators");
    // What isn't shown is refused as well.
    const status = await page.evaluate(() => fetch("/api/v1/jobs/data_quality/run", { method: "POST" }).then((answer) => answer.status));
    assert.equal(status, 403);
    return page;
  });

  check("an admin makes people and tokens, and takes them away", async () => {
    const page = await open(browser, base, { role: "admin", path: "/#/access" });
    await ready(page, "access");
    const row = (name) => page.locator("tbody tr", { hasText: name });
    const people = page.getByRole("form", { name: "Make a user" });
    await people.getByLabel("Name").fill("neri");
    await people.getByLabel("Password").fill(PASSWORD);
    await people.getByRole("button").click();
    await has(page, "Made: neri, viewer.");
    await page.getByLabel("Role of neri").selectOption("operator");
    await has(page, "neri is operator now.");
    const guest = await open(browser, base, { role: null, expected: STRANGER });
    const log = (password) => guest.evaluate((form) => fetch("/api/v1/login", { method: "POST", body: JSON.stringify(form) }).then((answer) => answer.json()), { name: "neri", password });
    assert.equal((await log(PASSWORD)).role, "operator");
    await page.getByRole("button", { name: "Set password neri" }).click();
    await page.getByLabel("New password of neri").fill("another password");
    await page.getByRole("button", { name: "Set", exact: true }).click();
    await has(page, "neri has another password");
    await guest.waitForFunction(() => fetch("/api/v1/me").then((answer) => answer.json()).then(({ who }) => who === null)); // within two seconds
    await guest.context().close();
    await page.getByRole("button", { name: "Remove neri" }).click();
    await row("neri").getByText("Really?").click();
    await has(page, "neri is gone");
    await row("neri").waitFor({ state: "detached" });
    const tokens = page.getByRole("form", { name: "Make a token" });
    await tokens.getByLabel("Name").fill("grafana");
    await tokens.getByLabel("Days it holds").fill("30");
    await tokens.getByRole("button").click();
    const token = await page.locator("#tokens pre").innerText();
    assert.match(token, /^wtc_[0-9a-f]{64}$/);
    await page.getByRole("button", { name: "Take back grafana" }).click();
    await row("grafana").getByText("Really?").click();
    await row("grafana").getByText("over").waitFor();
    return page;
  });

  check("people change their own password, and other browsers are out at once", async () => {
    const admin = await open(browser, base, { role: "admin", path: null });
    const asked = admin.context().request;
    assert.ok((await asked.post(`${base}/api/v1/users`, { data: { name: "gialli", role: "viewer", password: PASSWORD } })).ok());
    const enter = async (expected) => {
      const page = await open(browser, base, { role: null, expected });
      await page.getByLabel("Name").fill("gialli");
      await page.getByLabel("Password").fill(PASSWORD);
      await page.keyboard.press("Enter");
      await page.locator(".pill[data-is=live]").waitFor();
      return page;
    };
    const page = await enter([...STRANGER, "403"]), other = await enter(STRANGER);
    await page.getByRole("button", { name: "gialli, viewer" }).click();
    const dialog = page.getByRole("dialog", { name: "Change your password" });
    const fill = async (current, next, again) => {
      await dialog.getByLabel("Current password").fill(current);
      await dialog.getByLabel("New password", { exact: true }).fill(next);
      await dialog.getByLabel("New password once more").fill(again);
      await dialog.getByRole("button", { name: "Change it" }).click();
    };
    const wrong = (label) => dialog.locator(".field", { hasText: label }).last().getByRole("alert");
    await fill(PASSWORD, "another password", "another passwort");
    await wrong("New password once more").getByText("These are two different passwords.").waitFor();
    await fill("a wrong password", "another password", "another password");
    await wrong("Current password").getByText("that is not the current password").waitFor();
    assert.equal(await dialog.getByLabel("Current password").getAttribute("aria-invalid"), "true");
    assert.deepEqual(await findings(page), []);
    await page.locator(".pill[data-is=live]").waitFor();
    await fill(PASSWORD, "another password", "another password");
    await has(page, "Your password is another one now.");
    await page.keyboard.press("Enter");
    await dialog.waitFor({ state: "detached" });
    await page.locator(".pill[data-is=live]").waitFor();
    await has(other, "Who are you?", 5_000);
    await other.context().close();
    await page.reload();
    await page.locator(".pill[data-is=live]").waitFor();
    // A phone has no room for names.
    await page.setViewportSize({ width: 360, height: 700 });
    await page.locator("#foot").getByRole("button", { name: "Change your password" }).click();
    await dialog.waitFor();
    assert.ok((await asked.delete(`${base}/api/v1/users/gialli`)).ok());
    await admin.context().close();
    await has(page, "Who are you?", 5_000);
    return page;
  });

  check("an operator has them", async () => {
    const page = await open(browser, base, { role: "operator" });
    await ready(page, "overview");
    assert.deepEqual(await menu(page), ["Overview", "Anomalies", "Forecasts", "Entry", "Operations"]);
    return page;
  });
};
