// One target, the week, the dead letters, and the API page.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { accessible, closed, eventually, fitsItsWidth, open, startBrowser } from "./browser.mjs";
import { startMock } from "./mock.mjs";

let browser;
before(async () => { browser = await startBrowser(); });
after(() => browser.close());

async function withPage(path, body, { mock: mockOptions, ...options } = {}) {
  const mock = await startMock({ speed: 0.5, ...mockOptions });
  try {
    const page = await open(browser, `${mock.url}${path}`, options);
    await body(page, mock);
    await closed(page);
  } finally {
    await mock.close();
  }
}

test("a target's view has all that is known, and follows what happens", () => withPage("/#/target/position-keeper", async (page, mock) => {
  await page.getByRole("heading", { level: 1, name: "position-keeper" }).waitFor();
  await page.locator(".timeline").getByText("it is on").waitFor();
  const text = await page.locator("main").innerText();
  for (const part of ["Who holds it", "nightly batch", "What happened", "The last seven days", "What is known", "i-01f5d046c86e4f36e", "Its unit", "start by user-42: done"]) assert.ok(text.includes(part), part);
  await page.getByText("As JSON").click();
  assert.equal(JSON.parse(await page.locator("pre").innerText()).target, "position-keeper");
  await page.getByRole("button", { name: "Release the hold of user-42" }).click();
  await page.locator(".detail .pill[data-phase=off]").waitFor();
  await page.locator(".timeline").getByText("it is off").waitFor();
  assert.deepEqual(JSON.parse(mock.world.requests.find((it) => it.method === "POST").body), { action: "stop", target: "position-keeper", holder: "user-42" });
  await page.getByText("Nobody. It stays off").waitFor();
  mock.remove("position-keeper");
  await page.getByText("position-keeper is gone").waitFor();
}));

test("a target that there is not is told so; going back is a press away", () => withPage("/#/target/nobody", async (page) => {
  await page.getByText("There is no target nobody.").waitFor();
  await page.getByRole("link", { name: "All targets" }).click();
  await page.locator(".row").first().waitFor();
  await page.goBack();
  await page.getByText("There is no target nobody.").waitFor();
}));

test("moving between views puts the focus on the heading and names the page", () => withPage("/", async (page) => {
  await page.getByRole("link", { name: "pyelli", exact: true }).click();
  await eventually(() => page.evaluate(() => document.activeElement.id === "title"), "the focus on the heading");
  assert.equal(await page.title(), "pyelli · Lamplighter");
  await page.getByRole("link", { name: "Week" }).click();
  await eventually(async () => (await page.title()) === "The last seven days · Lamplighter", "the week's name");
  assert.equal(await page.locator("[aria-current=page]").innerText(), "Week");
}));

test("the week shows bars where they belong, with sums, and the same in words", () => withPage("/#/week", async (page) => {
  await page.locator(".week-row").first().waitFor();
  const keeper = page.locator(".week-row", { hasText: "position-keeper" });
  assert.match(await keeper.getByRole("img").getAttribute("aria-label"), /position-keeper: on for \d+\.\d h in \d+ runs/);
  assert.match(await keeper.locator(".sum").innerText(), /^\d+\.\d h$/);
  await page.getByText("The same in words").click();
  const table = page.getByRole("table");
  await table.waitFor();
  assert.ok((await table.getByRole("row").count()) > 10);
  assert.match(await table.innerText(), /still on/);
}));

test("runs become spans: cut to the window, open, failed, lighter until ready, and no nonsense", () => withPage("/", async (page) => {
  const spans = await page.evaluate(async () => {
    const { spansOf, windowOf, totalOf } = await import("/assets/week.js");
    const now = Date.parse("2026-11-20T12:00:00Z");
    const frame = windowOf(now);
    const hour = (n) => new Date(now - n * 3_600_000).toISOString();
    const of = (...runs) => spansOf({ runs }, frame).map((span) => ({
      from: (now - span.from) / 3_600_000, ready: span.ready === null ? null : (now - span.ready) / 3_600_000, until: (now - span.until) / 3_600_000, open: span.open, failed: span.failed,
    }));
    return {
      whole: of({ from: hour(5), ready: hour(4), until: hour(2) }), open: of({ from: hour(5), ready: hour(4), until: null }), starting: of({ from: hour(1), ready: null, until: null }),
      failed: of({ from: hour(3), ready: null, until: hour(2) }), old: of({ from: hour(500), ready: hour(499), until: hour(400) }),
      cut: of({ from: hour(500), ready: hour(499), until: hour(1) })[0].until, future: of({ from: hour(-5), ready: null, until: null }), nonsense: of({ from: "x" }), none: spansOf({}, frame),
      total: totalOf(spansOf({ runs: [{ from: hour(5), ready: null, until: hour(3) }, { from: hour(1), ready: null, until: null }] }, frame)) / 3_600_000,
    };
  });
  assert.deepEqual(spans, {
    whole: [{ from: 5, ready: 4, until: 2, open: false, failed: false }], open: [{ from: 5, ready: 4, until: 0, open: true, failed: false }],
    starting: [{ from: 1, ready: null, until: 0, open: true, failed: false }], failed: [{ from: 3, ready: null, until: 2, open: false, failed: true }], old: [],
    cut: 1, future: [], nonsense: [], none: [], total: 3,
  });
}, { timezoneId: "Europe/Berlin" }));

test("dead letters are listed, and replayed one or all, after a question", () => withPage("/#/dead-letters", async (page, mock) => {
  await page.getByText("3 messages").waitFor();
  assert.match(await page.locator(".letter").first().innerText(), /unknown-target[\s\S]*nightly-box[\s\S]*184 bytes/);
  await page.getByRole("button", { name: "Replay nightly-2026-11-20" }).click();
  await page.keyboard.press("Escape");
  assert.equal(mock.world.requests.filter((it) => it.method === "POST").length, 0);
  await page.getByRole("button", { name: "Replay nightly-2026-11-20" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Replay" }).click();
  await page.locator("#view").getByText("1 message replayed, 2 kept.").waitFor();
  await page.getByRole("button", { name: "Replay all" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Replay all" }).click();
  await page.getByText("There are none.").waitFor();
  mock.world.broken.push({ path: "/v1/dead-letters", status: 503, times: 1 });
  await page.getByRole("button", { name: "Look again" }).click();
  await page.getByText("The door is not ready").waitFor();
}));

test("the API page draws each operation, sends it and shows the answer and the curl line", () => withPage("/docs", async (page, mock) => {
  await page.getByRole("heading", { level: 1, name: "Lamplighter API" }).waitFor();
  assert.equal(await page.locator(".operation").count(), 8);
  await accessible(page, "the API page");
  const send = page.locator("#op-sendCommand");
  await send.locator("summary").first().click();
  await send.locator("select[aria-label=Example]").selectOption({ label: "Stop" });
  assert.match(await send.locator(".curl code").innerText(), /^curl -X POST 'http:\/\/127\.0\.0\.1:\d+\/v1\/commands' .*-d '\{"action":"stop","target":"pyelli"\}'$/);
  await send.locator("textarea").fill("{");
  await send.getByText("This is no JSON").waitFor();
  await send.locator("textarea").fill("{\"action\":\"start\",\"target\":\"it's\"}");
  assert.ok((await send.locator(".curl code").innerText()).includes("it'\\''s"));
  await send.getByLabel("Idempotency-Key").fill("k-1");
  await send.getByRole("button", { name: "Send" }).click();
  await send.locator(".status-line", { hasText: "202" }).waitFor();
  assert.equal(JSON.parse(await send.locator(".answer-body").innerText()).id, "k-1");
  assert.match(await send.locator(".answer details pre").textContent(), /location: \/v1\/commands\/k-1/);
  await send.getByText("Schema", { exact: true }).click();
  assert.match(await send.locator(".request .tree").innerText(), /action\s*\*\s*Action[\s\S]*holder[\s\S]*length ≤ 128/);
  const one = page.locator("#op-target");
  await page.getByRole("navigation", { name: "Operations" }).getByText("One target").click();
  await one.getByRole("button", { name: "Send" }).click();
  await one.locator(".status-line", { hasText: "200" }).waitFor();
  assert.ok(mock.world.requests.some((it) => it.path === "/v1/targets/pyelli"));
  await accessible(page, "opened operations");
}));

test("a stream is shown as it comes and can be stopped; schemas that know themselves can be opened", () => withPage("/docs#op-events", async (page) => {
  const events = page.locator("#op-events");
  await events.getByRole("button", { name: "Send" }).click();
  await eventually(async () => (await events.locator(".answer-body").innerText()).includes("event: ready"), "events");
  await events.getByRole("button", { name: "Stop" }).click();
  await events.getByText("Stopped after").waitFor();
  await page.locator("#schema-Hold > summary").click();
  await page.locator("#schema-Hold summary", { hasText: "parent" }).click();
  await page.locator("#schema-Hold details details summary").first().click();
  await eventually(async () => (await page.locator("#schema-Hold").innerText()).split("holder").length > 2, "itself in itself");
}));

test("the API page takes a token, tells who it is, and finds operations", () => withPage("/docs", async (page, mock) => {
  await page.getByRole("button", { name: "Authorize" }).click();
  await page.getByLabel("Token").fill("right");
  await page.getByRole("button", { name: "Use it" }).click();
  await page.getByText("tester: read, command, admin, wait").waitFor();
  await page.getByLabel("Find an operation").fill("all tar");
  assert.equal(await page.locator(".operation:visible").count(), 1);
  await page.locator("#op-targets > summary").click();
  assert.match(await page.locator("#op-targets .curl code").innerText(), /"Authorization: Bearer \$LAMPLIGHTER_TOKEN"/);
  await page.locator("#op-targets").getByRole("button", { name: "Send" }).click();
  await page.locator("#op-targets .status-line", { hasText: "200" }).waitFor();
  assert.equal(mock.world.requests.findLast((it) => it.path === "/v1/targets").headers.authorization, "Bearer right");
  await page.setViewportSize({ width: 320, height: 700 });
  await fitsItsWidth(page, "the API page");
}, { mock: { token: "right" } }));
