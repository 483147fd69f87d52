/**
 * The check functions a FOCUS rule model names, each as a test of one row. Pure.
 *
 * Where the validator's own functions are known to be wrong this follows the specification: text may hold any printable
 * character, not ASCII alone; a number has no `+`; a time ends in `Z`; a decimal value is really looked at.
 */
import { Exact } from '../exact.ts';
import { minorDecimalsOf } from '../rate-card/currencies.ts';
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

export class UnknownCheck extends Error {}

type Maker = (check: Check, scene: CheckScene) => RowTest;

const NUMBER = /^-?\d+(\.\d+)?([eE]-?\d+)?$/;
const TIME = /^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\dZ$/;
/** `GiB-Hours`, `Requests`, `GB/Hour`, `1000 Requests`. @source FOCUS 1.2, attribute Unit Format */
const UNIT =
  /^(\d+ )?[A-Za-z0-9%]+( [A-Za-z0-9]+)*(-(Years?|Months?|Weeks?|Days?|Hours?|Minutes?|Seconds?))?(\/[A-Za-z0-9]+)?$/;
/** Control characters, which no name or tag has a use for. */
const UNPRINTABLE = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/;

/** Of a value that is there: null passes, other rules say where it may not be. */
const onValue =
  (test: (value: string) => boolean): Maker =>
  ({ ColumnName = '' }) =>
  (row) => {
    const value = row(ColumnName);
    return value == null || test(value);
  };
const isNumber = (value: string): boolean => NUMBER.test(value);
const isTime = (value: string): boolean =>
  TIME.test(value) && new Date(value).toISOString().startsWith(value.slice(0, 19));
const same = (a: string | null | undefined, b: string | null | undefined): boolean => (a ?? null) === (b ?? null);

const MAKERS: Readonly<Record<string, Maker>> = {
  ColumnPresent: ({ ColumnName = '' }, scene) => {
    const isThere = scene.hasColumn(ColumnName);
    return () => isThere;
  },
  TypeString: onValue((value) => value !== ''),
  TypeDecimal: onValue(isNumber),
  TypeDateTime: onValue((value) => !Number.isNaN(Date.parse(value))),
  FormatString: onValue((value) => !UNPRINTABLE.test(value)),
  FormatNumeric: onValue(isNumber),
  FormatDateTime: onValue(isTime),
  FormatCurrency: onValue((value) => minorDecimalsOf(value) !== undefined),
  CheckNationalCurrency: onValue((value) => minorDecimalsOf(value) !== undefined),
  FormatUnit: onValue((value) => UNIT.test(value)),
  FormatKeyValue: onValue(isFlatObject),
  CheckDecimalValue: onValue(isNumber),
  CheckValue: ({ ColumnName = '', Value = null }) => {
    const wanted = Value === null ? null : String(Value);
    return (row) => same(row(ColumnName), wanted);
  },
  CheckNotValue: ({ ColumnName = '', Value = null }) => {
    const unwanted = Value === null ? null : String(Value);
    return (row) => !same(row(ColumnName), unwanted);
  },
  CheckSameValue:
    ({ ColumnAName = '', ColumnBName = '' }) =>
    (row) =>
      same(row(ColumnAName), row(ColumnBName)),
  CheckNotSameValue:
    ({ ColumnAName = '', ColumnBName = '' }) =>
    (row) =>
      !same(row(ColumnAName), row(ColumnBName)),
  CheckGreaterOrEqualThanValue: ({ Value, ...check }, scene) => {
    const least = Exact.from(String(Value ?? 0));
    return onValue((value) => (numberOf(value)?.compare(least) ?? -1) >= 0)(check, scene);
  },
  CheckDistinctCount: distinctCount,
  ColumnByColumnEqualsColumnValue:
    ({ ColumnAName = '', ColumnBName = '', ResultColumnName = '' }) =>
    (row) => {
      const [a, b, result] = [ColumnAName, ColumnBName, ResultColumnName].map((column) => row(column));
      if (a == null || b == null || result == null) return true;
      const [x, y, product] = [numberOf(a), numberOf(b), numberOf(result)];
      return x !== undefined && y !== undefined && product !== undefined && x.times(y).equals(product);
    },
  CheckModelRule: ({ ModelRuleId = '' }, scene) => {
    const holds = scene.ruleHolds(ModelRuleId);
    return () => holds !== false;
  },
  AND: (check, scene) => {
    const tests = (check.Items ?? []).map((item) => rowTest(item, scene));
    return (row) => tests.every((test) => test(row));
  },
  OR: (check, scene) => {
    const tests = (check.Items ?? []).map((item) => rowTest(item, scene));
    return (row) => tests.some((test) => test(row));
  },
};

export const CHECK_FUNCTIONS = Object.keys(MAKERS);

/** @throws UnknownCheck */
export function rowTest(check: Check, scene: CheckScene): RowTest {
  const { CheckFunction = '' } = check;
  const maker = Object.hasOwn(MAKERS, CheckFunction) ? MAKERS[CheckFunction] : undefined;
  if (maker === undefined) throw new UnknownCheck(CheckFunction);
  return maker(check, scene);
}

/** For each value of A exactly so many values of B. */
function distinctCount({ ColumnAName = '', ColumnBName = '', ExpectedCount = 1 }: Check, scene: CheckScene): RowTest {
  const found = new Map<string, Set<string | null>>();
  for (const row of scene.rows) {
    const a = row(ColumnAName);
    if (a == null) continue;
    const values = found.get(a) ?? new Set();
    values.add(row(ColumnBName) ?? null);
    found.set(a, values);
  }
  return (row) => {
    const a = row(ColumnAName);
    return a == null || found.get(a)?.size === ExpectedCount;
  };
}

function isFlatObject(value: string): boolean {
  let parsed: unknown;
  try {
    parsed = JSON.parse(value);
  } catch {
    return false;
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return false;
  return Object.values(parsed).every((one) => one === null || typeof one !== 'object');
}

/** Plain or with an exponent of a sane size. */
function numberOf(text: string): Exact | undefined {
  const [, digits = '', exponent] = /^(-?\d+(?:\.\d+)?)(?:[eE](-?\d{1,2}))?$/.exec(text) ?? [];
  const value = Exact.parse(digits.length > 80 ? '' : digits);
  if (value === undefined || exponent === undefined) return value;
  const power = Exact.of(10n ** BigInt(Math.abs(Number(exponent))));
  return exponent.startsWith('-') ? value.over(power) : value.times(power);
}
