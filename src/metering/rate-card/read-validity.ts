/** From when to when something holds. Pure. */
import type { Validity } from './card.ts';
import type { Place, YamlReader } from './yaml-reader.ts';

/** `{ from: TIME, to: TIME }`. */
export function readValidity(reader: YamlReader, place: Place, what: string): Validity {
  if (place === undefined) {
    reader.problem(place, `${what} is missing: { from: 2026-01-01 }`);
    return { fromMs: 0, toMs: undefined };
  }
  const fields = reader.map(place, what, ['from', 'to']);
  const fromMs = reader.time(fields.get('from'), `from in ${what}`);
  const toPlace = fields.get('to');
  const toMs = toPlace === undefined ? undefined : reader.time(toPlace, `to in ${what}`);
  if (fromMs !== undefined && toMs !== undefined && toMs <= fromMs)
    reader.problem(toPlace, `${what} ends before it begins`);
  return { fromMs: fromMs ?? 0, toMs };
}
