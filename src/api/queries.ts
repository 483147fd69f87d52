/** What calls take: queries and bodies, each parsed once. Unknown names are refused. */
import * as v from 'valibot';
import { FILTER_NAMES, type FilterName, type Filters, POWER_VERBS, SORT_KEYS } from '#fleet';

const MOST_ON_A_PAGE = 1_000;
const USUAL_PAGE = 100;

const wholeNumber = v.pipe(v.string(), v.regex(/^[0-9]{1,15}$/, 'is no whole number'), v.transform(Number));

const limit = v.optional(
  v.pipe(wholeNumber, v.minValue(1), v.maxValue(MOST_ON_A_PAGE, `is more than ${MOST_ON_A_PAGE}, the most on a page`)),
  String(USUAL_PAGE),
);

const truth = v.pipe(
  v.picklist(['0', '1', 'true', 'false'], 'is neither true nor false'),
  v.transform((word) => word === '1' || word === 'true'),
);

/** RFC 3339 with a time zone, or milliseconds since 1970. */
const instant = v.pipe(
  v.string(),
  v.regex(
    /^([0-9]{10,15}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?(Z|[+-][0-9]{2}:[0-9]{2}))$/,
    'is no instant: 2026-11-22T10:00:00Z or milliseconds since 1970',
  ),
  v.transform((word) => (/^[0-9]+$/.test(word) ? Number(word) : Date.parse(word))),
  v.check((ms) => Number.isFinite(ms), 'is no day that exists'),
);

const filter = v.pipe(
  v.string(),
  v.regex(
    new RegExp(`^(${FILTER_NAMES.join('|')})=.`),
    `is no filter: NAME=VALUE with one of ${FILTER_NAMES.join(', ')}`,
  ),
  v.transform((word): [FilterName, string] => {
    const equals = word.indexOf('=');
    return [word.slice(0, equals) as FilterName, word.slice(equals + 1)];
  }),
);

const after = v.optional(v.pipe(v.string(), v.maxLength(500)));

export const ListQuerySchema = v.strictObject({
  filter: v.optional(v.pipe(v.array(filter), v.maxLength(50)), []),
  sort: v.optional(v.picklist(SORT_KEYS), 'name'),
  descending: v.optional(truth, 'false'),
  limit,
  after,
  all: v.optional(truth, 'false'),
});

export const SearchQuerySchema = v.strictObject({
  q: v.pipe(v.string(), v.minLength(1), v.maxLength(200)),
  limit,
  after,
  all: v.optional(truth, 'false'),
});

export const SpanQuerySchema = v.strictObject({ from: v.optional(instant), to: v.optional(instant), limit, after });
export const HoursQuerySchema = v.strictObject({
  from: v.optional(instant),
  to: v.optional(instant),
  host: v.optional(v.pipe(v.string(), v.minLength(1), v.maxLength(1_024))),
});
export const AtQuerySchema = v.strictObject({ time: instant, limit, after });

export const TopQuerySchema = v.strictObject({
  intervalMs: v.optional(v.pipe(wholeNumber, v.minValue(100), v.maxValue(60_000)), '1000'),
});

/** Names of queries that may be given more than once. */
export const REPEATABLE: ReadonlySet<string> = new Set(['filter', 'month']);

export const AddSourceSchema = v.strictObject({
  name: v.string(),
  url: v.pipe(v.string(), v.maxLength(2_000)),
  credentials: v.optional(v.strictObject({ user: v.string(), password: v.string() })),
  pin: v.optional(v.pipe(v.string(), v.description('SHA-256 of the certificate, 64 hex digits'))),
  allowPower: v.optional(v.boolean()),
  everyMs: v.optional(v.pipe(v.number(), v.integer())),
  sampleEveryMs: v.optional(v.pipe(v.number(), v.integer(), v.description('how often counters are read; 60,000'))),
});

export const PaceSchema = v.strictObject({
  everyMs: v.optional(v.pipe(v.number(), v.integer())),
  sampleEveryMs: v.optional(v.pipe(v.number(), v.integer())),
});

export const PowerSchema = v.strictObject({ verb: v.picklist(POWER_VERBS) });

export function filtersOf(pairs: readonly (readonly [FilterName, string])[]): Filters {
  const filters = new Map<FilterName, string[]>();
  for (const [name, value] of pairs) filters.set(name, [...(filters.get(name) ?? []), value]);
  return filters;
}
