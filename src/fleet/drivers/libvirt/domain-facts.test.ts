import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseVmFacts, type VmFacts } from '../../facts.ts';
import { parseXml } from '../../xml.ts';
import { parseAddress, problemsOf } from './address.ts';
import { domainFacts, memoryOf, versionText } from './domain-facts.ts';

const XML = `<domain type='kvm' id='4'>
  <name>db</name><uuid>4DEA22B3-1D52-D8F3-2516-782E98AB3FA0</uuid><title>the &lt;database&gt;</title>
  <metadata><libosinfo:libosinfo xmlns:libosinfo="http://libosinfo.org/xmlns/libvirt/domain/1.0"><libosinfo:os id="http://debian.org/debian/12"/></libosinfo:libosinfo>
    <berth:tags xmlns:berth="urn:berth"><berth:tag name="owner">ann</berth:tag><berth:tag>gold</berth:tag></berth:tags></metadata>
  <memory unit='GiB'>4</memory><vcpu placement='static' current='2'>4</vcpu>
  <os firmware='efi'><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/images/db.qcow2'/><target dev='vda' bus='virtio'/></disk>
    <disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>
    <disk type='volume' device='disk'><source pool='fast' volume='db-data'/><target dev='sdb' bus='scsi'/></disk>
    <controller type='scsi' model='virtio-scsi'/>
    <interface type='network'><mac address='52:54:00:AA:BB:CC'/><source network='default'/><model type='e1000e'/></interface>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' state='connected'/></channel>
    <memballoon model='none'/>
  </devices></domain>`;

const reading = (xml: string): VmFacts =>
  parseVmFacts(
    domainFacts({
      xml,
      hostId: 'h',
      addresses: new Map([['52:54:00:aa:bb:cc', ['192.0.2.7']]]),
      stats: new Map<string, string | number | bigint>([
        ['state.state', 1],
        ['block.count', 2],
        ['block.0.name', 'vda'],
        ['block.0.capacity', 10_737_418_240n],
        ['block.0.allocation', 5n],
        ['block.0.physical', 2_000_000n],
        ['block.1.name', 'sdb'],
      ]),
    }),
  );

test('a domain with everything becomes facts with everything', () => {
  assert.deepEqual(reading(XML), {
    nativeId: '4dea22b3-1d52-d8f3-2516-782e98ab3fa0',
    uuid: '4dea22b3-1d52-d8f3-2516-782e98ab3fa0',
    name: 'db',
    powerState: 'running',
    hostId: 'h',
    vcpus: 2,
    memoryBytes: 4 * 1024 ** 3,
    disks: [
      {
        name: 'vda',
        format: 'qcow2',
        capacityBytes: 10_737_418_240,
        allocatedBytes: 2_000_000,
        datastore: null,
        path: '/images/db.qcow2',
      },
      { name: 'sdb', format: null, capacityBytes: null, allocatedBytes: null, datastore: 'fast', path: 'db-data' },
    ],
    nics: [{ mac: '52:54:00:aa:bb:cc', network: 'default', model: 'e1000e', addresses: ['192.0.2.7'] }],
    guestOs: 'debian/12',
    firmware: 'uefi',
    tools: 'connected',
    tags: ['title=the <database>', 'owner=ann', 'gold'],
    createdAtMs: null,
    virtualization: {
      mode: 'virtio',
      accelerator: 'kvm',
      paravirtual: ['disk:virtio', 'scsi:virtio-scsi'],
      emulated: ['disk:sata', 'disk:scsi', 'network:e1000e'],
    },
  });
});

test('the mode of virtualization, over the whole spectrum', () => {
  const mode = (type: string, os: string, devices = '', machine = 'pc'): string =>
    reading(
      `<domain type='${type}'><name>n</name><uuid>4dea22b3-1d52-d8f3-2516-782e98ab3fa0</uuid><os><type machine='${machine}'>${os}</type></os><devices>${devices}</devices></domain>`,
    ).virtualization.mode;
  assert.equal(mode('xen', 'linux'), 'xen-pv');
  assert.equal(mode('xen', 'xen'), 'xen-pv');
  assert.equal(mode('xen', 'xenpvh'), 'xen-pvh');
  assert.equal(mode('xen', 'hvm'), 'xen-hvm');
  assert.equal(mode('xen', 'hvm', "<disk><target bus='xen'/></disk>"), 'xen-pvhvm');
  assert.equal(mode('kvm', 'hvm'), 'full');
  assert.equal(mode('kvm', 'hvm', "<disk><target bus='ide'/></disk><memballoon model='virtio'/>"), 'full');
  assert.equal(mode('kvm', 'hvm', "<interface><model type='virtio'/></interface>"), 'virtio');
  assert.equal(mode('kvm', 'hvm', '', 'microvm'), 'microvm');
  assert.equal(mode('lxc', 'exe'), 'container');
  assert.equal(mode('bhyve', 'other'), 'unknown');
});

test('memory in every unit libvirt knows', () => {
  const bytes = (text: string): number | null => memoryOf(parseXml(text));
  assert.equal(bytes('<memory>1</memory>'), 1024);
  assert.equal(bytes("<memory unit='b'>3</memory>"), 3);
  assert.equal(bytes("<memory unit='bytes'>3</memory>"), 3);
  assert.equal(bytes("<memory unit='KB'>1</memory>"), 1000);
  assert.equal(bytes("<memory unit='k'>1</memory>"), 1024);
  assert.equal(bytes("<memory unit='MiB'>1</memory>"), 1024 ** 2);
  assert.equal(bytes("<memory unit='T'>1</memory>"), 1024 ** 4);
  assert.equal(bytes('<memory/>'), null);
  assert.equal(memoryOf(undefined), null);
});

test("libvirt's version number in people's words", () => {
  assert.equal(versionText(7_002_022n), '7.2.22');
});

test('a URL says how the far end is reached, and ssh gets no words that its shell would read', () => {
  const dial = (text: string, isReadOnly = true) => parseAddress(new URL(text), isReadOnly);
  assert.deepEqual(dial('qemu:///system'), {
    connectUri: 'qemu:///system',
    dial: { via: 'unix', candidates: ['/run/libvirt/libvirt-sock-ro', '/run/libvirt/virtqemud-sock-ro'] },
  });
  assert.deepEqual(dial('xen+tls://h.example/').dial, {
    via: 'tls',
    host: 'h.example',
    port: 16514,
    pkiFolder: undefined,
  });
  assert.deepEqual(dial('qemu+tcp://[::1]/system').dial, { via: 'tcp', host: '::1', port: 16509 });
  const { dial: ssh } = dial('qemu+ssh://root@h.example:2222/system');
  assert.ok(ssh.via === 'ssh');
  const [host, ...words] = ssh.argv.slice(ssh.argv.indexOf('--') + 1);
  assert.deepEqual([host, words], ['h.example', ['virt-ssh-helper', '-r', "'qemu:///system'"]]);
  assert.ok(ssh.argv.includes('StrictHostKeyChecking=yes') && ssh.argv.includes('BatchMode=yes'));
  for (const bad of [
    "qemu+ssh://h/system';reboot;'",
    'qemu+ssh://h/$(reboot)',
    'qemu+ssh://-oProxyCommand=x/system',
    'qemu+ssh://-l@h/system',
    'qemu+ssh://root:secret@h/system',
    'qemu+ssh:///system',
    'qemu://h/system',
    'vmware:///x',
    'qemu+tcp:///system',
    'qemu+udp://h/system',
    'qemu+tcp://h/system?pkipath=/k&socket=x',
    'qemu:///system?socket=relative',
    'qemu:///system?command=/bin/sh',
    'qemu+ssh://h/system?socket=/run/x',
    'qemu+ssh://h/system?keyfile=k',
    'qemu+tls://h/system?keyfile=/k',
  ])
    assert.ok(problemsOf(new URL(bad)).length > 0, bad);
});
