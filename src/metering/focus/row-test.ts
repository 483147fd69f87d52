/** What a check of a FOCUS rule model is, as a test of one row. Pure. */
import { Exact } from '../exact.ts';
import type { Check } from './model.ts';

/** A row by column name; `undefined` when there is no such column. */
export type Row = (column: string) => string | null | undefined;
export type RowTest = (row: Row) => boolean;

/** What a function may need beside the row. */
export interface CheckScene {
  hasColumn(name: string): boolean;
  readonly rows: readonly Row[];
  /** Whether another rule of the model passed; undefined when it does not apply. */
  ruleHolds(id: string): boolean | undefined;
}

/** A check nobody can do here: its function, its path or what it is of are not known. */
export class UnknownCheck extends Error {}

export type Maker = (check: Check, scene: CheckScene) => RowTest;

/** `GiB-Hours`, `Requests`, `GB/Hour`, `1000 Requests`. @source FOCUS 1.2, attribute Unit Format */
export const UNIT =
  /^(\d+ )?[A-Za-z0-9%]+( [A-Za-z0-9]+)*(-(Years?|Months?|Weeks?|Days?|Hours?|Minutes?|Seconds?))?(\/[A-Za-z0-9]+)?$/;

/** Of a value that is there: null passes, other rules say where it may not be. */
export const onValue =
  (test: (value: string, check: Check) => boolean): Maker =>
  (check) => {
    const column = named(check.ColumnName);
    return (row) => {
      const value = row(column);
      return value == null || test(value, check);
    };
  };

/** @throws UnknownCheck for a check that does not say of what. */
export function named(name: string | undefined): string {
  if (name === undefined) throw new UnknownCheck('a check of no column');
  return name;
}

/** Plain or with an exponent of a sane size. */
export function numberOf(text: string): Exact | undefined {
  const [, digits = '', exponent] = /^(-?\d+(?:\.\d+)?)(?:[eE](-?\d{1,2}))?$/.exec(text) ?? [];
  const value = Exact.parse(digits.length > 80 ? '' : digits);
  if (value === undefined || exponent === undefined) return value;
  const power = Exact.of(10n ** BigInt(Math.abs(Number(exponent))));
  return exponent.startsWith('-') ? value.over(power) : value.times(power);
}
