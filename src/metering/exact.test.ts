import assert from 'node:assert/strict';
import { test } from 'node:test';
import { allocate, Exact, sumOf } from './exact.ts';
import { numbersFrom } from './random-fixture.ts';

test('what binary floats get wrong is right', () => {
  assert.equal(Exact.from('0.1').plus(Exact.from('0.2')).toString(), '0.3');
  assert.equal(Exact.from('1.005').toFixed(2, 'half-up'), '1.01');
  assert.equal(Exact.from('9007199254740993').toString(), '9007199254740993');
});

test('a third taken three times is the whole', () => {
  const third = Exact.of(1, 3);
  assert.ok(sumOf([third, third, third]).equals(Exact.one));
  assert.equal(third.isDecimal, false);
  assert.throws(() => third.toString(), { code: 'exact.endless' });
});

test('28 decimals are rounded at the last one, each mode its way', () => {
  const half = Exact.from('0.00000000000000000000000000005');
  const [even, up, down, away] = (['half-even', 'half-up', 'down', 'up'] as const).map((mode) =>
    half.toFixed(28, mode),
  );
  assert.deepEqual(
    [even, up, down, away],
    [`0.${'0'.repeat(28)}`, `0.${'0'.repeat(27)}1`, `0.${'0'.repeat(28)}`, `0.${'0'.repeat(27)}1`],
  );
  assert.equal(Exact.of(2, 3).toFixed(28), `0.${'6'.repeat(27)}7`);
  assert.equal(Exact.from('-2.5').toFixed(0), '-2');
  assert.equal(Exact.from('-3.5').toFixed(0), '-4');
  assert.equal(Exact.from('-2.5').toFixed(0, 'half-up'), '-3');
  assert.equal(Exact.of(-1, 3).toFixed(2, 'up'), '-0.34');
  assert.equal(Exact.of(-1, 1000).toFixed(2), '0.00');
});

test('only plain decimals of a sane length are numbers', () => {
  for (const text of [
    '',
    '.5',
    '5.',
    '1e5',
    '0x10',
    '1_000',
    '1,5',
    'NaN',
    'Infinity',
    '9'.repeat(41),
    `0.${'1'.repeat(41)}`,
  ])
    assert.equal(Exact.parse(text), undefined, text);
  assert.equal(Exact.parse('-00.50')?.toString(), '-0.5');
  assert.throws(() => Exact.from('x'), { code: 'exact.malformed' });
  assert.throws(() => Exact.one.over(Exact.zero), { code: 'exact.zero_division' });
});

test('parts add up to the whole, and none is a digit away from its share', () => {
  const numbers = numbersFrom(1);
  for (let round = 0; round < 300; round += 1) {
    const whole = Exact.of(numbers.upTo(10_000_000) - 5_000_000, numbers.upTo(997) + 1);
    const weights = Array.from({ length: numbers.upTo(9) + 1 }, () => Exact.of(numbers.upTo(50), numbers.upTo(7) + 1));
    const rounding = { decimals: numbers.upTo(29), mode: 'half-even' as const };
    const parts = allocate(whole, weights, rounding);
    const total = sumOf(weights);
    if (total.isZero) {
      assert.deepEqual(parts, []);
      continue;
    }
    const rounded = whole.rounded(rounding.decimals);
    assert.ok(sumOf(parts).equals(rounded));
    for (const [index, part] of parts.entries()) {
      const share = rounded.times(weights[index] ?? Exact.zero).over(total);
      const off = part.minus(share).times(Exact.of(10n ** BigInt(rounding.decimals)));
      assert.ok(off.compare(Exact.one) < 0 && off.compare(Exact.of(-1)) > 0);
    }
  }
});

test('sums, products and quotients agree with one another on random fractions', () => {
  const numbers = numbersFrom(2);
  const any = (): Exact => Exact.of(numbers.upTo(2000) - 1000, numbers.upTo(60) + 1);
  for (let round = 0; round < 500; round += 1) {
    const [a, b, c] = [any(), any(), any()];
    assert.ok(
      a
        .plus(b)
        .times(c)
        .equals(a.times(c).plus(b.times(c))),
    );
    if (!c.isZero) assert.ok(a.over(c).times(c).equals(a));
    assert.equal(a.compare(b), -b.compare(a));
    assert.ok(Exact.of(a.floor()).compare(a) <= 0 && Exact.of(a.floor() + 1n).compare(a) > 0);
  }
});
