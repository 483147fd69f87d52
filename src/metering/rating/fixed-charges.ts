/** Fixed monthly items, and taxes. Pure. */
import { Exact, sumOf } from '../exact.ts';
import type { CardVersion, FixedItem } from '../rate-card/card.ts';
import { matches } from '../rate-card/selector.ts';
import { monthSpan } from '../usage/time-cuts.ts';
import { holdsAt, selectable } from './attribution.ts';
import { type Charge, type ChargeSubject, chargeKey, NOBODY } from './charge.ts';
import type { RatingFrame } from './priced-usage.ts';

/** That a subject was there, under one version of the card. */
export interface Presence {
  readonly version: CardVersion;
  readonly subject: ChargeSubject;
  readonly startMs: number;
  readonly endMs: number;
}

/** That a machine was there, under each of its names. */
export interface HostPresence extends Omit<Presence, 'subject'> {
  readonly subjects: readonly ChargeSubject[];
  readonly machine: string;
}

interface Group {
  readonly item: FixedItem;
  readonly version: CardVersion;
  readonly subject: ChargeSubject;
  readonly spans: Span[];
}

/** @param hosts - an item is for a machine under the first of its names that the item selects. */
export function fixedCharges(frame: RatingFrame, vms: readonly Presence[], hosts: readonly HostPresence[]): Charge[] {
  const groups = new Map<string, Group>();
  const add = (item: FixedItem, presence: Presence, identities: readonly string[]): void => {
    const known = identities.flatMap((identity) => groups.get(identity) ?? [])[0];
    const group = known ?? { item, version: presence.version, subject: presence.subject, spans: [] };
    group.spans.push({ startMs: presence.startMs, endMs: presence.endMs });
    for (const identity of identities) groups.set(identity, group);
  };
  // A whole month is charged once, whatever changes in it: by the version and to the owner at its first moment.
  for (const presence of [...vms].sort(byStart))
    for (const item of presence.version.fixed) {
      if (item.per === 'host-month' || !matches(item.select, selectable(presence.subject))) continue;
      const subject = payerOf(item, presence.subject);
      if (subject === undefined) continue;
      const once = JSON.stringify([item.id, subject[payerField(item)]]);
      add(item, { ...presence, subject }, [item.prorate === 'none' ? once : prorated(item, presence.version, subject)]);
    }
  for (const { subjects, machine, ...presence } of [...hosts].sort(byStart))
    for (const item of presence.version.fixed) {
      if (item.per !== 'host-month') continue;
      const subject = subjects.find((one) => matches(item.select, selectable(one)));
      if (subject === undefined) continue;
      // Neither another name nor other hardware under the same one makes it a second host.
      const once = [
        JSON.stringify([item.id, 'machine', machine]),
        JSON.stringify([item.id, 'name', subject.source, subject.host]),
      ];
      const identities = item.prorate === 'none' ? once : [prorated(item, presence.version, subject)];
      add(item, { ...presence, subject }, identities);
    }
  return [...new Set(groups.values())].map((group) => chargeOf(frame, group));
}

function prorated(item: FixedItem, version: CardVersion, subject: ChargeSubject): string {
  return chargeKey([item.id, version.version], subject);
}

function byStart(a: { readonly startMs: number }, b: { readonly startMs: number }): number {
  return a.startMs - b.startMs;
}

interface Span {
  startMs: number;
  endMs: number;
}

function chargeOf(
  frame: RatingFrame,
  group: { item: FixedItem; version: CardVersion; subject: ChargeSubject; spans: readonly Span[] },
): Charge {
  const { item, version, subject } = group;
  const month = monthSpan(frame.period);
  const spans = merged(group.spans);
  const presentMs = spans.reduce((sum, span) => sum + span.endMs - span.startMs, 0);
  const monthMs = month.endMs - month.startMs;
  const { quantityDecimals, mode } = frame.card.rounding;
  const quantity = item.prorate === 'none' ? Exact.one : Exact.of(presentMs, monthMs).rounded(quantityDecimals, mode);
  const focusUnit = { 'vm-month': 'VM', 'project-month': 'Project', 'owner-month': 'Owner', 'host-month': 'Host' }[
    item.per
  ];
  return {
    key: chargeKey(['fixed', item.id, version.version], subject),
    period: frame.period,
    category: 'fixed',
    item: item.id,
    card: frame.card.name,
    cardVersion: version.version,
    currency: frame.card.currency,
    resource: undefined,
    unit: item.per,
    focusUnit: `${focusUnit}-Months`,
    subject,
    startMs: spans[0]?.startMs ?? month.startMs,
    endMs: spans.at(-1)?.endMs ?? month.endMs,
    quantity,
    unitPrice: item.price,
    cost: item.price.times(quantity),
    basis:
      item.prorate === 'none'
        ? 'the whole month'
        : `${presentMs} ms of the month's ${monthMs} ms = ${quantity} ${item.per}`,
    allocation: undefined,
  };
}

function payerField(item: FixedItem): 'vm' | 'project' | 'owner' {
  return item.per === 'project-month' ? 'project' : item.per === 'owner-month' ? 'owner' : 'vm';
}

/** Who the item is for; nobody when a VM has no project or owner to charge. */
function payerOf(item: FixedItem, subject: ChargeSubject): ChargeSubject | undefined {
  const { project, owner } = subject;
  if (item.per === 'project-month') return project === undefined ? undefined : { ...NOBODY, project };
  if (item.per === 'owner-month') return owner === undefined ? undefined : { ...NOBODY, owner };
  return subject;
}

function merged(spans: readonly Span[]): Span[] {
  const result: Span[] = [];
  for (const span of [...spans].sort((a, b) => a.startMs - b.startMs)) {
    const last = result.at(-1);
    if (last !== undefined && span.startMs <= last.endMs) last.endMs = Math.max(last.endMs, span.endMs);
    else result.push({ ...span });
  }
  return result;
}

/** One tax line per tax, project and owner, rounded once to the minor unit. */
export function taxesOn(frame: RatingFrame, charges: readonly Charge[]): Charge[] {
  const { card, period } = frame;
  const month = monthSpan(period);
  return card.taxes.flatMap((tax) => {
    const groups = new Map<string, Charge[]>();
    for (const charge of charges) {
      if (!holdsAt(tax.effective, charge.startMs) || !matches(tax.select, selectable(charge.subject))) continue;
      const key = JSON.stringify([charge.subject.project, charge.subject.owner]);
      const group = groups.get(key) ?? [];
      group.push(charge);
      groups.set(key, group);
    }
    return [...groups.values()].flatMap((group): Charge[] => {
      const [first] = group;
      if (first === undefined) return [];
      const { project, owner } = first.subject;
      const subject: ChargeSubject = { ...NOBODY, project, owner };
      const base = sumOf(group.map((charge) => charge.cost));
      const cost = base.times(tax.rate).rounded(card.minorDecimals, card.rounding.mode);
      return [
        {
          key: chargeKey(['tax', tax.id], subject),
          period,
          category: 'tax',
          item: tax.id,
          card: card.name,
          cardVersion: first.cardVersion,
          currency: card.currency,
          resource: undefined,
          unit: undefined,
          focusUnit: undefined,
          subject,
          startMs: month.startMs,
          endMs: month.endMs,
          quantity: undefined,
          unitPrice: undefined,
          cost,
          basis: `${base} × ${tax.rate} = ${base.times(tax.rate)}, to ${card.minorDecimals} decimals`,
          allocation: undefined,
        },
      ];
    });
  });
}
