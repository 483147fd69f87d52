/** Budgets against what was and will be spent. Pure; who is told is up to the caller. */
import { createHash } from 'node:crypto';
import { type Exact, sumOf } from '../exact.ts';
import type { AlertTarget, Budget, RateCard } from '../rate-card/card.ts';
import { matches } from '../rate-card/selector.ts';
import { selectable } from '../rating/attribution.ts';
import type { Charge } from '../rating/charge.ts';
import type { MonthName } from '../usage/time-cuts.ts';

export interface BudgetState {
  readonly budget: string;
  readonly amount: Exact;
  readonly actual: Exact;
  readonly forecast: Exact;
  readonly currency: string;
}

/** An alert that is due. `id` is the same for the same alert in the same month: it is delivered once. */
export interface DueAlert {
  readonly id: string;
  readonly state: BudgetState;
  readonly at: Exact;
  readonly of: 'actual' | 'forecast';
  readonly notify: AlertTarget;
}

export interface Spending {
  readonly period: MonthName;
  readonly actual: readonly Charge[];
  readonly forecast: readonly Charge[];
}

export function budgetStates(
  card: RateCard,
  spending: Spending,
): { readonly states: readonly BudgetState[]; readonly due: readonly DueAlert[] } {
  const states = card.budgets.map((budget) => ({
    budget,
    state: {
      budget: budget.name,
      amount: budget.amount,
      actual: spent(budget, spending.actual),
      forecast: spent(budget, spending.forecast),
      currency: card.currency,
    },
  }));
  const due = states.flatMap(({ budget, state }) =>
    budget.alerts.flatMap((alert): DueAlert[] => {
      const { at, of, notify } = alert;
      if (state[of].compare(budget.amount.times(at)) < 0) return [];
      return [{ id: JSON.stringify([spending.period, budget.name, of, at.toString(), notify]), state, at, of, notify }];
    }),
  );
  return { states: states.map(({ state }) => state), due };
}

/** What a receiver gets. `id` is the same when it is told again, by a daemon that was killed before it could remember. */
export function alertDocument(alert: DueAlert, period: MonthName): Readonly<Record<string, string>> {
  const { state } = alert;
  return {
    berth: 'budget-alert',
    id: createHash('sha256').update(alert.id).digest('hex').slice(0, 32),
    budget: state.budget,
    period,
    of: alert.of,
    threshold: alert.at.toString(),
    amount: state.amount.toString(),
    actual: state.actual.toFixed(6),
    forecast: state.forecast.toFixed(6),
    currency: state.currency,
  };
}

function spent(budget: Budget, charges: readonly Charge[]): Exact {
  return sumOf(
    charges.filter((charge) => matches(budget.select, selectable(charge.subject))).map((charge) => charge.cost),
  );
}
