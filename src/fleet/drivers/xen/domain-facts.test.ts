import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseHostFacts, parseVmFacts } from '../../facts.ts';
import { type Configuration, parseConfigurations } from './configurations.ts';
import { parseCounters, samplesOf } from './counters.ts';
import { domainFacts, hostFacts, parseInfo } from './domain-facts.ts';
import { type DomainRow, parseListing } from './listing.ts';
import { FORGED_NAME, recorded } from './recordings.ts';
import { type Backend, parseAddresses, parseBackends } from './xenstore.ts';

const domains = parseConfigurations(recorded('list.json'));
const rows = parseListing(recorded('list.txt'), new Map(domains.map(({ domid, name }) => [domid, name])));
const backends = parseBackends(recorded('backends.txt'));
const addresses = parseAddresses(recorded('attributes.txt'));

function factsOf(domid: number) {
  const row = rows.find((one) => one.domid === domid);
  const configuration = domains.find((one) => one.domid === domid)?.configuration;
  assert.ok(row !== undefined && configuration !== undefined);
  const own = backends.filter((one) => one.domid === domid);
  return parseVmFacts(
    domainFacts({ row, configuration, backends: own, addresses: addresses.get(domid) ?? new Map(), hostId: 'h' }),
  );
}

test('a PV guest of a real Xen, with all its facts', () => {
  assert.deepEqual(factsOf(1), {
    nativeId: '11111111-2222-4333-8444-555555555555',
    uuid: '11111111-2222-4333-8444-555555555555',
    name: 'web',
    powerState: 'running',
    hostId: 'h',
    vcpus: 2,
    memoryBytes: 96 * 2 ** 20,
    disks: [
      {
        name: 'xvda',
        format: 'raw',
        capacityBytes: 16 * 2 ** 20,
        allocatedBytes: null,
        datastore: null,
        path: '/dev/ram0',
      },
    ],
    nics: [
      { mac: '00:16:3e:01:02:03', network: 'xenbr0', model: 'vif', addresses: ['10.7.0.5', '10.7.0.6', 'fe80::1'] },
    ],
    guestOs: null,
    firmware: 'kernel',
    tools: null,
    tags: [],
    createdAtMs: null,
    virtualization: {
      mode: 'xen-pv',
      accelerator: 'xen',
      paravirtual: ['disk:xen', 'network:xen'],
      emulated: [],
    },
  });
});

test('a PVH guest is one, whatever its name looks like', () => {
  const { name, powerState, virtualization } = factsOf(2);
  assert.deepEqual([name, powerState, virtualization.mode], [FORGED_NAME, 'paused', 'xen-pvh']);
});

const row: DomainRow = {
  domid: 5,
  uuid: null,
  memoryMib: 512,
  vcpus: 1,
  powerState: 'running',
  cpuTenths: 1,
  isNamed: true,
};

/** Written by hand after libxl_types.idl: HVM guests do not run in the Xen these tests have. */
const hvm = (more: object): Configuration => {
  const config = {
    c_info: { type: 'hvm', name: 'win' },
    b_info: { 'type.hvm': { bios: 'ovmf' } },
    disks: [{ vdev: 'hda', format: 'qcow2', pdev_path: '/w.qcow2' }],
    nics: [{ devid: 0, mac: '00:16:3E:00:00:01', model: 'rtl8139', bridge: 'xenbr0' }],
    ...more,
  };
  const found = parseConfigurations(JSON.stringify([{ domid: 5, config }]))[0]?.configuration;
  assert.ok(found !== undefined);
  return found;
};

const backend = (kind: string, isConnected: boolean): Backend => ({
  kind,
  domid: 5,
  isConnected,
  device: undefined,
  capacityBytes: null,
});

test('HVM becomes PVHVM when somebody is connected to its back ends', () => {
  const facts = (connected: boolean) =>
    parseVmFacts(
      domainFacts({
        row,
        configuration: hvm({}),
        backends: [backend('qdisk', false), backend('vif', connected)],
        addresses: new Map(),
        hostId: 'h',
      }),
    );
  assert.deepEqual(facts(false).virtualization, {
    mode: 'xen-hvm',
    accelerator: 'xen',
    paravirtual: [],
    emulated: ['disk:emulated', 'network:rtl8139'],
  });
  assert.deepEqual([facts(true).virtualization.mode, facts(true).firmware], ['xen-pvhvm', 'uefi']);
  assert.deepEqual([facts(true).nativeId, facts(true).memoryBytes], ['domid:5', 512 * 2 ** 20]);
});

test('processors are those it was given, whether they are up or not', () => {
  const vcpus = (build: object) =>
    domainFacts({ row, configuration: hvm({ b_info: build }), backends: [], addresses: new Map(), hostId: 'h' }).vcpus;
  assert.equal(vcpus({ max_vcpus: 4, avail_vcpus: [0, 2] }), 2);
  assert.equal(vcpus({ max_vcpus: 4, avail_vcpus: [] }), 4);
  assert.equal(vcpus({}), 1);
});

test('CD drives are no disks; a configured address is one', () => {
  const configuration = hvm({
    disks: [
      { vdev: 'hdc', is_cdrom: 1 },
      { vdev: 'hdd', is_cdrom: 'True' },
      { vdev: 'hda', is_cdrom: 0 },
    ],
    nics: [{ ip: '10.0.0.9 fd00::9 $(reboot)', mac: 'nonsense' }],
  });
  const facts = parseVmFacts(
    domainFacts({ row, configuration, backends: [], addresses: new Map([[0, ['10.0.0.9']]]), hostId: 'h' }),
  );
  assert.deepEqual(
    facts.disks.map(({ name }) => name),
    ['hda'],
  );
  assert.deepEqual(facts.nics, [{ mac: null, network: null, model: null, addresses: ['10.0.0.9', 'fd00::9'] }]);
});

test('configurations: nonsense is refused by name, one bad domain does not spoil the others', () => {
  for (const text of ['', 'xl: error', '{}', '[1]', '[{"domid":"1"}]'])
    assert.throws(() => parseConfigurations(text), { code: 'xen.configurations' }, text);
  const config = { c_info: { name: 'good' }, b_info: {} };
  const many = Array.from({ length: 513 }, () => ({}));
  const text = JSON.stringify([
    { domid: 1, config },
    { domid: 2, config: { c_info: 'x' } },
    { domid: 3, config: { ...config, disks: many } },
    { domid: null, config },
    { domid: 4294967295, config },
    { domid: -1, config },
  ]);
  assert.deepEqual(
    parseConfigurations(text).map(({ domid, configuration }) => [domid, configuration !== undefined]),
    [
      [1, true],
      [2, false],
      [3, false],
    ],
  );
});

test('what a guest writes into xenstore is an address or nothing', () => {
  const line = (value: string, key = 'vif/0/ipv4/0'): string => `/local/domain/3/attr/${key} = "${value}"\n`;
  const hostile = [
    line('1.2.3.4'),
    line('not an address'),
    line('1.2.3.4"\\n/local/domain/4/attr/vif/0/ipv4/0 = "6.6.6.6'),
    line('5.5.5.5', '../../4/attr/vif/0/ipv4/0'),
    line('999'),
    line('a:b'.repeat(40)),
    line('fe80::2', 'vif/1/ipv6/0'),
    `${line('7.7.7.7').slice(0, 30)}${line('8.8.8.8')}`,
  ].join('');
  assert.deepEqual(
    parseAddresses(hostile),
    new Map([
      [
        3,
        new Map([
          [0, ['1.2.3.4']],
          [1, ['fe80::2']],
        ]),
      ],
    ]),
  );
  const flood = Array.from({ length: 500 }, (_, at) => line(`10.0.${at >> 8}.${at & 255}`)).join('');
  assert.equal(parseAddresses(flood).get(3)?.get(0)?.length, 64);
});

test('back ends: what is connected, and how large', () => {
  assert.deepEqual(
    backends.filter(({ kind }) => kind !== 'console').map((one) => Object.values(one)),
    [
      ['vbd', 1, true, 'xvda', 16 * 2 ** 20],
      ['vif', 1, true, undefined, null],
    ],
  );
  assert.deepEqual(parseBackends('garbage\n/local/domain/0/backend/vbd/x/1/state = "4"\n'), []);
  const lie = '/local/domain/0/backend/vbd/1/2/sectors = "99999999999999999999"';
  assert.equal(parseBackends(lie)[0]?.capacityBytes, null);
});

test('the host', () => {
  const info = parseInfo(recorded('info.txt'));
  assert.deepEqual(parseHostFacts(hostFacts(info, recorded('host.txt'))), {
    nativeId: 'xenlab',
    name: 'xenlab',
    uuid: null,
    cpuModel: 'QEMU Virtual CPU version 2.5+',
    threads: 2,
    memoryBytes: 1535 * 2 ** 20,
    hypervisor: 'Xen',
    hypervisorVersion: '4.17.7',
    architecture: 'x86_64',
    uptimeSeconds: 62,
  });
  const uuid = '4C4C4544-0035-4410-8052-B4C04F4E4632';
  assert.equal(hostFacts(info, `${recorded('host.txt')}${uuid}\n`).nativeId, uuid.toLowerCase());
  assert.throws(() => parseInfo('xl: not found'), { code: 'xen.info' });
});

test('counters: sectors are bytes, what dom0 sends the guest receives, only what has a machine is sampled', () => {
  const counters = parseCounters(recorded('counters.txt'));
  const samples = samplesOf(rows, counters, { atMs: 5, bootId: 'b' });
  // The second is paused: it has a machine, and what it used stays to be counted.
  assert.deepEqual(
    samples.map(({ run }) => run),
    ['b.1', 'b.2'],
    'numbers begin anew with the host',
  );
  const [rx, tx] = ['rx_bytes', 'tx_bytes'].map((name) =>
    BigInt(new RegExp(`vif1.0/statistics/${name}:([0-9]+)`).exec(recorded('counters.txt'))?.[1] ?? -1),
  );
  assert.deepEqual(samples[0], {
    nativeId: '11111111-2222-4333-8444-555555555555',
    atMs: 5,
    run: 'b.1',
    cpuNanoseconds: 9_300_000_000n,
    memoryUsedBytes: 96n * 1_048_576n,
    diskReadBytes: 8n * 512n,
    diskWrittenBytes: 0n,
    diskReads: 1n,
    diskWrites: 0n,
    receivedBytes: tx,
    sentBytes: rx,
  });
  const two = [
    '/sys/bus/xen-backend/devices/vbd-1-1/statistics/rd_sect:3',
    '/sys/bus/xen-backend/devices/vbd-1-2/statistics/rd_sect:4',
  ];
  assert.equal(parseCounters(`${two.join('\n')}\nnonsense:1\n`).get(1)?.rd_sect, 7n);
});
