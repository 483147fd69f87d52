/**
 * The check functions that look into a column of JSON, by a path such as `$.Elements[*].AllocatedRatio`. Pure.
 *
 * @source FinOps-Open-Cost-and-Usage-Spec/FOCUS_Spec 10aabf63: specification/requirements_model/check_functions.json
 */
import type { Check } from './model.ts';
import { type Maker, named, type Row, UNIT, UnknownCheck } from './row-test.ts';

type Step = string | typeof EACH;
const EACH = Symbol('each element');

/** `$`, `$.Elements`, `$.Elements[*].Name`. @throws UnknownCheck */
function stepsOf(path: string | null | undefined): readonly Step[] {
  if (path == null || !/^\$(\.[A-Za-z_]\w*|\[\*\])*$/.test(path)) throw new UnknownCheck(`the path ${path}`);
  return [...path.matchAll(/\.(\w+)|\[\*\]/g)].map(([, key]) => key ?? EACH);
}

/** What is at the path; `undefined` where its parent has no such key. */
function valuesAt(root: unknown, steps: readonly Step[]): readonly unknown[] {
  return steps.reduce<readonly unknown[]>(
    (values, step) =>
      step === EACH
        ? values.flatMap((value) => (Array.isArray(value) ? (value as unknown[]) : []))
        : values.map((value) => (isObject(value) && Object.hasOwn(value, step) ? value[step] : undefined)),
    [root],
  );
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

const isFlat = (value: unknown): boolean =>
  isObject(value) && Object.values(value).every((one) => one === null || typeof one !== 'object');
const isNumber = (value: unknown): boolean =>
  typeof value === 'number' || (typeof value === 'string' && /^-?\d+(\.\d+)?$/.test(value));

/** The cell as JSON; `undefined` when it is none. */
export function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Of all there is at the path; a cell that is null, and what is not there, other rules are about. */
const atPath =
  (test: (value: unknown, check: Check) => boolean): Maker =>
  (check) => {
    const column = named(check.ColumnName);
    const steps = stepsOf(check.Path);
    return (row) => {
      const text = row(column);
      if (text == null) return true;
      return valuesAt(parsed(text), steps).every((value) => value === undefined || test(value, check));
    };
  };

/** As `atPath`, but of what is not there as well. */
const everyAtPath =
  (test: (value: unknown, check: Check) => boolean): Maker =>
  (check) => {
    const column = named(check.ColumnName);
    const steps = stepsOf(check.Path);
    return (row) => {
      const text = row(column);
      return text == null || valuesAt(parsed(text), steps).every((value) => test(value, check));
    };
  };

const TYPES: Readonly<Record<string, (value: unknown) => boolean>> = {
  array: Array.isArray,
  boolean: (value) => typeof value === 'boolean',
  decimal: isNumber,
  number: isNumber,
  object: isObject,
  string: (value) => typeof value === 'string',
};

const isText = (value: unknown): boolean => typeof value === 'string' && value !== '';
const onJson = (test: (value: unknown) => boolean): Maker => {
  return ({ ColumnName }) => {
    const column = named(ColumnName);
    return (row) => {
      const text = row(column);
      return text == null || test(parsed(text));
    };
  };
};

export const isFlatObject = (text: string): boolean => isFlat(parsed(text));

export const JSON_MAKERS: Readonly<Record<string, Maker>> = {
  TypeJSON: onJson((value) => value !== undefined),
  FormatJSON: onJson(isObject),
  FormatJSONFormat: onJson(isObject),
  JSONFormatString: atPath(isText),
  JSONFormatNumeric: atPath(isNumber),
  JSONFormatUnit: atPath((value) => typeof value === 'string' && UNIT.test(value)),
  JSONCheckPathNumericFormat: atPath(isNumber),
  JSONCheckPathUnitFormat: atPath((value) => typeof value === 'string' && UNIT.test(value)),
  JSONCheckPathKeyValueFormat: atPath(isFlat),
  JSONCheckPathType: (check, scene) => {
    const isOfType = TYPES[check.ExpectedType?.toLowerCase() ?? ''];
    if (isOfType === undefined) throw new UnknownCheck(`the type ${check.ExpectedType}`);
    return atPath(isOfType)(check, scene);
  },
  JSONCheckPathKeyExists: everyAtPath((value) => value !== undefined),
  JSONCheckPathKeyStartsWith: atPath((value, { Prefix = '', IgnoreKeys = [] }) =>
    isObject(value) ? Object.keys(value).every((key) => key.startsWith(Prefix) || IgnoreKeys.includes(key)) : true,
  ),
  JSONCheckPathValue: everyAtPath((value, { Value = null }) => (value ?? null) === Value),
  JSONCheckPathNotValue: everyAtPath((value, { Value = null }) => (value ?? null) !== Value),
  JSONCheckPathSameValue: (check) => {
    const a = sideOf(check.ColumnAName, check.PathA);
    const b = sideOf(check.ColumnBName, check.PathB);
    return (row) => {
      const [left, right] = [a(row), b(row)];
      return left === undefined || right === undefined || left.every((one) => right.includes(one));
    };
  },
};

/** What a side has: of a path the values there, without one the cell itself; `undefined` when the cell is null. */
function sideOf(column: string | undefined, path: string | null | undefined): (row: Row) => unknown[] | undefined {
  const name = named(column);
  const steps = path == null ? undefined : stepsOf(path);
  return (row) => {
    const text = row(name);
    if (text == null) return undefined;
    return steps === undefined ? [text] : valuesAt(parsed(text), steps).filter((one) => one !== undefined);
  };
}
