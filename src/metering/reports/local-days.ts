/** Days as a time zone has them: 23 and 25 hours when clocks change. Pure, but for the zone data that Node brings. */
import { BerthError } from '#base';

/** Every zone in use changes its offset at a multiple of this. @source IANA time zone database, zones of today */
const STEP_MS = 15 * 60_000;

export interface DayCalendar {
  /** `[startMs, endMs)` cut at midnights, each piece with its local date `2026-11-01`. */
  pieces(startMs: number, endMs: number): readonly DayPiece[];
}

export interface DayPiece {
  readonly date: string;
  readonly startMs: number;
  readonly endMs: number;
}

/** @throws zone.unknown (invalid) */
export function dayCalendar(zone: string): DayCalendar {
  const format = formatFor(zone);
  const dates = new Map<number, string>();
  const dateAt = (ms: number): string => {
    const step = Math.floor(ms / STEP_MS);
    const known = dates.get(step);
    if (known !== undefined) return known;
    const date = format(step * STEP_MS);
    dates.set(step, date);
    return date;
  };
  return {
    pieces: (startMs, endMs) => {
      const pieces: DayPiece[] = [];
      let [from, date] = [startMs, dateAt(startMs)];
      for (let at = (Math.floor(startMs / STEP_MS) + 1) * STEP_MS; at < endMs; at += STEP_MS) {
        const next = dateAt(at);
        if (next === date) continue;
        pieces.push({ date, startMs: from, endMs: at });
        [from, date] = [at, next];
      }
      pieces.push({ date, startMs: from, endMs });
      return pieces;
    },
  };
}

function formatFor(zone: string): (ms: number) => string {
  if (zone === 'UTC') return (ms) => new Date(ms).toISOString().slice(0, 10);
  try {
    const parts = new Intl.DateTimeFormat('en-CA', {
      timeZone: zone,
      year: 'numeric',
      month: '2-digit',
      day: '2-digit',
    });
    return (ms) => parts.format(ms);
  } catch (error) {
    throw new BerthError('invalid', 'zone.unknown', `there is no time zone ${JSON.stringify(zone)}`, {
      hint: 'use a name such as Europe/Berlin or UTC',
      cause: error,
    });
  }
}
