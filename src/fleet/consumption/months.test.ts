import assert from 'node:assert/strict';
import { test } from 'node:test';
import { monthAt, monthsAgoMs } from './months.ts';

const at = (text: string): number => Date.parse(text);

test('a month begins with its first moment and ends with the next one, leap days and turns of the year too', () => {
  for (const [moment, name, start, end] of [
    ['2024-02-29T23:59:59.999Z', '2024-02', '2024-02-01', '2024-03-01'],
    ['2026-12-31T23:59:59.999Z', '2026-12', '2026-12-01', '2027-01-01'],
    ['2026-12-01T00:00:00Z', '2026-12', '2026-12-01', '2027-01-01'],
  ] as const)
    assert.deepEqual(monthAt(at(moment)), { name, startMs: at(start), endMs: at(end) });
});

test('so many months ago is the beginning of a month, the same on each day of this one', () => {
  for (const day of ['2026-11-01T00:00:00Z', '2026-11-30T23:59:59.999Z']) {
    assert.equal(monthsAgoMs(at(day), 25), at('2024-10-01'));
    assert.equal(monthsAgoMs(at(day), 11), at('2025-12-01'));
  }
  assert.equal(monthsAgoMs(at('2026-03-31T12:00:00Z'), 1), at('2026-02-01'));
});
