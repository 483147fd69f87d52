import assert from 'node:assert/strict';
import { test } from 'node:test';
import { configurationOf } from './guest-configuration.ts';
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
  qmpSocket: '/run/q',
  agentSocket: '/run/a',
  rootDescriptor: '/state/root.vmdk',
  dataDisk: '/state/data.img',
};

test('the command line of a VM with network is this one', () => {
  const args = qemuArguments(build, {
    ...run,
    network: { kind: 'bridge', tapDescriptor: 3, mac: '02:42:ac:1e:00:02' },
  });
  assert.deepEqual(args, [
    '-name',
    'berth-0123,debug-threads=on',
    '-nodefaults',
    '-no-user-config',
    '-display',
    'none',
    '-no-reboot',
    '-sandbox',
    'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny',
    '-machine',
    'q35,smm=off,i8042=off,vmport=off,sata=off,usb=off,graphics=off',
    '-accel',
    'tcg,tb-size=16',
    '-cpu',
    'max,la57=off',
    '-smp',
    '2',
    '-m',
    '256M',
    '-bios',
    '/usr/share/qemu/qboot.rom',
    '-kernel',
    '/boot/vmlinux',
    '-initrd',
    '/boot/initramfs',
    '-no-shutdown',
    '-append',
    'console=ttyS0 quiet panic=-1 reboot=t rdinit=/init cryptomgr.notests random.trust_cpu=on 8250.nr_uarts=1 no_timer_check audit=0 rcupdate.rcu_expedited=1 mitigations=off tsc=reliable psi=0',
    '-chardev',
    'socket,id=qmp,path=/run/q,server=on,wait=off',
    '-mon',
    'chardev=qmp,mode=control',
    '-chardev',
    'ringbuf,id=console,size=65536',
    '-serial',
    'chardev:console',
    '-device',
    'virtio-serial-pci,id=serial',
    '-chardev',
    'socket,id=agent,path=/run/a,server=on,wait=off',
    '-device',
    'virtserialport,bus=serial.0,chardev=agent,name=berth.agent',
    '-blockdev',
    '{"driver":"vmdk","node-name":"root","read-only":true,"file":{"driver":"file","filename":"/state/root.vmdk","read-only":true}}',
    '-device',
    'virtio-blk-pci,drive=root,serial=root',
    '-blockdev',
    '{"driver":"raw","node-name":"data","discard":"unmap","detect-zeroes":"unmap","file":{"driver":"file","filename":"/state/data.img","discard":"unmap"}}',
    '-device',
    'virtio-blk-pci,drive=data,serial=data,discard=on,werror=enospc,rerror=report',
    '-netdev',
    'tap,id=net0,fd=3',
    '-device',
    'virtio-net-pci,netdev=net0,mac=02:42:ac:1e:00:02,romfile=',
  ]);
});

test('under KVM the guest keeps its mitigations and sees the host’s processor', () => {
  const args = qemuArguments({ ...build, accelerator: 'kvm' }, { ...run, network: undefined });
  assert.ok(args.includes('host'));
  assert.ok(!args.some((word) => /mitigations=off|tsc=|psi=/.test(word)));
  assert.ok(!args.includes('-netdev'));
});

test('translated code has room by the guest’s memory and processors', () => {
  const size = (vcpus: number, mebibytes: number) => {
    const args = qemuArguments(build, { ...run, vcpus, memoryBytes: mebibytes * 2 ** 20, network: undefined });
    return args[args.indexOf('-accel') + 1];
  };
  assert.equal(size(1, 128), 'tcg,tb-size=16');
  assert.equal(size(1, 1024), 'tcg,tb-size=64');
  assert.equal(size(8, 256), 'tcg,tb-size=64');
  assert.equal(size(1, 65_536), 'tcg,tb-size=256');
});

test('QEMU is started by the launcher as an unprivileged user', () => {
  const args = launchArguments({
    launcher: '/l',
    build,
    run,
    identity: { uid: 1_600_000_001, group: undefined },
    network: undefined,
    logFile: '/log',
  });
  assert.deepEqual(args.slice(0, 9), [
    '/l',
    '--uid',
    '1600000001',
    '--gid',
    '1600000001',
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
  } as unknown as Parameters<typeof configurationOf>[0];
  const configuration = configurationOf(record, [], 1_000);
  assert.match(configuration.hosts, /10\.0\.0\.9\tdb\n172\.30\.0\.1\tup\n172\.30\.0\.2\tweb\.example\.org web\n$/);
  assert.equal(configuration.resolvConf, 'nameserver 172.30.0.1\nsearch example.org\noptions ndots:2\n');
  assert.deepEqual(configuration.tmpfs, [{ path: '/t', options: 'size=1m' }]);
  assert.equal(configuration.timeNs, 1_000_000_000n);
  assert.equal(configuration.entropy.length, 64);
});

test('without rights the network is QEMU’s own, with a socket for each published port', () => {
  const ports = [
    { protocol: 'tcp', guestPort: 80, hostIp: '', hostPort: 8080 },
    { protocol: 'udp', guestPort: 53, hostIp: '127.0.0.1', hostPort: 5353 },
  ] as const;
  const args = qemuArguments(build, { ...run, network: { kind: 'user', mac: 'm', address: '10.0.2.15', ports } });
  assert.ok(
    args.includes('user,id=net0,ipv6=off,hostfwd=tcp::8080-10.0.2.15:80,hostfwd=udp:127.0.0.1:5353-10.0.2.15:53'),
  );
});
