import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConfigurations } from './configurations.ts';
import { shapeOf } from './estate.ts';
import { parseListing } from './listing.ts';
import { recorded } from './recordings.ts';

const HEADER =
  'Name                                        ID   Mem VCPUs\tState\tTime(s)   UUID                            Reason-Code\tSecurity Label\n';
const names = (): Map<number, string> =>
  new Map(parseConfigurations(recorded('list.json')).map(({ domid, name }) => [domid, name]));
const row = (name: string, domid: number, columns = '96     1     -b----       3.6', reason = '-'): string =>
  `${name.padEnd(40)} ${String(domid).padStart(5)}    ${columns} 11111111-2222-4333-8444-55555555555${domid % 10}        ${reason}                -\n`;

test('what a real Xen listed is what the rows say, and a name that looks like a row is a name', () => {
  const uuid = (first: string): string => `${first}1111111-2222-4333-8444-555555555555`;
  assert.deepEqual(
    parseListing(recorded('list.txt'), names()).map((one) => Object.values(one)),
    [
      [0, null, 640, 1, 'running', 196, true],
      [1, uuid('1'), 96, 2, 'running', 93, true],
      [2, uuid('2'), 96, 1, 'paused', 105, true],
      [4, uuid('3'), 96, 1, 'off', 43, true],
    ],
  );
});

test('flags and reasons are power states', () => {
  const cases: readonly [flags: string, reason: string, state: string][] = [
    ['r-----', '-', 'running'],
    ['-b----', '-', 'running'],
    ['------', '-', 'running'],
    ['-bp---', '-', 'paused'],
    ['---s--', '0', 'off'],
    ['---s--', '1', 'stopping'],
    ['---s--', '2', 'suspended'],
    ['---sc-', '3', 'crashed'],
    ['-----d', '-', 'stopping'],
    ['---s-d', '0', 'stopping'],
  ];
  for (const [flags, reason, state] of cases) {
    const text = HEADER + row('a', 7, `96     1     ${flags}       3.6`, reason);
    assert.equal(parseListing(text, new Map([[7, 'a']]))[0]?.powerState, state, `${flags} ${reason}`);
  }
});

test('names with blanks, numbers, nothing and more than forty characters', () => {
  const known = new Map([
    [3, 'a b  c 1 2 3'],
    [4, ''],
    [5, 'x'.repeat(60)],
    [6, 'ends with a line break\n'],
  ]);
  const text = HEADER + [...known].map(([domid, name]) => row(name, domid)).join('');
  assert.deepEqual(
    parseListing(text, known).map(({ domid, isNamed }) => [domid, isNamed]),
    [...known.keys()].map((domid) => [domid, true]),
  );
});

test('a domain that came since the names were read is there, and said to be unsure', () => {
  const [first, second] = parseListing(HEADER + row('a', 3) + row('new one', 4), new Map([[3, 'a']]));
  assert.deepEqual([first?.isNamed, second?.isNamed, second?.domid], [true, false, 4]);
  const [renamed] = parseListing(HEADER + row('b', 3), new Map([[3, 'a']]));
  assert.deepEqual([renamed?.isNamed, renamed?.domid], [false, 3]);
});

test('what is no listing is refused by name', () => {
  const refusals: readonly string[] = [
    '',
    'xl: command not found\n',
    `${HEADER}nonsense\n`,
    HEADER + row('a', 3).slice(0, -20),
    HEADER + row('a', 3) + row('b', 3),
    `${HEADER}${row('a', 3)}\n\n`,
    HEADER + row('a', 3, '96     1     rbpscdX      3.6'),
  ];
  for (const text of refusals) assert.throws(() => parseListing(text, new Map()), { code: 'xen.listing' }, text);
});

test('time that goes by is no change; a pause, a name and memory are', () => {
  const before = HEADER + row('a', 3, '96     1     -b----       3.6');
  assert.equal(shapeOf(HEADER + row('a', 3, '96     1     r-----       9.9')), shapeOf(before));
  for (const after of [
    row('a', 3, '96     1     -bp---       3.6'),
    row('b', 3, '96     1     -b----       3.6'),
    row('a', 3, '97     1     -b----       3.6'),
  ])
    assert.notEqual(shapeOf(HEADER + after), shapeOf(before), after);
});
