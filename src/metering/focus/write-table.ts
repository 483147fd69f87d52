/** A FOCUS table as CSV, JSON or Parquet: the same digits in each. */
import { BerthError } from '#base';
import { csvLine } from '../reports/csv.ts';
import type { FocusTable } from './focus-rows.ts';
import { MOST_PRECISION, scaleOf } from './metadata.ts';

export function focusCsv({ columns, rows }: FocusTable): string {
  return [
    csvLine(columns.map(({ name }) => name)),
    ...rows.map((row) => csvLine(row.map((cell) => cell ?? undefined))),
  ].join('');
}

/** One array of objects. Decimals are JSON numbers with all their digits; objects (tags) stay JSON text, as in CSV. */
export function focusJson({ columns, rows }: FocusTable): string {
  const lines = rows.map((row) => {
    const fields = columns.map(({ name, type }, index) => {
      const value = row[index] ?? null;
      const text = value === null ? 'null' : type === 'Decimal' ? value : JSON.stringify(value);
      return `${JSON.stringify(name)}:${text}`;
    });
    return `{${fields.join(',')}}`;
  });
  return `[\n${lines.join(',\n')}\n]\n`;
}

/** @throws focus.precision (unsupported) when a number has more digits than Parquet's decimals. */
export async function focusParquet({ columns, rows }: FocusTable): Promise<Uint8Array> {
  const { parquetWriteBuffer } = await import('hyparquet-writer');
  const made = columns.map(({ name, type }, index) => {
    const values = rows.map((row) => row[index] ?? null);
    if (type === 'Decimal') {
      const scale = scaleOf(values);
      const element = {
        name,
        type: 'FIXED_LEN_BYTE_ARRAY' as const,
        type_length: 16,
        converted_type: 'DECIMAL' as const,
        precision: MOST_PRECISION,
        scale,
        repetition_type: 'OPTIONAL' as const,
      };
      return { element, data: values.map((value) => (value === null ? null : unscaled(value, { scale, name }))) };
    }
    if (type === 'DateTime') {
      const element = {
        name,
        type: 'INT64' as const,
        converted_type: 'TIMESTAMP_MILLIS' as const,
        repetition_type: 'OPTIONAL' as const,
      };
      return { element, data: values.map((value) => (value === null ? null : new Date(value))) };
    }
    const element = {
      name,
      type: 'BYTE_ARRAY' as const,
      converted_type: 'UTF8' as const,
      repetition_type: 'OPTIONAL' as const,
    };
    return { element, data: values };
  });
  const buffer = parquetWriteBuffer({
    schema: [{ name: 'root', num_children: made.length }, ...made.map(({ element }) => element)],
    columnData: made.map(({ element, data }) => ({ name: element.name, data })),
  });
  return new Uint8Array(buffer);
}

function unscaled(value: string, { scale, name }: { readonly scale: number; readonly name: string }): bigint {
  const [whole = '', fraction = ''] = value.split('.');
  const digits = `${whole}${fraction.padEnd(scale, '0')}`;
  if (digits.replace(/^-?0*/, '').length > MOST_PRECISION)
    throw new BerthError(
      'unsupported',
      'focus.precision',
      `${name} has a value of more than ${MOST_PRECISION} digits: ${value}`,
      {
        hint: 'export as CSV or JSON, or round quantities to fewer decimals in the rate card',
      },
    );
  return BigInt(digits);
}
