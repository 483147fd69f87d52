/** A report as people and programs read it. Pure. */
import { COST_PARTS, Exact, spreadsheetLine } from '#metering';
import type { Options } from '../../command-line.ts';
import { renderTable } from '../../tables.ts';

/** Decimals that people are shown: those of a cent and two more, so that small VMs are not all 0.00. */
export const SHOWN_DECIMALS = 4;

/** Costs are decimal text with all their digits. */
export interface ReportTexts {
  readonly currency: string;
  readonly by: readonly string[];
  readonly rows: readonly ReportLine[];
  readonly total: Omit<ReportLine, 'names'>;
}

interface ReportLine {
  readonly names: readonly string[];
  readonly parts: Readonly<Record<string, string>>;
  readonly cost: string;
}

export function reportLines(report: ReportTexts, options: Options): string {
  const total = { ...report.total, names: report.by.map((_, index) => (index === 0 ? 'total' : '')) };
  const rows = [...report.rows, total];
  if (options.flag('json'))
    return rows
      .map(({ names, parts, cost }) => {
        const named = Object.fromEntries(report.by.map((dimension, index) => [dimension, names[index]]));
        return `${JSON.stringify({ ...named, ...parts, cost, currency: report.currency })}\n`;
      })
      .join('');
  const shown = COST_PARTS.filter((part) => !Exact.from(total.parts[part] ?? '0').isZero);
  const head = [...report.by.map(titleOf), ...shown.map(titleOf), `COST ${report.currency}`];
  const cells = rows.map(({ names, parts, cost }) => [
    ...names,
    ...[...shown.map((part) => parts[part] ?? '0'), cost].map((value) => Exact.from(value).toFixed(SHOWN_DECIMALS)),
  ]);
  return options.flag('csv') ? [head, ...cells].map(spreadsheetLine).join('') : renderTable([head, ...cells]);
}

export function titleOf(name: string): string {
  return name.toUpperCase();
}
