/**
 * A month as one HTML file that needs nothing else: no script, no font, no address it would load from, which its content
 * security policy holds also against names that come from hypervisors. Pure.
 */
import { Exact } from '../../exact.ts';
import type { AllocationInterval } from '../../usage/facts.ts';
import { type MonthName, monthSpan, timeText } from '../../usage/time-cuts.ts';
import type { HostRecord } from '../../usage/usage-records.ts';
import { dayCalendar } from '../local-days.ts';
import { COST_PARTS, type ReportedCharge, reportOf } from '../report.ts';
import { costBars, costByDay, type HeatRow, legend, placement, type StackedDay, utilisation } from './charts.ts';
import { escaped, OTHERS } from './svg.ts';

export interface PageInput {
  readonly period: MonthName;
  readonly zone: string;
  readonly currency: string;
  readonly minorDecimals: number;
  readonly charges: readonly ReportedCharge[];
  readonly hosts: readonly HostRecord[];
  readonly intervals: readonly AllocationInterval[];
  readonly notes: readonly string[];
  readonly madeAtMs: number;
}

/** VMs of the placement timeline: those that cost most. */
const SHOWN_VMS = 40;

export function monthPage(input: PageInput): string {
  const { period, zone, currency } = input;
  const byProject = reportOf(input.charges, { by: ['project'], zone, currency });
  const names = byProject.rows.map((row) => row.names[0] ?? '-');
  const shown = names.length > OTHERS ? [...names.slice(0, OTHERS), 'all others'] : names;
  const bars = shown.map((name, index) => ({
    name,
    cost:
      index === OTHERS
        ? byProject.rows.slice(OTHERS).reduce((sum, row) => sum.plus(row.cost), Exact.zero)
        : (byProject.rows[index]?.cost ?? Exact.zero),
  }));
  const days = stackedDays(input, names, shown.length);
  const [heat, dates] = heatRows(input);
  const { rows: placed, places } = placedRows(input);
  const money = (value: Exact): string => value.toFixed(input.minorDecimals);
  const tableRows = [...byProject.rows, byProject.total].map(
    (row) =>
      `<tr><th scope="row">${escaped(row.names[0] ?? '')}</th>${[...COST_PARTS.map((part) => row.parts[part]), row.cost]
        .map((value) => `<td>${money(value)}</td>`)
        .join('')}</tr>`,
  );
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Cost of ${escaped(period)}</title>
<style>
body{font:14px/1.5 system-ui,sans-serif;color:#1c2733;background:#fff;max-width:960px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}
svg{max-width:100%;height:auto;font:11px system-ui,sans-serif;fill:currentColor}.rule{stroke:currentColor;stroke-opacity:.15}
.cell.unknown{fill:none;stroke:currentColor;stroke-opacity:.2}.key{margin-right:1rem;white-space:nowrap}.total{font-size:1.4rem;font-weight:600}
table{border-collapse:collapse;width:100%}th,td{padding:.3rem .5rem;text-align:right;border-bottom:1px solid #8884}th:first-child{text-align:left}
tr:last-child>*{font-weight:600}footer{margin:2rem 0;opacity:.7}
@media (prefers-color-scheme:dark){body{color:#dde4ec;background:#14191f}}
</style></head><body>
<h1>Cost of ${escaped(period)}</h1>
<p class="total" id="total">${money(byProject.total.cost)} ${escaped(currency)}</p>
${input.notes.map((note) => `<p class="note">${escaped(note)}</p>`).join('\n')}
<h2>By day</h2><p>${legend(shown)}</p>
${costByDay(days, shown, currency)}
<h2>By project</h2>
${costBars(bars, currency)}
<table><thead><tr><th>project</th>${COST_PARTS.map((part) => `<th>${part}</th>`).join('')}<th>cost ${escaped(currency)}</th></tr></thead>
<tbody>
${tableRows.join('\n')}
</tbody></table>
<p class="note">Amounts are rounded when they are shown; totals are rounded from exact sums.</p>
<h2>How full the hosts were</h2>
${utilisation(heat, dates)}
<h2>Where VMs ran</h2><p>${legend(places)}</p>
${placement(placed, places, monthSpan(period))}
<footer>Days of ${escaped(zone)}. Made by berth, ${timeText(input.madeAtMs)}.</footer>
</body></html>
`;
}

function stackedDays(input: PageInput, names: readonly string[], count: number): StackedDay[] {
  const { zone, currency } = input;
  const report = reportOf(input.charges, { by: ['day', 'project'], zone, currency });
  const days = new Map<string, Exact[]>();
  for (const { names: found, cost } of report.rows) {
    const [date = '', project = '-'] = found;
    const costs = days.get(date) ?? Array.from({ length: count }, () => Exact.zero);
    const place = Math.min(names.indexOf(project), count - 1);
    // A column cannot show what was given back; the table does.
    if (!cost.isNegative) costs[place] = (costs[place] ?? Exact.zero).plus(cost);
    days.set(date, costs);
  }
  return [...days].sort(([a], [b]) => (a < b ? -1 : 1)).map(([date, costs]) => ({ date, costs }));
}

function heatRows(input: PageInput): [HeatRow[], string[]] {
  const calendar = dayCalendar(input.zone);
  const { startMs, endMs } = monthSpan(input.period);
  const dates = calendar.pieces(startMs, endMs).map((piece) => piece.date);
  const hosts = new Map<string, Map<string, { given: Exact; capacity: Exact }>>();
  for (const record of input.hosts) {
    const name = `${record.source}/${record.host}`;
    const days = hosts.get(name) ?? new Map<string, { given: Exact; capacity: Exact }>();
    hosts.set(name, days);
    for (const piece of calendar.pieces(record.startMs, record.endMs)) {
      const part = Exact.of(piece.endMs - piece.startMs, record.endMs - record.startMs);
      const before = days.get(piece.date) ?? { given: Exact.zero, capacity: Exact.zero };
      days.set(piece.date, {
        given: before.given.plus(record.allocated.vcpu.plus(record.overhead.vcpu).times(part)),
        capacity: before.capacity.plus(record.capacity.vcpu.times(part)),
      });
    }
  }
  const rows = [...hosts]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, days]) => ({
      name,
      shares: dates.map((date) => {
        const day = days.get(date);
        return day === undefined || day.capacity.isZero
          ? undefined
          : day.given.over(day.capacity).toApproximateNumber();
      }),
    }));
  return [rows, dates];
}

function placedRows(input: PageInput) {
  const month = monthSpan(input.period);
  const byVm = reportOf(input.charges, { by: ['vm'], zone: 'UTC', currency: input.currency });
  const rank = new Map(byVm.rows.map((row, index) => [row.names[0], index]));
  const vms = new Map<string, AllocationInterval[]>();
  for (const one of input.intervals) {
    if (one.startMs >= month.endMs || one.endMs <= month.startMs || one.power === 'unknown') continue;
    const list = vms.get(one.vm) ?? [];
    list.push(one);
    vms.set(one.vm, list);
  }
  const place = (one: AllocationInterval): string => `${one.source}/${one.host}`;
  const rankOf = (list: readonly AllocationInterval[]): number => rank.get(list.at(-1)?.name ?? '') ?? rank.size;
  const chosen = [...vms.values()].sort((a, b) => rankOf(a) - rankOf(b)).slice(0, SHOWN_VMS);
  const places = [...new Set(chosen.flat().map(place))].sort();
  const rows = chosen.map((list) => ({
    name: list.at(-1)?.name ?? '',
    spans: list.map((one) => ({
      place: place(one),
      isRunning: one.power === 'running',
      startMs: Math.max(one.startMs, month.startMs),
      endMs: Math.min(one.endMs, month.endMs),
    })),
  }));
  return { rows, places };
}
