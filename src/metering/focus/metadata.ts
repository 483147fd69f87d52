/**
 * The schema object every export has beside it: which columns there are, and how they are written. Pure.
 *
 * @source FinOps-Open-Cost-and-Usage-Spec/FOCUS_Spec 8cf43fc1, c23c3687: dataset instance metadata, from 1.3 on
 */
import type { FocusVersion } from './columns.ts';
import type { FocusTable } from './focus-rows.ts';

export interface FocusMetadata {
  readonly SchemaId: string;
  readonly FocusVersion: string;
  readonly CreationDate: string;
  readonly DataGenerator: string;
  readonly DataGeneratorVersion: string;
  /** Of which instance this is the schema, and what that is; from 1.3 on. */
  readonly DatasetInstanceId?: string;
  readonly DatasetInstance?: readonly DatasetInstance[];
  readonly ColumnDefinition: readonly ColumnDefinition[];
}

interface DatasetInstance {
  readonly DatasetInstanceId: string;
  readonly DatasetInstanceName: string;
  readonly FocusDatasetId: string;
}

interface ColumnDefinition {
  readonly ColumnName: string;
  readonly DataType: string;
  readonly StringMaxLength?: number;
  readonly StringEncoding?: string;
  readonly NumericPrecision?: number;
  readonly NumberScale?: number;
  readonly ProviderTagPrefixes?: readonly string[];
}

/** Decimal digits a Parquet decimal of 16 bytes can hold. @source Parquet format, LogicalTypes: DECIMAL */
export const MOST_PRECISION = 38;

/** @param making - `at`: when, UTC milliseconds; `generatorVersion`: berth's; `account`: whose charges these are. */
export function focusMetadata(
  table: FocusTable,
  version: FocusVersion,
  making: { readonly at: number; readonly generatorVersion: string; readonly account: string },
): FocusMetadata {
  const definitions = table.columns.map(({ name, type }, index): ColumnDefinition => {
    const values = table.rows.map((row) => row[index]);
    if (type === 'Decimal')
      return { ColumnName: name, DataType: 'Decimal', NumericPrecision: MOST_PRECISION, NumberScale: scaleOf(values) };
    if (type === 'DateTime') return { ColumnName: name, DataType: 'DateTime' };
    const longest = values.reduce((most, value) => Math.max(most, value?.length ?? 0), 1);
    const text = { ColumnName: name, DataType: type, StringMaxLength: longest, StringEncoding: 'UTF-8' };
    return name === 'Tags' ? { ...text, ProviderTagPrefixes: [] } : text;
  });
  const fingerprint = definitions.map((one) => `${one.ColumnName}:${one.DataType}`).join(',');
  const instance = {
    DatasetInstanceId: `berth-CostAndUsage-${making.account}`,
    DatasetInstanceName: `Cost and usage of ${making.account}`,
    FocusDatasetId: 'CostAndUsage',
  };
  return {
    SchemaId: `berth-${version}-${checksum(fingerprint)}`,
    FocusVersion: version,
    CreationDate: `${new Date(making.at).toISOString().slice(0, 19)}Z`,
    DataGenerator: 'berth',
    DataGeneratorVersion: making.generatorVersion,
    ...(version === '1.2' ? {} : { DatasetInstanceId: instance.DatasetInstanceId, DatasetInstance: [instance] }),
    ColumnDefinition: definitions,
  };
}

/** The most digits after the point that any value has. */
export function scaleOf(values: readonly (string | null | undefined)[]): number {
  return values.reduce((most, value) => Math.max(most, value == null ? 0 : (value.split('.')[1]?.length ?? 0)), 0);
}

/** FNV-1a: the same columns give the same schema id. Not for security. */
function checksum(text: string): string {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash.toString(16).padStart(8, '0');
}
