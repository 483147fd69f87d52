import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parquetReadObjects } from 'hyparquet';
import { Exact, sumOf } from '../exact.ts';
import { BERTH_CRITERIA, FOCUS_VERSIONS, type FocusVersion, focusColumns } from './columns.ts';
import { checked, exampleIn, tableBy } from './focus-fixture.ts';
import type { FocusTable } from './focus-rows.ts';
import { focusMetadata } from './metadata.ts';
import { readModel } from './model.ts';
import { readCsv } from './read-csv.ts';
import { berthModel } from './rules.ts';
import { type CheckedTable, type RuleStatus, runModel } from './run-model.ts';
import { focusCsv, focusJson, focusParquet } from './write-table.ts';

const example = exampleIn(readFileSync(new URL('../../../docs/cost.md', import.meta.url), 'utf8'));
const tableOf = (version: FocusVersion): FocusTable => tableBy(example, version);
const failuresOf = (table: CheckedTable, version: FocusVersion, status: RuleStatus = 'failed'): string[] =>
  runModel(berthModel(version), table, BERTH_CRITERIA)
    .verdicts.filter((verdict) => verdict.status === status)
    .map((verdict) => verdict.rule);

for (const version of FOCUS_VERSIONS)
  test(`an export of FOCUS ${version} passes every rule, and none is passed over`, () => {
    const { verdicts, isConformant } = runModel(berthModel(version), checked(tableOf(version)), BERTH_CRITERIA);
    assert.deepEqual(
      verdicts.filter((verdict) => verdict.status !== 'passed'),
      [],
    );
    assert.ok(isConformant);
    assert.ok(verdicts.length > 130, `${verdicts.length} rules`);
  });

/** The table with one cell of the first row that `where` chooses replaced. */
function withCell(
  table: CheckedTable,
  cell: {
    readonly column: string;
    readonly value: string | null;
    readonly where: (row: (name: string) => string | null) => boolean;
  },
): CheckedTable {
  const place = table.columns.indexOf(cell.column);
  const index = table.rows.findIndex((row) => cell.where((name) => row[table.columns.indexOf(name)] ?? null));
  assert.ok(place >= 0 && index >= 0, cell.column);
  return {
    ...table,
    rows: table.rows.map((row, at) =>
      at === index ? row.map((old, column) => (column === place ? cell.value : old)) : row,
    ),
  };
}

test('every kind of mistake in a valid export is found by its rule', () => {
  const valid = checked(tableOf('1.3'));
  const any = (): boolean => true;
  const isUsage = (row: (name: string) => string | null): boolean =>
    row('ChargeCategory') === 'Usage' && row('ChargeClass') === null;
  const isTax = (row: (name: string) => string | null): boolean => row('ChargeCategory') === 'Tax';
  const isSplit = (row: (name: string) => string | null): boolean => row('AllocatedMethodId') !== null;
  const hasProject = (row: (name: string) => string | null): boolean => row('SubAccountId') !== null;
  const isCompute = (row: (name: string) => string | null): boolean => row('ServiceCategory') === 'Compute';
  const elements = (element: object): string => JSON.stringify({ Elements: [element] });
  const mistakes: readonly [string, string | null, typeof isUsage, string][] = [
    ['BilledCost', null, any, 'BilledCost: is not null'],
    ['BilledCost', 'twelve', any, 'BilledCost: is of type Decimal'],
    ['BilledCost', '+12', any, 'BilledCost: has the format of a Decimal'],
    ['BilledCost', '1,200', any, 'BilledCost: has the format of a Decimal'],
    ['ServiceName', '', any, 'ServiceName: is of type String'],
    ['ServiceName', 'a\u0000b', any, 'ServiceName: has the format of a String'],
    ['ChargePeriodStart', 'soon', any, 'ChargePeriodStart: is of type DateTime'],
    ['ChargePeriodStart', '2026-11-20T10:00:00', any, 'ChargePeriodStart: has the format of a DateTime'],
    ['ChargePeriodStart', '2026-02-30T10:00:00Z', any, 'ChargePeriodStart: has the format of a DateTime'],
    ['BillingCurrency', 'EURO', any, 'BillingCurrency: is a national currency'],
    ['BillingCurrency', 'XTS', any, 'BillingCurrency: is a national currency'],
    ['Tags', '{"a":{"b":1}}', isUsage, 'Tags: is a flat object'],
    ['Tags', '[1]', isUsage, 'Tags: is a flat object'],
    ['ChargeCategory', 'Use', any, 'ChargeCategory: has an allowed value'],
    ['ChargeClass', 'Fix', any, 'ChargeClass: has an allowed value'],
    ['ListCost', '0.000000000001', isUsage, 'ListCost: equals ListUnitPrice × PricingQuantity'],
    ['ListUnitPrice', '-1', isUsage, 'ListUnitPrice: is not negative'],
    ['PricingQuantity', '1', isTax, 'PricingQuantity: is null for taxes'],
    ['PricingQuantity', null, isUsage, 'PricingQuantity: is not null for usage and purchases that correct nothing'],
    ['ConsumedUnit', null, isUsage, 'ConsumedUnit: is not null when ConsumedQuantity is not null'],
    ['ConsumedQuantity', '1', isTax, 'ConsumedQuantity: is null unless the charge is usage'],
    ['ResourceType', null, isUsage, 'ResourceType: is not null when ResourceId is not null'],
    ['SkuId', 'other', isUsage, 'SkuPriceId: belongs to one SkuId'],
    ['ServiceCategory', 'Web', isUsage, 'ServiceName: belongs to one ServiceCategory'],
    ['ChargePeriodEnd', '2026-11-20T10:00:00Z', isUsage, 'ChargePeriodEnd: is after ChargePeriodStart'],
    [
      'ChargeFrequency',
      'Usage-Based',
      (row) => row('ChargeCategory') === 'Purchase',
      'ChargeFrequency: is not Usage-Based for purchases',
    ],
    ['AllocatedMethodId', null, isSplit, 'AllocatedResourceId: is null without an allocation'],
    ['AllocatedResourceName', null, isSplit, 'AllocatedResourceName: is not null when AllocatedResourceId is not null'],
    ['BillingAccountName', null, any, 'BillingAccountName: is not null'],
    ['SubAccountName', null, hasProject, 'SubAccountName: is not null when SubAccountId is not null'],
    ['ServiceSubcategory', 'Moon', any, 'ServiceSubcategory: has an allowed value'],
    ['ServiceSubcategory', 'Block Storage', isCompute, 'ServiceSubcategory: is one of its ServiceCategory'],
    ['InvoiceIssuerName', 'Another', any, 'BilledCost: is 0 when another than the provider issues the invoice'],
    ['BillingCurrency', 'euro', any, 'BillingCurrency: has the form of a currency'],
    ['SkuPriceDetails', '{"a":{}}', isUsage, 'SkuPriceDetails: is a flat object'],
    ['SkuPriceId', null, isUsage, 'ConsumedQuantity: is null when SkuPriceId is null'],
    ['HostProviderName', null, isUsage, 'HostProviderName: is not null unless the charge is a tax'],
    ['AllocatedMethodDetails', '[]', isSplit, 'AllocatedMethodDetails: is an object'],
    ['AllocatedMethodDetails', '{}', isSplit, 'AllocatedMethodDetails: has its elements'],
    ['AllocatedMethodDetails', '{"Elements":{}}', isSplit, 'AllocatedMethodDetails: has its elements in a list'],
    ['AllocatedMethodDetails', elements({ x_a: {} }), isSplit, 'AllocatedMethodDetails: has flat elements'],
    ['AllocatedMethodDetails', elements({}), isSplit, 'AllocatedMethodDetails: has a ratio in each element'],
    [
      'AllocatedMethodDetails',
      elements({ AllocatedRatio: 'half' }),
      isSplit,
      'AllocatedMethodDetails: has ratios that are numbers',
    ],
    [
      'AllocatedMethodDetails',
      elements({ AllocatedRatio: 1, UsageQuantity: 'two' }),
      isSplit,
      'AllocatedMethodDetails: has usage that is a number',
    ],
    [
      'AllocatedMethodDetails',
      elements({ AllocatedRatio: 1, Unit: 'Hours' }),
      isSplit,
      'AllocatedMethodDetails: has no other keys than those and x_…',
    ],
  ];
  for (const [column, value, where, rule] of mistakes)
    assert.ok(failuresOf(withCell(valid, { column, value, where }), '1.3').includes(rule), `${rule} for ${value}`);
  const advice: typeof mistakes = [
    ['ChargeDescription', null, any, 'ChargeDescription: is not null'],
    ['PricingUnit', 'vCPU--Hours', isUsage, 'PricingUnit: has the form of a unit'],
    ['SkuMeter', null, isUsage, 'SkuMeter: is not null when SkuId is not null'],
    ['ServiceSubcategory', 'Containers', isCompute, 'ServiceName: belongs to one ServiceSubcategory'],
    [
      'AllocatedMethodDetails',
      elements({ AllocatedRatio: 1, UsageUnit: '' }),
      isSplit,
      'AllocatedMethodDetails: has units of usage',
    ],
  ];
  for (const [column, value, where, rule] of advice) {
    const mistaken = withCell(valid, { column, value, where });
    assert.deepEqual([failuresOf(mistaken, '1.3'), failuresOf(mistaken, '1.3', 'warned')], [[], [rule]], rule);
  }
  const valid14 = checked(tableOf('1.4'));
  const billed = withCell(valid14, { column: 'InvoiceDetailId', value: 'i/1', where: any });
  assert.deepEqual(failuresOf(billed, '1.4'), ['InvoiceDetailId: is null when InvoiceId is null']);
});

test('a missing column is one failure, not one for each rule about it', () => {
  const valid = checked(tableOf('1.2'));
  const place = valid.columns.indexOf('ListCost');
  const without = {
    columns: valid.columns.toSpliced(place, 1),
    rows: valid.rows.map((row) => row.toSpliced(place, 1)),
  };
  assert.deepEqual(failuresOf(without, '1.2'), ['ListCost: is present']);
});

test('a published model is run as it is: composites, dependencies, what it cannot check, and its contradictions', () => {
  const rule = (requirement: unknown, more: Record<string, unknown> = {}): unknown => ({
    Reference: 'x',
    Status: 'Active',
    Type: 'Static',
    ApplicabilityCriteria: [],
    ...more,
    ValidationCriteria: {
      MustSatisfy: 'it',
      Keyword: 'MUST',
      Requirement: requirement,
      Condition: {},
      ...(more['criteria'] as object),
    },
  });
  const value = (CheckFunction: string, ColumnName: string, Value: unknown): unknown => ({
    CheckFunction,
    ColumnName,
    Value,
  });
  const noId = { Condition: value('CheckValue', 'Id', null) };
  const model = readModel(
    JSON.stringify({
      ModelRules: {
        whole: rule({ CheckFunction: 'AND', Items: [{ CheckFunction: 'CheckModelRule', ModelRuleId: 'part' }] }),
        part: rule(value('CheckNotValue', 'A', null)),
        dynamic: rule({}, { Type: 'Dynamic' }),
        old: rule(value('CheckValue', 'A', 'z'), { Status: 'Deprecated' }),
        other: rule({ CheckFunction: 'ColumnPresent', ColumnName: 'B' }, { ApplicabilityCriteria: ['B_SUPPORTED'] }),
        'C-003': rule(value('CheckValue', 'Status', null), { criteria: noId }),
        'C-004': rule(value('CheckNotValue', 'Status', null), { criteria: noId }),
        conditional: rule(value('CheckNotValue', 'A', 'bad'), {
          criteria: { Condition: { CheckFunction: 'AND', Items: [value('CheckNotValue', 'Id', null)] } },
        }),
        unheard: rule({ CheckFunction: 'CheckMoon', ColumnName: 'A' }),
      },
    }),
    'model.json',
  );
  const run = (a: string | null, id: string | null): unknown =>
    runModel(model, { columns: ['A', 'Id', 'Status'], rows: [[a, id, null]] }, [])
      .verdicts.map((one) => one.status)
      .join(' ');
  assert.equal(
    run('bad', null),
    'passed passed not_checked not_checked not_applicable contradictory contradictory passed not_checked',
  );
  assert.equal(
    run('bad', '1'),
    'passed passed not_checked not_checked not_applicable contradictory contradictory failed not_checked',
  );
  assert.equal(
    run(null, '1'),
    'failed failed not_checked not_checked not_applicable contradictory contradictory passed not_checked',
  );
  assert.throws(() => readModel('{"ModelRules":[]}', 'm'), { code: 'focus.model' });
});

test('the parts of a composite hold under its condition and for its capability only', () => {
  const part = (criteria: readonly string[], condition: unknown, requirement: unknown): unknown => ({
    Reference: 'A',
    Type: 'Static',
    ApplicabilityCriteria: criteria,
    ValidationCriteria: { MustSatisfy: 'it', Keyword: 'MUST', Requirement: requirement, Condition: condition },
  });
  const notNull = { CheckFunction: 'CheckNotValue', ColumnName: 'A', Value: null };
  const model = readModel(
    JSON.stringify({
      top: part(['A_SUPPORTED'], {}, { CheckFunction: 'CheckModelRule', ModelRuleId: 'when' }),
      when: part([], notNull, {
        CheckFunction: 'AND',
        Items: [{ CheckFunction: 'CheckModelRule', ModelRuleId: 'value' }],
      }),
      value: part([], {}, { CheckFunction: 'CheckNotValue', ColumnName: 'A', Value: 'bad' }),
      present: part([], {}, notNull),
    }),
    'm',
  );
  const run = (value: string | null, criteria: readonly string[]): string =>
    runModel(model, { columns: ['A'], rows: [[value]] }, criteria)
      .verdicts.map((one) => one.status)
      .join(' ');
  assert.equal(run('bad', ['A_SUPPORTED']), 'failed failed failed passed');
  assert.equal(run(null, ['A_SUPPORTED']), 'passed passed passed failed');
  assert.equal(run('bad', []), 'not_applicable not_applicable not_applicable passed');
});

test('CSV, JSON and Parquet hold the same digits, and CSV reads back as it was', async () => {
  const table = tableOf('1.4');
  assert.deepEqual(readCsv(focusCsv(table), 'x.csv'), checked(table));
  const place = table.columns.findIndex(({ name }) => name === 'BilledCost');
  const whole = sumOf(table.rows.map((row) => Exact.from(row[place] ?? '0')));
  const inJson = [...focusJson(table).matchAll(/"BilledCost":([-0-9.]+)/g)].map((found) => Exact.from(found[1] ?? ''));
  assert.ok(sumOf(inJson).equals(whole));
  assert.equal((JSON.parse(focusJson(table)) as unknown[]).length, table.rows.length);
  const bytes = await focusParquet(table);
  const buffer = bytes.buffer as ArrayBuffer;
  const rows = await parquetReadObjects({
    file: { byteLength: buffer.byteLength, slice: (from, to) => buffer.slice(from, to) },
  });
  assert.equal(rows.length, table.rows.length);
  assert.equal(
    rows[0]?.['ResourceName'],
    table.rows[0]?.[table.columns.findIndex(({ name }) => name === 'ResourceName')],
  );
  const inParquet = rows.reduce((sum, row) => sum + Number(row['BilledCost']), 0);
  assert.ok(Math.abs(inParquet - whole.toApproximateNumber()) < 1e-9);
});

test('hostile CSV is refused, with its row', () => {
  assert.throws(() => readCsv('a,b\n1\n', 'x'), /row 1 of x has 1 cells, not 2/);
  assert.throws(() => readCsv('a\n"1', 'x'), /ends within a quoted cell/);
  assert.throws(() => readCsv('a\n"1"2\n', 'x'), /text after a quoted cell/);
  assert.deepEqual(readCsv('a,b\r\n"x ""y"",z",\r\n', 'x'), { columns: ['a', 'b'], rows: [['x "y",z', null]] });
});

test('the schema object describes every column, and the same columns have the same schema id', () => {
  const table = tableOf('1.3');
  const making = { at: Date.parse('2026-12-01T00:00:00Z'), generatorVersion: '0.1.0', account: 'it-1' };
  const metadata = focusMetadata(table, '1.3', making);
  assert.deepEqual(
    metadata.ColumnDefinition.map((one) => one.ColumnName),
    table.columns.map(({ name }) => name),
  );
  assert.equal(metadata.SchemaId, focusMetadata({ ...table, rows: [] }, '1.3', making).SchemaId);
  const cost = metadata.ColumnDefinition.find((one) => one.ColumnName === 'BilledCost');
  assert.equal(cost?.NumericPrecision, 38);
  assert.ok((cost?.NumberScale ?? 0) >= 6);
});

test('versions have their columns: providers are renamed in 1.3 and 1.4, parts of hosts are said from 1.3 on', () => {
  const names = (version: FocusVersion): readonly string[] => focusColumns(version).map(({ name }) => name);
  assert.ok(names('1.2').includes('ProviderName') && !names('1.2').includes('AllocatedMethodId'));
  assert.ok(names('1.3').includes('ProviderName') && names('1.3').includes('ServiceProviderName'));
  assert.ok(!names('1.4').includes('ProviderName') && names('1.4').includes('HostProviderName'));
  const ratios = new Map<string, Exact>();
  for (const row of tableOf('1.3').rows) {
    const at = (name: string): string | null => row[names('1.3').indexOf(name)] ?? null;
    const details = at('AllocatedMethodDetails');
    if (details === null) continue;
    assert.equal(at('ResourceId'), 'lab/h1');
    const ratio = /"AllocatedRatio":([0-9.]+)/.exec(details)?.[1] ?? '';
    const key = [at('AllocatedMethodId'), at('SkuId'), at('ChargePeriodStart')].join();
    ratios.set(key, (ratios.get(key) ?? Exact.zero).plus(Exact.from(ratio)));
  }
  assert.ok(ratios.size >= 3);
  for (const sum of ratios.values()) assert.equal(sum.toString(), '1');
});

test('operations are exported in the number and unit that FOCUS has for millions of them', () => {
  const { columns, rows } = tableOf('1.3');
  const value = (row: readonly (string | null)[], name: string): string | null =>
    row[columns.findIndex((column) => column.name === name)] ?? null;
  const row = rows.find((one) => value(one, 'SkuMeter') === 'disk-operations');
  assert.ok(row !== undefined);
  assert.deepEqual(
    ['PricingQuantity', 'PricingUnit', 'ConsumedQuantity', 'ConsumedUnit', 'BilledCost', 'ServiceCategory'].map(
      (name) => value(row, name),
    ),
    ['1.500001', '1000000 Operations', '1.500001', '1000000 Operations', '0.3000002', 'Storage'],
  );
});
