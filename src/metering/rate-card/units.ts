/**
 * What can be priced, and in which units. Usage is counted in base units, all of them whole: vCPU·ms, byte·ms,
 * address·ms, IOPS·ms, processor ns, bytes, operations. A price's unit says how many of those one of it is.
 */
import { GIB, KIB, MIB } from '#base';
import { Exact } from '../exact.ts';

/** `disk` may be followed by a class, `disk:ssd`, and `disk-operations` by `:read` or `:write`; the others stand alone. */
export const RESOURCES = [
  'vcpu',
  'memory',
  'disk',
  'address',
  'provisioned-iops',
  'cpu-used',
  'network-in',
  'network-out',
  'disk-operations',
  'disk-read',
  'disk-written',
  'memory-used',
] as const;
export type ResourceKind = (typeof RESOURCES)[number];
/** A kind, or `disk:CLASS`, or `disk-operations:read|write`. */
export type Resource = string;

export interface Unit {
  readonly name: string;
  /** Base units in one, without its time. */
  readonly baseUnits: bigint;
  /** The time in it; `none` for things that are counted, not held. */
  readonly time: 'hour' | 'month' | 'none';
  /** How long a base unit lasts, in ms; 1 unless told. Of a rate of what is counted one for each second is one. */
  readonly baseTimeMs?: bigint;
  /** As FOCUS writes units: plural, `GiB-Hours`. */
  readonly focusName: string;
}

const HOUR_MS = 3_600_000n;
const GB = 1_000_000_000n;

function held(name: string, baseUnits: bigint, focus: string): readonly Unit[] {
  return [
    { name: `${name}-hour`, baseUnits, time: 'hour', focusName: `${focus}-Hours` },
    { name: `${name}-month`, baseUnits, time: 'month', focusName: `${focus}-Months` },
  ];
}

const SIZES = [
  ...held('MiB', BigInt(MIB), 'MiB'),
  ...held('GiB', BigInt(GIB), 'GiB'),
  ...held('TiB', BigInt(KIB * GIB), 'TiB'),
  ...held('GB', GB, 'GB'),
  ...held('TB', GB * 1000n, 'TB'),
];

const counted = (name: string, baseUnits: bigint, focusName = name): Unit => ({
  name,
  baseUnits,
  time: 'none',
  focusName,
});
/** What is counted as a rate: one for each second, for an hour or a month. */
const rates = (name: string, focus: string): readonly Unit[] =>
  held(name, 1n, focus).map((unit) => ({ ...unit, baseTimeMs: 1_000n }));

const TRAFFIC = [
  counted('MiB', BigInt(MIB)),
  counted('GiB', BigInt(GIB)),
  counted('TiB', BigInt(KIB * GIB)),
  counted('GB', GB),
  counted('TB', GB * 1000n),
];

const UNITS: Readonly<Record<ResourceKind, readonly Unit[]>> = {
  vcpu: held('vcpu', 1n, 'vCPU'),
  memory: SIZES,
  disk: SIZES,
  address: held('address', 1n, 'Address'),
  'provisioned-iops': held('iops', 1n, 'IOPS'),
  // Nanoseconds of processor time in an hour.
  'cpu-used': [counted('cpu-hour', HOUR_MS * 1_000_000n, 'CPU-Hours')],
  'network-in': TRAFFIC,
  'network-out': TRAFFIC,
  'disk-read': TRAFFIC,
  'disk-written': TRAFFIC,
  // In use, as far as it was seen, not given.
  'memory-used': SIZES,
  'disk-operations': [
    counted('operation', 1n, 'Operations'),
    // FOCUS has a number before the unit, and no words for it.
    counted('million-operations', 1_000_000n, '1000000 Operations'),
    ...rates('iops', 'IOPS'),
  ],
};

/** What may follow a kind. */
const PARTS: Readonly<Record<string, RegExp>> = {
  disk: /^[A-Za-z0-9._-]{1,64}$/,
  'disk-operations': /^(read|write)$/,
};

export function resourceKindOf(resource: string): ResourceKind | undefined {
  const colon = resource.indexOf(':');
  const kind = colon < 0 ? resource : resource.slice(0, colon);
  if (colon >= 0 && PARTS[kind]?.test(resource.slice(colon + 1)) !== true) return undefined;
  return RESOURCES.find((known) => known === kind);
}

export function unitsOf(kind: ResourceKind): readonly Unit[] {
  return UNITS[kind];
}

/** How a `month` in a unit is meant: the calendar's, or always the same number of hours. */
export type MonthLength = 'calendar' | { readonly hours: number };

/** Base units (·ms) in one `unit` at a time in the UTC month that lasts `calendarMonthMs`. */
export function basePerUnit(unit: Unit, month: MonthLength, calendarMonthMs: number): Exact {
  if (unit.time === 'none') return Exact.of(unit.baseUnits);
  const { baseTimeMs = 1n } = unit;
  if (unit.time === 'hour') return Exact.of(unit.baseUnits * HOUR_MS, baseTimeMs);
  const monthMs = month === 'calendar' ? BigInt(calendarMonthMs) : BigInt(month.hours) * HOUR_MS;
  return Exact.of(unit.baseUnits * monthMs, baseTimeMs);
}
