/** Times on the command line: `10m` ago, `2026-11-22`, `2026-11-22 10:00`, RFC 3339, seconds or milliseconds. Pure. */
import { usageError } from './command-line.ts';

const UNIT_MS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };

/** @returns milliseconds since 1970. Without a time zone it is this machine's. @throws usage (invalid) */
export function parseInstant(text: string, nowMs: number): number {
  if (text === 'now') return nowMs;
  const ago = [...text.matchAll(/([0-9]+)([smhdw])/g)];
  if (ago.length > 0 && ago.map(([whole]) => whole).join('') === text)
    return nowMs - ago.reduce((sum, [, amount, unit = '']) => sum + Number(amount) * (UNIT_MS[unit] ?? 0), 0);
  // Seconds have ten digits until the year 2286.
  if (/^[0-9]{9,10}$/.test(text)) return Number(text) * 1_000;
  if (/^[0-9]{12,15}$/.test(text)) return Number(text);
  const found =
    /^([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ]([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?)(Z|[+-][0-9]{2}:[0-9]{2})?)?$/.exec(
      text,
    );
  const [, day, time = '00:00', zone = ''] = found ?? [];
  const ms = day === undefined ? Number.NaN : Date.parse(`${day}T${time}${zone}`);
  if (Number.isFinite(ms)) return ms;
  throw usageError(`"${text}" is no time`, 'for example 2026-11-22T10:00:00Z, "2026-11-22 10:00", 90m, 2d');
}

/** Local time to the second, as people read it: `2026-11-22 10:00:00`. */
export function instantText(ms: number): string {
  const date = new Date(ms);
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}
