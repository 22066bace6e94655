// The pages as a real door serves them, with real workers behind it. `DOOR_URL` says where it is; `DOOR_TOKEN` is a
// token with every right, where its fleet has tokens; `DOOR_TARGET` (pyelli) is a target that may be started and
// killed; `DOOR_TEMPLATE` (walrus) a template with the parameter blob_id; `DOOR_WAIT_TO` is an address that the target's
// waiting room may lead to.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { accessible, closed, eventually, fitsItsWidth, open, startBrowser } from "./browser.mjs";

const url = process.env.DOOR_URL?.replace(/\/+$/, "");
const token = process.env.DOOR_TOKEN;
const name = process.env.DOOR_TARGET ?? "pyelli";
const template = process.env.DOOR_TEMPLATE ?? "walrus";
const to = process.env.DOOR_WAIT_TO;
const skip = url ? false : "DOOR_URL names no door";

// Machines take seconds, also the small ones of `lamplighter local`; on a loaded machine, minutes.
const MOVES_MS = 180_000;

const POLICY = ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"];

let browser;
before(async () => { if (url) browser = await startBrowser(); });
after(() => browser?.close());

const row = (page) => page.locator(`.row[data-target="${name}"]`);
const enter = (path = "", options) => open(browser, `${url}/${path || (token ? `#token=${encodeURIComponent(token)}` : "")}`, options);

// A link as the door makes it for whoever may: with a code, and no token.
async function codeLink() {
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  const response = await fetch(`${url}/v1/links`, { method: "POST", headers, body: JSON.stringify({ target: name, for: "1h", to }) });
  assert.equal(response.status, 201);
  const { path } = await response.json();
  assert.ok(path.includes("code=") && !path.includes(token));
  return `${url}${path}`;
}

async function kill(page) {
  await row(page).locator("[data-action=more]").click();
  await page.getByRole("menuitem", { name: "Kill" }).click();
  await page.getByRole("button", { name: `Kill ${name}` }).click();
  await row(page).locator(".ticket[data-kind=done]").waitFor({ timeout: MOVES_MS });
  await row(page).locator(".pill[data-phase=off]").waitFor({ timeout: MOVES_MS });
}

test("the door serves the pages and all that they name, under the policy that they keep", { skip }, async () => {
  const seen = new Set();
  const wanted = ["/", "/docs"];
  while (wanted.length > 0) {
    const path = wanted.pop();
    if (seen.has(path)) continue;
    seen.add(path);
    const response = await fetch(`${url}${path}`, { headers: { Accept: "text/html,*/*" } });
    assert.equal(response.status, 200, path);
    const type = response.headers.get("content-type");
    const text = await response.text();
    const ending = path.split(".").at(-1);
    if (ending === "js") assert.match(type, /^(text|application)\/javascript/, path);
    if (ending === "css") assert.match(type, /^text\/css/, path);
    if (ending === "svg") assert.match(type, /^image\/svg\+xml/, path);
    if (type.startsWith("text/html")) {
      const policy = response.headers.get("content-security-policy") ?? "";
      for (const part of POLICY) assert.ok(policy.includes(part), `${path}: ${part} in ${policy}`);
      assert.doesNotMatch(policy, /unsafe|\*/, path);
    }
    assert.equal(response.headers.get("x-content-type-options"), "nosniff", path);
    for (const [, asset] of text.matchAll(/(?:href|src)="(\/assets\/[^"]+)"/g)) wanted.push(asset);
    if (ending === "js") for (const [, module] of text.matchAll(/from "\.\/([^"]+)"/g)) wanted.push(`/assets/${module}`);
  }
  assert.ok(seen.size > 15, [...seen].join(" "));
});

test("a target is started from the page, comes on, is killed after a question, and its history tells it", { skip, timeout: 4 * MOVES_MS }, async () => {
  const page = await enter();
  await row(page).waitFor();
  await eventually(async () => (await page.locator("#line-word").innerText()) === "live", "live");
  if (await row(page).locator(".pill[data-phase=off]").count() === 0) await kill(page);
  await row(page).getByRole("button", { name: `Start ${name}` }).click();
  await page.getByLabel("Why?").fill("a test of the page");
  await page.getByRole("dialog").getByRole("button", { name: "Start" }).click();
  await row(page).locator(".pill[data-phase=starting]").waitFor({ timeout: MOVES_MS });
  await row(page).locator(".pill[data-phase=on]").waitFor({ timeout: MOVES_MS });
  await row(page).locator(".ticket[data-kind=done]").waitFor({ timeout: MOVES_MS });
  assert.match(await row(page).locator(".holds").innerText(), /a test of the page/);
  await accessible(page, "the board");
  await kill(page);
  await row(page).locator(".name").click();
  await page.getByRole("heading", { level: 1, name }).waitFor();
  await page.locator(".timeline .event").first().waitFor();
  assert.ok((await page.locator(".timeline .event").count()) >= 3);
  assert.match(await page.locator(".runs").innerText(), /ready after/);
  await page.getByRole("link", { name: "Week" }).click();
  await page.locator(".week-row", { hasText: name }).locator(".run").first().waitFor();
  await closed(page);
});

test("a machine is created from a template, comes on, and is destroyed after a question", { skip, timeout: 3 * MOVES_MS }, async () => {
  const page = await enter();
  const group = page.locator(`section[data-template="${template}"]`);
  await group.getByText("0 of").waitFor();
  await group.getByRole("button", { name: `New machine of ${template}` }).click();
  await page.getByLabel("blob_id").fill("abc");
  await page.getByRole("dialog").getByRole("radio", { name: "30 min" }).check();
  await accessible(page, "the form");
  await page.getByRole("dialog").getByRole("button", { name: "Create" }).click();
  const made = group.locator(".row");
  await made.locator(".pill[data-phase=starting]").waitFor({ timeout: MOVES_MS });
  await group.getByText("1 of").waitFor();
  await group.locator(".ticket[data-kind=done]").waitFor({ timeout: MOVES_MS });
  await made.locator(".pill[data-phase=on]").waitFor({ timeout: MOVES_MS });
  await made.locator("[data-action=more]").click();
  await page.getByRole("menuitem", { name: "Destroy" }).click();
  await page.getByRole("dialog").getByRole("button", { name: /^Destroy / }).click();
  await group.getByText("0 of").waitFor({ timeout: MOVES_MS });
  await group.getByText("None at the moment.").waitFor({ timeout: MOVES_MS });
  await closed(page);
});

test("who has no token is asked for one", { skip: skip || (token ? false : "the door's fleet has no tokens") }, async () => {
  const page = await open(browser, `${url}/`);
  await page.getByRole("heading", { name: "Who goes there?" }).waitFor();
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Open" }).click();
  await row(page).waitFor();
  await closed(page);
});

test("the waiting room wakes it and moves on", { skip: skip || (to ? false : "DOOR_WAIT_TO names no address"), timeout: 3 * MOVES_MS }, async () => {
  const page = await enter();
  await row(page).waitFor();
  if (await row(page).locator(".pill[data-phase=off]").count() === 0) await kill(page);
  const link = token ? await codeLink() : `${url}/wait/${name}?to=${encodeURIComponent(to)}`;
  // Nothing need answer there.
  const arrive = async (visitor) => {
    visitor.allow(new URL(to).origin);
    await visitor.route((address) => address.href.startsWith(to), (route) => route.fulfill({ contentType: "text/html", body: "<h1>Arrived</h1>" }));
  };
  await arrive(page);
  await page.goto(link);
  await page.getByRole("heading", { name: `Lighting ${name}` }).waitFor();
  await page.getByRole("heading", { name: "Arrived" }).waitFor({ timeout: MOVES_MS });
  // Who has no script, and comes when it is on, is led on by the form itself.
  const plain = await open(browser, link, { script: false });
  await arrive(plain);
  await plain.getByRole("button", { name: "Start it" }).click();
  await plain.getByRole("heading", { name: "Arrived" }).waitFor({ timeout: MOVES_MS });
  await closed(plain);
  await page.goto(`${url}/${token ? `#token=${encodeURIComponent(token)}` : ""}`);
  await row(page).locator(".pill[data-phase=on]").waitFor({ timeout: MOVES_MS });
  await kill(page);
  await closed(page);
});

test("a link that may lead nowhere is refused by a page that says so", { skip }, async () => {
  const page = await open(browser, `${url}/wait/${name}?to=${encodeURIComponent("https://evil.example/<b>x</b>")}`);
  await page.locator("main.room[data-state=failed]").waitFor();
  assert.equal(await page.locator("b").count(), 0);
  assert.doesNotMatch(await page.locator("main").innerText(), /\{\{/);
  await closed(page);
});

test("a link with another code is refused by a page that says so", { skip: skip || (token && to ? false : "the door's fleet has no tokens") }, async () => {
  const link = new URL(await codeLink());
  const [version, expires, holder, mac] = link.searchParams.get("code").split(".");
  link.searchParams.set("code", [version, Number(expires) + 1, holder, mac].join("."));
  const page = await open(browser, link.href);
  await page.locator("main.room[data-state=failed]").waitFor();
  await page.getByText("this link's code is not valid here").waitFor();
  await accessible(page, "a link with another code");
  await closed(page);
});

test("the API page draws the door's own document and sends", { skip }, async () => {
  const page = await open(browser, `${url}/docs`);
  await page.locator(".operation").first().waitFor();
  assert.ok((await page.locator(".operation").count()) >= 8);
  if (token) {
    await page.getByRole("button", { name: "Authorize" }).click();
    await page.getByLabel("Token").fill(token);
    await page.getByRole("button", { name: "Use it" }).click();
  }
  const me = page.locator(".operation", { hasText: "/v1/me" }).first();
  await me.locator("summary").first().click();
  await me.getByRole("button", { name: "Send" }).click();
  await me.locator(".status-line", { hasText: "200" }).waitFor();
  // Every operation can be drawn, whatever its schemas are.
  await page.evaluate(() => { for (const operation of document.querySelectorAll(".operation")) operation.open = true; });
  await eventually(async () => (await page.locator(".operation .operation-body").count()) === (await page.locator(".operation").count()), "all of them drawn");
  await closed(page);
});

test("on a phone all fits", { skip }, async () => {
  const page = await enter("", { viewport: { width: 360, height: 740 } });
  await row(page).waitFor();
  await fitsItsWidth(page, "the board");
  await closed(page);
});
