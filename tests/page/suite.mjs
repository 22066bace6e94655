// A browser for the tests of one file, and a page before a mock of the door for each of them.

import { after, before } from "node:test";

import { closed, open, startBrowser } from "./browser.mjs";
import { startMock } from "./mock.mjs";

let browser;
before(async () => { browser = await startBrowser(); });
after(() => browser.close());

export const openPage = (address, options) => open(browser, address, options);

export async function withPage(options, body, { mock: mockOptions, hash = "" } = {}) {
  const mock = await startMock({ speed: 0.5, ...mockOptions });
  try {
    const page = await openPage(`${mock.url}/${hash}`, options);
    await body(page, mock);
    await closed(page);
  } finally {
    await mock.close();
  }
}

export const row = (page, name) => page.locator(`.row[data-target="${name}"]`);
