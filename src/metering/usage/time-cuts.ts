/** UTC hours and months, and cutting time at them. Pure. */
export const HOUR_MS = 3_600_000;

/** `2026-11`: a UTC calendar month, which is also the billing period. */
export type MonthName = string;

export function hourStart(ms: number): number {
  return Math.floor(ms / HOUR_MS) * HOUR_MS;
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

/** The moments in `(startMs, endMs)` at which it is cut: every full hour, and each of the sorted `extra`. */
export function cutsWithin(
  span: { readonly startMs: number; readonly endMs: number },
  extra: readonly number[],
): number[] {
  const cuts: number[] = [];
  for (let at = hourStart(span.startMs) + HOUR_MS; at < span.endMs; at += HOUR_MS) cuts.push(at);
  const inside = extra.filter((at) => at > span.startMs && at < span.endMs && at % HOUR_MS !== 0);
  return inside.length === 0 ? cuts : [...cuts, ...inside].sort((a, b) => a - b);
}

export function timeText(ms: number): string {
  return new Date(ms).toISOString().replace('.000Z', 'Z');
}
