/** UTC months: what is kept and let go is whole months, since that is what is reckoned. Pure. */

export interface Month {
  /** `2026-11` */
  readonly name: string;
  readonly startMs: number;
  /** Where the next one begins. */
  readonly endMs: number;
}

export function monthAt(ms: number): Month {
  const date = new Date(ms);
  const [year, month] = [date.getUTCFullYear(), date.getUTCMonth()];
  return {
    name: date.toISOString().slice(0, 7),
    startMs: Date.UTC(year, month),
    endMs: Date.UTC(year, month + 1),
  };
}

/** Where the month begins that was so many months ago: what lies before is older than that, whatever day it is. */
export function monthsAgoMs(nowMs: number, months: number): number {
  const date = new Date(nowMs);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() - months);
}
