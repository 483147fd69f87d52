/** How long a source that failed is left alone. Pure. */
import type { ErrorKind } from '#base';

/** The first try again comes soon: most failures are a restart of the other side. */
const FIRST_MS = 1_000;
const LONGEST_MS = 5 * 60_000;
/** Wrong credentials are tried seldom: directories lock accounts after a handful of failures. */
const LOGIN_MS = 10 * 60_000;
/** A source that fails again before it was up so long goes on where its waiting had got to: it flaps. */
export const STEADY_MS = 60_000;

/**
 * @param failures - in a row, this one counted.
 * @param jitter - 0 to 1: sources that failed together do not come back together.
 */
export function waitAfterFailure(failures: number, kind: ErrorKind, jitter: number): number {
  const isHopeless = kind === 'unauthenticated' || kind === 'denied' || kind === 'unsupported';
  const growing = Math.min(FIRST_MS * 2 ** Math.min(failures - 1, 20), LONGEST_MS);
  const base = isHopeless ? LOGIN_MS : growing;
  return Math.round(base * (0.75 + jitter / 2));
}

/** Failures in a row after a session that lasted `upMs` before it failed; `before` were counted until then. */
export function failuresAfter(before: number, upMs: number): number {
  return upMs >= STEADY_MS ? 1 : before + 1;
}
