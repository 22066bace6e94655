// For whom and on what the page works: keyboard, phone, screen reader, night, stillness; and what odd data does not do.

import assert from "node:assert/strict";
import { test } from "node:test";

import { accessible, eventually, fitsItsWidth } from "./browser.mjs";
import { row, withPage } from "./suite.mjs";

test("odd data is text and nothing else", () => withPage({}, async (page) => {
  await row(page, "nasty").waitFor();
  assert.ok((await row(page, "nasty").innerText()).includes("<img src=x onerror="));
  assert.equal(await page.locator("main img, main script").count(), 0);
  for (const name of ["nasty", "a".repeat(63), "bare", "future"]) {
    await page.goto(`${page.url().split("#")[0]}#/target/${name}`);
    await page.getByRole("heading", { level: 1, name }).waitFor();
  }
  for (const view of ["week", "dead-letters"]) {
    await page.goto(`${page.url().split("#")[0]}#/${view}`);
    await eventually(async () => (await page.locator("#view").innerText()).length > 20, view);
  }
  assert.equal(await page.locator("main img, main script").count(), 0);
}, { mock: { fleet: "odd" } }));

test("by keyboard alone: skip link, finding, a start, its dialog, the menu", () => withPage({}, async (page) => {
  await row(page, "pyelli").waitFor();
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.id), "skip");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  assert.equal(new URL(page.url()).hash, "");
  await page.keyboard.press("/");
  await page.keyboard.type("pyelli");
  assert.equal(await page.locator(".row:visible").count(), 1);
  const until = async (label) => {
    for (let presses = 0; presses < 30; presses += 1) {
      await page.keyboard.press("Tab");
      if (await page.evaluate((name) => (document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent) === name, label)) return;
    }
    assert.fail(`Tab does not come to ${label}`);
  };
  await until("Start pyelli");
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.equal(outline, "solid");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), "Start pyelli");
  await page.keyboard.press("Enter");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Enter");
  await row(page, "pyelli").locator(".ticket[data-kind=done]").waitFor();
  assert.match(await row(page, "pyelli").locator(".holds").innerText(), /left/);
  await row(page, "pyelli").locator("[data-action=more]").focus();
  await page.keyboard.press("Enter");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Escape");
  await page.locator(".menu").waitFor({ state: "hidden" });
  assert.equal(await page.evaluate(() => document.activeElement.dataset.action), "more");
}));

test("on a phone of 360 and 320 pixels all is there and nothing sticks out", async () => {
  for (const width of [360, 320]) {
    await withPage({ viewport: { width, height: 740 }, hasTouch: true, isMobile: true }, async (page, mock) => {
      await row(page, "pyelli").waitFor();
      await fitsItsWidth(page, "the board");
      const size = await row(page, "pyelli").getByRole("button", { name: "Start pyelli" }).boundingBox();
      assert.ok(size.height >= 40, "a thumb finds it");
      await row(page, "pyelli").getByRole("button", { name: "Start pyelli" }).tap();
      await page.getByRole("dialog").waitFor();
      await fitsItsWidth(page, "the dialog");
      await page.keyboard.press("Escape");
      for (const hash of ["#/target/position-keeper", "#/week", "#/dead-letters"]) {
        await page.goto(`${mock.url}/${hash}`);
        await page.waitForTimeout(150);
        await fitsItsWidth(page, hash);
      }
    });
  }
  await withPage({ viewport: { width: 320, height: 740 } }, async (page) => {
    await row(page, "nasty").waitFor();
    await fitsItsWidth(page, "odd data");
  }, { mock: { fleet: "odd" } });
});

test("axe finds nothing, by day and by night", async () => {
  for (const colorScheme of ["light", "dark"]) {
    await withPage({ colorScheme }, async (page, mock) => {
      await row(page, "pyelli").waitFor();
      await row(page, "render-box").getByRole("button", { name: "Start render-box" }).click();
      await accessible(page, `${colorScheme} dialog`);
      await page.getByRole("dialog").getByRole("button", { name: "Start" }).click();
      await row(page, "render-box").locator(".ticket[data-kind=failed]").waitFor();
      await accessible(page, `${colorScheme} board`);
      for (const hash of ["#/target/position-keeper", "#/target/reports", "#/week", "#/dead-letters"]) {
        await page.goto(`${mock.url}/${hash}`);
        await page.waitForTimeout(200);
        await accessible(page, `${colorScheme} ${hash}`);
      }
    });
  }
});

test("by night it is dark, and the picture of it is not empty", () => withPage({ colorScheme: "dark" }, async (page) => {
  await row(page, "pyelli").waitFor();
  const [red, green, blue] = (await page.evaluate(() => getComputedStyle(document.body).backgroundColor)).match(/\d+/g).map(Number);
  assert.ok(red + green + blue < 120);
  const picture = await page.screenshot();
  assert.ok(picture.length > 20_000, `${picture.length} bytes`);
}));

test("who wants no motion sees none", () => withPage({ reducedMotion: "reduce" }, async (page) => {
  await row(page, "fluidity").waitFor();
  assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
}));
