/** The HTML report in a real browser: what it draws, and that names from hypervisors stay names. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { inflateSync } from 'node:zlib';
import { loadRateCard, monthPage, rate, readUsageFile } from '#metering';
import { lookAt } from '../harness/browser.ts';
import { usageFileText } from '../harness/usage-file.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'berth-page-'));
});
after(() => rm(folder, { recursive: true, force: true }));

async function page(usage: string): Promise<string> {
  const doc = await readFile(new URL('../../docs/cost.md', import.meta.url), 'utf8');
  const card = loadRateCard(/```yaml\n([\s\S]*?)```/.exec(doc)?.[1] ?? '', 'docs/cost.md');
  const path = join(folder, 'usage.jsonl');
  await writeFile(path, usage);
  const facts = await readUsageFile(path);
  const rating = rate(card, '2026-11', facts);
  return monthPage({
    period: '2026-11',
    zone: 'Europe/Berlin',
    currency: 'EUR',
    minorDecimals: 2,
    charges: rating.charges.map((charge) => ({ charge, isCorrection: false })),
    hosts: rating.hosts,
    intervals: facts.intervals,
    notes: [],
    madeAtMs: 0,
  });
}

/** The colours of a PNG of 8 bits a channel, without unfiltering: enough to tell a drawing from a blank page. */
function bytesInPng(png: Buffer): number {
  const parts: Buffer[] = [];
  for (let at = 8; at < png.length; at += 12 + png.readUInt32BE(at))
    if (png.toString('latin1', at + 4, at + 8) === 'IDAT')
      parts.push(png.subarray(at + 8, at + 8 + png.readUInt32BE(at)));
  const plain = inflateSync(Buffer.concat(parts));
  return plain.reduce((count, byte) => count + (byte === 0 ? 0 : 1), 0);
}

test('a browser draws every chart, from the file alone', async () => {
  const path = join(folder, 'month.html');
  const html = await page(usageFileText());
  await writeFile(path, html);
  const { dom, screenshot } = await lookAt(path);
  const chart = (id: string): string => new RegExp(`<svg id="${id}"[\\s\\S]*?</svg>`).exec(dom)?.[0] ?? '';
  const count = (text: string, pattern: RegExp): number => [...text.matchAll(pattern)].length;
  // 30 days of UTC are 31 of Berlin; three projects, of which one is nobody's.
  assert.ok(count(chart('cost-by-day'), /<rect[^>]*class="bar"/g) >= 60);
  assert.match(chart('cost-by-day'), /<title>2026-11-15, shop: \d+\.\d\d EUR<\/title>/);
  assert.equal(count(chart('cost-by-project'), /<rect[^>]*class="bar"/g), 3);
  assert.equal(count(chart('utilisation'), /<rect[^>]*class="cell/g), 2 * 31);
  assert.match(chart('utilisation'), /<title>lab\/h1, 2026-11-05: \d+ % of its vCPUs given out<\/title>/);
  assert.match(chart('placement'), /<title>shop-web on lab\/h2, 2026-11-10T12:00:00Z – 2026-12-01T00:00:00Z<\/title>/);
  assert.match(chart('placement'), /mail on lab\/h1 \(not running\)/);
  assert.match(dom, /<p class="total" id="total">\d+\.\d\d EUR<\/p>/);
  assert.equal(screenshot.toString('latin1', 1, 4), 'PNG');
  assert.ok(bytesInPng(screenshot) > 10_000, 'the page is blank');
  assert.doesNotMatch(html, /\b(src|href)=|url\(|@import|<script/i);
});

test('a VM’s name is text, whatever it says', async () => {
  const evil = '<img src=x onerror=document.title=1>"\'</title><script>document.title="owned"</script>&amp;';
  const path = join(folder, 'evil.html');
  await writeFile(path, await page(usageFileText().replaceAll('shop-web', JSON.stringify(evil).slice(1, -1))));
  const { dom } = await lookAt(path);
  assert.match(dom, /<title>Cost of 2026-11<\/title>/);
  assert.doesNotMatch(dom, /<img|<script/);
  assert.match(dom, /&lt;img src=x/);
});
