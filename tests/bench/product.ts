/** The benchmarks of `berth bench` as `npm run bench` runs them: the same code, its promises asserted. */
import {
  type BenchVerb,
  limitText,
  median,
  p99,
  quantity,
  type Report,
  runBench,
  type Verdict,
  valueText,
} from '#bench';
import { thisInstallation } from '#setup';
import type { Row } from './report.ts';

export interface ProductOptions {
  readonly pairs: number | undefined;
  readonly vms: number | undefined;
  readonly force: boolean;
}

export async function benchProduct(verb: BenchVerb, options: ProductOptions): Promise<Report> {
  return await runBench({
    ...{ verb, ...options },
    env: process.env,
    isRoot: process.getuid?.() === 0,
    installation: thisInstallation(),
    onProgress: (line) => process.stderr.write(`\r\u001b[K${line}`),
  });
}

/** The promises first, then each side's figures, then what could not be measured. */
export function rowsOf(report: Report): Row[] {
  return [
    ...report.verdicts.map(verdictRow),
    ...report.measures.flatMap((measure) =>
      measure.series.map((one) => ({
        measure: `${measure.title}: ${one.side}, median / p99 of ${one.values.length}`,
        value: `${quantity(median(one.values), measure.unit)} / ${quantity(p99(one.values), measure.unit)}`,
      })),
    ),
    ...report.missing.map((one) => ({ measure: `${one.side}: missing`, value: one.why })),
  ];
}

function verdictRow(verdict: Verdict): Row {
  const sign = verdict.sense === 'at most' ? '≤' : '≥';
  const limit = `${sign} ${limitText(verdict.must, verdict.unit)} (aim ${limitText(verdict.aim, verdict.unit)})`;
  if (verdict.outcome === 'not measured') return { measure: verdict.claim, value: 'not measured', limit };
  return { measure: verdict.claim, value: valueText(verdict), limit, holds: verdict.outcome === 'holds' };
}

/** Why the promises do not all hold: one line each, with the package that is missing. */
export function shortfalls(report: Report): string[] {
  return report.verdicts
    .filter((verdict) => verdict.outcome !== 'holds')
    .map((verdict) => `${verdict.claim}: ${verdict.outcome}: ${verdict.why ?? valueText(verdict)}`);
}

export function notesOf(report: Report): string {
  const sides = report.sides.map(({ side, facts }) => `${side}: ${facts.join(', ')}`).join('; ');
  return `Sides: ${sides}. \`npm run bench -- ${report.verb} --write\`; what is compared: src/bench/${report.verb}.ts.`;
}
