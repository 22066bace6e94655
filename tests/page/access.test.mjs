// Tokens, and the line to the door: who may in, what a lost token or a cut line does to somebody at work.

import assert from "node:assert/strict";
import { test } from "node:test";

import { accessible, closed, eventually, fitsItsWidth } from "./browser.mjs";
import { startMock } from "./mock.mjs";
import { openPage, row, withPage as withPageOf } from "./suite.mjs";

const withPage = (body, { mock, hash, ...options } = {}) => withPageOf(options, body, { mock, hash });
const line = (page) => page.locator("#line-word").innerText();

async function signIn(page, token, { remember = false } = {}) {
  await page.getByLabel("Token").fill(token);
  if (remember) await page.getByLabel("Remember").check();
  await page.getByRole("button", { name: "Open" }).click();
}

test("without a token a form asks for it; a wrong one is told, a right one opens", () => withPage(async (page) => {
  await page.getByRole("heading", { name: "Who goes there?" }).waitFor();
  await accessible(page, "the form");
  assert.equal(await page.locator(".row").count(), 0);
  await page.keyboard.press("Escape");
  await page.keyboard.press("Escape");
  await page.getByLabel("Token").waitFor();
  await signIn(page, "wrong");
  await page.getByRole("alert").waitFor();
  await signIn(page, "right");
  await row(page, "pyelli").waitFor();
  assert.equal(await page.locator("#gate").isVisible(), false);
  assert.deepEqual(await page.evaluate(() => [sessionStorage.getItem("lamplighter.token"), localStorage.getItem("lamplighter.token")]), ["right", null]);
  await page.reload();
  await row(page, "pyelli").waitFor();
}, { mock: { token: "right" } }));

test("a token is remembered only where that was asked for, and signing out forgets it", () => withPage(async (page) => {
  await signIn(page, "right", { remember: true });
  await row(page, "pyelli").waitFor();
  assert.deepEqual(await page.evaluate(() => [sessionStorage.getItem("lamplighter.token"), localStorage.getItem("lamplighter.token")]), [null, "right"]);
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { name: "Who goes there?" }).waitFor();
  assert.equal(await page.evaluate(() => localStorage.getItem("lamplighter.token")), null);
}, { mock: { token: "right" } }));

test("a token in the address is taken and gone from it", () => withPage(async (page, mock) => {
  await row(page, "pyelli").waitFor();
  assert.equal(new URL(page.url()).hash, "#/");
  assert.equal(await page.evaluate(() => history.length <= 2), true);
  assert.ok(mock.world.requests.every((request) => !request.path.includes("right%20one") && !request.headers.referer?.includes("right")));
}, { mock: { token: "right one" }, hash: "#token=right%20one" }));

test("a token that is refused midway asks again, and the command under way is still followed", () => withPage(async (page, mock) => {
  await row(page, "pyelli").waitFor();
  await row(page, "pyelli").getByRole("button", { name: "Start pyelli" }).click();
  await page.getByRole("dialog", { name: "Start pyelli" }).getByRole("button", { name: "Start" }).click();
  await row(page, "pyelli").locator(".ticket").waitFor();
  mock.world.token = "second";
  mock.cut();
  await page.getByRole("heading", { name: "Who goes there?" }).waitFor();
  assert.equal(await line(page), "signed out");
  // Another refusal of the old token does not take away what is being typed.
  await page.getByLabel("Token").fill("sec");
  await page.evaluate(async () => {
    const { get } = await import("/assets/api.js");
    await get("/v1/me").catch(() => {});
  });
  assert.equal(await page.getByLabel("Token").inputValue(), "sec");
  await signIn(page, "second");
  await row(page, "pyelli").locator(".pill[data-phase=on]").waitFor();
  await row(page, "pyelli").locator(".ticket[data-kind=done]").waitFor();
  assert.equal(await line(page), "live");
}, { mock: { token: "first", speed: 1 }, hash: "#token=first" }));

test("who may only read sees no dead letters and a holder that is fixed", () => withPage(async (page) => {
  await row(page, "pyelli").waitFor();
  assert.equal(await page.getByRole("link", { name: "Dead letters" }).isVisible(), false);
  assert.equal(await page.locator("#who").isDisabled(), true);
  await page.goto(`${page.url().split("#")[0]}#/dead-letters`);
  await page.getByText("right “admin”").waitFor();
}, { mock: { token: "r", may: ["read"], holder: "reader" }, hash: "#token=r" }));

test("who may not look is told so, and the door is left alone", () => withPage(async (page, mock) => {
  await page.getByText("it lacks the right “read”").waitFor();
  assert.equal(await line(page), "no right to look");
  const asked = mock.world.requests.length;
  await page.waitForTimeout(1500);
  assert.equal(mock.world.requests.length, asked);
}, { mock: { token: "w", may: ["wait"] }, hash: "#token=w" }));

test("a command that the token may not give is told on its row", () => withPage(async (page, mock) => {
  await row(page, "pyelli").waitFor();
  mock.world.broken.push({ path: "/v1/commands", status: 403, times: 1 });
  await row(page, "pyelli").getByRole("button", { name: "Stop pyelli" }).click();
  await row(page, "pyelli").getByText("This token may not do that").waitFor();
}));

test("a line that is cut is mended, and what happened meanwhile is there", () => withPage(async (page, mock) => {
  await eventually(async () => (await line(page)) === "live", "live");
  const changed = mock.world.targets.get("staging");
  mock.world.broken.push({ path: "/v1/events", status: 503, times: 1 });
  mock.cut();
  Object.assign(changed, { phase: "on", why: "changed behind the back", rev: changed.rev + 1 });
  mock.world.targets.delete("pyelli");
  await eventually(async () => (await line(page)) === "reconnecting", "reconnecting");
  await eventually(async () => (await line(page)) === "live", "live again");
  await row(page, "staging").getByText("changed behind the back").waitFor();
  await row(page, "pyelli").waitFor({ state: "detached" });
}));

test("where events do not come through, the list is asked instead", () => withPage(async (page, mock) => {
  await eventually(async () => (await line(page)) === "live", "live");
  mock.world.broken.push({ path: "/v1/events", status: 502, times: 1000 });
  mock.cut();
  const target = mock.world.targets.get("staging");
  Object.assign(target, { phase: "on", why: "by the list", rev: target.rev + 1 });
  await row(page, "staging").getByText("by the list").waitFor();
  assert.match(await line(page), /every few seconds|reconnecting/);
}));

test("a door that is not there is waited for", async () => {
  const mock = await startMock();
  const page = await openPage(`${mock.url}/`);
  await row(page, "pyelli").waitFor();
  const port = Number(new URL(mock.url).port);
  await mock.close();
  await eventually(async () => (await line(page)) === "reconnecting", "reconnecting");
  assert.equal(await row(page, "pyelli").isVisible(), true, "what was known is still shown");
  const again = await startMock({ port });
  await eventually(async () => (await line(page)) === "live", "live again", 15_000);
  await closed(page);
  await again.close();
});

test("the pauses between tries grow, and are jittered", () => withPage(async (page) => {
  const pauses = await page.evaluate(async () => {
    const { pauseBefore } = await import("/assets/api.js");
    return [0, 1, 2, 3, 20].map((n) => Array.from({ length: 50 }, () => pauseBefore(n)));
  });
  const most = pauses.map((some) => Math.max(...some));
  for (let n = 1; n < 4; n += 1) assert.ok(Math.min(...pauses[n]) >= most[n - 1] / 2 && most[n] > most[n - 1]);
  assert.ok(most.at(-1) <= 30_000);
  assert.ok(pauses.every((some) => new Set(some).size > 40));
}));

test("events are read as the standard says, however they are cut", () => withPage(async (page) => {
  const read = await page.evaluate(async () => {
    const { deliver } = await import("/assets/api.js");
    const text = ": hello\r\n\r\nevent: target\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\nevent: ready\ndata\n\nid: 3\n\ndata: no name\n\nevent: cut";
    const results = [];
    for (const size of [1, 2, 7, 1000]) {
      const seen = [];
      let rest = "";
      for (let at = 0; at < text.length; at += size) rest = deliver(rest + text.slice(at, at + size), (name, data) => seen.push([name, data]));
      results.push(JSON.stringify([seen, rest]));
    }
    return results;
  });
  assert.equal(new Set(read).size, 1);
  assert.deepEqual(JSON.parse(read[0]), [[["target", "{\"a\":\n1}"], ["ready", ""], ["message", "no name"]], "event: cut"]);
}));

test("an id is made where the browser has no randomUUID, as on plain http", () => withPage(async (page) => {
  const ids = await page.evaluate(async () => {
    const { newId } = await import("/assets/api.js");
    const before = newId();
    Object.defineProperty(crypto, "randomUUID", { value: undefined });
    return [before, newId(), newId()];
  });
  assert.equal(new Set(ids).size, 3);
  for (const id of ids) assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
}));

test("the form fits a phone", () => withPage(async (page) => {
  await page.getByRole("heading", { name: "Who goes there?" }).waitFor();
  await fitsItsWidth(page, "the form");
}, { mock: { token: "x" }, viewport: { width: 320, height: 600 } }));
