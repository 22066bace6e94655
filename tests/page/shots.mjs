// Pictures of everything, to look at: `node shots.mjs FOLDER [NAME…]`. No test; what is seen is judged by eye.

import { mkdir } from "node:fs/promises";

import { open, startBrowser } from "./browser.mjs";
import { startMock } from "./mock.mjs";

const [folder = "shots", ...only] = process.argv.slice(2);
await mkdir(folder, { recursive: true });
const browser = await startBrowser();

async function shot(name, path, { mock: mockOptions = {}, act = async () => {}, full = false, prepare = () => {}, ...options } = {}) {
  if (only.length && !only.includes(name)) return;
  const mock = await startMock({ speed: 6, ...mockOptions });
  prepare(mock);
  const page = await open(browser, `${mock.url}${path.replaceAll("$URL", encodeURIComponent(mock.url))}`, { deviceScaleFactor: 1, ...options });
  await page.waitForTimeout(700);
  await act(page, mock);
  await page.waitForTimeout(400);
  await page.screenshot({ path: `${folder}/${name}.png`, fullPage: full });
  if (page.faults.length) console.log(name, page.faults);
  await page.context().close();
  await mock.close();
}

const phone = { viewport: { width: 360, height: 780 }, deviceScaleFactor: 2 };
const row = (page, name) => page.locator(`.row[data-target="${name}"]`);

await shot("board-light", "/");
await shot("board-dark", "/", { colorScheme: "dark" });
await shot("board-many", "/", { mock: { fleet: "many" } });
await shot("board-empty", "/", { prepare: (mock) => mock.world.targets.clear() });
await shot("board-odd", "/", { mock: { fleet: "odd" } });
await shot("phone", "/", phone);
await shot("phone-dark", "/#/target/position-keeper", { ...phone, colorScheme: "dark", full: true });
await shot("phone-week", "/#/week", phone);
await shot("phone-odd", "/", { ...phone, mock: { fleet: "odd" } });
await shot("start", "/", { act: (page) => row(page, "pyelli").getByRole("button", { name: "Start" }).click() });
await shot("start-phone", "/", { ...phone, act: (page) => row(page, "pyelli").getByRole("button", { name: "Start" }).click() });
await shot("menu", "/", { act: (page) => row(page, "pyelli").locator("[data-action=more]").click() });
await shot("kill", "/", { colorScheme: "dark", act: async (page) => {
  await row(page, "position-keeper").locator("[data-action=more]").click();
  await page.getByRole("menuitem", { name: "Kill" }).click();
} });
await shot("tickets", "/", { mock: { speed: 1 }, act: async (page, mock) => {
  mock.world.verdict = { outcome: "rejected", cause: "conflict", message: "user-42 has it until 18:00" };
  await row(page, "position-keeper").getByRole("button", { name: "Stop" }).click();
  await row(page, "position-keeper").locator(".ticket[data-kind=rejected]").waitFor();
  mock.world.verdict = { outcome: "done", message: "it is on" };
  await row(page, "reports").getByRole("button", { name: "Resume" }).click();
  await row(page, "reports").locator(".ticket[data-kind=done]").waitFor();
  mock.world.verdict = null;
  await row(page, "pyelli").getByRole("button", { name: "Start" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Start" }).click();
  await page.waitForTimeout(500);
} });
await shot("detail", "/#/target/position-keeper", { full: true });
await shot("detail-failed", "/#/target/render-box", { full: true });
await shot("detail-launched", "/#/target/walrus.b07c33d1a2e94f66", { full: true, colorScheme: "dark" });
await shot("week", "/#/week");
await shot("week-dark", "/#/week", { colorScheme: "dark", act: (page) => page.getByText("The same in words").click() });
await shot("dead-letters", "/#/dead-letters");
await shot("gate", "/", { mock: { token: "x" } });
await shot("reconnecting", "/", { act: async (page, mock) => {
  mock.world.broken.push({ path: "/v1/", status: 503, times: 99 });
  mock.cut();
} });
await shot("docs", "/docs", { full: true });
await shot("docs-open", "/docs#op-sendCommand", { viewport: { width: 1280, height: 1200 }, act: (page) => page.locator("#op-sendCommand").getByRole("button", { name: "Send" }).click() });
await shot("docs-dark", "/docs#op-sendCommand", { colorScheme: "dark", act: async (page) => {
  await page.locator("#op-sendCommand").getByText("Schema", { exact: true }).click();
  await page.locator("#op-sendCommand .tree").first().scrollIntoViewIfNeeded();
} });
await shot("docs-phone", "/docs#op-sendCommand", phone);
await shot("wait", "/wait/pyelli?to=$URL%2Flanding", { act: (page) => page.waitForTimeout(6000), viewport: { width: 1000, height: 760 } });
await shot("wait-phone", "/wait/walrus.b07c33d1a2e94f66?to=$URL%2Flanding", { ...phone, act: (page) => page.waitForTimeout(1500) });
await shot("wait-failed", "/wait/render-box?to=$URL%2Flanding", { ...phone, mock: { speed: 1 }, prepare: (mock) => mock.change("render-box", { phase: "off" }), act: (page) => page.waitForTimeout(3500) });
await shot("wait-error", "/wait/pyelli?to=https://elsewhere.example/", { viewport: { width: 1000, height: 700 } });
await browser.close();
