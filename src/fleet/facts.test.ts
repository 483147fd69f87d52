import assert from 'node:assert/strict';
import { test } from 'node:test';
import { diskBytesOf, factsText, normalizeMac, normalizeUuid, parseVmFacts, type VmFacts } from './facts.ts';
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
