// The waiting room.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { accessible, closed, eventually, fitsItsWidth, open, startBrowser } from "./browser.mjs";
import { startMock } from "./mock.mjs";

let browser;
before(async () => { browser = await startBrowser(); });
after(() => browser.close());

async function withRoom(name, body, { mock: mockOptions, to = "/landing", token, code, prepare = () => {}, ...options } = {}) {
  const mock = await startMock({ speed: 1, ...mockOptions });
  prepare(mock);
  const link = `${mock.url}/wait/${name}?to=${encodeURIComponent(to.startsWith("/") ? mock.url + to : to)}${token ? `&token=${token}` : ""}${code ? `&code=${code}` : ""}`;
  try {
    const page = await open(browser, link, options);
    await body(page, mock);
    await closed(page);
  } finally {
    await mock.close();
  }
}

test("it wakes the target, says how far it is, and moves on when it is on", () => withRoom("pyelli", async (page, mock) => {
  await page.getByRole("heading", { name: "Lighting pyelli" }).waitFor();
  await page.getByText("usually takes about 14 s").waitFor();
  await eventually(async () => /Waiting|Letting|Asking/.test(await page.locator("#step").innerText()), "a step in words");
  assert.ok(Number(await page.getByRole("progressbar").getAttribute("aria-valuenow")) >= 0);
  await accessible(page, "the waiting room");
  mock.release();
  await page.waitForURL("**/landing");
  assert.equal(mock.world.requests.filter((it) => it.method === "POST").length, 1);
  // Going back does not lead into the room again.
  await page.goBack().catch(() => {});
  assert.ok(!page.url().includes("/wait/"));
}, { prepare: (mock) => mock.hold() }));

test("a preview of the link, without its script, wakes nothing", () => withRoom("pyelli", async (page, mock) => {
  assert.equal(mock.world.requests.filter((it) => it.method === "POST").length, 0);
  assert.equal(mock.world.targets.get("pyelli").phase, "off");
  assert.equal(await page.locator("noscript").count() > 0, true);
}, { script: false }));

test("without a script a form starts it, and the page moves on by itself", () => withRoom("pyelli", async (page) => {
  await page.getByRole("button", { name: "Start it" }).click();
  await page.waitForURL("**/landing");
}, { script: false }));

test("a failed start is told in words and can be tried again", () => withRoom("render-box", async (page, mock) => {
  await page.getByRole("heading", { name: "render-box did not start" }).waitFor();
  assert.match(await page.getByRole("alert").innerText(), /Its service does not run.*renderer is failed/);
  await accessible(page, "a failed start");
  delete mock.world.targets.get("render-box").fails;
  await page.getByRole("button", { name: "Try again" }).click();
  await page.waitForURL("**/landing");
}, { prepare: (mock) => mock.change("render-box", { phase: "off", failure: null }) }));

test("it goes only where the door says, and never to a script", async () => {
  for (const echo of ["javascript:window.hurt=1", "data:text/html,x", "", null]) {
    await withRoom("position-keeper", async (page) => {
      await page.getByRole("heading", { name: "It is on, and leads nowhere" }).waitFor();
    }, { prepare: (mock) => { mock.world.echo = echo; } });
  }
  await withRoom("position-keeper", async (page) => {
    await page.waitForURL("**/landing?by=door");
  }, { to: "/landing?by=address", prepare: (mock) => { mock.world.echo = `${mock.url}/landing?by=door`; } });
});

test("trouble on the line is told, and it goes on by itself", () => withRoom("pyelli", async (page, mock) => {
  await page.getByText("so far").waitFor();
  mock.world.broken.push({ path: "/wait/", status: 0, times: 2 }, { path: "/wait/", status: 503, times: 1 });
  await page.getByText("Asking again").waitFor();
  mock.release();
  await page.waitForURL("**/landing");
}, { prepare: (mock) => mock.hold() }));

test("who puts it out meanwhile is told of", () => withRoom("fluidity", async (page, mock) => {
  // The page has seen it start, and the mock has no step left before its gate.
  await eventually(async () => /Letting it settle/i.test(await page.locator("#step").innerText()), "it settles");
  mock.change("fluidity", { phase: "stopping", why: "killed by ops" });
  await page.getByRole("heading", { name: "fluidity went out again" }).waitFor();
  await page.getByText("killed by ops").waitFor();
  assert.equal(await page.getByRole("button", { name: "Try again" }).isVisible(), true);
}, { prepare: (mock) => mock.hold() }));

test("the link's code is sent to the door, with no token, and kept nowhere", () => withRoom("position-keeper", async (page, mock) => {
  await page.waitForURL("**/landing");
  const posted = mock.world.requests.find((it) => it.method === "POST");
  assert.equal(new URL(posted.path, mock.url).searchParams.get("code"), "1.2.a.b");
  assert.ok(mock.world.requests.every((it) => !it.headers.authorization && !it.path.includes("token")));
  assert.ok(mock.world.requests.filter((it) => it.path.startsWith("/landing")).every((it) => !it.headers.referer && !it.path.includes("code")));
  assert.deepEqual(await page.evaluate(() => [sessionStorage.length, localStorage.length]), [0, 0]);
}, { mock: { code: "1.2.a.b" }, code: "1.2.a.b" }));

test("a code takes the place of a token that stands beside it", () => withRoom("position-keeper", async (page, mock) => {
  await page.waitForURL("**/landing");
  assert.ok(mock.world.requests.every((it) => !it.headers.authorization));
}, { mock: { code: "1.2.a.b" }, code: "1.2.a.b", token: "old-token" }));

test("an expired link says so on a page of the door", () => withRoom("pyelli", async (page, mock) => {
  await page.getByRole("heading", { name: "This link has expired" }).waitFor();
  await page.getByText("Ask whoever gave you this link for a new one").waitFor();
  assert.equal(mock.world.targets.get("pyelli").phase, "off");
  await accessible(page, "an expired link");
}, { mock: { code: "1.2.a.b" }, code: "1.1.a.b", prepare: (mock) => { mock.world.expired = "1.1.a.b"; } }));

test("a link that expires while somebody waits says so, and is not asked again", () => withRoom("fluidity", async (page, mock) => {
  await page.getByText("so far").waitFor();
  mock.world.expired = "1.2.a.b";
  await page.getByRole("heading", { name: "This link has expired" }).waitFor();
  assert.match(await page.getByRole("alert").innerText(), /expired at 2026.*for a new one/);
  assert.equal(await page.getByRole("button", { name: "Try again" }).isVisible(), false);
  await accessible(page, "a link that expired while somebody waited");
}, { mock: { code: "1.2.a.b", speed: 20 }, code: "1.2.a.b" }));

test("the token of a link of an earlier release goes to the door alone, and is kept nowhere", () => withRoom("position-keeper", async (page, mock) => {
  await page.waitForURL("**/landing");
  assert.equal(mock.world.requests.find((it) => it.method === "POST").headers.authorization, "Bearer link-token");
  assert.ok(mock.world.requests.filter((it) => it.path.startsWith("/landing")).every((it) => !it.headers.referer));
  assert.deepEqual(await page.evaluate(() => [sessionStorage.length, localStorage.length]), [0, 0]);
}, { mock: { token: "link-token" }, token: "link-token" }));

test("a wrong link is told by a page of the door, with what it says as text", () => withRoom("staging", async (page) => {
  await page.getByRole("heading", { name: "This link leads nowhere" }).waitFor();
  assert.ok((await page.locator("main").innerText()).includes("<b>evil</b>"));
  assert.equal(await page.locator("b").count(), 0);
  await accessible(page, "a wrong link");
}, { to: "https://evil.example/<b>evil</b>" }));

test("it fits a phone", () => withRoom("fluidity", async (page) => {
  await page.getByText("so far").waitFor();
  await fitsItsWidth(page, "the waiting room");
}, { viewport: { width: 320, height: 568 }, prepare: (mock) => mock.hold() }));
