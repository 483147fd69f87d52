/** Prices what was used: flat and in tiers. Pure. */
import { Exact } from '../exact.ts';
import type { CardVersion, PriceItem, Pricing, RateCard, TierStep } from '../rate-card/card.ts';
import { matches } from '../rate-card/selector.ts';
import { basePerUnit, resourceKindOf } from '../rate-card/units.ts';
import { type MonthName, monthSpan } from '../usage/time-cuts.ts';
import { selectable } from './attribution.ts';
import { type Charge, type ChargeSubject, chargeKey, fractionText } from './charge.ts';

/** What one VM used of one resource in one charge's time, in base units. */
export interface UsageGroup {
  readonly resource: string;
  readonly subject: ChargeSubject;
  readonly version: CardVersion;
  readonly windowMs: number;
  readonly startMs: number;
  readonly endMs: number;
  readonly amount: Exact;
  /** The same, by the machine it was on. */
  readonly byMachine: ReadonlyMap<string, Exact>;
}

export interface RatingFrame {
  readonly card: RateCard;
  readonly period: MonthName;
}

/** The item that prices a resource for a subject: first by the exact resource, then by its kind. */
export function itemFor(version: CardVersion, resource: string, subject: ChargeSubject): PriceItem | undefined {
  const asked = selectable(subject);
  const kind = resourceKindOf(resource);
  return [resource, kind].reduce<PriceItem | undefined>(
    (found, wanted) => found ?? version.items.find((item) => item.resource === wanted && matches(item.select, asked)),
    undefined,
  );
}

/** Base units in one unit of `item`, in this month. */
export function perUnitOf({ card, period }: RatingFrame, item: PriceItem): Exact {
  const { startMs, endMs } = monthSpan(period);
  return basePerUnit(item.unit, card.month, endMs - startMs);
}

/** Groups in order of time (and of VM within a time), so that graduated tiers fill the same way on every run. */
export function priceUsage(
  frame: RatingFrame,
  groups: readonly (UsageGroup & { readonly item: PriceItem })[],
): Charge[] {
  const { decimals, mode } = { decimals: frame.card.rounding.quantityDecimals, mode: frame.card.rounding.mode };
  const measured = groups.map((group) => {
    const perUnit = perUnitOf(frame, group.item);
    return { group, perUnit, quantity: group.amount.over(perUnit).rounded(decimals, mode) };
  });
  const sums = new Map<string, Exact>();
  for (const { group, quantity } of measured) {
    const scope = tierScope(group.item, group.subject);
    if (scope !== undefined) sums.set(scope, (sums.get(scope) ?? Exact.zero).plus(quantity));
  }
  const used = new Map<string, Exact>();
  return measured.flatMap(({ group, perUnit, quantity }) => {
    const scope = tierScope(group.item, group.subject);
    const before = scope === undefined ? Exact.zero : (used.get(scope) ?? Exact.zero);
    if (scope !== undefined) used.set(scope, before.plus(quantity));
    const total = scope === undefined ? quantity : (sums.get(scope) ?? quantity);
    const whole = `${fractionText(group.amount)} ÷ ${fractionText(perUnit)} = ${quantity} ${group.item.unit.name}`;
    return partsOf(group.item.pricing, { quantity, before, total }).map((part): Charge => {
      const { item, subject, version } = group;
      return {
        key: chargeKey(['usage', item.id, version.version, group.resource, group.windowMs, part.step], subject),
        period: frame.period,
        category: 'usage',
        item: item.id,
        card: frame.card.name,
        cardVersion: version.version,
        currency: frame.card.currency,
        resource: group.resource,
        unit: item.unit.name,
        focusUnit: item.unit.focusName,
        ...(part.tier === undefined ? {} : { step: part.tier }),
        subject,
        startMs: group.startMs,
        endMs: group.endMs,
        quantity: part.quantity,
        unitPrice: part.price,
        cost: part.quantity.times(part.price),
        basis: part.note === '' ? whole : `${whole}; ${part.note}`,
        allocation: undefined,
      };
    });
  });
}

/** Whose usage a tiered item adds up, or undefined for one with a flat price. */
function tierScope(item: PriceItem, subject: ChargeSubject): string | undefined {
  if (item.pricing.kind === 'flat') return undefined;
  const { per } = item.pricing;
  return JSON.stringify([item.id, per === 'all' ? 0 : (subject[per] ?? null)]);
}

interface Part {
  /** What tells it from the others of the same use. */
  readonly step: number;
  /** The step of the tier it is priced by, from 1. */
  readonly tier?: number;
  readonly quantity: Exact;
  readonly price: Exact;
  readonly note: string;
}

/** Cuts a quantity at the steps of its tiers. @param use - `before`: used earlier in the month; `total`: of the month. */
export function partsOf(
  pricing: Pricing,
  use: { readonly quantity: Exact; readonly before: Exact; readonly total: Exact },
): readonly Part[] {
  if (pricing.kind === 'flat') return [{ step: 0, quantity: use.quantity, price: pricing.price, note: '' }];
  const { steps } = pricing;
  if (pricing.mode === 'volume') {
    const index = stepOf(steps, use.total);
    const price = steps[index]?.price ?? Exact.zero;
    const note = `month's volume ${use.total}: step ${index + 1}`;
    return [{ step: 0, tier: index + 1, quantity: use.quantity, price, note }];
  }
  const parts: Part[] = [];
  let [at, left] = [use.before, use.quantity];
  for (const [index, { upTo, price }] of steps.entries()) {
    const room = upTo?.minus(at);
    if (room !== undefined && room.compare(Exact.zero) <= 0) continue;
    const taken = room === undefined || left.compare(room) <= 0 ? left : room;
    if (!taken.isZero)
      parts.push({
        step: index,
        tier: index + 1,
        quantity: taken,
        price,
        note: `step ${index + 1} from ${at}: ${taken}`,
      });
    at = at.plus(taken);
    left = left.minus(taken);
    if (left.isZero) break;
  }
  return parts;
}

function stepOf(steps: readonly TierStep[], total: Exact): number {
  const found = steps.findIndex(({ upTo }) => upTo === undefined || total.compare(upTo) <= 0);
  return found < 0 ? steps.length - 1 : found;
}
