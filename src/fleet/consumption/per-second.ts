/** Decimals of a rate: a thousandth of an operation in a second is four in an hour. */
const SCALE = 1_000n;

/**
 * How many there were in a second, on average: decimal text with at most three decimals, rounded half up from the exact quotient. Pure.
 *
 * @param lengthMs - whole milliseconds, more than none.
 */
export function perSecond(count: bigint, lengthMs: number): string {
  const length = BigInt(lengthMs);
  const thousandths = (2n * count * 1_000n * SCALE + length) / (2n * length);
  const digits = String(thousandths % SCALE)
    .padStart(3, '0')
    .replace(/0+$/, '');
  return `${thousandths / SCALE}${digits === '' ? '' : `.${digits}`}`;
}
