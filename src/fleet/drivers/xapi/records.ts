/**
 * XAPI's records as values: what of each class is looked at, read by a schema. Pure.
 *
 * int is a 64-bit number as text (JSON-RPC of some versions writes it as a number); datetime is text in one of two forms;
 * a reference that points to nothing is `OpaqueRef:NULL`, or empty. Fields that a version does not have yet have a default;
 * a record that lacks what it cannot be without is told as unreadable and the others are kept.
 *
 * @source XenAPI reference: classes VM, host, VBD, VDI, SR, VIF, network, VM_metrics, VM_guest_metrics, host_metrics
 */
import * as v from 'valibot';

/** Records of one class in one answer, references of one VM, entries of one map. */
const MOST_RECORDS = 200_000;
const MOST_REFERENCES = 512;
const MOST_ENTRIES = 1_024;

const word = v.fallback(v.string(), '');
const flag = v.fallback(v.boolean(), false);
const required = v.pipe(v.string(), v.minLength(1), v.maxLength(1_024));
/** Below zero stands for "not known" in some fields. */
const amount = v.fallback(
  v.pipe(
    v.union([v.number(), v.pipe(v.string(), v.regex(/^-?[0-9]{1,19}$/), v.transform(Number))]),
    v.transform((value) => (Number.isFinite(value) && value >= 0 ? value : null)),
  ),
  null,
);
const reference = v.fallback(
  v.pipe(
    v.string(),
    v.transform((value) => (value === '' || value === 'OpaqueRef:NULL' ? null : value)),
  ),
  null,
);
const references = v.fallback(v.pipe(v.array(v.string()), v.maxLength(MOST_REFERENCES)), []);
const words = v.fallback(v.pipe(v.array(v.string()), v.maxLength(MOST_REFERENCES)), []);
const map = v.fallback(
  v.pipe(
    v.record(v.string(), v.string()),
    v.check((entries) => Object.keys(entries).length <= MOST_ENTRIES),
  ),
  {},
);
const datetime = v.fallback(v.pipe(v.string(), v.transform(timeOf)), null);

const VmSchema = v.object({
  uuid: required,
  name_label: v.string(),
  power_state: v.string(),
  is_a_template: flag,
  is_a_snapshot: flag,
  is_control_domain: flag,
  resident_on: reference,
  VCPUs_at_startup: amount,
  memory_dynamic_max: amount,
  memory_static_max: amount,
  VBDs: references,
  VIFs: references,
  metrics: reference,
  guest_metrics: reference,
  tags: words,
  other_config: map,
  platform: map,
  /** Absent before XenServer 7.5; then the policy tells HVM from PV by not being empty. */
  domain_type: word,
  HVM_boot_policy: word,
  HVM_boot_params: map,
});
const HostSchema = v.object({
  uuid: required,
  name_label: v.string(),
  address: word,
  enabled: flag,
  metrics: reference,
  cpu_info: map,
  software_version: map,
  other_config: map,
});
const VbdSchema = v.object({ userdevice: word, type: word, VDI: reference });
const VdiSchema = v.object({
  virtual_size: amount,
  physical_utilisation: amount,
  SR: reference,
  location: word,
  sm_config: map,
});
const SrSchema = v.object({ name_label: word });
const VifSchema = v.object({ device: word, MAC: word, network: reference });
const NetworkSchema = v.object({ name_label: word });
const VmMetricsSchema = v.object({ install_time: datetime, current_domain_type: word });
const GuestMetricsSchema = v.object({
  os_version: map,
  networks: map,
  PV_drivers_version: map,
  PV_drivers_detected: flag,
  PV_drivers_up_to_date: flag,
});
const HostMetricsSchema = v.object({ memory_total: amount });

export const CLASSES = {
  VM: VmSchema,
  host: HostSchema,
  VBD: VbdSchema,
  VDI: VdiSchema,
  SR: SrSchema,
  VIF: VifSchema,
  network: NetworkSchema,
  VM_metrics: VmMetricsSchema,
  VM_guest_metrics: GuestMetricsSchema,
  host_metrics: HostMetricsSchema,
} as const;

export type ClassName = keyof typeof CLASSES;
export type RecordOf<Name extends ClassName> = Readonly<v.InferOutput<(typeof CLASSES)[Name]>>;
export type VmRecord = RecordOf<'VM'>;
export type HostRecord = RecordOf<'host'>;

/** In the order in which they are read: what a VM refers to comes after it, so that it is at least as new. */
export const CLASS_NAMES = Object.keys(CLASSES) as ClassName[];

export interface Unreadable {
  readonly ref: string;
  /** When at least that can be read. */
  readonly uuid: string | undefined;
}

/** @returns undefined when it is not what it should be. */
export function readRecord<Name extends ClassName>(name: Name, value: unknown): RecordOf<Name> | undefined {
  const parsed = v.safeParse(CLASSES[name], value);
  return parsed.success ? (Object.freeze(parsed.output) as RecordOf<Name>) : undefined;
}

const AllRecordsSchema = v.pipe(
  v.record(v.string(), v.unknown()),
  v.check((all) => Object.keys(all).length <= MOST_RECORDS),
);

/** What `get_all_records` answers: records by reference. Undefined when it is no such thing. */
export function readAllRecords<Name extends ClassName>(
  name: Name,
  value: unknown,
): { readonly records: Map<string, RecordOf<Name>>; readonly unreadable: readonly Unreadable[] } | undefined {
  const parsed = v.safeParse(AllRecordsSchema, value);
  if (!parsed.success) return undefined;
  const records = new Map<string, RecordOf<Name>>();
  const unreadable: Unreadable[] = [];
  for (const [ref, one] of Object.entries(parsed.output)) {
    const record = readRecord(name, one);
    if (record === undefined) unreadable.push({ ref, uuid: uuidIn(one) });
    else records.set(ref, record);
  }
  return { records, unreadable };
}

export function uuidIn(value: unknown): string | undefined {
  const parsed = v.safeParse(v.object({ uuid: required }), value);
  return parsed.success ? parsed.output.uuid : undefined;
}

const EventBatchSchema = v.object({
  token: v.pipe(v.string(), v.minLength(1), v.maxLength(4_096)),
  events: v.pipe(
    v.array(
      v.object({
        class: v.string(),
        operation: v.picklist(['add', 'mod', 'del']),
        ref: required,
        snapshot: v.optional(v.unknown()),
      }),
    ),
    v.maxLength(MOST_RECORDS * 4),
  ),
});
export type EventBatch = Readonly<v.InferOutput<typeof EventBatchSchema>>;

/** What `event.from` answers. Undefined when it is no such thing. */
export function readEvents(value: unknown): EventBatch | undefined {
  const parsed = v.safeParse(EventBatchSchema, value);
  return parsed.success ? parsed.output : undefined;
}

/** `20260131T12:34:56Z` or `2026-01-31T12:34:56Z` → milliseconds; null for neither, and for 1970, which stands for never. */
export function timeOf(text: string): number | null {
  const plain = /^([0-9]{4})-?([0-9]{2})-?([0-9]{2})T([0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?)Z?$/.exec(text);
  if (plain === null) return null;
  const [, year, month, day, time] = plain;
  const ms = Date.parse(`${year}-${month}-${day}T${time}Z`);
  return Number.isFinite(ms) && ms > 0 ? ms : null;
}
