/** From the fleet's history to the ledger, by the card in force; and who is to be told about budgets. */
import type * as v from 'valibot';
import type { RatedSchema } from '#api';
import { BerthError } from '#base';
import { openUsageHistory } from '#fleet';
import {
  budgetStates,
  deliverAlerts,
  forecast,
  type Ledger,
  loadRateCard,
  monthOf,
  monthSpan,
  monthsBetween,
  openLedger,
  type RateCard,
  type Rating,
  rate,
  readCardText,
  type UsageFacts,
  UsageReader,
} from '#metering';
import { files } from '#platform';
import { moneyPlaces } from './places.ts';
import type { MoneyRequest } from './request.ts';
import { summaryOf } from './summary.ts';

export type Asked = Omit<MoneyRequest, 'task'>;
export type Rated = v.InferOutput<typeof RatedSchema>;

/** @throws cost.no_card (not_found); card.invalid (invalid) with every problem. */
export async function cardInForce({ folder }: Asked): Promise<RateCard> {
  const path = moneyPlaces(folder).card;
  if (await files.exists(path)) return loadRateCard(await readCardText(path), 'the rate card');
  throw new BerthError('not_found', 'cost.no_card', 'this daemon has no rate card', {
    hint: 'give it one: berth cost card set FILE',
  });
}

export async function ledgerOf({ folder }: Asked): Promise<Ledger> {
  const places = moneyPlaces(folder);
  const address = (await files.readTextIfExists(places.address))?.trim();
  return await openLedger(address === undefined || address === '' ? places.ledger : address);
}

/** Asked when its facts have been read: what goes meanwhile is marked before. @throws cost.pruned (conflict) */
function requireWhole(asked: Asked, month: string): void {
  if (!isLetGo(asked, month)) return;
  throw new BerthError('conflict', 'cost.pruned', `${month} cannot be rated: its consumption is not kept any more`, {
    hint: 'what was charged is in the ledger: berth cost report',
  });
}

/** What the fleet knows of a time, as far as its sources have confirmed it. */
export function factsOf({ fleet }: Asked, span: { readonly startMs: number; readonly endMs: number }): UsageFacts {
  const history = openUsageHistory(fleet);
  try {
    const reader = new UsageReader("the fleet's history");
    reader.add(JSON.stringify({ berth: 'usage', version: 1 }));
    for (const fact of history.facts({ fromMs: span.startMs, toMs: span.endMs })) reader.add(JSON.stringify(fact));
    return reader.finish();
  } finally {
    history.close();
  }
}

/**
 * Rates months into the ledger: those that were asked for, else this one and the one before, whose facts may still come in.
 *
 * May be repeated and killed anywhere: each recording is a difference from what the ledger holds, in one transaction.
 */
export async function rateMonths(asked: Asked, wanted: readonly string[]): Promise<Rated> {
  const card = await cardInForce(asked);
  const current = monthOf(asked.nowMs);
  const months = wanted.length > 0 ? [...new Set(wanted)].sort() : [monthBefore(current), current];
  const ledger = await ledgerOf(asked);
  try {
    const rated: Rated['months'] = [];
    let alerts: Pick<Rated, 'told' | 'untold'> = { told: [], untold: [] };
    for (const month of months) {
      const facts = factsOf(asked, monthSpan(month));
      requireWhole(asked, month);
      const isClosed = (await ledger.period(month)).state === 'closed';
      const rating = rate(isClosed ? await cardOfClosed(asked, month, card) : card, month, facts);
      // A history that is not there any more must not take a month back.
      if (rating.records.length > 0) rated.push(await recorded(asked, ledger, rating));
      if (month === current) alerts = await afterCurrent(asked, { card, rating, facts });
    }
    return { months: rated, ...alerts };
  } finally {
    await ledger.disconnect();
  }
}

async function recorded(asked: Asked, ledger: Ledger, rating: Rating): Promise<Rated['months'][number]> {
  const outcome = await ledger.record({
    period: rating.period,
    scope: asked.scope,
    charges: rating.charges,
    bookInto: monthOf(asked.nowMs),
    atMs: asked.nowMs,
  });
  const unpriced = rating.unpriced.map((one) => one.resource);
  return { month: rating.period, ...outcome, unpriced, gaps: rating.gaps.length };
}

/** The budgets of this month, and the summary for those who ask between two ratings. */
async function afterCurrent(
  asked: Asked,
  { card, rating, facts }: { readonly card: RateCard; readonly rating: Rating; readonly facts: UsageFacts },
): Promise<Pick<Rated, 'told' | 'untold'>> {
  const places = moneyPlaces(asked.folder);
  const atMs = [...facts.intervals, ...facts.hosts].reduce((last, one) => Math.max(last, one.endMs), 0);
  const expected = card.budgets.length === 0 ? [] : forecast(card, rating.period, { ...facts, atMs }).charges;
  const { states, due } = budgetStates(card, { period: rating.period, actual: rating.charges, forecast: expected });
  const summary = summaryOf(rating, { currency: card.currency, ratedMs: asked.nowMs, budgets: states });
  await files.writeFileAtomic(places.summary, `${JSON.stringify(summary)}\n`);
  const delivery = await deliverAlerts(due, rating.period, places.alerts);
  return {
    told: delivery.delivered.map((alert) => alert.state.budget),
    untold: delivery.failed.map(({ alert, reason }) => `${alert.state.budget}: ${reason}`),
  };
}

function isLetGo({ fleet }: Asked, month: string): boolean {
  const history = openUsageHistory(fleet);
  try {
    return history.prunedMonths().has(month);
  } finally {
    history.close();
  }
}

/** Of these months those with charges of ours in the ledger that is still open for them: they may be rated again. */
export async function neededMonths(asked: Asked, months: readonly string[]): Promise<string[]> {
  const ledger = await ledgerOf(asked);
  try {
    const needed: string[] = [];
    for (const month of months) {
      if ((await ledger.period(month)).state === 'closed') continue;
      const isOurs = (await ledger.entries(month)).some((one) => one.kind === 'charge' && one.scope === asked.scope);
      if (isOurs) needed.push(month);
    }
    return needed;
  } finally {
    await ledger.disconnect();
  }
}

/** Rated a last time, then closed for good. @throws cost.not_over (conflict) for a month that goes on. */
export async function closeMonth(asked: Asked, month: string): Promise<{ month: string; closedAtMs: number }> {
  if (month >= monthOf(asked.nowMs))
    throw new BerthError('conflict', 'cost.not_over', `${month} is not over: only months that are can be closed`, {
      hint: `close it from ${new Date(monthSpan(month).endMs).toISOString().slice(0, 10)} on`,
    });
  if (!isLetGo(asked, month)) await rateMonths(asked, [month]);
  const places = moneyPlaces(asked.folder);
  const ledger = await ledgerOf(asked);
  try {
    if ((await ledger.period(month)).state === 'open')
      await files.writeFileAtomic(places.closedCard(month), await readCardText(places.card));
    const { closedAtMs = asked.nowMs } = await ledger.close(month, asked.nowMs);
    return { month, closedAtMs };
  } finally {
    await ledger.disconnect();
  }
}

async function cardOfClosed({ folder }: Asked, month: string, otherwise: RateCard): Promise<RateCard> {
  const path = moneyPlaces(folder).closedCard(month);
  if (!(await files.exists(path))) return otherwise;
  return loadRateCard(await readCardText(path), `the rate card of ${month}`);
}

function monthBefore(month: string): string {
  const { startMs } = monthSpan(month);
  return monthsBetween(startMs - 1, startMs)[0] ?? month;
}
