/**
 * What the script answers, read by schemas. Pure.
 *
 * PowerShell 5.1 writes datetimes as `/Date(1769900000000)/` and PowerShell 7 in ISO 8601; WMI's own form is
 * `20260131123456.000000+060`. Some lists come as `{"value":[…],"Count":n}`, a peculiarity of 5.1.
 *
 * @source Hyper-V WMI provider v2 and Win32 provider, class definitions (names and types are facts)
 */
import * as v from 'valibot';
import { BerthError } from '#base';

const MOST_ROWS = 100_000;

const text = v.fallback(v.string(), '');
const quantity = v.fallback(
  v.nullable(
    v.pipe(
      v.union([v.number(), v.pipe(v.string(), v.regex(/^[0-9]{1,19}$/), v.transform(Number))]),
      v.finite(),
      v.minValue(0),
    ),
  ),
  null,
);
const unwrapped = v.pipe(
  v.unknown(),
  v.transform((value) => (isWrapped(value) ? value.value : value)),
);
const texts = v.fallback(v.pipe(unwrapped, v.array(v.string()), v.maxLength(512)), []);
const time = v.fallback(v.pipe(v.string(), v.transform(timeOf)), null);
/** Rows that are not what they should be are left out: who they were about is told as unread. */
const rows = <Schema extends v.GenericSchema>(schema: Schema) =>
  v.pipe(
    unwrapped,
    v.array(v.unknown()),
    v.maxLength(MOST_ROWS),
    v.transform((all) =>
      all.flatMap((one): v.InferOutput<Schema>[] => {
        const parsed = v.safeParse(schema, one);
        return parsed.success ? [parsed.output] : [];
      }),
    ),
  );

const SystemSchema = v.object({
  Name: v.pipe(v.string(), v.minLength(1), v.maxLength(1_024)),
  ElementName: text,
  EnabledState: v.number(),
  ReplicationMode: quantity,
});
const SettingsSchema = v.object({
  VirtualSystemIdentifier: v.string(),
  ElementName: text,
  BIOSGUID: text,
  CreationTime: time,
  VirtualSystemSubType: text,
  Notes: texts,
});
const AmountSchema = v.object({ InstanceID: v.string(), VirtualQuantity: quantity });
const PortSchema = v.object({ InstanceID: v.string(), Address: text });
const StorageSchema = v.object({ InstanceID: v.string(), ResourceSubType: text, Parent: text, HostResource: texts });
const DeviceSchema = v.object({ InstanceID: v.string(), ResourceSubType: text, Parent: text, AddressOnParent: text });
const DiskSchema = v.object({
  Path: v.string(),
  MaxInternalSize: quantity,
  Format: v.fallback(v.nullable(v.union([v.string(), v.number()])), null),
  FileSize: quantity,
});

const EstateSchema = v.object({
  systems: rows(SystemSchema),
  settings: rows(SettingsSchema),
  memory: rows(AmountSchema),
  processors: rows(AmountSchema),
  synthetic: rows(PortSchema),
  emulated: rows(PortSchema),
  connections: rows(v.object({ InstanceID: v.string(), HostResource: texts })),
  switches: rows(v.object({ Name: v.string(), ElementName: text })),
  storage: rows(StorageSchema),
  devices: rows(DeviceSchema),
  disks: rows(DiskSchema),
  addresses: rows(v.object({ InstanceID: v.string(), IPAddresses: texts })),
  guests: rows(v.object({ SystemName: v.string(), GuestIntrinsicExchangeItems: texts })),
  computer: rows(v.object({ Name: v.string(), TotalPhysicalMemory: quantity, NumberOfLogicalProcessors: quantity })),
  product: rows(v.object({ UUID: text })),
  cpus: rows(v.object({ Name: text, Architecture: quantity })),
  system: rows(v.object({ Caption: text, Version: text, LastBootUpTime: time, LocalDateTime: time })),
});
export type Estate = Readonly<v.InferOutput<typeof EstateSchema>>;

const NameSchema = v.object({
  computer: rows(v.object({ Name: v.string() })),
  system: rows(v.object({ Caption: text, Version: text })),
});
const UseSchema = v.object({
  systems: rows(v.object({ Name: v.string(), ElementName: text, EnabledState: v.number(), ProcessID: quantity })),
  summaries: rows(v.object({ Name: v.string(), MemoryUsage: quantity, NumberOfProcessors: quantity })),
  synthetic: rows(v.object({ InstanceID: v.string() })),
  emulated: rows(v.object({ InstanceID: v.string() })),
  storage: rows(v.object({ InstanceID: v.string(), ResourceSubType: text, HostResource: texts })),
});
export type Use = Readonly<v.InferOutput<typeof UseSchema>>;

/** Raw counters: since the instance is there, whatever their names say. A VM's are in 100 ns. */
const timeRows = rows(v.object({ Name: v.string(), PercentTotalRunTime: quantity }));
const COUNTERS = {
  processors: v.object({ rows: timeRows }),
  cards: v.object({
    rows: rows(v.object({ Name: v.string(), BytesReceivedPersec: quantity, BytesSentPersec: quantity })),
  }),
  drives: v.object({
    rows: rows(
      v.object({
        Name: v.string(),
        ReadBytesPersec: quantity,
        WriteBytesPersec: quantity,
        ReadOperationsPerSec: quantity,
        WriteOperationsPerSec: quantity,
      }),
    ),
  }),
  logical: v.object({ rows: timeRows }),
} as const;
export type CounterClass = keyof typeof COUNTERS;
type RowsOf<Class extends CounterClass> = v.InferOutput<(typeof COUNTERS)[Class]>['rows'];
/** Absent where this Windows does not have the class, or not for this user. */
export type Counters = { readonly [Class in Exclude<CounterClass, 'logical'>]?: RowsOf<Class> | undefined };

const HostUseSchema = v.object({
  computer: rows(v.object({ Name: v.string() })),
  product: rows(v.object({ UUID: text })),
  system: rows(
    v.object({
      LastBootUpTime: time,
      LocalDateTime: time,
      TotalVisibleMemorySize: quantity,
      FreePhysicalMemory: quantity,
    }),
  ),
});
export type HostUse = Readonly<v.InferOutput<typeof HostUseSchema>> & { readonly logical: RowsOf<'logical'> };

export const readEstate = (answer: unknown, where: string): Estate => read(EstateSchema, answer, where);
export const readName = (answer: unknown, where: string) => read(NameSchema, answer, where);
export const readUse = (answer: unknown, where: string): Use => read(UseSchema, answer, where);
export const readHostUse = (answer: unknown, where: string): Omit<HostUse, 'logical'> =>
  read(HostUseSchema, answer, where);
export const readCounters = <Class extends CounterClass>(of: Class, answer: unknown, where: string): RowsOf<Class> =>
  read(COUNTERS[of], answer, where).rows as RowsOf<Class>;

/** @throws hyperv.malformed (invalid) naming what is not what it should be. */
function read<Schema extends v.GenericSchema>(schema: Schema, answer: unknown, where: string): v.InferOutput<Schema> {
  const parsed = v.safeParse(schema, answer);
  if (parsed.success) return Object.freeze(parsed.output);
  const problems = parsed.issues.map(
    (issue) => `${v.getDotPath(issue) ?? 'all of it'}: ${issue.message.slice(0, 100)}`,
  );
  throw new BerthError(
    'invalid',
    'hyperv.malformed',
    `${where} answers wrongly: ${problems.join('; ').slice(0, 1_000)}`,
  );
}

function isWrapped(value: unknown): value is { readonly value: unknown } {
  return typeof value === 'object' && value !== null && 'value' in value && 'Count' in value;
}

/** Milliseconds; null when it is no time, or one before 1971. */
export function timeOf(given: string): number | null {
  const [, date] = /^\/Date\((-?[0-9]{1,15})(?:[+-][0-9]{4})?\)\/$/.exec(given) ?? [];
  const [, day, clock, zone] = /^([0-9]{8})([0-9]{6}\.[0-9]{6})([+-][0-9]{3})$/.exec(given) ?? [];
  let ms = Date.parse(given);
  if (date !== undefined) ms = Number(date);
  else if (day !== undefined && clock !== undefined && zone !== undefined) {
    const iso = `${day.replace(/^(....)(..)(..)$/, '$1-$2-$3')}T${clock.replace(/^(..)(..)(.*)$/, '$1:$2:$3')}Z`;
    ms = Date.parse(iso) - Number(zone) * 60_000;
  }
  return Number.isFinite(ms) && ms > 31_536_000_000 ? ms : null;
}
