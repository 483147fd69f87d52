/** What a benchmark says: rows of measures with their limits, printed as a table and written into docs/benchmarks.md. */
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';

export interface Row {
  readonly measure: string;
  readonly value: string;
  /** The promise in SPECIFICATION.md; absent for figures that only inform. */
  readonly limit?: string;
  readonly holds?: boolean;
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** Nearest-rank. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))] ?? Number.NaN;
}

export function renderTable(rows: readonly Row[]): string {
  const mark = (row: Row): string => (row.holds === undefined ? '' : row.holds ? 'holds' : '**does not hold**');
  const cell = (text: string): string => text.replaceAll('|', '\\|');
  const lines = rows.map((row) => `| ${cell(row.measure)} | ${row.value} | ${row.limit ?? ''} | ${mark(row)} |`);
  return ['| measure | measured | promise | |', '|---|---|---|---|', ...lines].join('\n');
}

/** Replaces the section `name` of docs/benchmarks.md, or appends it. */
export function writeSection(name: string, title: string, rows: readonly Row[], notes: string): void {
  const path = new URL('../../docs/benchmarks.md', import.meta.url).pathname;
  const [begin, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const machine = `${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}, ${Math.round(totalmem() / 2 ** 30)} GB`;
  const date = new Date().toISOString().slice(0, 10);
  const section = `${begin}\n## ${title}\n\n${date}, ${machine}.\n\n${renderTable(rows)}\n\n${notes}\n${end}`;
  const text = readFileSync(path, 'utf8');
  const at = text.indexOf(begin);
  const changed =
    at < 0
      ? `${text.trimEnd()}\n\n${section}\n`
      : text.slice(0, at) + section + text.slice(text.indexOf(end) + end.length);
  writeFileSync(path, changed);
}
