import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytes } from './fleet-rows.ts';
import { afterKey } from './hidden-input.ts';
import { instantText, parseInstant } from './instants.ts';
import { parseCredentialsText } from './source-credentials.ts';

test('times: ago, days, RFC 3339 and numbers', () => {
  const now = 1_800_000_000_000;
  const expected: [string, number][] = [
    ['now', now],
    ['90m', now - 5_400_000],
    ['1d12h', now - 129_600_000],
    ['2w', now - 1_209_600_000],
    ['2026-11-22T10:00:00Z', Date.UTC(2026, 10, 22, 10)],
    ['2026-11-22 10:00+02:00', Date.UTC(2026, 10, 22, 8)],
    ['2024-02-29T00:00:00.5Z', Date.UTC(2024, 1, 29, 0, 0, 0, 500)],
    ['1795325985', 1_795_325_985_000],
    ['1795325985995', 1_795_325_985_995],
    ['2026-11-22', new Date(2026, 10, 22).getTime()],
  ];
  for (const [text, ms] of expected) assert.equal(parseInstant(text, now), ms, text);
  for (const bad of ['', 'yesterday', '10', '5x', '90m ago', '2026-13-01', '2026-11-22T25:00:00Z', '-5m'])
    assert.throws(() => parseInstant(bad, now), { code: 'usage' }, bad);
  assert.equal(parseInstant(instantText(now), 0), now);
});

test('credentials in every form, and nothing else', () => {
  const expected = { user: 'root', password: 'a:b c' };
  for (const text of ['{"user":"root","password":"a:b c"}', 'root\na:b c\n', 'root\r\na:b c', 'root:a:b c'])
    assert.deepEqual(parseCredentialsText(text), expected, text);
  for (const text of ['', 'root', ':x', '{"user":"root"}', '{', 'root\n\n', '{"user":"","password":"x"}'])
    assert.equal(parseCredentialsText(text), undefined, text);
});

test('keys of a hidden line', () => {
  assert.deepEqual(afterKey(['a'], 'ü'), ['a', 'ü']);
  assert.deepEqual(afterKey(['a', 'b'], '\u007f'), ['a']);
  assert.deepEqual(afterKey(['a', 'b'], '\u0015'), []);
  assert.deepEqual(afterKey(['a'], '\u0001'), ['a']);
  assert.equal(afterKey(['a'], '\r'), 'done');
  assert.equal(afterKey(['a'], '\u0003'), 'interrupted');
  assert.equal(afterKey([], '\u0004'), 'interrupted');
});

test('sizes in the multiples memory is sold in', () => {
  assert.deepEqual([null, 0, 1023, 1024, 8 * 1024 ** 3, 1.5 * 1024 ** 4].map(bytes), [
    '-',
    '0B',
    '1023B',
    '1KiB',
    '8GiB',
    '1.5TiB',
  ]);
});
