/** UTC hours and months, and cutting time at them. Pure. */
export const HOUR_MS = 3_600_000;

/** `2026-11`: a UTC calendar month, which is also the billing period. */
export type MonthName = string;

/** How long what is kept together may last, in UTC. */
export const WINDOWS = ['hour', 'day', 'month'] as const;
export type Window = (typeof WINDOWS)[number];

/** The beginning of the UTC hour, day or month that `ms` is in. */
export function windowStart(ms: number, window: Window): number {
  if (window === 'month') return monthSpan(monthOf(ms)).startMs;
  const lengthMs = window === 'hour' ? HOUR_MS : 24 * HOUR_MS;
  return Math.floor(ms / lengthMs) * lengthMs;
}

/** The end of it. */
function windowEnd(ms: number, window: Window): number {
  if (window === 'month') return monthSpan(monthOf(ms)).endMs;
  return windowStart(ms, window) + (window === 'hour' ? HOUR_MS : 24 * HOUR_MS);
}

export function monthOf(ms: number): MonthName {
  return new Date(ms).toISOString().slice(0, 7);
}

export function isMonthName(text: string): boolean {
  return /^\d{4}-(0[1-9]|1[0-2])$/.test(text);
}

/** `[startMs, endMs)` of a month. */
export function monthSpan(month: MonthName): { readonly startMs: number; readonly endMs: number } {
  const [year = 0, number = 1] = month.split('-').map(Number);
  return { startMs: Date.UTC(year, number - 1), endMs: Date.UTC(year, number) };
}

export function monthsBetween(fromMs: number, toMs: number): readonly MonthName[] {
  const months: MonthName[] = [];
  for (let at = fromMs; at < toMs; ) {
    const month = monthOf(at);
    months.push(month);
    at = monthSpan(month).endMs;
  }
  return months;
}

/** The moments in `(startMs, endMs)` at which it is cut: the end of every window, and each of the sorted `extra`. */
export function cutsWithin(
  span: { readonly startMs: number; readonly endMs: number },
  { extra, window }: { readonly extra: readonly number[]; readonly window: Window },
): number[] {
  const cuts: number[] = [];
  for (let at = windowEnd(span.startMs, window); at < span.endMs; at = windowEnd(at, window)) cuts.push(at);
  const inside = extra.filter((at) => at > span.startMs && at < span.endMs && at !== windowStart(at, window));
  return inside.length === 0 ? cuts : [...cuts, ...inside].sort((a, b) => a - b);
}

export function timeText(ms: number): string {
  return new Date(ms).toISOString().replace('.000Z', 'Z');
}
