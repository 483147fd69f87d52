/** What the same use costs under two rate cards. Pure. */
import { Exact } from '../exact.ts';
import type { RateCard } from '../rate-card/card.ts';
import { type Rating, rate } from '../rating/rate.ts';
import type { UsageFacts } from '../usage/facts.ts';
import type { MonthName } from '../usage/time-cuts.ts';
import { type Dimension, nameOf } from './report.ts';

export interface Comparison {
  readonly by: Dimension;
  readonly first: ComparedCard;
  readonly second: ComparedCard;
  /** The largest first cost first. */
  readonly rows: readonly ComparedRow[];
  readonly total: ComparedRow;
}

interface ComparedCard {
  readonly name: string;
  readonly currency: string;
  /** Resources this card has no price for: its cost is too low by them. */
  readonly unpriced: readonly string[];
}

export interface ComparedRow {
  readonly name: string;
  readonly first: Exact;
  readonly second: Exact;
  /** second − first, in the first card's currency; absent when currencies differ and no rate was given. */
  readonly difference: Exact | undefined;
}

/**
 * Owners and projects are those of the first card's rules: the question is what *they* would pay.
 *
 * @param second - `exchange`: what one unit of its currency is worth in the first one's.
 */
export function compare(
  question: { readonly period: MonthName; readonly by: Dimension; readonly facts: UsageFacts },
  first: RateCard,
  second: { readonly card: RateCard; readonly exchange: Exact | undefined },
): Comparison {
  const other: RateCard = { ...second.card, attribution: first.attribution };
  const ratings = [rate(first, question.period, question.facts), rate(other, question.period, question.facts)] as const;
  const exchange = first.currency === other.currency ? Exact.one : second.exchange;
  const costs = ratings.map((rating) => costsBy(rating, question.by));
  const names = new Set(costs.flatMap((one) => [...one.keys()]));
  const rowOf = (name: string, [a, b]: readonly [Exact, Exact]): ComparedRow => ({
    name,
    first: a,
    second: b,
    difference: exchange === undefined ? undefined : b.times(exchange).minus(a),
  });
  const rows = [...names].map((name) =>
    rowOf(name, [costs[0]?.get(name) ?? Exact.zero, costs[1]?.get(name) ?? Exact.zero]),
  );
  rows.sort((a, b) => b.first.compare(a.first) || (a.name < b.name ? -1 : 1));
  const whole = (index: 0 | 1): Exact =>
    [...(costs[index]?.values() ?? [])].reduce((sum, one) => sum.plus(one), Exact.zero);
  const describe = (card: RateCard, rating: Rating): ComparedCard => ({
    name: card.name,
    currency: card.currency,
    unpriced: rating.unpriced.map((one) => one.resource).sort(),
  });
  return {
    by: question.by,
    first: describe(first, ratings[0]),
    second: describe(other, ratings[1]),
    rows,
    total: rowOf('total', [whole(0), whole(1)]),
  };
}

function costsBy(rating: Rating, by: Dimension): Map<string, Exact> {
  const costs = new Map<string, Exact>();
  for (const charge of rating.charges) {
    const name = nameOf(charge, by, '');
    costs.set(name, (costs.get(name) ?? Exact.zero).plus(charge.cost));
  }
  return costs;
}
