import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GIB } from '#base';
import { Exact, sumOf } from '../exact.ts';
import { chargeOf } from '../ledger/charge-fixture.ts';
import type { RateCard } from '../rate-card/card.ts';
import { loadRateCard } from '../rate-card/parse-card.ts';
import { EVERYTHING } from '../rate-card/selector.ts';
import { rate } from '../rating/rate.ts';
import type { AllocationInterval, CounterSample, UsageFacts } from '../usage/facts.ts';
import { budgetStates } from './budgets.ts';
import { compare } from './compare.ts';
import { csvLine, spreadsheetLine } from './csv.ts';
import { explain, explanationText } from './explain.ts';
import { forecast } from './forecast.ts';
import { dayCalendar } from './local-days.ts';
import { reportOf, selected } from './report.ts';

const at = (text: string): number => Date.parse(text);
const HOUR_MS = 3_600_000;

function card(more = '', price = '0.01', currency = 'EUR'): RateCard {
  return loadRateCard(
    `rate-card: ${currency === 'EUR' ? 'house' : 'cloud'}
format: 1
currency: ${currency}
charge-per: hour
versions:
  - version: v1
    effective: { from: 2026-01-01 }
    items:
      - { id: cpu, resource: vcpu, unit: vcpu-hour, price: ${price} }
      - { id: out, resource: network-out, unit: GB, price: 0.1 }
${more}`,
    'card.yaml',
  );
}

function interval(change: Partial<AllocationInterval>): AllocationInterval {
  return {
    vm: 'vm-1',
    name: 'web',
    source: 'lab',
    host: 'h1',
    project: 'p',
    owner: 'o',
    tags: {},
    power: 'running',
    vcpus: 1,
    memoryBytes: GIB,
    sharedMemory: undefined,
    disks: [],
    addresses: 0,
    startMs: at('2026-11-01T00:00:00Z'),
    endMs: at('2026-11-02T00:00:00Z'),
    ...change,
  };
}

const facts = (intervals: readonly AllocationInterval[], samples: readonly CounterSample[] = []): UsageFacts => ({
  intervals,
  hosts: [],
  samples,
});
const reported = (intervals: readonly AllocationInterval[], period = '2026-11') =>
  rate(card(), period, facts(intervals)).charges.map((charge) => ({ charge, isCorrection: false }));

test('days of a time zone have 23, 24 and 25 hours, and half-hour zones their midnights', () => {
  const lengths = (zone: string, from: string, to: string): readonly (readonly [string, number])[] =>
    dayCalendar(zone)
      .pieces(at(from), at(to))
      .map((piece) => [piece.date, (piece.endMs - piece.startMs) / HOUR_MS] as const);
  assert.deepEqual(lengths('Europe/Berlin', '2026-03-28T23:00:00Z', '2026-03-30T22:00:00Z'), [
    ['2026-03-29', 23],
    ['2026-03-30', 24],
  ]);
  assert.deepEqual(lengths('Europe/Berlin', '2026-10-24T22:00:00Z', '2026-10-25T23:00:00Z'), [['2026-10-25', 25]]);
  assert.deepEqual(lengths('Asia/Kolkata', '2026-11-01T18:00:00Z', '2026-11-01T19:00:00Z'), [
    ['2026-11-01', 0.5],
    ['2026-11-02', 0.5],
  ]);
  assert.deepEqual(lengths('UTC', '2028-02-28T12:00:00Z', '2028-03-01T00:00:00Z'), [
    ['2028-02-28', 12],
    ['2028-02-29', 24],
  ]);
  assert.throws(() => dayCalendar('Mars/Base'), { code: 'zone.unknown' });
});

test('a report by day in any zone adds up to the same total', () => {
  const charges = reported(
    [interval({ startMs: at('2026-10-24T00:00:00Z'), endMs: at('2026-10-27T00:00:00Z') })],
    '2026-10',
  );
  const totals = ['UTC', 'Europe/Berlin', 'Asia/Kolkata', 'Pacific/Auckland'].map((zone) => {
    const report = reportOf(charges, { by: ['day'], zone, currency: 'EUR' });
    assert.ok(sumOf(report.rows.map((row) => row.cost)).equals(report.total.cost));
    return report.total.cost.toString();
  });
  assert.deepEqual([...new Set(totals)], ['0.72']);
  const berlin = reportOf(charges, { by: ['day'], zone: 'Europe/Berlin', currency: 'EUR' });
  assert.deepEqual(
    berlin.rows.map((row) => [row.names[0], row.cost.toString()]),
    [
      ['2026-10-24', '0.22'],
      ['2026-10-25', '0.25'],
      ['2026-10-26', '0.24'],
      ['2026-10-27', '0.01'],
    ],
  );
});

test('several dimensions, largest first, corrections apart, filters', () => {
  const charges = [
    ...reported([interval({}), interval({ vm: 'vm-2', name: 'db', vcpus: 4, project: 'q' })]),
    { charge: { ...chargeOf('web', '-1'), period: '2026-10' }, isCorrection: true },
  ];
  const report = reportOf(charges, { by: ['project', 'vm'], zone: 'UTC', currency: 'EUR' });
  assert.deepEqual(
    report.rows.map((row) => [...row.names, row.cost.toString(), row.parts.correction.toString()]),
    [
      ['q', 'db', '0.96', '0'],
      ['p', 'web', '0.24', '0'],
      ['p', 'web “ü”', '-0.012', '-0.012'],
    ],
  );
  assert.equal(report.total.cost.toString(), '1.188');
  assert.equal(selected(charges, { ...EVERYTHING, names: { project: ['q'] } }).length, 24);
});

test('an explanation can be recomputed by hand: basis, price and sum', () => {
  const charges = reported([interval({ vcpus: 3, endMs: at('2026-11-01T00:20:00Z') })]);
  const explained = explain(charges, 'EUR');
  assert.equal(explained.total, '0.01');
  assert.equal(
    explanationText(explained),
    '2026-11-01T00:00:00Z – 2026-11-01T00:20:00Z  web  house/v1: cpu\n' +
      '    3600000 ÷ 3600000 = 1 vcpu-hour\n    1 vcpu-hour × 0.01 = 0.01 EUR\n1 lines, together 0.01 EUR\n',
  );
  for (const line of explained.lines) {
    const [, amount = '', per = '', quantity = ''] = /^(\S+) ÷ (\S+) = (\S+) /.exec(line.basis) ?? [];
    assert.ok(Exact.from(amount).over(Exact.from(per)).rounded(12).equals(Exact.from(quantity)));
    const [, factor = '', price = '', product = ''] = /^(\S+) \S+ × (\S+) = (\S+) /.exec(line.arithmetic) ?? [];
    assert.ok(Exact.from(factor).times(Exact.from(price)).equals(Exact.from(product)));
  }
});

test('a forecast lets go on what is there: VMs, counters, and a fixed item once', () => {
  const now = at('2026-11-16T00:00:00Z');
  const sample = (day: number, bytes: number): CounterSample => ({
    vm: 'vm-1',
    atMs: at('2026-11-01T00:00:00Z') + day * 24 * HOUR_MS,
    counters: { networkOutBytes: BigInt(bytes) },
    wrapBits: undefined,
  });
  const samples = Array.from({ length: 16 }, (_, day) => sample(day, day * 1_000_000_000));
  const more = '    fixed:\n      - { id: licence, per: vm-month, price: 7, prorate: none }\n';
  const here = [interval({ endMs: now }), interval({ vm: 'gone', name: 'gone', endMs: at('2026-11-10T00:00:00Z') })];
  const rating = forecast(card(more), '2026-11', { ...facts(here, samples), atMs: now });
  const costOf = (item: string): string =>
    sumOf(rating.charges.filter((one) => one.item === item).map((one) => one.cost)).toString();
  assert.equal(
    costOf('cpu'),
    Exact.from('0.01')
      .times(Exact.of(30 * 24 + 9 * 24))
      .toString(),
  );
  assert.equal(costOf('out'), '3');
  assert.equal(costOf('licence'), '14');
});

test('the same use under two cards, with and without an exchange rate', () => {
  const question = {
    period: '2026-11',
    by: 'vm' as const,
    facts: facts([interval({}), interval({ vm: 'vm-2', name: 'db', vcpus: 2 })]),
  };
  const cloud = card('', '0.03', 'USD');
  const rows = (exchange: Exact | undefined): unknown =>
    compare(question, card(), { card: cloud, exchange }).rows.map((row) => [
      row.name,
      `${row.first}`,
      `${row.second}`,
      row.difference?.toString(),
    ]);
  assert.deepEqual(rows(undefined), [
    ['db', '0.48', '1.44', undefined],
    ['web', '0.24', '0.72', undefined],
  ]);
  assert.deepEqual(rows(Exact.from('0.5')), [
    ['db', '0.48', '1.44', '0.24'],
    ['web', '0.24', '0.72', '0.12'],
  ]);
  assert.deepEqual(compare(question, card(), { card: cloud, exchange: undefined }).first.unpriced, ['memory']);
});

test('budgets: what is due is due at its threshold, of what was spent or will be', () => {
  const budgets = `budgets:
  - name: p
    amount: 1
    select: { project: p }
    alerts:
      - { at: 24%, webhook: "http://127.0.0.1:1/" }
      - { at: 25%, webhook: "http://127.0.0.1:1/" }
      - { at: 100%, of: forecast, command: [/bin/true] }
`;
  const one = card(budgets);
  const actual = rate(one, '2026-11', facts([interval({}), interval({ vm: 'x', project: 'other' })])).charges;
  const expected = forecast(one, '2026-11', { ...facts([interval({})]), atMs: at('2026-11-02T00:00:00Z') }).charges;
  const { states, due } = budgetStates(one, { period: '2026-11', actual, forecast: expected });
  assert.deepEqual(
    states.map((state) => [`${state.actual}`, `${state.forecast}`]),
    [['0.24', '7.2']],
  );
  assert.deepEqual(
    due.map((alert) => [`${alert.at}`, alert.of]),
    [
      ['0.24', 'actual'],
      ['1', 'forecast'],
    ],
  );
  assert.equal(new Set(due.map((alert) => alert.id)).size, 2);
});

test('CSV quotes what needs it, and gives spreadsheets no formulas to run', () => {
  assert.equal(csvLine(['a', 'b,c', 'd"e', 'f\ng', undefined]), 'a,"b,c","d""e","f\ng",\r\n');
  assert.equal(spreadsheetLine(['=1+1', '-5.2', '@x', '+1', '-', 'ok']), "'=1+1,-5.2,'@x,'+1,-,ok\r\n");
});
