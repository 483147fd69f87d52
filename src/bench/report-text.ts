/** A report as a person reads it on a terminal. Pure. */
import type { Measure, Report, Unit, Verdict } from './report.ts';
import { SIDE_TITLES } from './sides/side-names.ts';
import { median, p99 } from './statistics.ts';

export function renderReport(report: Report): string {
  const { machine } = report;
  const head = `berth bench ${report.verb}, ${report.at}, ${machine.cpus} × ${machine.cpuModel}, ${Math.round(machine.memoryBytes / 2 ** 30)} GB, kernel ${machine.kernel}, load ${machine.load.toFixed(2)}`;
  const sides = report.sides.map(({ side, facts }) => `  ${side}: ${facts.join(', ')}`);
  const missing = report.missing.map(
    (one) => `  missing: ${one.side}: ${one.why}${one.package === undefined ? '' : ` (package ${one.package})`}`,
  );
  const parts = [
    [head, ...sides, ...missing].join('\n'),
    ...report.measures.map(renderMeasure),
    renderVerdicts(report.verdicts),
  ];
  return `${parts.filter((part) => part !== '').join('\n\n')}\n`;
}

function renderMeasure(measure: Measure): string {
  const berth = median(measure.series.find((one) => one.side === SIDE_TITLES.berth)?.values ?? []);
  const rows = measure.series.map((one) => {
    const middle = median(one.values);
    const ratio = Number.isNaN(berth) || berth === 0 ? '' : significant(middle / berth);
    return [
      one.side,
      String(one.values.length),
      quantity(middle, measure.unit),
      quantity(p99(one.values), measure.unit),
      ratio,
      one.check,
    ];
  });
  return `${measure.title}\n${columns([['side', 'n', 'median', 'p99', '÷ berth', 'checked'], ...rows])}`;
}

function renderVerdicts(verdicts: readonly Verdict[]): string {
  return verdicts
    .map((one) => {
      const limits = `${one.sense} ${limitText(one.must, one.unit)} (aim ${limitText(one.aim, one.unit)})`;
      const found = one.value === undefined ? (one.why ?? '') : valueText(one);
      return `${one.outcome}: ${one.claim}: ${found}; promised ${limits}`;
    })
    .join('\n');
}

/** The measured value of a verdict, with its interval when it has one. */
export function valueText(verdict: Verdict): string {
  const { value, unit, interval } = verdict;
  if (value === undefined) return '';
  const text = unit === 'ratio' ? significant(value) : quantity(value, unit);
  return interval === undefined
    ? text
    : `${text} (95 %: ${significant(interval.low)} to ${significant(interval.high)})`;
}

/** `1/15` rather than 0.0667: ratios below a tenth are promised as fractions. */
export function limitText(limit: number, unit: Unit | 'ratio'): string {
  if (unit !== 'ratio') return quantity(limit, unit);
  return limit < 0.1 ? `1/${Math.round(1 / limit)}` : String(limit);
}

export function quantity(value: number, unit: Unit): string {
  return `${significant(value)} ${unit}`;
}

/** Three digits that say something, and no exponent. */
function significant(value: number): string {
  if (!Number.isFinite(value)) return '-';
  return Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}

function columns(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows)
    for (const [index, cell] of row.entries()) widths[index] = Math.max(widths[index] ?? 0, [...cell].length);
  return rows
    .map((row) => {
      const cells = row.map((cell, index) => {
        const padding = ' '.repeat((widths[index] ?? 0) - [...cell].length);
        // Text to the left, figures to the right.
        return index === 0 || index === row.length - 1 ? cell + padding : padding + cell;
      });
      return `  ${cells.join('   ')}`.trimEnd();
    })
    .join('\n');
}
