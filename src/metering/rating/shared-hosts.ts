/** What nobody used of a host, and what the host itself needs: priced, and shared out as the card says. Pure. */
import { allocate, Exact } from '../exact.ts';
import type { PriceItem, Sharing } from '../rate-card/card.ts';
import type { HostRecord } from '../usage/usage-records.ts';
import { hostSubjects } from './attribution.ts';
import { type Charge, type ChargeSubject, chargeKey, fractionText } from './charge.ts';
import type { HostWindow } from './host-windows.ts';
import { itemFor, perUnitOf, type RatingFrame, type UsageGroup } from './priced-usage.ts';

/** Digits of the ratios that go into exports; those of one whole add up to exactly 1. */
const RATIO_DECIMALS = 12;

export function shareHosts(frame: RatingFrame, windows: readonly HostWindow[]): Charge[] {
  return windows.flatMap((window) =>
    (['idle', 'overhead'] as const).flatMap((what) => {
      const sharing = window.version[what];
      if (sharing === 'none') return [];
      return (['vcpu', 'memory'] as const).flatMap((resource) => shareOne(frame, window, { what, sharing, resource }));
    }),
  );
}

interface Shared {
  readonly what: 'idle' | 'overhead';
  readonly sharing: Exclude<Sharing, 'none'>;
  readonly resource: 'vcpu' | 'memory';
}

function shareOne(frame: RatingFrame, window: HostWindow, { what, sharing, resource }: Shared): Charge[] {
  const [first] = window.records;
  if (first === undefined) return [];
  const priced = hostSubjects(first).flatMap((host) => {
    const item = itemFor(window.version, resource, host);
    return item === undefined ? [] : [{ host, item }];
  })[0];
  if (priced === undefined) return [];
  const { host, item } = priced;
  const { quantityDecimals: decimals, mode } = frame.card.rounding;
  const amount = window.records.reduce((sum, record) => sum.plus(record[what][resource]), Exact.zero);
  const perUnit = perUnitOf(frame, item);
  const quantity = amount.over(perUnit).rounded(decimals, mode);
  if (quantity.isZero) return [];
  const whole = `${what} of ${first.source}/${first.host}: ${fractionText(amount)} ÷ ${fractionText(perUnit)} = ${quantity} ${item.unit.name}`;
  const frameOf = (
    subject: ChargeSubject,
    part: Exact,
    share: { note: string; allocation: Charge['allocation'] },
  ): Charge => ({
    key: chargeKey(
      [what, item.id, window.version.version, resource, window.windowMs, ...placeOf(first, subject)],
      subject,
    ),
    period: frame.period,
    category: what,
    item: item.id,
    card: frame.card.name,
    cardVersion: window.version.version,
    currency: frame.card.currency,
    resource,
    unit: item.unit.name,
    focusUnit: item.unit.focusName,
    ...(item.pricing.kind === 'flat' ? {} : { step: 1 }),
    subject,
    startMs: Math.min(...window.records.map((record) => record.startMs)),
    endMs: Math.max(...window.records.map((record) => record.endMs)),
    quantity: part,
    unitPrice: firstPrice(item),
    cost: part.times(firstPrice(item)),
    basis: share.note === '' ? whole : `${whole}; ${share.note}`,
    allocation: share.allocation,
  });
  const sharers = sharing === 'unallocated' ? [] : weightsOf(window.groups, sharing);
  const parts = allocate(
    quantity,
    sharers.map(({ weight }) => weight),
    { decimals, mode },
  );
  if (parts.length === 0) return [frameOf(host, quantity, { note: '', allocation: undefined })];
  const total = sharers.reduce((sum, { weight }) => sum.plus(weight), Exact.zero);
  // A share that rounds to nothing has no row: the ratios of those that have one are of them alone, and add up.
  const paying = sharers.flatMap((sharer, index) => {
    const part = parts[index] ?? Exact.zero;
    return part.isZero ? [] : [{ ...sharer, part }];
  });
  const ratios = allocate(
    Exact.one,
    paying.map(({ weight }) => weight),
    { decimals: RATIO_DECIMALS, mode },
  );
  return paying.map(({ subject, weight, part }, index) =>
    frameOf(subject, part, {
      note: `share by ${sharing} ${fractionText(weight)} of ${fractionText(total)} = ${part}`,
      allocation: { method: `${what}:${sharing}`, ratio: (ratios[index] ?? Exact.zero).toString() },
    }),
  );
}

/** Whoever is charged under another name than the one that describes the machine has a charge of each description. */
function placeOf({ source, host }: HostRecord, subject: ChargeSubject): string[] {
  return subject.source === source && subject.host === host ? [] : [source, host];
}

/** Idle time of a tiered item costs what its first step does: nobody's usage has filled a step. */
function firstPrice(item: PriceItem): Exact {
  return item.pricing.kind === 'flat' ? item.pricing.price : (item.pricing.steps[0]?.price ?? Exact.zero);
}

function weightsOf(groups: readonly UsageGroup[], sharing: 'vcpu' | 'memory' | 'even') {
  const resource = sharing === 'memory' ? 'memory' : 'vcpu';
  const held = groups.filter((group) => group.resource === resource);
  // Even: by the VM, however many names or owners it had meanwhile.
  const vms = new Map<string | undefined, Exact>();
  for (const { subject, amount } of held) vms.set(subject.vm, (vms.get(subject.vm) ?? Exact.zero).plus(amount));
  return held.map(({ subject, amount }) => ({
    subject,
    weight: sharing === 'even' ? amount.over(vms.get(subject.vm) ?? Exact.one) : amount,
  }));
}
