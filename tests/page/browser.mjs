// A real browser for the tests, and what no page may do: break its own policy, log an error, ask another origin.
//
// `LAMPLIGHTER_CHROMIUM` names the browser; otherwise those that Debian and others install are looked for.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";

import { chromium } from "playwright-core";

const FOUND = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome", "/usr/bin/google-chrome-stable"];

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export function browserPath() {
  return [process.env.LAMPLIGHTER_CHROMIUM, ...FOUND].find((path) => path && existsSync(path));
}

export async function startBrowser() {
  return chromium.launch({ executablePath: browserPath(), headless: true, args: FLAGS });
}

// Bounds a test that would hang, and says nothing about speed: several browsers share two cores with two servers.
export const PATIENCE_MS = 90_000;

// Whatever Chromium itself says of a status that a test provokes.
const NETWORK = /^Failed to load resource: /;

// A page of its own context. `page.faults` collects what it may not do; `closed(page)` checks that there is nothing.
export async function open(browser, url, { script = true, clock, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, locale: "en-GB", javaScriptEnabled: script, ...options });
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  page.faults = [];
  const own = new URL(url).origin;
  const allowed = new Set([own]);
  page.allow = (origin) => allowed.add(origin);
  page.on("console", (message) => {
    if (message.type() === "error" && !NETWORK.test(message.text())) page.faults.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => page.faults.push(`error: ${error.stack}`));
  page.on("request", (request) => {
    const { origin, protocol } = new URL(request.url());
    if (!["data:", "blob:"].includes(protocol) && !allowed.has(origin)) page.faults.push(`asked ${request.url()}`);
  });
  await page.exposeBinding("__violation", (_, what) => page.faults.push(`policy: ${what}`));
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => {
      window.__violation(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
    });
  });
  if (clock) await page.clock.install(clock);
  await page.goto(url);
  return page;
}

export async function closed(page) {
  if (!page.isClosed()) assert.equal(await page.evaluate(() => window.hurt ?? null).catch(() => null), null, "data ran as a script");
  await page.context().close();
  assert.deepEqual(page.faults, []);
}

// What axe finds wrong for those who do not see, or not well.
export async function accessible(page, label) {
  await page.evaluate(`${AXE}; 0`);
  const { violations } = await page.evaluate(() => window.axe.run(document, {
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"], resultTypes: ["violations"],
  }));
  const told = violations.map((one) => `${label}: ${one.id}: ${one.help}\n${one.nodes.slice(0, 4).map((node) => `  ${node.html.slice(0, 200)}\n    ${node.failureSummary?.replaceAll("\n", " ")}`).join("\n")}`);
  assert.deepEqual(told, []);
}

// Nothing sticks out at the side.
export async function fitsItsWidth(page, label) {
  const { wide, width } = await page.evaluate(() => ({
    width: innerWidth,
    wide: [...document.querySelectorAll("body *")].filter((element) => {
      const box = element.getBoundingClientRect();
      if (box.width <= 1 || box.right <= innerWidth + 1 || element.closest("svg")) return false;
      for (let up = element.parentElement; up; up = up.parentElement) {
        if (getComputedStyle(up).overflowX !== "visible" && up !== document.body && up !== document.documentElement) return false;
      }
      return true;
    }).map((element) => `${element.tagName}.${element.className}`),
  }));
  assert.deepEqual(wide, [], `${label} at ${width} px`);
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, `${label}: no scrolling sideways`);
}

export async function eventually(check, label, milliseconds = PATIENCE_MS) {
  const end = Date.now() + milliseconds;
  let last;
  while (Date.now() < end) {
    try {
      last = await check();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => { setTimeout(resolve, 40); });
  }
  throw new Error(`not within ${milliseconds} ms: ${label} (${last})`);
}
