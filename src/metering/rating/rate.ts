/** From facts and a rate card to the charges of one month. Pure: the same input gives the same charges and keys. */
import { Exact } from '../exact.ts';
import type { CardVersion, PriceItem, RateCard } from '../rate-card/card.ts';
import { resourceKindOf } from '../rate-card/units.ts';
import { consumptionOf, cutConsumption } from '../usage/consumption.ts';
import {
  type AllocationInterval,
  type Consumption,
  type Measure,
  machineOf,
  type UnseenTime,
  type UsageFacts,
} from '../usage/facts.ts';
import { type MonthName, monthSpan, windowStart } from '../usage/time-cuts.ts';
import { type HostRecord, type UsageRecord, usageOf } from '../usage/usage-records.ts';
import { cutsOf, hostSubjects, subjectOf, versionAt } from './attribution.ts';
import { type Charge, type ChargeSubject, chargeKey } from './charge.ts';
import { fixedCharges, type HostPresence, type Presence, taxesOn } from './fixed-charges.ts';
import { hostWindows } from './host-windows.ts';
import { itemFor, priceUsage, type RatingFrame, type UsageGroup } from './priced-usage.ts';
import { shareHosts } from './shared-hosts.ts';

export interface Rating {
  readonly period: MonthName;
  readonly charges: readonly Charge[];
  /** Usage the card has no price for, by resource: base units, and VMs that had it. */
  readonly unpriced: readonly { readonly resource: string; readonly amount: Exact; readonly vms: number }[];
  readonly gaps: readonly UnseenTime[];
  /** VMs that were counted but are in no interval: nobody can be charged for them. */
  readonly unknownVms: readonly string[];
  readonly records: readonly UsageRecord[];
  readonly hosts: readonly HostRecord[];
}

const RESOURCE_OF: Readonly<Record<Measure, string>> = {
  cpuNs: 'cpu-used',
  networkInBytes: 'network-in',
  networkOutBytes: 'network-out',
  diskOperations: 'disk-operations',
  diskReadOperations: 'disk-operations:read',
  diskWriteOperations: 'disk-operations:write',
  diskReadBytes: 'disk-read',
  diskWrittenBytes: 'disk-written',
  memoryByteMs: 'memory-used',
};

export function rate(card: RateCard, period: MonthName, facts: UsageFacts): Rating {
  const frame: RatingFrame = { card, period };
  const month = monthSpan(period);
  const cuts = cutsOf(card);
  const usage = usageOf(clipped(facts.intervals, month), clipped(facts.hosts, month), {
    atMs: cuts,
    window: card.chargePer,
  });
  const { consumed, gaps } = consumptionOf(facts.samples, cuts);
  const whole = [...consumed, ...cutConsumption(facts.consumed ?? [], cuts)].filter(
    (piece) => piece.startMs >= month.startMs && piece.startMs < month.endMs,
  );
  const vms = new Set(facts.intervals.map((one) => one.vm));
  const groups = groupUsage(frame, usage.records, placed(whole, facts.intervals));
  const priced: (UsageGroup & { item: PriceItem })[] = [];
  const unpriced = new Map<string, { amount: Exact; vms: Set<string> }>();
  for (const group of groups) {
    const item = group.version === undefined ? undefined : itemFor(group.version, group.resource, group.subject);
    if (group.version !== undefined && item !== undefined) {
      priced.push({ ...group, version: group.version, item });
      continue;
    }
    const found = unpriced.get(group.resource) ?? { amount: Exact.zero, vms: new Set() };
    found.vms.add(group.subject.vm ?? '');
    unpriced.set(group.resource, { amount: found.amount.plus(group.amount), vms: found.vms });
  }
  const presences = usage.records.flatMap((record): Presence[] => {
    const version = versionAt(card, record.startMs);
    const subject = subjectOf(card, record.interval, record.startMs);
    return version === undefined ? [] : [{ version, subject, startMs: record.startMs, endMs: record.endMs }];
  });
  const hostPresences = usage.hosts.flatMap((record): HostPresence[] => {
    const version = versionAt(card, record.startMs);
    const { machine, startMs, endMs } = record;
    return version === undefined ? [] : [{ version, subjects: hostSubjects(record), machine, startMs, endMs }];
  });
  const charges = [
    ...priceUsage(frame, priced),
    ...fixedCharges(frame, presences, hostPresences),
    ...shareHosts(frame, hostWindows(frame, usage.hosts, priced)),
  ].filter((charge) => charge.quantity?.isZero !== true);
  return {
    period,
    charges: [...charges, ...taxesOn(frame, charges)],
    unpriced: [...unpriced].map(([resource, { amount, vms }]) => ({ resource, amount, vms: vms.size })),
    gaps: [...gaps, ...(facts.gaps ?? [])].filter((gap) => gap.endMs > month.startMs && gap.startMs < month.endMs),
    unknownVms: [...new Set(whole.map((piece) => piece.vm).filter((vm) => !vms.has(vm)))].sort(),
    records: usage.records,
    hosts: usage.hosts,
  };
}

function clipped<T extends { readonly startMs: number; readonly endMs: number }>(
  all: readonly T[],
  month: { readonly startMs: number; readonly endMs: number },
): T[] {
  return all
    .filter((one) => one.startMs < month.endMs && one.endMs > month.startMs)
    .map((one) => ({
      ...one,
      startMs: Math.max(one.startMs, month.startMs),
      endMs: Math.min(one.endMs, month.endMs),
    }));
}

interface PlacedAmount {
  readonly resource: string;
  readonly interval: AllocationInterval;
  readonly startMs: number;
  readonly endMs: number;
  readonly amount: Exact;
}

/** Each piece with the VM as it was when the piece began, or at the nearest time known. */
function placed(consumed: readonly Consumption[], intervals: readonly AllocationInterval[]): PlacedAmount[] {
  const byVm = new Map<string, AllocationInterval[]>();
  for (const one of [...intervals].sort((a, b) => a.startMs - b.startMs)) {
    const list = byVm.get(one.vm) ?? [];
    list.push(one);
    byVm.set(one.vm, list);
  }
  return consumed.flatMap((piece): PlacedAmount[] => {
    const known = byVm.get(piece.vm) ?? [];
    const interval = known.findLast((one) => one.startMs <= piece.startMs) ?? known[0];
    if (interval === undefined) return [];
    const { startMs, endMs } = piece;
    return [{ resource: RESOURCE_OF[piece.counter], interval, startMs, endMs, amount: Exact.of(piece.amount) }];
  });
}

type OpenGroup = Omit<UsageGroup, 'version'> & { readonly version: CardVersion | undefined };

/** Adds up what belongs into one charge: one VM, resource, attribution, version and hour (day). In order of time. */
function groupUsage(
  frame: RatingFrame,
  records: readonly UsageRecord[],
  consumed: readonly PlacedAmount[],
): OpenGroup[] {
  const groups = new Map<string, OpenGroup>();
  const subjects = new Map<AllocationInterval, Map<number, ChargeSubject>>();
  const add = (
    told: string,
    interval: AllocationInterval,
    piece: Omit<PlacedAmount, 'resource' | 'interval'>,
  ): void => {
    const windowMs = windowStart(piece.startMs, frame.card.chargePer);
    const version = versionAt(frame.card, piece.startMs);
    const resource = asPriced(told, version);
    const known = subjects.get(interval) ?? new Map<number, ChargeSubject>();
    subjects.set(interval, known);
    const subject = known.get(piece.startMs) ?? subjectOf(frame.card, interval, piece.startMs);
    known.set(piece.startMs, subject);
    const key = chargeKey([resource, windowMs, version?.version ?? 0], subject);
    const group = groups.get(key);
    groups.set(key, {
      resource,
      subject,
      version,
      windowMs,
      startMs: Math.min(group?.startMs ?? piece.startMs, piece.startMs),
      endMs: Math.max(group?.endMs ?? piece.endMs, piece.endMs),
      amount: group === undefined ? piece.amount : group.amount.plus(piece.amount),
      byMachine: plus(group?.byMachine, machineOf(interval), piece.amount),
    });
  };
  for (const record of records)
    for (const [resource, amount] of record.amounts)
      add(resource, record.interval, { startMs: record.startMs, endMs: record.endMs, amount });
  for (const { resource, interval, ...piece } of consumed) add(resource, interval, piece);
  return [...groups.values()].sort(
    (a, b) =>
      a.startMs - b.startMs ||
      compareText(a.subject.vm ?? '', b.subject.vm ?? '') ||
      compareText(a.resource, b.resource),
  );
}

function plus(
  sums: ReadonlyMap<string, Exact> | undefined,
  machine: string,
  amount: Exact,
): ReadonlyMap<string, Exact> {
  const before = sums?.get(machine);
  return new Map(sums).set(machine, before === undefined ? amount : before.plus(amount));
}

/** Reads and writes are one thing to a card that has no price for either alone. */
function asPriced(resource: string, version: CardVersion | undefined): string {
  const kind = resourceKindOf(resource);
  if (kind !== 'disk-operations') return resource;
  const isApart = version?.items.some((item) => item.resource !== kind && resourceKindOf(item.resource) === kind);
  return isApart === true ? resource : kind;
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
