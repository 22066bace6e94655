// The targets: what a row says, what its buttons do, and a thousand of them.

import assert from "node:assert/strict";
import { test } from "node:test";

import { eventually } from "./browser.mjs";
import { row, withPage } from "./suite.mjs";

test("a row tells phase, step, holds, since when and why, in words and shapes", () => withPage({}, async (page) => {
  const keeper = row(page, "position-keeper");
  await keeper.waitFor();
  const text = await keeper.innerText();
  for (const part of ["position-keeper", "EC2 machine", "on", "for 3 h", "held by user-42 until 18:00", "user-42", "nightly batch", "left", "start by user-42: done"]) {
    assert.ok(text.includes(part), `${part} in ${text}`);
  }
  assert.match(await keeper.locator("time").first().getAttribute("title"), /\d{4}/);
  assert.match(await row(page, "fluidity").innerText(), /asking ECS for its tasks/);
  assert.match(await row(page, "render-box").innerText(), /unit-failed: renderer is failed/);
  const shapes = await page.locator(".row .pill .shape use").evaluateAll((uses) => [...new Set(uses.map((use) => use.getAttribute("href")))]);
  for (const shape of ["#shape-on", "#shape-off", "#shape-starting", "#shape-stopping", "#shape-failed"]) assert.ok(shapes.includes(shape), shape);
  assert.match(await page.locator("#sentence").innerText(), /3 lamps are lit, 2 are being lit/);
  assert.equal(await page.locator("#line-word").innerText(), "live");
  const group = page.getByRole("region", { name: "Machines launched from walrus" });
  assert.equal(await group.locator(".row").count(), 2);
}));

test("only what a target lists can be pressed", () => withPage({}, async (page) => {
  await row(page, "no-rights").waitFor();
  assert.equal(await row(page, "no-rights").locator("button").count(), 0);
  // An action that this page has never heard of is still offered, in its own word.
  await row(page, "bare").locator("[data-action=more]").click();
  assert.equal(await page.locator(".menu button").innerText(), "levitate");
}, { mock: { fleet: "odd" } }));

test("a start is sent with its length, reason and holder, and followed to its outcome", () => withPage({}, async (page, mock) => {
  await row(page, "pyelli").getByRole("button", { name: "Start pyelli" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("radio", { name: "2 h", exact: true }).check();
  await dialog.getByLabel("Why?").fill("a demo");
  await dialog.getByLabel("For whom?").fill("ana");
  await dialog.getByRole("button", { name: "Start" }).click();
  await row(page, "pyelli").locator(".ticket[data-kind=open]").waitFor();
  await row(page, "pyelli").locator(".pill[data-phase=starting]").waitFor();
  await row(page, "pyelli").locator(".ticket[data-kind=done]").waitFor();
  assert.match(await row(page, "pyelli").innerText(), /\bon\b[\s\S]*ana[\s\S]*a demo[\s\S]*Start: done/);
  const sent = mock.world.requests.find((request) => request.method === "POST" && request.path === "/v1/commands");
  assert.deepEqual(JSON.parse(sent.body), { action: "start", target: "pyelli", holder: "ana", for: "2h", reason: "a demo" });
  assert.match(sent.headers["idempotency-key"], /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  await eventually(async () => (await page.locator("#announcements").innerText()).includes("pyelli: Start: done"), "said");
  assert.equal(await page.locator("#who-name").innerText(), "ana");
}));

test("a length that is none is not sent", () => withPage({}, async (page, mock) => {
  await row(page, "pyelli").getByRole("button", { name: "Start pyelli" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("radio", { name: "Other" }).check();
  await dialog.getByLabel("How long").fill("soon");
  await dialog.getByRole("button", { name: "Start" }).click();
  assert.equal(await dialog.isVisible(), true);
  await dialog.getByLabel("How long").fill("1h30m");
  await dialog.getByRole("button", { name: "Start" }).click();
  await row(page, "pyelli").locator(".ticket").waitFor();
  assert.equal(JSON.parse(mock.world.requests.find((request) => request.method === "POST").body).for, "1h30m");
}));

test("a kill asks first, and Esc or Cancel is no", () => withPage({}, async (page, mock) => {
  const more = row(page, "position-keeper").locator("[data-action=more]");
  const posts = () => mock.world.requests.filter((request) => request.method === "POST").length;
  for (const leave of ["Escape", "Enter"]) {
    await more.click();
    await page.getByRole("menuitem", { name: "Kill" }).click();
    await page.getByRole("dialog").getByText("user-42").waitFor();
    // The harmless button has the focus, so Enter at once loses nothing.
    await page.keyboard.press(leave);
    await page.getByRole("dialog").waitFor({ state: "detached" });
    assert.equal(posts(), 0, leave);
  }
  await more.click();
  await page.getByRole("menuitem", { name: "Kill" }).click();
  await page.getByRole("button", { name: "Kill position-keeper" }).click();
  await row(page, "position-keeper").locator(".pill[data-phase=off]").waitFor();
  await row(page, "position-keeper").locator(".ticket[data-kind=done]").waitFor();
  assert.equal(posts(), 1);
}));

test("a stop or a kill that loses the machine says so first", () => withPage({}, async (page) => {
  const launched = row(page, "walrus.6f2a91c04be7d358");
  await launched.getByRole("button", { name: "Stop walrus.6f2a91c04be7d358" }).click();
  await page.getByRole("dialog").getByText("is terminated, and what is on it is gone").waitFor();
  await page.keyboard.press("Escape");
  await launched.locator("[data-action=more]").click();
  await page.getByRole("menuitem", { name: "Kill" }).click();
  await page.getByRole("dialog").getByText("The machine is terminated, and what is on it is gone.").waitFor();
}));

test("a stop that others outlive says who holds it", () => withPage({}, async (page) => {
  await row(page, "position-keeper").getByRole("button", { name: "Stop position-keeper" }).click();
  await row(page, "position-keeper").getByText("user-42 still holds it").waitFor();
}));

test("a failed start and a conflict are told with their causes, and stay until dismissed", () => withPage({}, async (page) => {
  for (const [name, words] of [["render-box", /failed.*unit-failed: its service does not run.*renderer is failed/s], ["position-keeper", /rejected.*conflict: somebody else has it.*user-42 has it/s]]) {
    await row(page, name).getByRole("button", { name: `Start ${name}` }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Start" }).click();
    const ticket = row(page, name).locator(".ticket[data-kind=failed], .ticket[data-kind=rejected]");
    await ticket.waitFor();
    assert.match(await ticket.innerText(), words);
    await ticket.getByRole("button", { name: "Dismiss" }).click();
    await ticket.waitFor({ state: "detached" });
  }
}));

test("a command whose sending fails is sent again with the same key", () => withPage({}, async (page, mock) => {
  await row(page, "pyelli").waitFor();
  mock.world.broken.push({ path: "/v1/commands", status: 0, times: 1 }, { path: "/v1/commands", status: 503, times: 1 });
  await row(page, "pyelli").getByRole("button", { name: "Start pyelli" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Start" }).click();
  await row(page, "pyelli").locator(".ticket[data-kind=done]").waitFor();
  const keys = mock.world.requests.filter((request) => request.method === "POST").map((request) => request.headers["idempotency-key"]);
  assert.equal(keys.length, 3);
  assert.equal(new Set(keys).size, 1);
}));

test("a pause asks why, and a resume follows it", () => withPage({}, async (page) => {
  await row(page, "staging").locator("[data-action=more]").click();
  await page.getByRole("menuitem", { name: "Pause" }).click();
  await page.getByLabel("Why?").fill("a look inside");
  await page.getByRole("dialog").getByRole("button", { name: "Pause" }).click();
  await row(page, "staging").locator(".pill[data-phase=paused]").waitFor();
  await row(page, "staging").getByRole("button", { name: "Resume staging" }).click();
  await row(page, "staging").locator(".pill[data-phase=paused]").waitFor({ state: "hidden" });
}));

test("a thousand targets are painted, found, filtered and kept up to date without a stutter", () => withPage({}, async (page, mock) => {
  await eventually(async () => (await page.locator(".row").count()) === 1000, "1,000 rows", 15_000);
  const first = await row(page, "box-0001").elementHandle();
  await page.getByRole("searchbox").fill("box-07");
  assert.equal(await page.locator(".row:visible").count(), 100);
  await page.locator(".chip[data-phase=failed]").click();
  assert.equal(await page.locator(".row:visible").count(), 10);
  assert.match(await page.locator(".chip[data-phase=failed]").innerText(), /Failed\s*10/);
  await page.getByRole("searchbox").fill("");
  await page.locator(".chip[data-phase=all]").click();
  // Two hundred changes at once: painted in one go, and on rows that stay where they are.
  await page.evaluate(() => {
    window.worst = 0;
    let last = performance.now();
    const step = (now) => {
      window.worst = Math.max(window.worst, now - last);
      last = now;
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  });
  for (let n = 0; n < 200; n += 1) mock.change(`box-${String(n).padStart(4, "0")}`, { phase: "on", why: "changed" });
  await row(page, "box-0199").getByText("changed").waitFor({ state: "attached" });
  assert.match(await page.locator("#sentence").innerText(), /^360 lamps are lit/);
  assert.equal(await first.evaluate((element) => element.isConnected), true);
  const worst = await page.evaluate(() => window.worst);
  assert.ok(worst < 1000, `a frame took ${worst} ms`);
}, { mock: { fleet: "many" } }));

test("what goes is gone, what comes is there, and what has the focus keeps it", () => withPage({}, async (page, mock) => {
  const stop = row(page, "reports").getByRole("button", { name: "Resume reports" });
  await stop.focus();
  mock.remove("staging");
  await row(page, "staging").waitFor({ state: "detached" });
  mock.change("reports", { why: "still there" });
  await row(page, "reports").getByText("still there").waitFor();
  assert.equal(await stop.evaluate((element) => element === document.activeElement), true);
}));

const group = (page, template) => page.locator(`section[data-template="${template}"]`);

test("a template shows its places, also while there is no machine of it", () => withPage({}, async (page, mock) => {
  await group(page, "walrus").getByText("2 of 3 machines").waitFor();
  assert.equal(await group(page, "walrus").locator(".row").count(), 2);
  await group(page, "idle-box").getByText("0 of 1 machine").waitFor();
  await group(page, "idle-box").getByText("None at the moment.").waitFor();
  // Who looks for a machine is not shown empty groups.
  await page.getByRole("searchbox").fill("pyelli");
  assert.equal(await page.locator(".launched:visible").count(), 0);
  await page.getByRole("searchbox").fill("");
  for (const name of [...mock.world.targets.keys()].filter((it) => it.startsWith("walrus."))) mock.remove(name);
  await group(page, "walrus").getByText("0 of 3").waitFor();
}));

test("a machine is created with its parameters, comes on, and is destroyed after a question", () => withPage({}, async (page, mock) => {
  const walrus = group(page, "walrus");
  await walrus.getByRole("button", { name: "New machine of walrus" }).click();
  const dialog = page.getByRole("dialog", { name: "New machine of walrus" });
  assert.equal(await dialog.getByLabel("aggregator").getAttribute("placeholder"), "https://aggregator.example");
  // One of the two ids has to be there.
  await dialog.getByRole("button", { name: "Create" }).click();
  assert.equal(await dialog.isVisible(), true);
  assert.match(await dialog.getByLabel("blob_id").evaluate((input) => input.validationMessage), /blob_id or object_id/);
  await dialog.getByLabel("blob_id").fill("abc");
  await dialog.getByRole("radio", { name: "1 h", exact: true }).check();
  await dialog.getByLabel("Why?").fill("a model");
  await dialog.getByRole("button", { name: "Create" }).click();
  await walrus.locator(".ticket[data-kind=open]").waitFor();
  await walrus.getByText("3 of 3").waitFor();
  assert.equal(await walrus.getByRole("button", { name: "New machine of walrus" }).isDisabled(), true);
  await walrus.locator(".ticket[data-kind=done]").waitFor();
  assert.match(await walrus.locator(".ticket a").getAttribute("href"), /^#\/target\/walrus\.[0-9a-f]{16}$/);
  const sent = mock.world.requests.find((request) => request.method === "POST");
  assert.deepEqual(JSON.parse(sent.body), { action: "create", template: "walrus", for: "1h", reason: "a model", blob_id: "abc" });
  assert.ok(mock.world.requests.some((request) => /^\/v1\/commands\/[^?]+\?sent=\d+&wait=\d+$/.test(request.path)), "asked where the door said");
  const made = walrus.locator(".row", { hasText: "a model" });
  await made.locator(".pill[data-phase=on]").waitFor();
  await made.locator("[data-action=more]").click();
  await page.getByRole("menuitem", { name: "Destroy" }).click();
  await page.getByRole("dialog").getByText("what is on it is gone").waitFor();
  await page.getByRole("button", { name: /^Destroy walrus\./ }).click();
  await made.waitFor({ state: "detached" });
  await walrus.getByText("2 of 3 machines").waitFor();
  assert.equal(await walrus.getByRole("button", { name: "New machine of walrus" }).isDisabled(), false);
}));

test("a parameter that is needed is asked for, and a refused create says why at its template", () => withPage({}, async (page, mock) => {
  const box = group(page, "idle-box");
  await box.getByRole("button", { name: "New machine of idle-box" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("button", { name: "Create" }).click();
  assert.equal(await dialog.getByLabel("image").evaluate((input) => input.matches(":invalid")), true);
  await dialog.getByLabel("image").fill("debian-13");
  mock.world.verdict = { outcome: "rejected", cause: "capacity", message: "no capacity in eu-central-1a" };
  await dialog.getByRole("button", { name: "Create" }).click();
  await box.locator(".ticket[data-kind=rejected]").getByText("no capacity in eu-central-1a").waitFor();
  await box.getByRole("button", { name: "Dismiss" }).click();
  await box.locator(".ticket").waitFor({ state: "detached" });
}));

test("who may not create has no button for it", () => withPage({}, async (page) => {
  await group(page, "walrus").getByText("2 of 3 machines").waitFor();
  assert.equal(await page.getByRole("button", { name: /^New / }).count(), 0);
}, { mock: { may: ["read"] } }));
