import assert from 'node:assert/strict';
import { test } from 'node:test';
import { UsageReader } from './usage-file.ts';

const HEADER = '{"berth":"usage","version":1,"asOf":"2026-12-01T00:00:00Z"}';

function read(...lines: string[]): ReturnType<UsageReader['finish']> {
  const reader = new UsageReader('u.jsonl');
  for (const line of lines) reader.add(line);
  return reader.finish();
}

const interval = (change: Record<string, unknown>): string =>
  JSON.stringify({
    type: 'interval',
    vm: 'a',
    name: 'web',
    source: 'lab',
    host: 'h1',
    power: 'running',
    vcpus: 1,
    memoryBytes: 1024,
    start: '2026-11-01T00:00:00Z',
    ...change,
  });

test('an open interval ends when the file was written, and the same fact twice is one', () => {
  const facts = read(HEADER, interval({}), '', interval({}));
  assert.equal(facts.intervals.length, 1);
  assert.equal(facts.intervals[0]?.endMs, Date.parse('2026-12-01T00:00:00Z'));
});

test('names that would control a terminal are made harmless', () => {
  const facts = read(HEADER, interval({ name: 'a\u001b[2J\nb', tags: { x: '\u0000' } }));
  assert.equal(facts.intervals[0]?.name, 'a\ufffd[2J\ufffdb');
  assert.deepEqual(facts.intervals[0]?.tags, { x: '\ufffd' });
});

test('counters beyond 2^53 come as text and stay exact', () => {
  const facts = read(
    HEADER,
    '{"type":"sample","vm":"a","at":"2026-11-01T00:00:00Z","counters":{"cpuNs":"18446744073709551615"},"wrapBits":64}',
  );
  assert.equal(facts.samples[0]?.counters.cpuNs, 2n ** 64n - 1n);
});

const host = '{"type":"host","source":"lab","host":"h1","vcpus":2,"memoryBytes":1024,"start":"2026-11-01T00:00:00Z"}';
const overhead = (change: Record<string, unknown>): string =>
  JSON.stringify({
    type: 'overhead',
    source: 'lab',
    host: 'h1',
    cpuNs: '3600000000000',
    memoryByteMs: '3600000',
    start: '2026-11-01T01:00:00Z',
    end: '2026-11-01T02:00:00Z',
    ...change,
  });

test('what a host itself needed, as it was measured, is laid over the time the host was there; said twice it is once', () => {
  const { hosts } = read(HEADER, host, overhead({}), overhead({}));
  assert.deepEqual(
    hosts.map(({ measured }) => [measured?.vcpus.toString(), measured?.memoryBytes.toString()]),
    [
      [undefined, undefined],
      ['1', '1'],
      [undefined, undefined],
    ],
  );
});

test('two measures of one time, and one that lies in two hours, are told with their lines', () => {
  const lines = [overhead({}), overhead({ cpuNs: '5' }), overhead({ end: '2026-11-01T02:00:01Z' })];
  assert.throws(() => read(HEADER, host, ...lines), /u.jsonl:4: overlaps line 3: the overhead of host lab\/h1/);
  assert.throws(() => read(HEADER, host, ...lines), /u.jsonl:5: lies in more than one hour/);
});

test('hosts of one machine are one: what says nothing of it is where its host was, and it cannot be described twice', () => {
  const described = (change: Record<string, unknown>): string => JSON.stringify({ ...JSON.parse(host), ...change });
  const hosts = [
    described({ machine: 'm1', end: '2026-11-02T00:00:00Z' }),
    described({ machine: 'm2', start: '2026-11-02T00:00:00Z' }),
    described({ machine: 'm1', source: 'own', start: '2026-11-02T00:00:00Z' }),
  ];
  const late = { start: '2026-11-03T01:00:00Z', end: '2026-11-03T02:00:00Z' };
  const facts = read(
    HEADER,
    ...hosts,
    interval({ end: '2026-11-01T05:00:00Z' }),
    interval({ vm: 'b', ...late }),
    interval({ vm: 'c', ...late, host: 'h9' }),
    interval({ vm: 'd', ...late, machine: 'm1' }),
    overhead({ source: 'own', ...late }),
  );
  assert.deepEqual(
    facts.intervals.map(({ vm, machine }) => [vm, machine]),
    [
      ['a', 'm1'],
      ['b', 'm2'],
      ['c', undefined],
      ['d', 'm1'],
    ],
  );
  assert.deepEqual(
    facts.hosts.filter((one) => one.measured !== undefined).map((one) => [one.source, one.machine]),
    [['own', 'm1']],
  );
  assert.throws(
    () => read(HEADER, described({ machine: 'm1' }), described({ machine: 'm1', source: 'own' })),
    /u.jsonl:3: overlaps line 2: machine m1 is in two states at once/,
  );
});

test('every wrong line is told, with its number', () => {
  assert.throws(
    () =>
      read(
        HEADER,
        'nonsense',
        interval({ vcpus: -1 }),
        interval({ start: '2026-11-31T00:00:00' }),
        interval({ end: '2026-10-01T00:00:00Z' }),
        interval({ vm: 'b', end: '2026-11-03T00:00:00Z' }),
        interval({ vm: 'b', start: '2026-11-02T00:00:00Z', end: '2026-11-04T00:00:00Z' }),
        interval({ vm: 'c', colour: 'red' }),
        interval({ vm: 'd', sharedMemory: { group: 'g', bytes: 2048 } }),
      ),
    (error: Error) => {
      const lines = error.message.split('\n').slice(1);
      assert.deepEqual(
        lines.map((line) => line.split(':')[1]).sort(),
        ['2', '3', '4', '5', '7', '8', '9'],
        error.message,
      );
      assert.match(error.message, /u.jsonl:7: overlaps line 6: VM b is in two states at once/);
      return true;
    },
  );
  assert.throws(() => read(), /the file is empty/);
  assert.throws(() => read('{"berth":"usage","version":9}'), /u.jsonl:1: must be/);
});
