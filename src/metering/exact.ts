/**
 * Exact numbers for money: a fraction of two BigInts, never a binary float.
 *
 * Dividing is what decimal libraries cannot do exactly: 100 seconds are 1/36 of an hour, a third of a host has no last
 * digit. As fractions such parts add up to the whole, and rounding happens once, where somebody asks for digits.
 */
import { BerthError } from '#base';

/** How a half is rounded. `half-even` (bankers') is without drift over many charges; `half-up` goes away from zero. */
export type RoundingMode = 'half-even' | 'half-up' | 'down' | 'up';
export const ROUNDING_MODES: readonly RoundingMode[] = ['half-even', 'half-up', 'down', 'up'];

/** Digits a decimal text may have on either side of its point: more is a mistake or an attack on the processor. */
const MOST_DIGITS = 40;
const DECIMAL = /^([+-]?)(\d+)(?:\.(\d+))?$/;

export class Exact {
  static readonly zero = new Exact(0n, 1n);
  static readonly one = new Exact(1n, 1n);
  readonly numerator: bigint;
  /** Always positive, and without a common divisor with the numerator. */
  readonly denominator: bigint;

  private constructor(numerator: bigint, denominator: bigint) {
    this.numerator = numerator;
    this.denominator = denominator;
  }

  /** @throws exact.zero_division (invalid) */
  static of(numerator: bigint | number, denominator: bigint | number = 1n): Exact {
    const [top, bottom] = [BigInt(numerator), BigInt(denominator)];
    if (bottom === 1n) return top === 0n ? Exact.zero : new Exact(top, 1n);
    if (bottom === 0n) throw new BerthError('invalid', 'exact.zero_division', `${top} cannot be divided by zero`);
    const divisor = greatestCommonDivisor(top, bottom);
    const sign = bottom < 0n ? -1n : 1n;
    return new Exact((sign * top) / divisor, (sign * bottom) / divisor);
  }

  /** A plain decimal, `-12.50`; undefined for anything else, an exponent included. */
  static parse(text: string): Exact | undefined {
    const [, sign, whole = '', fraction = ''] = DECIMAL.exec(text) ?? [];
    if (sign === undefined || whole.length > MOST_DIGITS || fraction.length > MOST_DIGITS) return undefined;
    const digits = BigInt(`${sign === '-' ? '-' : ''}${whole}${fraction}`);
    return Exact.of(digits, 10n ** BigInt(fraction.length));
  }

  /** @throws exact.malformed (invalid) when `text` is no plain decimal. */
  static from(text: string): Exact {
    const value = Exact.parse(text);
    if (value !== undefined) return value;
    throw new BerthError('invalid', 'exact.malformed', `${JSON.stringify(text.slice(0, 60))} is not a plain decimal`);
  }

  plus(other: Exact): Exact {
    if (this.denominator === other.denominator) return Exact.of(this.numerator + other.numerator, this.denominator);
    return Exact.of(
      this.numerator * other.denominator + other.numerator * this.denominator,
      this.denominator * other.denominator,
    );
  }

  minus(other: Exact): Exact {
    return this.plus(other.negated());
  }

  times(other: Exact): Exact {
    return Exact.of(this.numerator * other.numerator, this.denominator * other.denominator);
  }

  /** @throws exact.zero_division (invalid) */
  over(other: Exact): Exact {
    return Exact.of(this.numerator * other.denominator, this.denominator * other.numerator);
  }

  negated(): Exact {
    return new Exact(-this.numerator, this.denominator);
  }

  get isZero(): boolean {
    return this.numerator === 0n;
  }

  get isNegative(): boolean {
    return this.numerator < 0n;
  }

  /** Negative, 0 or positive, as for sorting. */
  compare(other: Exact): number {
    const difference = this.numerator * other.denominator - other.numerator * this.denominator;
    return difference < 0n ? -1 : difference > 0n ? 1 : 0;
  }

  equals(other: Exact): boolean {
    return this.numerator === other.numerator && this.denominator === other.denominator;
  }

  /** The nearest number with `decimals` digits after the point. */
  rounded(decimals: number, mode: RoundingMode = 'half-even'): Exact {
    const scale = 10n ** BigInt(decimals);
    return Exact.of(roundedDivision(this.numerator * scale, this.denominator, mode), scale);
  }

  /** The largest whole number that is not above. */
  floor(): bigint {
    const quotient = this.numerator / this.denominator;
    return this.numerator < 0n && quotient * this.denominator !== this.numerator ? quotient - 1n : quotient;
  }

  /** Whether it has a last digit after the point. */
  get isDecimal(): boolean {
    return decimalsOf(this.denominator) !== undefined;
  }

  /** All digits and no more: `0.25`, `-3`. @throws exact.endless (bug) when there is no last digit. */
  toString(): string {
    const decimals = decimalsOf(this.denominator);
    if (decimals === undefined)
      throw new BerthError('bug', 'exact.endless', `${this.numerator}/${this.denominator} has no last digit`);
    return this.toFixed(decimals);
  }

  /** Rounded to `decimals` digits, all of them written. */
  toFixed(decimals: number, mode: RoundingMode = 'half-even'): string {
    const scaled = roundedDivision(this.numerator * 10n ** BigInt(decimals), this.denominator, mode);
    const digits = (scaled < 0n ? -scaled : scaled).toString().padStart(decimals + 1, '0');
    const whole = digits.slice(0, digits.length - decimals);
    const sign = scaled < 0n ? '-' : '';
    return decimals === 0 ? `${sign}${whole}` : `${sign}${whole}.${digits.slice(digits.length - decimals)}`;
  }

  /** For drawing and for choosing among equals. Never for money. */
  toApproximateNumber(): number {
    const whole = this.numerator / this.denominator;
    const rest = this.numerator - whole * this.denominator;
    return Number(whole) + Number(Exact.of(rest, this.denominator).toFixed(15));
  }
}

export function sumOf(values: Iterable<Exact>): Exact {
  let [numerator, denominator] = [0n, 1n];
  for (const value of values) {
    if (value.denominator === denominator) numerator += value.numerator;
    else {
      const total = Exact.of(numerator, denominator).plus(value);
      [numerator, denominator] = [total.numerator, total.denominator];
    }
  }
  return Exact.of(numerator, denominator);
}

/**
 * Divides `whole` by `weights` into parts of `decimals` digits that add up to exactly `whole`, itself rounded once.
 * Each part is at most one last digit from its exact share; the digits left over go to the largest remainders, ties to
 * the first. No parts when all weights are zero.
 */
export function allocate(
  whole: Exact,
  weights: readonly Exact[],
  rounding: { readonly decimals: number; readonly mode: RoundingMode },
): readonly Exact[] {
  const total = sumOf(weights);
  if (total.isZero) return [];
  const scale = 10n ** BigInt(rounding.decimals);
  const units = whole.rounded(rounding.decimals, rounding.mode).times(Exact.of(scale)).floor();
  const shares = weights.map((weight, index) => {
    const share = Exact.of(units).times(weight).over(total);
    const floor = share.floor();
    return { index, floor, remainder: share.minus(Exact.of(floor)) };
  });
  let left = units - shares.reduce((sum, share) => sum + share.floor, 0n);
  const extra = new Set<number>();
  for (const { index } of [...shares].sort((a, b) => b.remainder.compare(a.remainder) || a.index - b.index)) {
    if (left <= 0n) break;
    extra.add(index);
    left -= 1n;
  }
  return shares.map(({ index, floor }) => Exact.of(floor + (extra.has(index) ? 1n : 0n), scale));
}

function roundedDivision(numerator: bigint, denominator: bigint, mode: RoundingMode): bigint {
  const quotient = numerator / denominator;
  const remainder = numerator - quotient * denominator;
  if (remainder === 0n) return quotient;
  const away = numerator < 0n ? quotient - 1n : quotient + 1n;
  const twice = 2n * (remainder < 0n ? -remainder : remainder);
  switch (mode) {
    case 'down':
      return quotient;
    case 'up':
      return away;
    case 'half-up':
      return twice >= denominator ? away : quotient;
    case 'half-even':
      if (twice === denominator) return quotient % 2n === 0n ? quotient : away;
      return twice > denominator ? away : quotient;
  }
}

function greatestCommonDivisor(a: bigint, b: bigint): bigint {
  let [x, y] = [a < 0n ? -a : a, b < 0n ? -b : b];
  while (y !== 0n) [x, y] = [y, x % y];
  return x;
}

/** How many digits after the point 1/denominator has, or undefined when it has no end. */
function decimalsOf(denominator: bigint): number | undefined {
  let [rest, twos, fives] = [denominator, 0, 0];
  for (; rest % 2n === 0n; rest /= 2n) twos += 1;
  for (; rest % 5n === 0n; rest /= 5n) fives += 1;
  return rest === 1n ? Math.max(twos, fives) : undefined;
}
