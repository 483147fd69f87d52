/** What the ledger says: reports, and a month as a page. */
import type * as v from 'valibot';
import type { CostChargesSchema, CostReportSchema } from '#api';
import { BerthError } from '#base';
import {
  COST_PARTS,
  type CostParts,
  DIMENSIONS,
  type Exact,
  monthOf,
  monthPage,
  monthSpan,
  type ReportedCharge,
  rate,
  reportOf,
  writeCharge,
} from '#metering';
import { type Asked, cardInForce, factsOf, ledgerOf } from './rating.ts';
import type { CostQuestion } from './request.ts';

interface BookedCharge extends ReportedCharge {
  /** The month it is in. */
  readonly bookedInto: string;
}

/** @throws cost.dimension (invalid), cost.currencies (conflict) */
export async function report(asked: Asked, question: CostQuestion): Promise<v.InferOutput<typeof CostReportSchema>> {
  const by = question.by.map((word) => {
    const found = DIMENSIONS.find((one) => one === word);
    if (found !== undefined) return found;
    throw new BerthError('invalid', 'cost.dimension', `costs cannot be added up by "${word}"`, {
      hint: `there are ${DIMENSIONS.join(', ')}`,
    });
  });
  const months = question.months.length > 0 ? question.months : [monthOf(asked.nowMs)];
  const { charges, currency, closed } = await booked(asked, months);
  const made = reportOf(charges, { by, zone: question.zone, currency });
  return {
    months,
    currency,
    by: [...by],
    rows: made.rows.map(({ names, parts, cost }) => ({
      names: [...names],
      parts: partTexts(parts),
      cost: exactText(cost),
    })),
    total: { parts: partTexts(made.total.parts), cost: exactText(made.total.cost) },
    closed,
  };
}

export async function page(asked: Asked, { month, zone }: { readonly month: string; readonly zone: string }) {
  const card = await cardInForce(asked);
  const facts = factsOf(asked, monthSpan(month));
  const { charges, currency } = await booked(asked, [month]);
  const rating = rate(card, month, facts);
  return {
    html: monthPage({
      period: month,
      zone,
      currency: currency === '' ? card.currency : currency,
      minorDecimals: card.minorDecimals,
      charges,
      hosts: rating.hosts,
      intervals: facts.intervals,
      notes: rating.unpriced.map((one) => `There is no price for ${one.resource}; ${one.vms} VMs used it.`),
      madeAtMs: asked.nowMs,
    }),
  };
}

/** The rows themselves, for explanations and exports. */
export async function charges(
  asked: Asked,
  months: readonly string[],
): Promise<v.InferOutput<typeof CostChargesSchema>> {
  const wanted = months.length > 0 ? months : [monthOf(asked.nowMs)];
  const found = await booked(asked, wanted);
  return {
    months: [...wanted],
    currency: found.currency,
    closed: found.closed,
    charges: found.charges.map(({ charge, isCorrection, bookedInto }) => ({
      month: bookedInto,
      isCorrection,
      charge: writeCharge(charge),
    })),
  };
}

async function booked(
  asked: Asked,
  months: readonly string[],
): Promise<{ charges: BookedCharge[]; currency: string; closed: string[] }> {
  const ledger = await ledgerOf(asked);
  try {
    const charges: BookedCharge[] = [];
    const closed: string[] = [];
    for (const month of months) {
      if ((await ledger.period(month)).state === 'closed') closed.push(month);
      for (const { charge, kind } of await ledger.entries(month))
        charges.push({ charge, isCorrection: kind === 'correction', bookedInto: month });
    }
    const currencies = [...new Set(charges.map(({ charge }) => charge.currency))];
    if (currencies.length > 1)
      throw new BerthError(
        'conflict',
        'cost.currencies',
        `these months are charged in ${currencies.join(' and ')}, which cannot be added up`,
        { hint: 'ask for fewer months' },
      );
    return { charges, currency: currencies[0] ?? '', closed };
  } finally {
    await ledger.disconnect();
  }
}

function partTexts(parts: CostParts): Record<string, string> {
  return Object.fromEntries(COST_PARTS.map((part) => [part, exactText(parts[part])]));
}

/** All digits; days cut out of a longer charge may have no last one. */
function exactText(value: Exact): string {
  return value.isDecimal ? value.toString() : value.toFixed(28);
}
