/** The current month's costs as metrics. Pure. */

import type { CostSummary } from '#api';
import type { Metric, Sample } from '#docker';

/** Nothing when nothing was rated. */
export function costMetrics(summary: CostSummary | undefined): Metric[] {
  if (summary === undefined) return [];
  const { currency, month } = summary;
  const money = (name: string, help: string, samples: readonly Sample[]): Metric => ({
    name,
    help: `${help} Of the current UTC month, as rated last.`,
    type: 'gauge',
    samples: samples.map(({ labels, value }) => ({ labels: { ...labels, currency, month }, value })),
  });
  const costs = <T extends { readonly cost: string }>(
    all: readonly T[],
    labelsOf: (one: T) => Readonly<Record<string, string>>,
  ): Sample[] => all.map((one) => ({ labels: labelsOf(one), value: Number(one.cost) }));
  return [
    money(
      'berth_vm_cost_month_to_date',
      'What a VM cost; those that cost least are added up as other.',
      costs(summary.vms, ({ vm, name, project, source }) => ({ vm, name, project, source })),
    ),
    money(
      'berth_host_cost_month_to_date',
      'What was charged on a host.',
      costs(summary.hosts, ({ source, host }) => ({ source, host })),
    ),
    money(
      'berth_project_cost_month_to_date',
      'What a project cost.',
      costs(summary.projects, ({ project }) => ({ project })),
    ),
    money(
      'berth_budget_used_ratio',
      'What of a budget is spent: 1 is all of it.',
      summary.budgets.map(({ budget, amount, actual }) => ({
        labels: { budget },
        value: Number(actual) / Number(amount),
      })),
    ),
    {
      name: 'berth_cost_rated_time_seconds',
      help: 'When costs were rated last, since the epoch.',
      type: 'gauge',
      samples: [{ value: summary.ratedMs / 1000 }],
    },
  ];
}
