/** What the fleet is told of a card's rules is what the rating makes of them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as v from 'valibot';
import { loadRateCard } from '#metering';
import { AttributionSchema, ownerRules } from './owner-rules.ts';

const CARD = `rate-card: test
format: 1
currency: EUR
rounding: { quantity-decimals: 12, mode: half-even }
charge-per: day
month: calendar
versions:
  - version: only
    effective: { from: 2026-01-01 }
    items: [{ id: cpu, resource: vcpu, unit: vcpu-hour, price: 1 }]
    idle: { share: none }
    overhead: { share: none }
attribution:
  - { project: shop, when: { name: "shop-*" }, effective: { from: 2026-01-01, to: 2026-11-20 } }
  - { owner: bert, when: { name: "shop-*", tag: { tier: [gold, silver] } }, effective: { from: 2026-02-01 } }
  - { project: lab, owner: lara, when: { source: lab, host: "h*" }, effective: { from: 2026-01-01 } }
`;

const rulesOf = (text: string) =>
  ownerRules(v.parse(AttributionSchema, JSON.parse(JSON.stringify(loadRateCard(text, 'card').attribution))));

test('rules survive the way through JSON: the first that gives an owner or a project decides, else tags', () => {
  const rules = rulesOf(CARD);
  assert.ok(rules !== undefined);
  const ask = (changes: object, day: string) =>
    rules.at(
      { source: 's', host: 'x', name: 'shop-1', tags: {}, told: { owner: 'tag', project: null }, ...changes },
      Date.parse(day),
    );
  assert.deepEqual(ask({}, '2025-12-31'), { owner: 'tag', project: null });
  assert.deepEqual(ask({}, '2026-03-01'), { owner: 'tag', project: 'shop' });
  assert.deepEqual(ask({ tags: { tier: 'gold' } }, '2026-01-15'), { owner: 'tag', project: 'shop' });
  assert.deepEqual(ask({ tags: { tier: 'gold' } }, '2026-02-01'), { owner: 'bert', project: 'shop' });
  assert.deepEqual(ask({ tags: { tier: 'gold' } }, '2026-11-20'), { owner: 'bert', project: null });
  assert.deepEqual(ask({ source: 'lab', host: 'h1' }, '2026-03-01'), { owner: 'lara', project: 'shop' });
  assert.deepEqual(
    rules.cutsMs,
    ['2026-01-01', '2026-02-01', '2026-11-20'].map((day) => Date.parse(day)),
  );
});

test('other rules have another fingerprint, the same in another card the same; a card without rules has none', () => {
  const first = rulesOf(CARD)?.fingerprint;
  assert.equal(rulesOf(CARD.replace('price: 1', 'price: 2'))?.fingerprint, first);
  assert.notEqual(rulesOf(CARD.replace('bert', 'anna'))?.fingerprint, first);
  assert.equal(rulesOf(CARD.slice(0, CARD.indexOf('attribution'))), undefined);
});
