import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import type { RateCard } from './card.ts';
import { loadRateCard, parseRateCard } from './parse-card.ts';

export const EXAMPLE =
  /```yaml\n([\s\S]*?)```/.exec(readFileSync(new URL('../../../docs/cost.md', import.meta.url), 'utf8'))?.[1] ?? '';

function cardOf(text: string): RateCard {
  const parsed = parseRateCard(text);
  if (parsed.kind === 'problems') assert.fail(JSON.stringify(parsed.problems, undefined, 1));
  return parsed.card;
}

function problemsOf(text: string): string[] {
  const parsed = parseRateCard(text);
  assert.equal(parsed.kind, 'problems');
  return parsed.kind === 'problems' ? parsed.problems.map((p) => `${p.line}:${p.column} ${p.message}`) : [];
}

const head = `rate-card: t
format: 1
currency: EUR
versions:
`;

const version = (name: string, effective: string, items: string): string =>
  `  - version: ${name}\n    effective: ${effective}\n    items:\n${items}`;
const CPU = '      - { id: cpu, resource: vcpu, unit: vcpu-hour, price: 0.01 }\n';

test('the example in docs/cost.md is a rate card', () => {
  const card = cardOf(EXAMPLE);
  assert.equal(card.versions.length, 2);
  assert.equal(card.versions[1]?.items.length, 8);
  assert.equal(card.taxes[0]?.rate.toString(), '0.19');
  assert.equal(card.budgets[0]?.alerts.length, 2);
});

test('prices are the digits that were written, never floats', () => {
  const card = cardOf(
    `${head}${version('a', '{ from: 2026-01-01 }', CPU.replace('0.01', '0.1000000000000000055511151231'))}`,
  );
  const pricing = card.versions[0]?.items[0]?.pricing;
  assert.equal(pricing?.kind === 'flat' && pricing.price.toString(), '0.1000000000000000055511151231');
});

test('all problems are listed with line and column, in the order of the file', () => {
  const problems = problemsOf(`rate-card: t
format: 1
currency: EURO
colour: red
versions:
  - version: a
    effective: { from: 2026-02-31 }
    items:
      - { id: cpu, resource: vcpu, unit: GiB-hour, price: 0.01 }
      - { id: mem, resource: memry, unit: GiB-hour, price: 1e-3 }
      - { id: ssd, resource: "disk:ssd", unit: GiB-month, price: -1 }
      - { id: both, resource: address, unit: address-hour, price: 1, tiers: { mode: graduated, per: vm, steps: [{ price: 1 }] } }
taxes:
  - { id: vat, rate: 19, effective: { from: 2020-01-01 } }
`);
  assert.deepEqual(
    problems.map((line) => line.replace(/;.*/, '')),
    [
      '3:11 currency is "EURO"',
      '4:1 the rate card has no key "colour"',
      '7:24 from in effective of version a is "2026-02-31"',
      '9:42 vcpu is not priced by "GiB-hour"',
      '10:30 there is no resource "memry"',
      '10:60 price is "1e-3"',
      '11:66 price is -1',
      '12:67 an item has either a price or tiers, not both',
      '14:22 rate of a tax is "19"',
    ],
  );
});

test('versions that overlap, leave a gap, have no end before another, or share a name are problems', () => {
  const both = (first: string, second: string, name = 'b'): string[] =>
    problemsOf(`${head}${version('a', first, CPU)}${version(name, second, CPU)}`);
  assert.match(both('{ from: 2026-01-01, to: 2026-03-01 }', '{ from: 2026-02-01 }')[0] ?? '', /^9:5 .*still applies/);
  assert.match(
    both('{ from: 2026-01-01, to: 2026-02-01 }', '{ from: 2026-02-02 }')[0] ?? '',
    /there is no price from 2026-02-01T00:00:00Z/,
  );
  assert.match(both('{ from: 2026-01-01 }', '{ from: 2026-02-02 }')[0] ?? '', /it has no end/);
  assert.match(both('{ from: 2026-01-01, to: 2026-02-01 }', '{ from: 2026-02-01 }', 'a')[0] ?? '', /already in line 5/);
  assert.match(both('{ from: 2026-03-01, to: 2026-02-01 }', '{ from: 2026-03-01 }')[0] ?? '', /ends before it begins/);
});

test('items that overlap or are never reached, and ids used twice, are problems', () => {
  const items = (...lines: string[]): string[] =>
    problemsOf(`${head}${version('a', '{ from: 2026-01-01 }', lines.map((line) => `      - { ${line} }\n`).join(''))}`);
  const cpu = (id: string, more = ''): string => `id: ${id}, resource: vcpu, unit: vcpu-hour, price: 1${more}`;
  assert.match(items(cpu('a'), cpu('b', ', select: { host: h1 }'))[0] ?? '', /item b is never reached: line 8/);
  assert.match(
    items(cpu('a', ', select: { host: [h1, h2] }'), cpu('b', ', select: { host: [h2, h1] }'), cpu('c'))[0] ?? '',
    /item b overlaps line 8/,
  );
  assert.match(items(cpu('a', ', select: { host: h1 }'), cpu('a'))[0] ?? '', /id "a" is already used in line 8/);
});

test('contradictory tiers are problems', () => {
  const tiers = (steps: string): string[] =>
    problemsOf(
      `${head}${version('a', '{ from: 2026-01-01 }', `      - { id: t, resource: network-out, unit: GiB, tiers: { mode: graduated, per: vm, steps: [${steps}] } }\n`)}`,
    );
  assert.match(tiers('{ up-to: 5, price: 1 }')[0] ?? '', /last step has no up-to/);
  assert.match(tiers('{ price: 1 }, { price: 2 }')[0] ?? '', /never reached/);
  assert.match(
    tiers('{ up-to: 5, price: 1 }, { up-to: 5, price: 2 }, { price: 3 }')[0] ?? '',
    /up-to 5 is not above 5/,
  );
});

test('hostile files are refused: aliases that multiply, sizes, keys twice, wrong shapes', () => {
  assert.match(problemsOf(`rate-card: &a t\nformat: 1\ncurrency: *a\nversions: []`).join('\n'), /is an alias/);
  assert.match(problemsOf('x'.repeat(1024 * 1024 + 1))[0] ?? '', /at most 1048576/);
  assert.match(problemsOf(`${head}  []\ncurrency: USD\n`).join('\n'), /unique/);
  assert.match(problemsOf('[]')[0] ?? '', /must be a mapping/);
  assert.match(problemsOf('')[0] ?? '', /the file is empty/);
  assert.match(problemsOf('a: [1,\nb: }').join('\n'), /\d+:\d+ /);
  assert.ok(problemsOf('{}').some((line) => line.includes('has no versions')));
});

test('a card that cannot be used is refused with every problem and its place', () => {
  assert.throws(
    () => loadRateCard('rate-card: x\nformat: 2\ncurrency: XXX\nversions: []\n', 'x.yaml'),
    (error: Error) => /has 3 problems\nx.yaml:2:9: format is "2".*\nx.yaml:3:11: .*\nx.yaml:4:11: /.test(error.message),
  );
});
