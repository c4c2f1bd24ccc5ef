// A browser for the tests of the status page: node driver.mjs CHROMIUM AXE. Each line of the standard input is the body of an
// async function of `page`, `context`, `axe` and `seen`, as a JSON string; each answer is a line with its value or its error.
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

const [executablePath, axePath] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] });
const context = await browser.newContext({ viewport: { width: 1360, height: 900 }, acceptDownloads: true });
const page = await context.newPage();
page.setDefaultTimeout(20000);
const seen = { errors: [], requests: [] };
page.on('pageerror', (error) => seen.errors.push(String(error)));
page.on('console', (message) => {
  // A request that failed is the daemon's absence or a refusal; the page shows those.
  if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) seen.errors.push(message.text());
});
page.on('request', (request) => seen.requests.push(request.url()));

// Serious findings of axe-core, on the page as it is.
const source = readFileSync(axePath, 'utf8');
async function axe() {
  await page.evaluate(source);
  const found = await page.evaluate(() => globalThis.axe.run());
  return found.violations.filter((row) => ['serious', 'critical'].includes(row.impact))
    .map((row) => `${row.id}: ${row.nodes.map((node) => node.html).slice(0, 3).join(' | ')}`);
}

const AsyncFunction = (async () => {}).constructor;
for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    answer = { value: (await new AsyncFunction('page', 'context', 'axe', 'seen', JSON.parse(line))(page, context, axe, seen)) ?? null };
  } catch (error) {
    answer = { error: String(error.stack || error) };
  }
  console.log(JSON.stringify(answer));
}
await browser.close();
