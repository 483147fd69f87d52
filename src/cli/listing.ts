/** How every listing verb prints: a table, ids only, JSON, or the reader's own template. Pure. */
import { type Flag, type Options, usageError } from './command-line.ts';
import { renderTable } from './tables.ts';
import { compileTemplate } from './template.ts';

export const LISTING_FLAGS: readonly Flag[] = [
  { flags: '--format <TEMPLATE>', about: 'table, json, or a Go template: "{{.ID}}", "table {{.ID}}\\t{{.Names}}"' },
  { flags: '--json', about: 'one JSON object a line, as --format json' },
];

/** One row: every field a template may name, as text or as a value. */
export type Row = Readonly<Record<string, unknown>>;

export interface Listing {
  readonly rows: readonly Row[];
  /** Field → title, in the order of the usual table. */
  readonly columns: readonly (readonly [field: string, title: string])[];
  /** Titles of fields that only templates show. */
  readonly titles?: Readonly<Record<string, string>>;
}

/** @throws usage (invalid) for a template that cannot be read. */
export function renderListing(listing: Listing, options: Options): string {
  const format = options.flag('json') ? 'json' : (options.text('format') ?? 'table');
  if (format === 'json') return listing.rows.map((row) => `${JSON.stringify(row)}\n`).join('');
  if (format === 'table' || format === '') {
    const titles = listing.columns.map(([, title]) => title);
    return renderTable([
      titles,
      ...listing.rows.map((row) => listing.columns.map(([field]) => String(row[field] ?? ''))),
    ]);
  }
  const text = format.replaceAll('\\t', '\t').replaceAll('\\n', '\n');
  if (!/^table\s/.test(text)) {
    const render = compileTemplate(text);
    return listing.rows.map((row) => `${render(row)}\n`).join('');
  }
  const template = text.replace(/^table\s+/, '');
  const render = compileTemplate(template);
  const titles: Record<string, string> = { ...listing.titles, ...Object.fromEntries(listing.columns) };
  const header = template.replace(/\{\{[^}]*?\.([A-Za-z]+)[^}]*\}\}/g, (_whole, field: string) => {
    if (!listing.rows.every((row) => Object.hasOwn(row, field)) && titles[field] === undefined)
      throw usageError(`template parsing error: there is no field .${field}`);
    return titles[field] ?? field.toUpperCase();
  });
  return renderTable([header, ...listing.rows.map((row) => render(row))].map((line) => line.split('\t')));
}
