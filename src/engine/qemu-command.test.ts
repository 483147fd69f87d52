import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clockAt, configurationOf, productUuidOf } from './guest-configuration.ts';
import { launchArguments } from './machine.ts';
import { type QemuBuild, qemuArguments } from './qemu-command.ts';
import { layOutRootDisk } from './root-disk.ts';

const build: QemuBuild = {
  binary: '/usr/bin/qemu-system-x86_64',
  accelerator: 'tcg',
  firmware: '/usr/share/qemu/qboot.rom',
  kernel: '/boot/vmlinux',
  initramfs: '/boot/initramfs',
};

const run = {
  name: 'berth-0123',
  vcpus: 2,
  memoryBytes: 268_435_456,
  memory: 'own' as const,
  qmpSocket: '/run/q',
  agentSocket: '/run/a',
  rootDescriptor: '/state/root.vmdk',
  dataDisk: '/state/data.img',
};

const slot = (index: number): string[] => [
  '-device',
  `virtio-blk-pci,id=volume${index},drive=volume${index},serial=volume${index},num-queues=1,queue-size=64,discard=on,werror=enospc,rerror=report`,
];

test('the command line of a VM with network is this one', () => {
  const args = qemuArguments(build, {
    ...run,
    volumes: ['/volumes/v.img'],
    network: { kind: 'tap', descriptor: 3 },
  });
  assert.deepEqual(args, [
    '-name',
    'berth-0123,debug-threads=on',
    '-uuid',
    '00000000-0000-4000-8000-000000000001',
    '-nodefaults',
    '-no-user-config',
    '-display',
    'none',
    '-no-reboot',
    '-sandbox',
    'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny',
    '-machine',
    'q35,smm=off,i8042=off,vmport=off,sata=off,usb=off,graphics=off,memory-backend=memory,suppress-vmdesc=on',
    '-accel',
    'tcg,tb-size=32',
    '-cpu',
    'max,la57=off,erms=off,fsrm=off',
    '-smp',
    '2',
    '-m',
    '256M',
    '-bios',
    '/usr/share/qemu/qboot.rom',
    '-global',
    'migration.send-configuration=off',
    '-object',
    'memory-backend-memfd,id=memory,size=256M,share=on',
    '-kernel',
    '/boot/vmlinux',
    '-initrd',
    '/boot/initramfs',
    '-append',
    'console=ttyS0 quiet panic=-1 reboot=t rdinit=/init cryptomgr.notests random.trust_cpu=on 8250.nr_uarts=1 no_timer_check audit=0 rcupdate.rcu_expedited=1 mitigations=off tsc=reliable psi=0',
    '-no-shutdown',
    '-chardev',
    'socket,id=qmp,path=/run/q,server=on,wait=off',
    '-mon',
    'chardev=qmp,mode=control',
    '-chardev',
    'ringbuf,id=console,size=65536',
    '-serial',
    'chardev:console',
    '-device',
    'virtio-serial-pci,id=serial,max_ports=2',
    '-chardev',
    'socket,id=agent,path=/run/a,server=on,wait=off',
    '-device',
    'virtserialport,bus=serial.0,chardev=agent,name=berth.agent',
    '-blockdev',
    '{"driver":"vmdk","node-name":"root","read-only":true,"file":{"driver":"file","filename":"/state/root.vmdk","read-only":true}}',
    '-device',
    'virtio-blk-pci,id=root,drive=root,serial=root',
    '-blockdev',
    '{"driver":"raw","node-name":"data","discard":"unmap","detect-zeroes":"unmap","file":{"driver":"file","filename":"/state/data.img","discard":"unmap"}}',
    '-device',
    'virtio-blk-pci,id=data,drive=data,serial=data,discard=on,werror=enospc,rerror=report',
    '-netdev',
    'tap,id=net0,fd=3',
    '-device',
    'virtio-net-pci,id=net,netdev=net0,romfile=',
    '-device',
    'virtio-balloon-pci,id=balloon,free-page-reporting=on',
    '-blockdev',
    '{"driver":"raw","node-name":"volume0","discard":"unmap","detect-zeroes":"unmap","file":{"driver":"file","filename":"/volumes/v.img","discard":"unmap"}}',
    ...slot(0),
    ...[1, 2, 3].flatMap((index) => [
      '-blockdev',
      `{"driver":"null-co","node-name":"volume${index}","size":17592186044416,"read-zeroes":true,"read-only":false}`,
      ...slot(index),
    ]),
  ]);
});

test('a machine that starts from a saved one differs in nothing but where it starts', () => {
  const network = { kind: 'tap', descriptor: 3 } as const;
  const devices = (args: readonly string[]): string[] => args.filter((_, index) => args[index - 1] === '-device');
  const disks = { rootDescriptor: undefined, dataDisk: undefined };
  const template = qemuArguments(build, { ...run, ...disks, memory: 'template', network });
  const restored = qemuArguments(build, { ...run, memory: 'restored', network });
  assert.deepEqual(devices(restored), devices(template));
  assert.deepEqual(devices(qemuArguments(build, { ...run, network })), devices(template));
  assert.ok(template.includes('memory-backend-file,id=memory,size=256M,mem-path=/proc/self/fd/4,share=on'));
  assert.ok(restored.includes('memory-backend-file,id=memory,size=256M,mem-path=/proc/self/fd/4,share=off'));
  assert.deepEqual(restored.slice(restored.indexOf('-incoming'), restored.indexOf('-incoming') + 2), [
    '-incoming',
    'defer',
  ]);
  assert.ok(!restored.includes('-kernel'));
});

test('under KVM the guest keeps its mitigations and sees the host’s processor', () => {
  const args = qemuArguments({ ...build, accelerator: 'kvm' }, { ...run, network: { kind: 'tap', descriptor: 3 } });
  assert.ok(args.includes('host'));
  assert.ok(!args.some((word) => /mitigations=off|tsc=|psi=/.test(word)));
});

test('translated code has room by the guest’s memory and processors', () => {
  const size = (vcpus: number, mebibytes: number) => {
    const args = qemuArguments(build, {
      ...run,
      vcpus,
      memoryBytes: mebibytes * 2 ** 20,
      network: { kind: 'tap', descriptor: 3 },
    });
    return args[args.indexOf('-accel') + 1];
  };
  assert.equal(size(1, 128), 'tcg,tb-size=32');
  assert.equal(size(1, 1024), 'tcg,tb-size=80');
  assert.equal(size(8, 256), 'tcg,tb-size=80');
  assert.equal(size(1, 65_536), 'tcg,tb-size=256');
});

test('QEMU is started by the launcher as an unprivileged user', () => {
  const args = launchArguments({
    launcher: '/l',
    build,
    run,
    identity: { uid: 1_600_000_001, group: undefined },
    plug: { kind: 'tap', tap: 'bt1', bridge: undefined },
    folder: '/run/vm',
    logFile: '/log',
  });
  assert.deepEqual(args.slice(0, 11), [
    '/l',
    '--uid',
    '1600000001',
    '--gid',
    '1600000001',
    '--tap',
    'bt1',
    '--log',
    '/log',
    '--',
    build.binary,
  ]);
});

test('layers lie one after another, in whole sectors', () => {
  const disk = layOutRootDisk([
    { path: '/a.erofs', sizeBytes: 8192 },
    { path: '/b.erofs', sizeBytes: 4096 },
  ]);
  assert.deepEqual(disk.extents, [
    { firstSector: 0, sectors: 16 },
    { firstSector: 16, sectors: 8 },
  ]);
  assert.match(disk.descriptor, /RW 16 FLAT "\/a\.erofs" 0\nRW 8 FLAT "\/b\.erofs" 0\n/);
});

test('hosts and resolv.conf hold what was asked for', () => {
  const record = {
    spec: {
      hostname: 'web',
      domainName: 'example.org',
      shmBytes: 1,
      readonlyRoot: false,
      tmpfs: { '/t': 'size=1m' },
      sysctls: {},
      process: { workingDirectory: '/w' },
      network: {
        dns: [],
        dnsSearch: ['example.org'],
        dnsOptions: ['ndots:2'],
        extraHosts: ['db:10.0.0.9', 'up:host-gateway'],
      },
    },
    network: {
      address: '172.30.0.2',
      gateway: '172.30.0.1',
      dns: ['172.30.0.1'],
      mac: 'm',
      prefixLength: 22,
      mtu: 1500,
    },
    id: '00112233445566778899aabbccddeeff'.repeat(2),
  } as unknown as Parameters<typeof configurationOf>[0];
  const configuration = configurationOf(record, [], clockAt(1_000, 77));
  assert.match(configuration.hosts, /10\.0\.0\.9\tdb\n172\.30\.0\.1\tup\n172\.30\.0\.2\tweb\.example\.org web\n$/);
  assert.equal(configuration.resolvConf, 'nameserver 172.30.0.1\nsearch example.org\noptions ndots:2\n');
  assert.deepEqual(configuration.tmpfs, [{ path: '/t', options: 'size=1m' }]);
  assert.deepEqual(configuration.clock, { epochNs: 1_000_000_000n, boottimeNs: 77n });
  assert.equal(configuration.machineId, '00112233445566778899aabbccddeeff\n');
  assert.equal(productUuidOf(record), '00112233-4455-4677-8899-aabbccddeeff');
  assert.equal(configuration.entropy.length, 64);
});

test('without rights the network is QEMU’s own, with a socket for each published port', () => {
  const ports = [
    { protocol: 'tcp', guestPort: 80, hostIp: '', hostPort: 8080 },
    { protocol: 'udp', guestPort: 53, hostIp: '127.0.0.1', hostPort: 5353 },
  ] as const;
  const args = qemuArguments(build, {
    ...run,
    network: { kind: 'user', isolated: false, address: '10.0.2.15', ports },
  });
  assert.ok(
    args.includes('user,id=net0,ipv6=off,hostfwd=tcp::8080-10.0.2.15:80,hostfwd=udp:127.0.0.1:5353-10.0.2.15:53'),
  );
});
