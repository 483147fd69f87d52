/**
 * Docker's `filters` query parameter. Two shapes are in use: `{"label":{"a=b":true}}` (docker CLI) and
 * `{"label":["a=b"]}` (dockerode, docker-py). An unknown filter is refused, never ignored: a tool that asks for "mine"
 * and gets everything may go on to delete it.
 */
import * as v from 'valibot';
import { BerthError } from '#base';

const Shape = v.record(
  v.string(),
  v.union([v.array(v.string()), v.record(v.string(), v.union([v.boolean(), v.string()]))]),
);

export type Filters = ReadonlyMap<string, readonly string[]>;

/** @throws filter.malformed, filter.unknown (invalid), in dockerd's words. */
export function parseFilters(text: string | null, accepted: readonly string[]): Filters {
  const filters = new Map<string, readonly string[]>();
  if (text === null || text === '') return filters;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new BerthError('invalid', 'filter.malformed', `invalid filter: ${JSON.stringify(text)} is not JSON`);
  }
  const parsed = v.safeParse(Shape, value);
  if (!parsed.success) throw new BerthError('invalid', 'filter.malformed', `invalid filter: ${JSON.stringify(text)}`);
  for (const [name, values] of Object.entries(parsed.output)) {
    if (!accepted.includes(name)) throw new BerthError('invalid', 'filter.unknown', `invalid filter '${name}'`);
    const list = Array.isArray(values)
      ? values
      : Object.entries(values)
          .filter(([, chosen]) => chosen === true || /^(1|t|true)$/i.test(String(chosen)))
          .map(([key]) => key);
    if (list.length > 0) filters.set(name, list);
  }
  return filters;
}

/** `key` or `key=value`, all of which must hold. */
export function labelsMatch(labels: Readonly<Record<string, string>>, wanted: readonly string[] | undefined): boolean {
  return (wanted ?? []).every((want) => {
    const equals = want.indexOf('=');
    if (equals < 0) return Object.hasOwn(labels, want);
    const key = want.slice(0, equals);
    return Object.hasOwn(labels, key) && labels[key] === want.slice(equals + 1);
  });
}

/** A filter's values as booleans, as Docker reads them. @throws filter.malformed (invalid) */
export function booleanFilter(filters: Filters, name: string): boolean | undefined {
  const values = filters.get(name);
  if (values === undefined) return undefined;
  const truths = values.map((value) => {
    if (/^(1|t|true)$/i.test(value)) return true;
    if (/^(0|f|false)$/i.test(value)) return false;
    throw new BerthError('invalid', 'filter.malformed', `invalid filter '${name}=[${value}]'`);
  });
  return truths[0];
}
