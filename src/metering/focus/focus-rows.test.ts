import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { readCharge, writeCharge } from '../ledger/charge-document.ts';
import type { Charge } from '../rating/charge.ts';
import { BERTH_CRITERIA, FOCUS_VERSIONS, type FocusVersion } from './columns.ts';
import { chargesBy, checked, exampleIn, ISSUER } from './focus-fixture.ts';
import { type FocusCharge, focusTable } from './focus-rows.ts';
import { focusMetadata } from './metadata.ts';
import { berthModel } from './rules.ts';
import { runModel } from './run-model.ts';

const example = exampleIn(readFileSync(new URL('../../../docs/cost.md', import.meta.url), 'utf8'));
const chargesOf = (): FocusCharge[] => chargesBy(example);

type Cells = Readonly<Record<string, string | null>>;

function rowsOf(charges: readonly FocusCharge[], version: FocusVersion): Cells[] {
  const { columns, rows } = focusTable(charges, ISSUER, version);
  return rows.map((row) => Object.fromEntries(columns.map(({ name }, index) => [name, row[index] ?? null])));
}

/** The first charge of the fixture that is so, changed. */
function oneOf(isIt: (charge: Charge) => boolean, change: Partial<Charge> = {}, invoiceId?: string): FocusCharge {
  const found = chargesOf().find(({ charge }) => isIt(charge));
  assert.ok(found !== undefined);
  return { ...found, invoiceId, charge: { ...found.charge, ...change } };
}
const isIdle = ({ category }: Charge): boolean => category === 'idle';
const isUsage = ({ category }: Charge): boolean => category === 'usage';

test('a price keeps its id when it rises, and each step of a tier has one', () => {
  const ids = [{}, { cardVersion: 'later' }, { step: 1 }, { step: 2, cardVersion: 'later' }].map(
    (change) => rowsOf([oneOf(({ item }) => item === 'cpu', change)], '1.3')[0]?.['SkuPriceId'],
  );
  assert.deepEqual(ids, ['house/cpu', 'house/cpu', 'house/cpu/step-1', 'house/cpu/step-2']);
});

test('a ledger keeps the step of a tier, and writes other charges as it did before there was one', () => {
  const { charge } = oneOf(isUsage);
  assert.ok(!writeCharge(charge).includes('step'));
  assert.deepEqual(readCharge(writeCharge(charge)), charge);
  assert.deepEqual(readCharge(writeCharge({ ...charge, step: 2 })), { ...charge, step: 2 });
});

test('a part of a host is of the host in every column, and of the VM and its project beside them', () => {
  const { charge } = oneOf(isIdle);
  const subject = { ...charge.subject, project: 'shop', vmName: undefined };
  const share = oneOf(isIdle, { subject, focusUnit: undefined }, 'i-1');
  const [before] = rowsOf([share], '1.2');
  assert.deepEqual([before?.['SubAccountId'], before?.['ResourceType']], ['shop', 'Virtual Machine']);
  const [row] = rowsOf([share], '1.4');
  const expected: Cells = {
    ResourceId: 'lab/h1',
    ResourceType: 'Host',
    SubAccountId: null,
    SubAccountName: null,
    InvoiceDetailId: 'i-1/-',
    AllocatedResourceId: subject.vm ?? '',
    AllocatedResourceName: subject.vm ?? '',
    x_BerthProject: 'shop',
  };
  assert.deepEqual(Object.fromEntries(Object.keys(expected).map((name) => [name, row?.[name] ?? null])), expected);
});

test('the details of an allocation are its ratio with all digits, and nothing that is not known', () => {
  const ratio = '0.123456789012345678901234567890';
  const [row] = rowsOf([oneOf(isIdle, { allocation: { method: 'idle:vcpu', ratio } })], '1.3');
  assert.equal(row?.['AllocatedMethodDetails'], '{"Elements":[{"AllocatedRatio":0.12345678901234567890123456789}]}');
  assert.throws(() => rowsOf([oneOf(isIdle, { allocation: { method: 'x', ratio: '1}],"x":[{' } })], '1.3'));
});

test('nobody hosts a tax: no placeholder says who does', () => {
  const [tax] = rowsOf([oneOf(({ category }) => category === 'tax')], '1.3');
  assert.deepEqual([tax?.['HostProviderName'], tax?.['ServiceProviderName']], [null, ISSUER.name]);
});

test('charges of a closed month with an invoice keep every rule', () => {
  for (const version of FOCUS_VERSIONS) {
    const closed = chargesOf().map((one) => ({ ...one, invoiceId: '2026-11' }));
    const { verdicts } = runModel(berthModel(version), checked(focusTable(closed, ISSUER, version)), BERTH_CRITERIA);
    assert.deepEqual(
      verdicts.filter(({ status }) => status !== 'passed'),
      [],
    );
  }
});

test('from 1.3 on a schema object says which dataset it describes, one for each account', () => {
  const table = focusTable([], ISSUER, '1.3');
  const of = (version: FocusVersion, account: string) =>
    focusMetadata(table, version, { at: 0, generatorVersion: '1', account });
  assert.equal(of('1.2', 'a').DatasetInstanceId, undefined);
  const instance = of('1.3', 'a').DatasetInstance?.[0];
  assert.equal(instance?.DatasetInstanceId, of('1.3', 'a').DatasetInstanceId);
  assert.equal(instance?.FocusDatasetId, 'CostAndUsage');
  assert.notEqual(of('1.4', 'a').DatasetInstanceId, of('1.4', 'b').DatasetInstanceId);
});
