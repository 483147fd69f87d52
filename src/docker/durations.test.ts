import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseTime, rfc3339, signalAt } from './durations.ts';

const MINUTE = 60_000;

test('times are printed with nanoseconds, an absent one as Go’s zero', () => {
  assert.equal(rfc3339(undefined), '0001-01-01T00:00:00Z');
  assert.equal(rfc3339(0), '1970-01-01T00:00:00.000000000Z');
  assert.equal(rfc3339(1_700_000_000_123.25), '2023-11-14T22:13:20.123250000Z');
});

test('since and until: seconds, RFC 3339, and durations before now', () => {
  const now = 1_700_000_000_000;
  const expected: [string | null, number | undefined][] = [
    [null, undefined],
    ['', undefined],
    ['0', undefined],
    ['1700000000', now],
    ['1700000000.500000000', now + 500],
    ['2023-11-14T22:13:20Z', now],
    ['2023-11-14T23:13:20.25+01:00', now + 250],
    ['2023-11-14', Date.UTC(2023, 10, 14)],
    ['10m', now - 10 * MINUTE],
    ['1h30m', now - 90 * MINUTE],
    ['1.5s', now - 1_500],
    ['250ms', now - 250],
  ];
  for (const [text, ms] of expected) assert.equal(parseTime(text, now), ms, String(text));
  for (const text of ['yesterday', '-5', '5 apples', '3d', 'May']) {
    assert.throws(() => parseTime(text, now), { code: 'time.malformed' }, text);
  }
});

test('a moment past a timer’s reach does not fire at once', () => {
  assert.equal(signalAt(Number.MAX_SAFE_INTEGER, 0).aborted, false);
});
