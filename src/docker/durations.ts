/** Times as Docker prints and reads them. */
import { BerthError } from '#base';

/** RFC 3339 with nanoseconds, as in inspect; undefined gives Go's zero time. */
export function rfc3339(ms: number | undefined): string {
  if (ms === undefined) return '0001-01-01T00:00:00Z';
  const whole = Math.floor(ms);
  const nanoseconds = Math.round((ms - whole) * 1e6);
  const text = new Date(whole).toISOString();
  return `${text.slice(0, -1)}${String(nanoseconds).padStart(6, '0')}Z`;
}

/**
 * `since` and `until` of logs and events: unix seconds with a fraction, RFC 3339, or a Go duration before now.
 *
 * @returns milliseconds since the epoch; undefined for absent, empty or "0".
 * @throws time.malformed (invalid)
 */
export function parseTime(text: string | null, nowMs: number): number | undefined {
  if (text === null || text === '' || text === '0') return undefined;
  if (/^[0-9]+(\.[0-9]+)?$/.test(text)) return Number(text) * 1000;
  // Only what begins as a date: Date.parse makes a day in May 2001 of "-5".
  const date = /^[0-9]{4}-[0-9]{2}-[0-9]{2}/.test(text) ? Date.parse(text) : Number.NaN;
  if (!Number.isNaN(date)) return date;
  const ago = parseGoDuration(text);
  if (ago !== undefined) return nowMs - ago;
  throw new BerthError(
    'invalid',
    'time.malformed',
    `failed to parse value as time or duration: ${JSON.stringify(text)}`,
  );
}

/** The longest a timer runs; a later time is as good as never (24.8 days). */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** A signal that fires at `atMs`, at once when that is past. */
export function signalAt(atMs: number, nowMs: number): AbortSignal {
  return AbortSignal.timeout(Math.min(LONGEST_TIMER_MS, Math.max(0, Math.ceil(atMs - nowMs))));
}

function parseGoDuration(text: string): number | undefined {
  const unit: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1_000, ms: 1, us: 1e-3, ns: 1e-6 };
  if (!/^([0-9]+(\.[0-9]+)?(h|ms|m|s|us|ns))+$/.test(text)) return undefined;
  let sum = 0;
  for (const [, number, , name] of text.matchAll(/([0-9]+(\.[0-9]+)?)(h|ms|m|s|us|ns)/g)) {
    sum += Number(number) * (unit[name ?? ''] ?? 0);
  }
  return sum;
}
