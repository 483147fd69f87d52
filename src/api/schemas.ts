/** What berth's own API gives, as schemas: the OpenAPI document shows them, and tests hold answers to them. */
import * as v from 'valibot';

const text = v.string();
const count = v.pipe(v.number(), v.integer());
const instant = v.pipe(count, v.description('milliseconds since 1970, UTC'));
const optionalText = v.nullable(text);
const optionalNumber = v.nullable(v.number());

export const DiskSchema = v.object({
  name: text,
  format: optionalText,
  capacityBytes: optionalNumber,
  allocatedBytes: optionalNumber,
  datastore: optionalText,
  path: optionalText,
});

export const FactsSchema = v.object({
  nativeId: text,
  uuid: optionalText,
  name: text,
  powerState: text,
  hostId: optionalText,
  vcpus: optionalNumber,
  memoryBytes: optionalNumber,
  disks: v.array(DiskSchema),
  nics: v.array(v.object({ mac: optionalText, network: optionalText, model: optionalText, addresses: v.array(text) })),
  guestOs: optionalText,
  firmware: optionalText,
  tools: optionalText,
  tags: v.array(text),
  createdAtMs: optionalNumber,
  virtualization: v.object({
    mode: text,
    accelerator: optionalText,
    paravirtual: v.array(text),
    emulated: v.array(text),
  }),
});

export const VmSchema = v.object({
  id: v.pipe(text, v.description("berth's own id: v12")),
  name: text,
  uuid: optionalText,
  source: v.pipe(text, v.description('the source whose word counts')),
  isStale: v.pipe(v.boolean(), v.description('its source does not answer; the facts are the last ones known')),
  host: optionalText,
  owner: v.pipe(optionalText, v.description('as the rules of the rate card in force say, else its tags')),
  project: optionalText,
  facts: FactsSchema,
  firstSeenMs: instant,
  changedMs: instant,
  goneMs: v.nullable(instant),
});

export const SightingSchema = v.object({
  source: text,
  isStale: v.boolean(),
  nativeId: text,
  facts: FactsSchema,
  firstSeenMs: instant,
  changedMs: instant,
  goneMs: v.nullable(instant),
});

const InstantSchema = v.object({
  atMs: instant,
  observedMs: v.pipe(count, v.description('when berth learned of it')),
  notBeforeMs: v.pipe(count, v.description('it had not happened yet then')),
  how: v.picklist(['event', 'poll', 'told', 'rule']),
});

export const IntervalSchema = v.object({
  vm: text,
  name: text,
  source: text,
  host: optionalText,
  powerState: text,
  vcpus: optionalNumber,
  memoryBytes: optionalNumber,
  diskBytes: optionalNumber,
  addresses: v.pipe(optionalNumber, v.description('how many; null when it was not told')),
  owner: v.pipe(optionalText, v.description('as the rules said then, else its tags')),
  project: optionalText,
  causes: v.array(text),
  movedFrom: optionalText,
  opened: InstantSchema,
  closed: v.nullable(InstantSchema),
});

export const ChangeSchema = v.object({
  vm: text,
  name: text,
  source: text,
  atMs: instant,
  how: v.picklist(['event', 'poll']),
  field: text,
  before: optionalText,
  after: optionalText,
});

export const SourceSchema = v.object({
  id: count,
  name: text,
  url: text,
  driver: text,
  pin: optionalText,
  allowPower: v.boolean(),
  everyMs: count,
  sampleEveryMs: count,
  sampledMs: v.nullable(instant),
  addedMs: instant,
  state: v.picklist(['new', 'up', 'down']),
  sinceMs: instant,
  okMs: v.nullable(instant),
  lookBeganMs: v.nullable(instant),
  toldMs: v.nullable(instant),
  problem: v.nullable(v.object({ kind: text, code: text, message: text, hint: v.optional(text) })),
  fingerprint: v.nullable(v.object({ product: text, version: text, endpoint: text, limits: v.array(text) })),
  hasSecret: v.boolean(),
});

const names = v.array(v.object({ source: text, host: text }));
const machine = v.pipe(text, v.description('what several sources show may be one machine: it has one text'));
const usageOf = { source: text, host: text, vcpus: count, memoryBytes: count, start: text, end: text };

export const UsageSchema = v.variant('type', [
  v.object({
    type: v.literal('interval'),
    ...usageOf,
    machine: v.optional(machine),
    vm: text,
    name: text,
    project: v.optional(text),
    owner: v.optional(text),
    tags: v.record(text, text),
    power: v.picklist(['running', 'paused', 'asleep', 'off', 'unknown']),
    disks: v.array(v.object({ class: text, bytes: count })),
    addresses: count,
  }),
  v.object({ type: v.literal('host'), ...usageOf, machine, also: v.optional(names) }),
  v.object({
    type: v.literal('consumed'),
    vm: text,
    source: text,
    host: text,
    amounts: v.pipe(v.record(text, v.pipe(text, v.regex(/^[0-9]+$/))), v.description('whole numbers as text')),
    rates: v.pipe(
      v.optional(v.record(text, v.pipe(text, v.regex(/^[0-9]+(\.[0-9]{1,3})?$/)))),
      v.description('operations of disks in a second, on average; absent where none were counted'),
    ),
    start: text,
    end: text,
  }),
  v.object({
    type: v.literal('overhead'),
    source: text,
    host: text,
    machine,
    cpuNs: v.pipe(text, v.regex(/^[0-9]+$/), v.description('what the host itself needed, within one UTC hour')),
    memoryByteMs: v.pipe(text, v.regex(/^[0-9]+$/)),
    start: text,
    end: text,
  }),
  v.object({
    type: v.literal('gap'),
    vm: text,
    kind: v.picklist(['late', 'reset', 'ended', 'device', 'absurd']),
    start: text,
    end: text,
  }),
]);

const ShareSchema = v.object({
  capacity: text,
  used: v.pipe(text, v.description('by its VMs')),
  overhead: v.pipe(text, v.description('what the host itself needed: all that it used, less what its VMs did')),
  idle: text,
  unknown: v.pipe(text, v.description('of time in which the host was not read')),
  beyond: v.pipe(text, v.description('used beyond the capacity: capacity + beyond = used + overhead + idle + unknown')),
});

export const HostUseSchema = v.object({
  source: text,
  host: text,
  also: v.pipe(names, v.description('what other sources call the same machine: it is told here, once')),
  start: text,
  end: text,
  cpuNs: v.pipe(ShareSchema, v.description('nanoseconds of processor, whole numbers as text')),
  memoryKibMs: ShareSchema,
  gaps: v.pipe(
    v.array(v.object({ kind: v.picklist(['late', 'reset', 'absurd']), start: text, end: text })),
    v.description('time of which readings of the host tell less than happened'),
  ),
});

export const CheckSchema = v.object({ what: text, verdict: v.picklist(['ok', 'refused', 'absent']), told: text });

export const HostSchema = v.object({
  source: text,
  isStale: v.boolean(),
  facts: v.object({
    nativeId: text,
    name: text,
    uuid: optionalText,
    cpuModel: optionalText,
    threads: optionalNumber,
    memoryBytes: optionalNumber,
    hypervisor: text,
    hypervisorVersion: optionalText,
    architecture: optionalText,
    uptimeSeconds: optionalNumber,
  }),
  vms: count,
  also: v.pipe(names, v.description('what other sources call the same machine')),
  lastSeenMs: instant,
});

export const FiguresSchema = v.object({
  vm: text,
  name: text,
  source: text,
  host: optionalText,
  cpuShare: v.pipe(optionalNumber, v.description('of one processor: 2 is two of them')),
  memoryUsedBytes: optionalNumber,
  diskReadBytesPerSecond: optionalNumber,
  diskWrittenBytesPerSecond: optionalNumber,
  receivedBytesPerSecond: optionalNumber,
  sentBytesPerSecond: optionalNumber,
});

export const CountSchema = v.object({ source: text, state: text, vms: count });

export const pageOf = <Schema extends v.GenericSchema>(items: Schema) =>
  v.object({ items: v.array(items), next: v.pipe(optionalText, v.description('for "after"; null on the last page')) });

export const UsagePageSchema = v.object({
  ...pageOf(UsageSchema).entries,
  pruned: v.pipe(v.array(text), v.description('months of the span whose consumption is not kept any more')),
});

export const ProblemSchema = v.object({
  kind: text,
  code: text,
  message: text,
  hint: v.optional(text),
  facts: v.record(text, v.union([text, v.number(), v.boolean()])),
});
