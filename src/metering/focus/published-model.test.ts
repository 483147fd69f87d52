import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readModel } from './model.ts';
import { type CheckedTable, type RuleVerdict, runModel } from './run-model.ts';

interface Parts {
  readonly requirement?: unknown;
  readonly condition?: unknown;
  readonly keyword?: string;
  readonly [key: string]: unknown;
}

/** A rule with every property published ones have, also those berth has no use for. */
function published({ requirement = {}, condition = {}, keyword = 'MUST', ...more }: Parts): unknown {
  return {
    Function: 'Validation',
    Reference: 'Colour',
    EntityType: 'Column',
    Notes: null,
    ModelVersionIntroduced: '1.2',
    Status: 'Active',
    ApplicabilityCriteria: [],
    Type: 'Static',
    ...more,
    ValidationCriteria: {
      MustSatisfy: 'it',
      Keyword: keyword,
      Requirement: requirement,
      Condition: condition,
      Dependencies: [],
    },
  };
}

const is = (ColumnName: string, Value: unknown): object => ({ CheckFunction: 'CheckValue', ColumnName, Value });
const isNot = (ColumnName: string, Value: unknown): object => ({ CheckFunction: 'CheckNotValue', ColumnName, Value });
const part = (ModelRuleId: string): object => ({ CheckFunction: 'CheckModelRule', ModelRuleId });
const all = (...Items: object[]): object => ({ CheckFunction: 'AND', Items });
const any = (...Items: object[]): object => ({ CheckFunction: 'OR', Items });

/** A whole file as it is published, of these rules. */
const file = (rules: Record<string, Parts>, datasets: unknown = { CostAndUsage: { ModelRules: [] } }): string =>
  JSON.stringify({
    Details: { ModelVersion: '1.2.0.1', FOCUSVersion: '1.2' },
    ApplicabilityCriteria: { PAINT_SUPPORTED: { Description: 'paints' } },
    CheckFunctions: { CheckValue: { Description: 'is it', Arguments: [], FormatAttributes: [] } },
    ModelDatasets: datasets,
    ModelRules: Object.fromEntries(Object.entries(rules).map(([id, rule]) => [id, published(rule)])),
  });

function verdictsOf(text: string, table: CheckedTable, criteria: readonly string[] = []): Record<string, RuleVerdict> {
  const { verdicts } = runModel(readModel(text, 'model.json'), table, criteria);
  return Object.fromEntries(verdicts.map((one) => [one.rule, one]));
}

const statusesOf = (rules: Record<string, Parts>, table: CheckedTable): Record<string, string> =>
  Object.fromEntries(Object.entries(verdictsOf(file(rules), table)).map(([id, { status }]) => [id, status]));

test('a condition written as {"AND": …} holds, of one check and of several', () => {
  const rules = {
    one: { requirement: is('Colour', null), condition: { AND: is('Id', null) } },
    several: { requirement: isNot('Colour', null), condition: { AND: [isNot('Id', null), is('Kind', 'paint')] } },
    either: { requirement: isNot('Colour', null), condition: { OR: [is('Kind', 'paint'), is('Kind', 'ink')] } },
  };
  const verdicts = verdictsOf(file(rules), {
    columns: ['Id', 'Kind', 'Colour'],
    rows: [
      ['1', 'paint', 'red'],
      [null, 'brush', 'red'],
      ['2', 'brush', null],
      ['3', 'paint', null],
    ],
  });
  assert.deepEqual(
    ['one', 'several', 'either'].map((id) => verdicts[id]?.rows),
    [[2], [4], [4]],
  );
});

test('a condition that names its column as CheckCondition is of that column, and one that names none is not checked', () => {
  const columns = ['Id', 'Colour'];
  const rules = {
    odd: {
      requirement: isNot('Colour', null),
      condition: { CheckFunction: 'CheckNotValue', CheckCondition: 'Id', Value: null },
    },
    nameless: { requirement: isNot('Colour', null), condition: { CheckFunction: 'CheckNotValue', Value: null } },
  };
  assert.deepEqual(statusesOf(rules, { columns, rows: [[null, null]] }), { odd: 'passed', nameless: 'not_checked' });
  assert.deepEqual(statusesOf(rules, { columns, rows: [['1', null]] }), { odd: 'failed', nameless: 'not_checked' });
});

test('a number is compared as an amount, a truth value as text', () => {
  const rules = {
    zero: { requirement: is('Cost', 0) },
    notZero: { requirement: isNot('Cost', 0), condition: isNot('Cost', null) },
    text: { requirement: is('Cost', '0') },
    truth: { requirement: isNot('Cost', true) },
  };
  const run = (cost: string): string =>
    Object.values(statusesOf(rules, { columns: ['Cost'], rows: [[cost]] })).join(' ');
  assert.equal(run('0.00'), 'passed failed failed passed');
  assert.equal(run('0'), 'passed failed passed passed');
  assert.equal(run('0e5'), 'passed failed failed passed');
  assert.equal(run('0.01'), 'failed passed failed passed');
  assert.equal(run('true'), 'failed passed failed failed');
});

test('a whole is what its parts are, and has not passed when none of them was looked at', () => {
  const rules = {
    good: { requirement: is('Colour', 'red') },
    bad: { requirement: is('Colour', 'blue') },
    advice: { requirement: is('Colour', 'blue'), keyword: 'SHOULD' },
    dynamic: { Type: 'Dynamic' },
    elsewhere: { requirement: isNot('Shade', null) },
    yes: { requirement: isNot('Kind', 'x') },
    no: { requirement: is('Kind', 'x') },
    unlooked: { requirement: all(part('dynamic')) },
    absent: { requirement: all(part('elsewhere')) },
    dangling: { requirement: all(part('nowhere')) },
    mixed: { requirement: all(part('good'), part('dynamic'), part('advice')) },
    broken: { requirement: all(part('good'), part('bad')) },
    brokenAdvice: { requirement: all(part('bad')), keyword: 'SHOULD' },
    eitherOne: { requirement: any(part('bad'), part('good')) },
    neither: { requirement: any(part('bad'), part('bad')) },
    opposites: { requirement: any(part('yes'), part('no')) },
    circular: { requirement: all(part('circular')) },
  };
  const { good, bad, advice, dynamic, elsewhere, ...wholes } = statusesOf(rules, {
    columns: ['Colour', 'Kind'],
    rows: [['red', null]],
  });
  assert.deepEqual(
    [good, bad, advice, dynamic, elsewhere].join(' '),
    'passed failed warned not_checked not_applicable',
  );
  assert.deepEqual(wholes, {
    yes: 'contradictory',
    no: 'contradictory',
    unlooked: 'not_checked',
    absent: 'not_applicable',
    dangling: 'not_checked',
    mixed: 'passed',
    broken: 'failed',
    brokenAdvice: 'warned',
    eitherOne: 'passed',
    neither: 'failed',
    opposites: 'contradictory',
    circular: 'not_checked',
  });
});

test('opposites under different conditions do not contradict, wherever the conditions come from', () => {
  const rules = {
    withId: { requirement: all(part('named')), condition: isNot('Id', null) },
    withoutId: { requirement: all(part('nameless')), condition: is('Id', null) },
    named: { requirement: isNot('Colour', null) },
    nameless: { requirement: is('Colour', null) },
  };
  const table = { columns: ['Id', 'Colour'], rows: [['1', null]] };
  assert.deepEqual(statusesOf(rules, table), {
    withId: 'failed',
    withoutId: 'passed',
    named: 'failed',
    nameless: 'passed',
  });
});

test('what was removed and what is of another dataset is not demanded', () => {
  const rules = {
    root: { requirement: all(part('colour')) },
    colour: { requirement: { CheckFunction: 'ColumnPresent', ColumnName: 'Colour' } },
    gone: { requirement: { CheckFunction: 'ColumnPresent', ColumnName: 'Gone' }, Status: 'Removed' },
    otherRoot: { requirement: all(part('contract')) },
    contract: { requirement: { CheckFunction: 'ColumnPresent', ColumnName: 'Contract' } },
    otherLoose: {
      requirement: { CheckFunction: 'ColumnPresent', ColumnName: 'Term' },
      DatasetId: 'ContractCommitment',
    },
    loose: { requirement: { CheckFunction: 'ColumnPresent', ColumnName: 'Colour' } },
  };
  const datasets = { CostAndUsage: { ModelRules: ['root'] }, ContractCommitment: { ModelRules: ['otherRoot'] } };
  const verdicts = verdictsOf(file(rules, datasets), { columns: ['Colour'], rows: [] });
  const statuses = Object.fromEntries(Object.values(verdicts).map(({ rule, status }) => [rule, status]));
  assert.deepEqual(statuses, {
    root: 'passed',
    colour: 'passed',
    gone: 'not_applicable',
    otherRoot: 'not_applicable',
    contract: 'not_applicable',
    otherLoose: 'not_applicable',
    loose: 'passed',
  });
});

/** Whether a check of column J passes with this cell. */
function passes(check: object, cell: string | null): string | undefined {
  const table = { columns: ['J', 'K'], rows: [[cell, 'abc']] };
  return statusesOf({ it: { requirement: { ColumnName: 'J', ...check } } }, table)['it'];
}

test('every check of a path in JSON tells right from wrong', () => {
  const of = (...elements: unknown[]): string => JSON.stringify({ Elements: elements });
  const cases: readonly [object, string, string][] = [
    [{ CheckFunction: 'TypeJSON' }, '[1]', '{'],
    [{ CheckFunction: 'FormatJSON' }, '{}', '[1]'],
    [{ CheckFunction: 'FormatJSONFormat' }, '{}', '1'],
    [{ CheckFunction: 'JSONCheckPathType', Path: '$', ExpectedType: 'Object' }, '{}', '[]'],
    [{ CheckFunction: 'JSONCheckPathType', Path: '$.Elements', ExpectedType: 'Array' }, of(), '{"Elements":{}}'],
    [
      { CheckFunction: 'JSONCheckPathType', Path: '$.Elements[*].R', ExpectedType: 'Decimal' },
      of({ R: 1 }),
      of({ R: [] }),
    ],
    [
      { CheckFunction: 'JSONCheckPathType', Path: '$.Elements[*].R', ExpectedType: 'String' },
      of({ R: '' }),
      of({ R: 1 }),
    ],
    [{ CheckFunction: 'JSONCheckPathKeyValueFormat', Path: '$.Elements[*]' }, of({ R: 1 }), of({ R: 1 }, { R: {} })],
    [{ CheckFunction: 'JSONCheckPathKeyExists', Path: '$.Elements[*].R' }, of({ R: null }), of({ R: 1 }, {})],
    [{ CheckFunction: 'JSONCheckPathValue', Path: '$.Elements[*].R', Value: 'a' }, of({ R: 'a' }), of({ R: 'b' })],
    [{ CheckFunction: 'JSONCheckPathNotValue', Path: '$.Elements[*].R', Value: null }, of({ R: 'a' }), of({})],
    [{ CheckFunction: 'JSONCheckPathNumericFormat', Path: '$.Elements[*].R' }, of({ R: '1.5' }, {}), of({ R: '1,5' })],
    [{ CheckFunction: 'JSONFormatNumeric', Path: '$.Elements[*].R' }, of({ R: 0.5 }), of({ R: 'half' })],
    [{ CheckFunction: 'JSONCheckPathUnitFormat', Path: '$.Elements[*].U' }, of({ U: 'GiB-Hours' }), of({ U: '' })],
    [{ CheckFunction: 'JSONFormatUnit', Path: '$.Elements[*].U' }, of({ U: 'Hours' }), of({ U: 'a--b' })],
    [{ CheckFunction: 'JSONFormatString', Path: '$.Elements[*].U' }, of({ U: 'a' }), of({ U: 1 })],
    [
      { CheckFunction: 'JSONCheckPathKeyStartsWith', Path: '$.Elements[*]', Prefix: 'x_', IgnoreKeys: ['R'] },
      of({ R: 1, x_a: 1 }),
      of({ R: 1, a: 1 }),
    ],
    [
      { CheckFunction: 'JSONCheckPathSameValue', ColumnAName: 'J', PathA: '$.Id', ColumnBName: 'K', PathB: null },
      '{"Id":"abc"}',
      '{"Id":"abd"}',
    ],
  ];
  for (const [check, right, wrong] of cases) {
    const what = JSON.stringify(check);
    assert.deepEqual(
      [passes(check, right), passes(check, wrong), passes(check, null)],
      ['passed', 'failed', 'passed'],
      what,
    );
  }
});

test('a condition that compares with a column that is not there does not hold', () => {
  const condition = { CheckFunction: 'CheckNotSameValue', ColumnAName: 'Seller', ColumnBName: 'Issuer' };
  const rules = { free: { requirement: is('Cost', 0), condition } };
  const of = (columns: string[], row: (string | null)[]): unknown =>
    statusesOf(rules, { columns, rows: [row] })['free'];
  assert.equal(of(['Cost', 'Issuer'], ['1', 'x']), 'passed');
  assert.equal(of(['Cost', 'Issuer', 'Seller'], ['1', 'x', null]), 'failed');
});

test('bounds, ends, repetitions and comparisons of columns are checked', () => {
  const cases: readonly [object, string, string][] = [
    [{ CheckFunction: 'CheckGreaterThanValue', Value: 0 }, '0.1', '0'],
    [{ CheckFunction: 'CheckGreaterOrEqualThanValue', Value: 0 }, '0', '-0.1'],
    [{ CheckFunction: 'CheckLessOrEqualThanValue', Value: 1 }, '1.0', '1.1'],
    [{ CheckFunction: 'CheckStringEndsWith', Value: 'c' }, 'abc', 'abd'],
    [{ CheckFunction: 'CheckColumnComparison', ColumnAName: 'J', ColumnBName: 'K', Comparator: '=' }, 'abc', 'x'],
    [
      { CheckFunction: 'CheckColumnComparison', ColumnAName: 'J', ColumnBName: 'K', Comparator: 'not_equals_column' },
      'x',
      'abc',
    ],
  ];
  for (const [check, right, wrong] of cases)
    assert.deepEqual([passes(check, right), passes(check, wrong)], ['passed', 'failed'], JSON.stringify(check));
  const repeated = file({ once: { requirement: { CheckFunction: 'CheckNoDuplicates', ColumnName: 'Id' } } });
  const table = { columns: ['Id'], rows: [['a'], ['b'], ['a'], [null], [null]] };
  assert.deepEqual(verdictsOf(repeated, table)['once']?.rows, [1, 3]);
});

test('a check that is not known here, in function, path, type or bound, is said to be not checked', () => {
  const unknown: readonly object[] = [
    { CheckFunction: 'CheckMoon' },
    { CheckFunction: 'CheckRegexMatch', Pattern: '(a+)+$' },
    { CheckFunction: 'CheckJSONSchema', SchemaId: 'a' },
    { CheckFunction: 'JSONCheckPathType', Path: '$..a', ExpectedType: 'Object' },
    { CheckFunction: 'JSONCheckPathType', ExpectedType: 'Object' },
    { CheckFunction: 'JSONCheckPathType', Path: '$', ExpectedType: 'Moon' },
    { CheckFunction: 'CheckGreaterThanValue', Value: 'moon' },
    { CheckFunction: 'CheckColumnComparison', ColumnAName: 'J', ColumnBName: 'K', Comparator: 'moon' },
    { CheckFunction: 'constructor' },
    { Value: 1 },
  ];
  for (const check of unknown) assert.equal(passes(check, '{}'), 'not_checked', JSON.stringify(check));
});

test('a file that is no model says which of its rules is wrong', () => {
  const text = file({ fine: {}, odd: { requirement: { CheckFunction: 'CheckValue', Value: {} } } });
  assert.throws(
    () => readModel(text, 'm.json'),
    /m\.json is no FOCUS rule model: ModelRules\.odd\..*Requirement\.Value/,
  );
});

test('a rule that is known to be wrong is named, and run again once it says something else', () => {
  const zero = is('EffectiveCost', 0);
  const purchase = is('ChargeCategory', 'Purchase');
  const table = { columns: ['ChargeCategory', 'EffectiveCost'], rows: [['Purchase', '12']] };
  const statusOf = (id: string, condition: object): string | undefined =>
    statusesOf({ [id]: { requirement: zero, condition } }, table)[id];
  assert.equal(statusOf('EffectiveCost-C-005-C', purchase), 'defective');
  assert.equal(statusOf('CAU-EffectiveCost-C-005-C', purchase), 'defective');
  assert.equal(statusOf('EffectiveCost-C-005-C', all(purchase, isNot('EffectiveCost', null))), 'failed');
  assert.equal(statusOf('EffectiveCost-C-006-C', purchase), 'failed');
  const whole = { requirement: all(part('EffectiveCost-C-005-C')) };
  const rules = { whole, 'EffectiveCost-C-005-C': { requirement: zero, condition: purchase } };
  assert.equal(statusesOf(rules, table)['whole'], 'defective');
});
