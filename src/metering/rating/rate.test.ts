import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { GIB } from '#base';
import { Exact, sumOf } from '../exact.ts';
import { numbersFrom } from '../random-fixture.ts';
import type { RateCard } from '../rate-card/card.ts';
import { loadRateCard } from '../rate-card/parse-card.ts';
import type { AllocationInterval, CounterSample, HostInterval, UsageFacts } from '../usage/facts.ts';
import { monthSpan } from '../usage/time-cuts.ts';
import type { Charge } from './charge.ts';
import { rate } from './rate.ts';

const at = (text: string): number => Date.parse(text);
const example = loadRateCard(
  /```yaml\n([\s\S]*?)```/.exec(readFileSync(new URL('../../../docs/cost.md', import.meta.url), 'utf8'))?.[1] ?? '',
  'docs/cost.md',
);

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
    vcpus: 2,
    memoryBytes: 4 * GIB,
    sharedMemory: undefined,
    disks: [],
    addresses: 0,
    startMs: at('2026-11-15T10:00:00Z'),
    endMs: at('2026-11-15T11:00:00Z'),
    ...change,
  };
}

function card(items: string, more = ''): RateCard {
  const text = `rate-card: t
format: 1
currency: EUR
charge-per: hour
versions:
  - version: v1
    effective: { from: 2026-01-01 }
    items:
${items.replace(/^/gm, '      ')}
${more}`;
  return loadRateCard(text, 't.yaml');
}

const facts = (
  intervals: readonly AllocationInterval[],
  more: { readonly hosts?: readonly HostInterval[]; readonly samples?: readonly CounterSample[] } = {},
): UsageFacts => ({ intervals, hosts: more.hosts ?? [], samples: more.samples ?? [] });

const lines = (charges: readonly Charge[]): string[] =>
  charges.map((one) => `${one.item} ${one.cardVersion} ${one.quantity ?? '-'} × ${one.unitPrice ?? '-'} = ${one.cost}`);

test('a price change in the middle of an hour splits the hour exactly', () => {
  const { charges } = rate(example, '2026-11', facts([interval({})]));
  assert.deepEqual(lines(charges.filter((one) => one.category === 'usage')), [
    'memory autumn 2 × 0.003 = 0.006',
    'cpu autumn 1 × 0.011 = 0.011',
    'memory winter 2 × 0.003 = 0.006',
    'cpu winter 1 × 0.012 = 0.012',
  ]);
  const change = at('2026-11-15T10:30:00Z');
  for (const one of charges.filter((charge) => charge.category === 'usage'))
    assert.ok(one.endMs <= change || one.startMs >= change);
});

test('cost is price × rounded quantity to the last digit, and the basis can be recomputed', () => {
  const { charges } = rate(example, '2026-11', facts([interval({ endMs: at('2026-11-15T10:00:01Z') })]));
  const cpu = charges.find((one) => one.item === 'cpu');
  assert.equal(cpu?.quantity?.toString(), '0.000555555556');
  assert.equal(cpu?.cost.toString(), '0.000006111111116');
  assert.equal(cpu?.basis, '2000 ÷ 3600000 = 0.000555555556 vcpu-hour');
});

test('28 decimals of quantity are rounded once, in the declared mode', () => {
  const one = '- { id: cpu, resource: vcpu, unit: vcpu-hour, price: 0.0000000000000000000000000001 }';
  const precise = card(one, 'rounding: { quantity-decimals: 28, mode: down }');
  const { charges } = rate(precise, '2026-11', facts([interval({ vcpus: 2, endMs: at('2026-11-15T10:20:00Z') })]));
  assert.equal(charges[0]?.quantity?.toString(), `0.${'6'.repeat(28)}`);
  assert.equal(charges[0]?.cost.toString(), `0.${'0'.repeat(28)}${'6'.repeat(28)}`);
});

test('graduated tiers fill step by step over the month, volume tiers price all by the total', () => {
  const sample = (hours: number, gib: number): CounterSample => ({
    vm: 'vm-1',
    atMs: at('2026-11-15T10:00:00Z') + hours * 3_600_000,
    counters: { networkOutBytes: BigInt(gib) * BigInt(GIB) },
    wrapBits: undefined,
  });
  const samples = [sample(0, 0), sample(1, 8), sample(2, 23)];
  const tiered = (mode: string): readonly Charge[] =>
    rate(
      card(
        `- id: out\n  resource: network-out\n  unit: GiB\n  tiers: { mode: ${mode}, per: project, steps: [{ up-to: 10, price: 0 }, { up-to: 20, price: 0.05 }, { price: 0.02 }] }`,
      ),
      '2026-11',
      facts([interval({ endMs: at('2026-11-15T12:00:00Z') })], { samples }),
    ).charges;
  assert.deepEqual(lines(tiered('graduated')), [
    'out v1 8 × 0 = 0',
    'out v1 2 × 0 = 0',
    'out v1 10 × 0.05 = 0.5',
    'out v1 3 × 0.02 = 0.06',
  ]);
  assert.deepEqual(lines(tiered('volume')), ['out v1 8 × 0.02 = 0.16', 'out v1 15 × 0.02 = 0.3']);
  const stepsOf = (mode: string): unknown[] => tiered(mode).map(({ step }) => step);
  assert.deepEqual(
    [stepsOf('graduated'), stepsOf('volume')],
    [
      [1, 1, 2, 3],
      [3, 3],
    ],
  );
});

test('fixed items: prorated by time, whole once, per VM, project and host', () => {
  const fixed = card(
    '- { id: cpu, resource: vcpu, unit: vcpu-hour, price: 0 }',
    `    fixed:
      - { id: licence, per: vm-month, price: 30 }
      - { id: support, per: project-month, price: 49, prorate: none }
      - { id: rack, per: host-month, price: 300 }
`,
  );
  const day = { startMs: at('2026-11-03T00:00:00Z'), endMs: at('2026-11-04T00:00:00Z') };
  const host = { source: 'lab', host: 'h1', vcpus: 8, memoryBytes: 1, overheadVcpus: 0, overheadMemoryBytes: 0 };
  const { charges } = rate(
    fixed,
    '2026-11',
    facts([interval({ ...day }), interval({ ...day, vm: 'vm-2' })], { hosts: [{ ...host, ...monthSpan('2026-11') }] }),
  );
  assert.deepEqual(lines(charges.filter((one) => one.category === 'fixed')).sort(), [
    'licence v1 0.033333333333 × 30 = 0.99999999999',
    'licence v1 0.033333333333 × 30 = 0.99999999999',
    'rack v1 1 × 300 = 300',
    'support v1 1 × 49 = 49',
  ]);
});

test('owners and projects follow dated rules, and usage on either side of a date is apart', () => {
  const day = { startMs: at('2026-11-19T23:30:00Z'), endMs: at('2026-11-20T00:30:00Z') };
  const { charges } = rate(
    example,
    '2026-11',
    facts([interval({ name: 'shop-1', project: undefined, owner: undefined, ...day })]),
  );
  const owners = charges.filter((one) => one.item === 'cpu').map((one) => [one.subject.project, one.subject.owner]);
  assert.deepEqual(owners, [
    ['shop', 'anna'],
    ['shop', 'bert'],
  ]);
});

test('taxes are lines of their own, rounded to the minor unit once', () => {
  const { charges } = rate(example, '2026-11', facts([interval({})]));
  // The support of the project is nobody's in particular: a line of its own.
  const taxes = charges
    .filter((one) => one.category === 'tax')
    .map((one) => [one.subject.owner, one.basis, `${one.cost}`]);
  assert.deepEqual(taxes, [
    ['o', '0.035 × 0.19 = 0.00665, to 2 decimals', '0.01'],
    [undefined, '49 × 0.19 = 9.31, to 2 decimals', '9.31'],
  ]);
});

test('usage without a price is told, not forgotten', () => {
  const { unpriced, charges } = rate(
    card('- { id: cpu, resource: vcpu, unit: vcpu-hour, price: 1, select: { host: other } }'),
    '2026-11',
    facts([interval({})]),
  );
  assert.deepEqual(charges, []);
  assert.deepEqual(
    unpriced.map((one) => [one.resource, one.vms]),
    [
      ['memory', 1],
      ['vcpu', 1],
    ],
  );
});

test('what VMs pay for a host, idle and overhead included, is the price of the whole host', () => {
  const numbers = numbersFrom(6);
  const items = `- { id: cpu, resource: vcpu, unit: vcpu-hour, price: 0.012 }
- { id: memory, resource: memory, unit: GiB-hour, price: 0.003 }`;
  for (const share of ['vcpu', 'memory', 'even', 'unallocated']) {
    const shared = card(items, `    idle: { share: ${share} }\n    overhead: { share: ${share} }\n`);
    for (let round = 0; round < 10; round += 1) {
      const span = { startMs: at('2026-11-02T00:00:00Z'), endMs: at('2026-11-02T09:17:31.003Z') };
      const intervals = Array.from({ length: 1 + numbers.upTo(4) }, (_, index) =>
        interval({
          vm: `vm-${index}`,
          vcpus: 1 + numbers.upTo(3),
          memoryBytes: GIB + numbers.upTo(GIB),
          startMs: span.startMs + numbers.upTo(3_600_000),
          endMs: span.endMs - numbers.upTo(7_200_000),
        }),
      );
      const host = {
        source: 'lab',
        host: 'h1',
        vcpus: 16,
        memoryBytes: 64 * GIB,
        overheadVcpus: 1,
        overheadMemoryBytes: GIB,
        ...span,
      };
      const { charges } = rate(shared, '2026-11', facts(intervals, { hosts: [host] }));
      const hours = Exact.of(span.endMs - span.startMs, 3_600_000);
      const whole = hours
        .times(Exact.from('0.012'))
        .times(Exact.of(16))
        .plus(hours.times(Exact.from('0.003')).times(Exact.of(64)));
      const off = sumOf(charges.map((one) => one.cost)).minus(whole);
      assert.equal(off.toFixed(9), '0.000000000', `${share}: off by ${off.toFixed(15)}`);
      if (share !== 'unallocated')
        assert.ok(charges.filter((one) => one.category === 'idle').some((one) => one.subject.vm !== undefined));
    }
  }
});

test('a machine that two sources show costs its whole once, whoever describes it, and all its VMs share what is idle', () => {
  const numbers = numbersFrom(23);
  const items = '- { id: cpu, resource: vcpu, unit: vcpu-hour, price: 0.012 }';
  const span = { startMs: at('2026-11-02T00:00:00Z'), endMs: at('2026-11-02T05:00:00Z') };
  for (const share of ['vcpu', 'even', 'unallocated']) {
    const shared = card(items, `    idle: { share: ${share} }\n`);
    for (let round = 0; round < 10; round += 1) {
      const turnMs = span.startMs + numbers.upTo(5 * 3_600_000);
      const describedBy = (source: string, startMs: number, endMs: number) => ({
        ...{ source, host: `h-of-${source}`, machine: 'm1', vcpus: 16, memoryBytes: 64 * GIB },
        ...{ overheadVcpus: 0, overheadMemoryBytes: 0, startMs, endMs },
      });
      const hosts = [describedBy('a', span.startMs, turnMs), describedBy('b', turnMs, span.endMs)];
      const intervals = ['a', 'b'].map((source) =>
        interval({ ...span, vm: source, source, host: `h-of-${source}`, machine: 'm1', vcpus: 1 + numbers.upTo(3) }),
      );
      const { charges } = rate(shared, '2026-11', facts(intervals, { hosts }));
      const off = sumOf(charges.map((one) => one.cost)).minus(Exact.from('0.96'));
      assert.equal(off.toFixed(9), '0.000000000', `${share}: off by ${off.toFixed(15)}`);
      assert.equal(new Set(charges.map((one) => one.key)).size, charges.length);
      const idle = charges.filter((one) => one.category === 'idle');
      const payers = new Set(idle.map((one) => one.subject.vm));
      assert.deepEqual([...payers].sort(), share === 'unallocated' ? [undefined] : ['a', 'b']);
    }
  }
});

test('a price or a fee that selects one of a machine’s names is of the machine, once, whichever source describes it', () => {
  const items = `- { id: lab-cpu, resource: vcpu, unit: vcpu-hour, price: 1, select: { source: lab } }`;
  const fixed = `    fixed:
      - { id: licence, per: host-month, price: 100, prorate: none, select: { source: lab } }
      - { id: power, per: host-month, price: 31, prorate: none }
    idle: { share: unallocated }
`;
  const hour = at('2026-11-02T00:00:00Z');
  const machine = { machine: 'm1', vcpus: 4, memoryBytes: 0, overheadVcpus: 0, overheadMemoryBytes: 0 };
  const lab = { source: 'lab', host: 'rack1' };
  const hosts = [
    { ...machine, source: 'own', host: 'rack1', also: [lab], startMs: hour, endMs: hour + 1_800_000 },
    { ...machine, ...lab, startMs: hour + 1_800_000, endMs: hour + 3_600_000 },
  ];
  const { charges } = rate(card(items, fixed), '2026-11', facts([], { hosts }));
  assert.deepEqual(
    charges.map(({ item, category, subject, cost }) => `${item} ${category} ${subject.source} ${cost}`).sort(),
    ['lab-cpu idle lab 2', 'lab-cpu idle lab 2', 'licence fixed lab 100', 'power fixed own 31'],
  );
  assert.equal(new Set(charges.map((one) => one.key)).size, charges.length);
});

test('a share that rounds to nothing has no row, and the ratios of the others are a whole without it', () => {
  const shared = card(
    '- { id: cpu, resource: vcpu, unit: vcpu-hour, price: 0.01 }',
    '    idle: { share: vcpu }\nrounding: { quantity-decimals: 2, mode: half-even }\n',
  );
  const span = { startMs: at('2026-11-02T00:00:00Z'), endMs: at('2026-11-02T01:00:00Z') };
  const intervals = [
    interval({ ...span, vm: 'a', vcpus: 1 }),
    interval({ ...span, vm: 'b', vcpus: 2 }),
    interval({ ...span, vm: 'brief', endMs: span.startMs + 1_000 }),
  ];
  const host = {
    source: 'lab',
    host: 'h1',
    vcpus: 4,
    memoryBytes: 0,
    overheadVcpus: 0,
    overheadMemoryBytes: 0,
    ...span,
  };
  const idle = rate(shared, '2026-11', facts(intervals, { hosts: [host] })).charges.filter(
    (one) => one.category === 'idle',
  );
  assert.deepEqual(idle.map((one) => one.subject.vm).sort(), ['a', 'b']);
  const ratios = idle.map((one) => Exact.from(one.allocation?.ratio ?? '0'));
  assert.equal(sumOf(ratios).toString(), '1');
  assert.equal(sumOf(idle.map((one) => one.quantity ?? Exact.zero)).toString(), '1');
});

test('other hardware under one name within an hour: each machine’s VMs share its own, and no charge is lost', () => {
  const hour = at('2026-11-02T00:00:00Z');
  const shared = card('- { id: cpu, resource: vcpu, unit: vcpu-hour, price: 1 }', '    idle: { share: vcpu }\n');
  const time = [
    { machine: 'm1', startMs: hour, endMs: hour + 1_800_000 },
    { machine: 'm2', startMs: hour + 1_800_000, endMs: hour + 3_600_000 },
  ];
  const host = { source: 'lab', host: 'h1', vcpus: 4, memoryBytes: 0, overheadVcpus: 0, overheadMemoryBytes: 0 };
  const { charges } = rate(
    shared,
    '2026-11',
    facts(
      time.map((piece) => interval({ ...piece, vcpus: 2 })),
      { hosts: time.map((piece) => ({ ...host, ...piece })) },
    ),
  );
  assert.deepEqual(lines(charges), ['cpu v1 2 × 1 = 2', 'cpu v1 2 × 1 = 2']);
  assert.deepEqual(
    charges.map(({ category, allocation }) => [category, allocation?.ratio]),
    [
      ['usage', undefined],
      ['idle', '1'],
    ],
  );
});

test('what a host itself needed as it was measured is priced as overhead, and is no idle time any more', () => {
  const span = { startMs: at('2026-11-20T00:00:00Z'), endMs: at('2026-11-20T01:00:00Z') };
  const host = { source: 'lab', host: 'h1', vcpus: 8, memoryBytes: 64 * GIB, overheadVcpus: 0, overheadMemoryBytes: 0 };
  const measured = { vcpus: Exact.of(1, 3), memoryBytes: Exact.of(GIB, 3) };
  const costOf = (hosts: readonly HostInterval[], category: Charge['category']): Exact => {
    const { charges } = rate(example, '2026-11', facts([], { hosts }));
    return sumOf(charges.filter((one) => one.category === category).map((one) => one.cost));
  };
  const without = [{ ...host, ...span }];
  const with_ = [{ ...host, ...span, measured }];
  assert.ok(costOf(without, 'overhead').isZero);
  // A third of a processor for an hour, and of a GiB.
  assert.equal(costOf(with_, 'overhead').toFixed(9), '0.005000000');
  assert.equal(costOf(without, 'idle').minus(costOf(with_, 'idle')).toFixed(9), '0.005000000');
});

test('rating is a function: the same facts in another order give the same charges', () => {
  const intervals = Array.from({ length: 12 }, (_, index) => interval({ vm: `vm-${index}`, tags: { n: `${index}` } }));
  const [forward, backward] = [
    rate(example, '2026-11', facts(intervals)),
    rate(example, '2026-11', facts([...intervals].reverse())),
  ];
  const keys = (charges: readonly Charge[]): string[] => charges.map((one) => `${one.key} ${one.cost}`).sort();
  assert.deepEqual(keys(forward.charges), keys(backward.charges));
  assert.equal(new Set(forward.charges.map((one) => one.key)).size, forward.charges.length);
});

test('charges by the hour, the day and the month cost the same, and each month’s price change is kept', () => {
  const span = { startMs: at('2026-11-10T03:20:00Z'), endMs: at('2026-11-18T00:00:00Z') };
  const host = {
    source: 'lab',
    host: 'h1',
    vcpus: 8,
    memoryBytes: 64 * GIB,
    overheadVcpus: 1,
    overheadMemoryBytes: GIB,
    ...span,
  };
  const results = (['hour', 'day', 'month'] as const).map((chargePer) =>
    rate({ ...example, chargePer, taxes: [] }, '2026-11', facts([interval(span)], { hosts: [host] })),
  );
  const totals = results.map((one) => sumOf(one.charges.map((charge) => charge.cost)).toFixed(8));
  assert.equal(new Set(totals).size, 1, totals.join());
  const counts = results.map(
    (one) => one.charges.filter((charge) => charge.item === 'cpu' && charge.category === 'usage').length,
  );
  assert.deepEqual(counts, [190, 9, 2]);
});

test('operations are priced as a count or as a rate, together or reads and writes apart, and FOCUS has their unit', () => {
  const [startMs, endMs] = [at('2026-11-15T10:00:00Z'), at('2026-11-15T11:00:00Z')];
  const piece = { vm: 'vm-1', startMs, endMs };
  const used: UsageFacts = {
    ...facts([interval({ startMs, endMs })]),
    consumed: [
      { ...piece, counter: 'diskReadOperations', amount: 9_000_000n },
      { ...piece, counter: 'diskWriteOperations', amount: 1_800_001n },
    ],
  };
  const priced = (...items: string[]): string[] => {
    const { charges } = rate(card(items.map((one) => `- { ${one} }`).join('\n')), '2026-11', used);
    return charges.map((one) => `${one.resource} ${one.basis} × ${one.unitPrice} = ${one.cost}; ${one.focusUnit}`);
  };
  const hourly = '10800001 ÷ 3600 = 3000.000277777778 iops-hour';
  assert.deepEqual(priced('id: all, resource: disk-operations, unit: iops-hour, price: 0.01'), [
    `disk-operations ${hourly} × 0.01 = 30.00000277777778; IOPS-Hours`,
  ]);
  // November has 2,592,000 seconds.
  assert.deepEqual(priced('id: all, resource: disk-operations, unit: iops-month, price: 2'), [
    'disk-operations 10800001 ÷ 2592000 = 4.166667052469 iops-month × 2 = 8.333334104938; IOPS-Months',
  ]);
  assert.deepEqual(priced('id: all, resource: disk-operations, unit: million-operations, price: 0.2'), [
    'disk-operations 10800001 ÷ 1000000 = 10.800001 million-operations × 0.2 = 2.1600002; 1000000 Operations',
  ]);
  assert.deepEqual(
    priced(
      'id: reads, resource: "disk-operations:read", unit: million-operations, price: 0.1',
      'id: rest, resource: disk-operations, unit: operation, price: 0.000001',
    ),
    [
      'disk-operations:read 9000000 ÷ 1000000 = 9 million-operations × 0.1 = 0.9; 1000000 Operations',
      'disk-operations:write 1800001 ÷ 1 = 1800001 operation × 0.000001 = 1.800001; Operations',
    ],
  );
  assert.throws(
    () => priced('id: x, resource: "disk-operations:erase", unit: operation, price: 1'),
    /disk-operations:erase/,
  );
  assert.throws(() => priced('id: x, resource: disk-operations, unit: GiB, price: 1'), /iops-hour/);
  assert.deepEqual(
    rate(card('- { id: cpu, resource: vcpu, unit: vcpu-hour, price: 1 }'), '2026-11', used).unpriced.map(
      ({ resource, amount }) => `${resource} ${amount}`,
    ),
    ['disk-operations 10800001', `memory ${4n * BigInt(GIB) * 3_600_000n}`],
  );
});
