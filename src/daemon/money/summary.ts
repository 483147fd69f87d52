/** What a month cost so far, as few lines as a metrics endpoint may give. Pure. */

import type { CostSummary } from '#api';
import { type BudgetState, Exact, type Rating } from '#metering';

/** VMs, hosts, projects that are told by name; those that cost least are added up as `other`. */
const MOST_NAMED = 1_000;
const OTHER = 'other';
const NOBODY = '-';
/** Of a float that Prometheus can hold more digits make no sense. */
const DECIMALS = 6;

export function summaryOf(
  rating: Rating,
  facts: { readonly currency: string; readonly ratedMs: number; readonly budgets: readonly BudgetState[] },
): CostSummary {
  const sums = {
    vms: new Map<string, Named>(),
    hosts: new Map<string, Named>(),
    projects: new Map<string, Named>(),
  };
  for (const { subject, cost } of rating.charges) {
    const { vm, vmName = NOBODY, source = NOBODY, host, project = NOBODY } = subject;
    if (vm !== undefined) add(sums.vms, [vm, vmName, project, source], cost);
    if (host !== undefined) add(sums.hosts, [source, host], cost);
    add(sums.projects, [project], cost);
  }
  return {
    month: rating.period,
    currency: facts.currency,
    ratedMs: facts.ratedMs,
    vms: named(sums.vms, 4).map(({ words: [vm = '', name = '', project = '', source = ''], cost }) => ({
      vm,
      name,
      project,
      source,
      cost,
    })),
    hosts: named(sums.hosts, 2).map(({ words: [source = '', host = ''], cost }) => ({ source, host, cost })),
    projects: named(sums.projects, 1).map(({ words: [project = ''], cost }) => ({ project, cost })),
    budgets: facts.budgets.map((one) => ({
      budget: one.budget,
      amount: one.amount.toFixed(DECIMALS),
      actual: one.actual.toFixed(DECIMALS),
      forecast: one.forecast.toFixed(DECIMALS),
    })),
  };
}

interface Named {
  readonly words: readonly string[];
  cost: Exact;
}

function add(sums: Map<string, Named>, words: readonly string[], cost: Exact): void {
  const key = JSON.stringify(words);
  const found = sums.get(key);
  if (found === undefined) sums.set(key, { words, cost });
  else found.cost = found.cost.plus(cost);
}

function named(sums: ReadonlyMap<string, Named>, width: number): { words: readonly string[]; cost: string }[] {
  const sorted = [...sums.values()].sort((a, b) => b.cost.compare(a.cost));
  const rest = sorted.slice(MOST_NAMED).reduce((sum, one) => sum.plus(one.cost), Exact.zero);
  const shown = sorted.slice(0, MOST_NAMED).map(({ words, cost }) => ({ words, cost: cost.toFixed(DECIMALS) }));
  if (sorted.length <= MOST_NAMED) return shown;
  return [...shown, { words: Array.from({ length: width }, () => OTHER), cost: rest.toFixed(DECIMALS) }];
}
