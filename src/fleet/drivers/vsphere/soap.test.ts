import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseVmFacts } from '../../facts.ts';
import { childAt, childrenNamed, parseXml } from '../../xml.ts';
import { element, envelope, escapeXml, reference, responseOf } from './soap.ts';
import { hostFacts, objectOf, vmFacts } from './vsphere-facts.ts';

const wrapped = (body: string): string =>
  `<?xml version="1.0"?><soapenv:Envelope xmlns:soapenv="x" xmlns:xsi="y"><soapenv:Body>${body}</soapenv:Body></soapenv:Envelope>`;

test('a request is XML whose text is what was meant, whatever it holds', () => {
  const nasty = `</password>&<!--"'>]]>\u0000ü`;
  const text = envelope('Login', [reference('_this', { type: 'SessionManager', id: 'S' }), element('password', nasty)]);
  const login = childAt(parseXml(text), 'Body', 'Login');
  assert.equal(childAt(login, 'password')?.text, nasty.replace('\u0000', '?'));
  assert.equal(childAt(login, '_this')?.attributes['type'], 'SessionManager');
  assert.equal(escapeXml('a\u0001b'), 'a?b');
});

test('faults mean what they are, however they are wrapped', () => {
  const fault = (type: string): string =>
    wrapped(
      `<soapenv:Fault><faultcode>x</faultcode><faultstring>words</faultstring><detail><${type}Fault xsi:type="${type}"/></detail></soapenv:Fault>`,
    );
  const kinds: [string, string][] = [
    ['InvalidLogin', 'unauthenticated'],
    ['NotAuthenticated', 'unavailable'],
    ['NoPermission', 'denied'],
    ['ManagedObjectNotFound', 'not_found'],
    ['InvalidPowerState', 'conflict'],
    ['SomethingNew', 'unavailable'],
  ];
  for (const [type, kind] of kinds)
    assert.throws(() => responseOf(parseXml(fault(type)), 'Login'), { kind, message: /words/ });
});

test('an answer that is none is refused', () => {
  for (const text of [wrapped('<OtherResponse/>'), wrapped(''), '<html/>'])
    assert.throws(() => responseOf(parseXml(text), 'Login'), { code: 'vsphere.malformed' });
  assert.throws(() => parseXml('HTTP 404'), { code: 'xml.malformed' });
});

const property = (name: string, value: string, attributes = ''): string =>
  `<propSet><name>${name}</name><val${attributes}>${value}</val></propSet>`;

test('a VM with everything becomes facts with everything', () => {
  const devices = `
    <VirtualDevice xsi:type="ParaVirtualSCSIController"><key>1000</key></VirtualDevice>
    <VirtualDevice xsi:type="VirtualDisk"><key>2000</key><deviceInfo><label>Hard disk 1</label></deviceInfo>
      <backing xsi:type="VirtualDiskFlatVer2BackingInfo"><fileName>[fast] db/db.vmdk</fileName></backing>
      <capacityInKB>4194304</capacityInKB><capacityInBytes>4294967296</capacityInBytes></VirtualDevice>
    <VirtualDevice xsi:type="VirtualE1000"><key>4000</key><backing><deviceName>VM Network</deviceName></backing><macAddress>00:50:56:AA:BB:CC</macAddress></VirtualDevice>`;
  const net =
    '<GuestNicInfo><macAddress>00:50:56:aa:bb:cc</macAddress><ipAddress>192.0.2.1</ipAddress><ipAddress>fe80::1</ipAddress></GuestNicInfo>';
  const result = parseXml(`<returnval xmlns:xsi="y"><objects><obj type="VirtualMachine">vm-1</obj>
    ${property('name', 'a%2fb')}${property('config.uuid', '4225C7D1-0000-4000-8000-0000000000AA')}
    ${property('summary.config.numCpu', '4')}${property('summary.config.memorySizeMB', '2048')}
    ${property('config.hardware.device', devices)}${property('config.guestFullName', 'Debian 12')}
    ${property('config.firmware', 'efi')}${property('config.createDate', '2024-02-29T12:00:00Z')}${property('config.template', 'false')}
    ${property('runtime.powerState', 'suspended')}${property('runtime.host', 'host-9', ' type="HostSystem"')}
    ${property('guest.net', net)}${property('guest.toolsRunningStatus', 'guestToolsRunning')}</objects></returnval>`);
  const [shown] = childrenNamed(result, 'objects');
  const object = shown === undefined ? undefined : objectOf(shown);
  assert.ok(object);
  const expected = {
    nativeId: 'vm-1',
    uuid: '4225c7d1-0000-4000-8000-0000000000aa',
    name: 'a/b',
    powerState: 'suspended',
    hostId: 'host-9',
    vcpus: 4,
    memoryBytes: 2 * 1024 ** 3,
    disks: [
      {
        name: 'Hard disk 1',
        format: 'vmdk',
        capacityBytes: 4_294_967_296,
        allocatedBytes: null,
        datastore: 'fast',
        path: '[fast] db/db.vmdk',
      },
    ],
    nics: [{ mac: '00:50:56:aa:bb:cc', network: 'VM Network', model: 'e1000', addresses: ['192.0.2.1', 'fe80::1'] }],
    guestOs: 'Debian 12',
    firmware: 'uefi',
    tools: 'guestToolsRunning',
    tags: [],
    createdAtMs: Date.UTC(2024, 1, 29, 12),
    virtualization: { mode: 'virtio', accelerator: 'vmx', paravirtual: ['scsi:pvscsi'], emulated: ['network:e1000'] },
  };
  assert.deepEqual(parseVmFacts(vmFacts(object)), expected);
});

test('devices of no use, of foreign names and without anything in them change nothing of the others', () => {
  const devices = [
    '<VirtualDevice xsi:type="vim25:VirtualVmxnet3"><key>4000</key><deviceInfo><summary>VM Network</summary></deviceInfo><macAddress>00-50-56-AA-BB-01</macAddress></VirtualDevice>',
    '<VirtualDevice xsi:type="VirtualCdrom"/><VirtualDevice/><Other xsi:type="VirtualDisk"/>',
    '<VirtualDevice xsi:type="AcmeCard"><macAddress>00:50:56:aa:bb:02</macAddress></VirtualDevice>',
    '<VirtualDevice xsi:type="VirtualDisk"><key>2000</key><capacityInKB>2</capacityInKB></VirtualDevice><VirtualDevice xsi:type="VirtualDisk"/>',
    '<VirtualDevice xsi:type="VirtualAHCIController"/><VirtualDevice xsi:type="VirtualAHCIController"/><VirtualDevice xsi:type="ParaVirtualSCSIController"/>',
  ];
  const [shown] = childrenNamed(
    parseXml(
      `<r xmlns:xsi="y"><objects><obj type="VirtualMachine">vm-1</obj>${property('config.hardware.device', devices.join(''))}</objects></r>`,
    ),
    'objects',
  );
  const object = shown === undefined ? undefined : objectOf(shown);
  assert.ok(object);
  const { disks, nics, virtualization } = parseVmFacts(vmFacts(object));
  assert.deepEqual(
    disks.map((disk) => [disk.name, disk.capacityBytes]),
    [
      ['disk 2000', 2_048],
      ['disk ', null],
    ],
  );
  assert.deepEqual(nics, [
    { mac: '00:50:56:aa:bb:01', network: 'VM Network', model: 'vmxnet3', addresses: [] },
    { mac: '00:50:56:aa:bb:02', network: null, model: 'acmecard', addresses: [] },
  ]);
  assert.deepEqual(virtualization, {
    mode: 'virtio',
    accelerator: 'vmx',
    paravirtual: ['network:vmxnet3', 'scsi:pvscsi'],
    emulated: ['disk:sata'],
  });
});

test('a VM of which vSphere says nothing is one of which nothing is known', () => {
  const facts = parseVmFacts(vmFacts({ moref: { type: 'VirtualMachine', id: 'vm-2' }, properties: new Map() }));
  assert.deepEqual(
    [facts.name, facts.powerState, facts.vcpus, facts.memoryBytes, facts.uuid],
    ['vm-2', 'unknown', null, null, null],
  );
  const host = hostFacts({ moref: { type: 'HostSystem', id: 'host-1' }, properties: new Map() });
  assert.deepEqual([host.nativeId, host.threads, host.hypervisor], ['host-1', null, 'VMware ESXi']);
});
