/**
 * The check functions a FOCUS rule model names, each as a test of one row. Pure.
 *
 * Where the validator's own functions are known to be wrong this follows the specification: text may hold any printable
 * character, not ASCII alone; a number has no `+`; a time ends in `Z`; a decimal value is really looked at.
 */
import { minorDecimalsOf } from '../rate-card/currencies.ts';
import { isFlatObject, JSON_MAKERS } from './json-checks.ts';
import type { Check } from './model.ts';
import { type CheckScene, type Maker, named, numberOf, onValue, type RowTest, UNIT, UnknownCheck } from './row-test.ts';

const NUMBER = /^-?\d+(\.\d+)?([eE]-?\d+)?$/;
const TIME = /^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\dZ$/;
/** Control characters, which no name or tag has a use for. */
const UNPRINTABLE = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/;

const isNumber = (value: string): boolean => NUMBER.test(value);
const isTime = (value: string): boolean =>
  TIME.test(value) && new Date(value).toISOString().startsWith(value.slice(0, 19));
const same = (a: string | null | undefined, b: string | null | undefined): boolean => (a ?? null) === (b ?? null);

/** Whether a cell is the wanted value: of a number it is the amount that counts, `0.00` is 0. */
function isValue({ ColumnName, Value = null }: Check): RowTest {
  const column = named(ColumnName);
  const wanted = Value === null ? null : String(Value);
  const amount = typeof Value === 'number' ? numberOf(String(Value)) : undefined;
  if (amount === undefined) return (row) => same(row(column), wanted);
  return (row) => numberOf(row(column) ?? '')?.equals(amount) ?? false;
}

/** Of two columns, null equal to null alone; one that is not in the table is neither the same nor another. */
const comparison =
  (test: (a: string | null, b: string | null) => boolean): Maker =>
  ({ ColumnAName, ColumnBName }) => {
    const [a, b] = [named(ColumnAName), named(ColumnBName)];
    return (row) => {
      const [left, right] = [row(a), row(b)];
      return left !== undefined && right !== undefined && test(left, right);
    };
  };
const isSame = comparison(same);
const isOther = comparison((a, b) => !same(a, b));
const COMPARATORS: Readonly<Record<string, Maker>> = {
  '=': isSame,
  '!=': isOther,
  equals_column: isSame,
  not_equals_column: isOther,
};

/** A number against a fixed one; what is no number is beside the bound. */
const bound =
  (test: (order: number) => boolean): Maker =>
  (check, scene) => {
    const limit = numberOf(String(check.Value ?? 0));
    if (limit === undefined) throw new UnknownCheck(`the bound ${check.Value}`);
    const isWithin = (value: string): boolean => {
      const amount = numberOf(value);
      return amount !== undefined && test(amount.compare(limit));
    };
    return onValue(isWithin)(check, scene);
  };

const MAKERS: Readonly<Record<string, Maker>> = {
  ...JSON_MAKERS,
  ColumnPresent: ({ ColumnName }, scene) => {
    const isThere = scene.hasColumn(named(ColumnName));
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
  CheckValue: isValue,
  CheckNotValue: (check) => {
    const isIt = isValue(check);
    return (row) => !isIt(row);
  },
  CheckSameValue: isSame,
  CheckNotSameValue: isOther,
  CheckColumnComparison: (check, scene) => {
    const maker = COMPARATORS[check.Comparator ?? ''];
    if (maker === undefined) throw new UnknownCheck(`the comparator ${check.Comparator}`);
    return maker(check, scene);
  },
  CheckGreaterOrEqualThanValue: bound((order) => order >= 0),
  CheckGreaterThanValue: bound((order) => order > 0),
  CheckLessOrEqualThanValue: bound((order) => order <= 0),
  CheckStringEndsWith: onValue((value, { Value }) => value.endsWith(String(Value ?? ''))),
  CheckNoDuplicates: noDuplicates,
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

/** @throws UnknownCheck */
export function rowTest(check: Check, scene: CheckScene): RowTest {
  const { CheckFunction = '' } = check;
  const maker = Object.hasOwn(MAKERS, CheckFunction) ? MAKERS[CheckFunction] : undefined;
  if (maker === undefined) throw new UnknownCheck(CheckFunction);
  return maker(check, scene);
}

/** Rows that share their value with another one fail. */
function noDuplicates({ ColumnName }: Check, scene: CheckScene): RowTest {
  const column = named(ColumnName);
  const counts = new Map<string, number>();
  for (const row of scene.rows) {
    const value = row(column);
    if (value != null) counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  return (row) => (counts.get(row(column) ?? '') ?? 0) < 2;
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
