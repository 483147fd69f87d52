import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseVmFacts } from '../../facts.ts';
import { isLostEvents, masterNamedBy, meaningOf } from './failures.ts';
import { isVm, type PoolRecords, vmFacts } from './pool-facts.ts';
import {
  CLASS_NAMES,
  type ClassName,
  readAllRecords,
  readEvents,
  readRecord,
  timeOf,
  type VmRecord,
} from './records.ts';
import { periodsOf } from './round-robin.ts';
import { xapiDriver } from './xapi-driver.ts';

const UUID = '0a0b0c0d-1111-4222-8333-444455556666';

function someRecord(changes: Record<string, unknown> = {}): VmRecord {
  const record = readRecord('VM', {
    uuid: UUID,
    name_label: 'web',
    power_state: 'Running',
    VCPUs_at_startup: '2',
    memory_dynamic_max: '1073741824',
    domain_type: 'hvm',
    ...changes,
  });
  if (record === undefined) throw new Error('the record of the test is none');
  return record;
}

function pool(records: Partial<Record<ClassName, Record<string, unknown>>> = {}): PoolRecords {
  return Object.fromEntries(
    CLASS_NAMES.map((name) => [name, readAllRecords(name, records[name] ?? {})?.records]),
  ) as unknown as PoolRecords;
}

test('integers are 64 bits as text, or numbers; what is no amount is not known', () => {
  assert.equal(someRecord({ memory_dynamic_max: '9007199254740991' }).memory_dynamic_max, 9_007_199_254_740_991);
  assert.equal(someRecord({ memory_dynamic_max: 5 }).memory_dynamic_max, 5);
  for (const none of ['-1', '', '1e9', '0x10', null, {}, '99999999999999999999'])
    assert.equal(someRecord({ memory_dynamic_max: none }).memory_dynamic_max, null, JSON.stringify(none));
});

test('datetimes come in two forms, and 1970 stands for never', () => {
  const expected = Date.UTC(2026, 0, 31, 12, 34, 56);
  assert.equal(timeOf('20260131T12:34:56Z'), expected);
  assert.equal(timeOf('2026-01-31T12:34:56Z'), expected);
  for (const none of ['19700101T00:00:00Z', '', 'yesterday', '20269931T12:34:56Z']) assert.equal(timeOf(none), null);
});

test('each domain type is a mode of its own, and drivers that were seen make HVM PVHVM', () => {
  const mode = (changes: Record<string, unknown>, records: Parameters<typeof pool>[0] = {}) =>
    parseVmFacts(vmFacts(someRecord(changes), pool(records))).virtualization.mode;
  assert.equal(mode({ domain_type: 'pv' }), 'xen-pv');
  assert.equal(mode({ domain_type: 'pvh' }), 'xen-pvh');
  assert.equal(mode({ domain_type: 'pv_in_pvh' }), 'xen-pv');
  assert.equal(mode({ domain_type: 'hvm' }), 'xen-hvm');
  const drivers = { VM_guest_metrics: { g: { PV_drivers_detected: true } } };
  assert.equal(mode({ domain_type: 'hvm', guest_metrics: 'g' }, drivers), 'xen-pvhvm');
  // Before XenServer 7.5 there was no type.
  assert.equal(mode({ domain_type: undefined, HVM_boot_policy: 'BIOS order' }), 'xen-hvm');
  assert.equal(mode({ domain_type: undefined, HVM_boot_policy: '' }), 'xen-pv');
  // It runs as it was started, whatever it would be started as now.
  const metrics = { VM_metrics: { m: { current_domain_type: 'pv' } } };
  assert.equal(mode({ domain_type: 'hvm', metrics: 'm' }, metrics), 'xen-pv');
  assert.equal(mode({ domain_type: 'hvm', metrics: 'm', power_state: 'Halted' }, metrics), 'xen-hvm');
});

test('references to nothing and to what is not there are nothing', () => {
  const facts = parseVmFacts(
    vmFacts(someRecord({ resident_on: 'OpaqueRef:NULL', VBDs: ['a'], VIFs: ['b'], guest_metrics: '' }), pool()),
  );
  assert.deepEqual([facts.hostId, facts.disks, facts.nics, facts.tools], [null, [], [], null]);
});

test('templates, snapshots and control domains are no VMs', () => {
  assert.ok(isVm(someRecord()));
  for (const field of ['is_a_template', 'is_a_snapshot', 'is_control_domain'])
    assert.equal(isVm(someRecord({ [field]: true })), false);
});

test('a batch of events without a token, or with an operation nobody knows, is none', () => {
  assert.ok(readEvents({ token: 't', events: [{ class: 'vm', operation: 'del', ref: 'r' }] }));
  assert.equal(readEvents({ token: '', events: [] }), undefined);
  assert.equal(readEvents({ token: 't', events: [{ class: 'vm', operation: 'x', ref: 'r' }] }), undefined);
});

test('error codes mean kinds, and references are left out of what is told', () => {
  assert.equal(meaningOf('SESSION_INVALID', ['OpaqueRef:secret'], 'x').kind, 'unavailable');
  assert.doesNotMatch(meaningOf('SESSION_INVALID', ['OpaqueRef:secret'], 'x').message, /secret/);
  assert.equal(meaningOf('SOMETHING_NEW', [], 'x').kind, 'conflict');
  assert.equal(masterNamedBy(meaningOf('HOST_IS_SLAVE', ['10.0.0.1'], 'x')), '10.0.0.1');
  assert.equal(masterNamedBy(meaningOf('UUID_INVALID', [], 'x')), undefined);
  assert.ok(isLostEvents(meaningOf('EVENTS_LOST', [], 'event.from')));
});

test('a URL has a host and nothing else', () => {
  assert.deepEqual(xapiDriver.problemsOf(new URL('xapi://rack1/')), []);
  assert.deepEqual(xapiDriver.problemsOf(new URL('xapi://[::1]:8443')), []);
  for (const wrong of ['xapi:///', 'xapi://root:secret@rack1/', 'xapi://rack1/jsonrpc', 'xapi://rack1/?x=1'])
    assert.equal(xapiDriver.problemsOf(new URL(wrong)).length, 1, wrong);
});

const LEGEND = [
  `AVERAGE:vm:${UUID}:cpu0`,
  `AVERAGE:vm:${UUID}:cpu1`,
  `MAX:vm:${UUID}:cpu0`,
  `AVERAGE:host:${UUID}:cpu0`,
];
const span = { sinceMs: 0, shiftMs: 0 };

test('amounts are rate times length; of figures that are not there the others count; nothing at all is no period', () => {
  const rows = [
    { t: 180, values: ['0.5', 'NaN', '1', '1'] },
    { t: 120, values: ['NaN', 'NaN', '1', '1'] },
    { t: '60', values: [0.1, 0.2, 1, 1] },
  ];
  const periods = periodsOf(JSON.stringify({ meta: { step: '60', legend: LEGEND }, data: rows }), span);
  assert.deepEqual(
    periods.map((one) => [one.startMs, one.endMs, one.cpuNanoseconds, one.diskReadBytes]),
    [
      [0, 60_000, 18_000_000_000n, null],
      [120_000, 180_000, 30_000_000_000n, null],
    ],
  );
});

test('NaN may stand bare as it did before XAPI 23.31; negative, infinite and absurd figures are none', () => {
  const text = `{"meta":{"step":60,"legend":${JSON.stringify(LEGEND)}},"data":[{"t":60,"values":[NaN, 0.5,Infinity,-1]}]}`;
  assert.deepEqual(
    periodsOf(text, span).map((one) => one.cpuNanoseconds),
    [30_000_000_000n],
  );
  const absurd = { meta: { step: 60, legend: LEGEND }, data: [{ t: 60, values: ['1e300', '-5', '1', '1'] }] };
  assert.deepEqual(periodsOf(JSON.stringify(absurd), span), []);
});

test('what is no answer of rrd_updates is refused', () => {
  for (const text of ['', '{}', '<xport/>', '{"meta":{"step":0,"legend":[]},"data":[]}', '[1'])
    assert.throws(() => periodsOf(text, span), { code: 'xapi.malformed' }, text);
});
