import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as v from 'valibot';
import {
  diskBytesOf,
  factsText,
  normalizeMac,
  normalizeUuid,
  parseVmFacts,
  type VmFacts,
  VmFactsSchema,
} from './facts.ts';
import { someVm } from './fixture.ts';

test('a UUID is the same one however it is written, and Hyper-V has its first three groups turned round', () => {
  const expected = '12345678-90ab-cdef-1234-567890abcdef';
  for (const text of [
    '12345678-90AB-CDEF-1234-567890ABCDEF',
    '{1234567890abcdef1234567890abcdef}',
    `urn:uuid:${expected}`,
  ])
    assert.equal(normalizeUuid(text), expected);
  // VMware's spelling of the same sixteen bytes.
  assert.equal(normalizeUuid('12 34 56 78 90 ab cd ef-12 34 56 78 90 ab cd ef'), expected);
  assert.equal(normalizeUuid('{78563412-AB90-EFCD-1234-567890ABCDEF}', 'mixed'), expected);
});

test('what is no UUID, or everybody has, is none', () => {
  for (const text of ['', 'x', `${'0'.repeat(32)}`, 'ffffffff-ffff-ffff-ffff-ffffffffffff', '1234'])
    assert.equal(normalizeUuid(text), undefined);
});

test('a hardware address is the same one however it is written', () => {
  for (const text of ['00:0C:29:aa:bb:cc', '00-0c-29-AA-BB-CC', '000c29aabbcc', '000c.29aa.bbcc'])
    assert.equal(normalizeMac(text), '00:0c:29:aa:bb:cc');
  assert.equal(normalizeMac('nothing'), null);
  assert.equal(normalizeMac(undefined), null);
});

test('facts with everything wrong are refused once, with every field named', () => {
  const wrong = { ...someVm({}), nativeId: '', vcpus: -1, powerState: 'asleep', uuid: 'X', nics: [{ mac: 'zz' }] };
  assert.throws(
    () => parseVmFacts(wrong),
    (error: Error) => ['nativeId', 'vcpus', 'powerState', 'uuid', 'nics'].every((name) => error.message.includes(name)),
  );
});

test('a hypervisor cannot fill our memory with names', () => {
  assert.equal(parseVmFacts(someVm({ name: 'x'.repeat(100_000) })).name.length, 1_024);
  const many = Array.from({ length: 600 }, () => 'tag');
  assert.throws(() => parseVmFacts(someVm({ tags: many })), /tags/);
});

test('the order in which a source lists things says nothing', () => {
  const nic = (mac: string): VmFacts['nics'][number] => ({
    mac,
    network: null,
    model: null,
    addresses: ['10.0.0.2', '10.0.0.1'],
  });
  const one = someVm({ nics: [nic('00:00:00:00:00:01'), nic('00:00:00:00:00:02')], tags: ['b', 'a'] });
  const other = someVm({
    nics: [nic('00:00:00:00:00:02'), { ...nic('00:00:00:00:00:01'), addresses: ['10.0.0.1', '10.0.0.2'] }],
    tags: ['a', 'b'],
  });
  assert.equal(factsText(one), factsText(other));
  assert.notEqual(factsText(one), factsText(someVm({ ...one, tags: ['a'] })));
  const disk = (name: string): VmFacts['disks'][number] => ({
    ...{ name, format: null, capacityBytes: 1, allocatedBytes: null, datastore: null, path: null },
  });
  const [first, second] = [nic('00:00:00:00:00:01'), nic('00:00:00:00:00:02')].map((each) => ({
    ...each,
    addresses: each.addresses.toSorted(),
  }));
  assert.ok(first !== undefined && second !== undefined);
  const whole = someVm({ disks: [disk('sda'), disk('sdb')], nics: [first, second], tags: ['a', 'b'] });
  for (const part of [
    { disks: whole.disks.toReversed() },
    { nics: [second, first] },
    { nics: [first, { ...second, addresses: second.addresses.toReversed() }] },
    { tags: ['b', 'a'] },
  ])
    assert.equal(factsText({ ...whole, ...part }), factsText(whole), JSON.stringify(part));
});

test('disks whose size nobody says have no size, which is not zero', () => {
  const disk = { name: 'vda', format: null, allocatedBytes: null, datastore: null, path: null };
  assert.equal(diskBytesOf(someVm({ disks: [{ ...disk, capacityBytes: null }] })), null);
  const sizes = [
    { ...disk, capacityBytes: null },
    { ...disk, capacityBytes: 5 },
    { ...disk, capacityBytes: 7 },
  ];
  assert.equal(diskBytesOf(someVm({ disks: sizes })), 12);
});

const RICH = someVm({
  uuid: '12345678-90ab-cdef-1234-567890abcdef',
  disks: [
    { name: 'a', format: 'vmdk', capacityBytes: 1, allocatedBytes: 0, datastore: 'fast', path: '[fast] a.vmdk' },
    { name: 'b', format: null, capacityBytes: null, allocatedBytes: null, datastore: null, path: null },
  ],
  nics: [{ mac: '00:50:56:aa:bb:cc', network: 'net', model: 'e1000', addresses: ['192.0.2.1', 'fe80::1'] }],
  guestOs: 'Debian',
  tools: 'guestToolsRunning',
  tags: ['template', 'env=test'],
  createdAtMs: 1_709_208_000_000,
  virtualization: { mode: 'full', accelerator: 'vmx', paravirtual: ['scsi:pvscsi'], emulated: ['network:e1000'] },
});
/** What a driver may give by mistake in any place, or a hypervisor make it give. */
const ODD: readonly unknown[] = [
  ...[null, undefined, true, '', 'x', 'running', 'uefi', 'xen-pv', 'x'.repeat(1_024), 'x'.repeat(1_025)],
  ...['12345678-90AB-cdef-1234-567890abcdef', '00:50:56:aa:bb:cc', '00:50:56:aa:bb:c', '00:50:56:aa:bb:cc\n'],
  ...[0, -0, -1, 1.5, 2 ** 60, Number.NaN, Number.POSITIVE_INFINITY, 5n, new Date(0), () => {}],
  ...[
    [],
    {},
    [null],
    ['a'],
    ['x'.repeat(2_000)],
    [[]],
    Array.from({ length: 512 }, () => 'a'),
    new Array(513).fill('a'),
  ],
  ...[new Array(2), RICH.disks, RICH.nics, RICH.nics[0], RICH.virtualization, { ...RICH.virtualization, more: 1 }],
];

/** Every place in a value, from the whole to its leaves. */
function placesOf(value: unknown, path: readonly string[] = []): (readonly string[])[] {
  if (typeof value !== 'object' || value === null) return [path];
  return [path, ...Object.entries(value).flatMap(([key, inner]) => placesOf(inner, [...path, key]))];
}

/** The same with another thing in one place, or without it. */
function changed(value: unknown, [key, ...deeper]: readonly string[], odd: { readonly put?: unknown }): unknown {
  if (key === undefined) return odd.put;
  const inner = (value as Record<string, unknown>)[key];
  const copy = (Array.isArray(value) ? [...value] : { ...(value as object) }) as Record<string, unknown>;
  if (deeper.length === 0 && !('put' in odd)) delete copy[key];
  else copy[key] = changed(inner, deeper, odd);
  return copy;
}

test('facts read without the schema are what the schema makes of them, in the same order, and refused alike', () => {
  const tried = placesOf(RICH).flatMap((path) => [
    ...ODD.map((put) => changed(RICH, path, { put })),
    changed(RICH, path, {}),
    changed(RICH, [...path.slice(0, -1), 'unheard of'], { put: 'x' }),
  ]);
  const shuffled = Object.fromEntries(Object.entries(RICH).reverse());
  let taken = 0;
  for (const value of [RICH, shuffled, ...tried]) {
    const expected = v.safeParse(VmFactsSchema, value);
    if (!expected.success) {
      assert.throws(() => parseVmFacts(value), { code: 'fleet.facts' });
      continue;
    }
    taken += 1;
    const facts = parseVmFacts(value);
    assert.deepEqual(facts, expected.output);
    assert.equal(JSON.stringify(facts), JSON.stringify(expected.output));
    assert.ok(Object.isFrozen(facts) && facts.disks !== RICH.disks);
  }
  assert.ok(tried.length > 1_000 && taken > 200 && taken < tried.length - 200, `${taken} of ${tried.length}`);
});
