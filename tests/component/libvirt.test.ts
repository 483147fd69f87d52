/** The libvirt driver against a real libvirtd: with its test driver, and with QEMU. `virsh` is the outside view. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { libvirtDriver } from '#fleet';
import { reservePort } from '#platform';
import { type DriverWorld, driverConformance, snapshotOf } from '../../src/fleet/driver.conformance.ts';
import { listDomains, type RunningLibvirt, startLibvirt, writeDomain } from '../harness/libvirt.ts';
import { eventually } from '../harness/vm-client.ts';

type Connect = 'test:///default' | 'qemu:///system';

const STATES: Readonly<Record<string, 'running' | 'paused' | 'off'>> = {
  running: 'running',
  paused: 'paused',
  'shut off': 'off',
};

async function worldOf(connect: Connect): Promise<DriverWorld> {
  const libvirt = await startLibvirt();
  const type = connect === 'test:///default' ? 'test' : 'qemu';
  const url = (socket: string): URL => new URL(`${connect.replace('://', '+unix://')}?socket=${socket}`);
  return {
    driver: libvirtDriver,
    target: { name: 'conform', url: url(libvirt.socket), allowPower: false },
    deadUrl: url(`${libvirt.socket}-nobody`),
    look: async () =>
      (await listDomains(libvirt, connect)).map(({ uuid, name, state }) => ({
        nativeId: uuid,
        name,
        powerState: STATES[state] ?? 'unknown',
      })),
    create: async (name) => {
      await libvirt.virsh(connect, 'define', writeDomain(libvirt, { name, type }));
    },
    start: async (name) => {
      await libvirt.virsh(connect, 'start', name);
    },
    stop: async (name) => {
      await libvirt.virsh(connect, 'destroy', name);
    },
    remove: async (name) => {
      await libvirt.virsh(connect, 'undefine', name);
    },
    crash: () => libvirt.dispose(),
    eventDeadlineMs: 5_000,
    // The test driver makes up a host whose memory it does not tell.
    measuresHosts: type === 'qemu',
    tellsNoTime: type === 'test',
  };
}

describe("libvirt's test driver", () => driverConformance(() => worldOf('test:///default')));
describe('libvirt with QEMU', () => driverConformance(() => worldOf('qemu:///system')));

describe('libvirt over TLS', () => {
  let libvirt: RunningLibvirt;
  let port: number;

  before(async () => {
    const reserved = await reservePort('tcp', '127.0.0.1', 0);
    port = reserved.port;
    await reserved.release();
    libvirt = await startLibvirt({ tlsPort: port });
  });

  after(() => libvirt.dispose());

  const open = (query: string, pin?: string) =>
    libvirtDriver.open(
      { name: 'x', url: new URL(`test+tls://127.0.0.1:${port}/default${query}`), allowPower: false, pin },
      AbortSignal.timeout(20_000),
    );

  test('both sides show certificates: the VMs are there', async () => {
    const session = await open(`?pkipath=${libvirt.folder}/pki`);
    assert.deepEqual(
      (await snapshotOf(session)).vms.map((vm) => vm.name),
      ['test'],
    );
    await session.close();
  });

  test('an authority we do not know is refused with the fingerprint; pinned, it is taken; without ours, libvirt refuses', async () => {
    const failure = await open('').catch((error: unknown) => error as { code: string; facts: { found: string } });
    assert.ok('code' in failure && failure.code === 'tls.untrusted');
    const pin = failure.facts.found;
    const session = await open(`?pkipath=${libvirt.folder}/pki`, pin);
    await session.close();
    await assert.rejects(open('', pin), { kind: 'unauthenticated', code: 'libvirt.certificate' });
    await assert.rejects(open(`?pkipath=${libvirt.folder}/pki`, '0'.repeat(64)), { code: 'tls.untrusted' });
  });
});

describe('what only libvirt has', () => {
  let libvirt: RunningLibvirt;

  before(async () => {
    libvirt = await startLibvirt();
  });

  after(() => libvirt.dispose());

  const open = (query: string, allowPower = false) =>
    libvirtDriver.open({ name: 'x', url: new URL(query), allowPower }, AbortSignal.timeout(10_000));

  test('a QEMU domain: what its XML, its figures and virsh say is what the facts say', async () => {
    await libvirt.virsh('qemu:///system', 'create', writeDomain(libvirt, { name: 'real', type: 'qemu' }));
    const session = await open(`qemu+unix:///system?socket=${libvirt.readOnlySocket}`);
    const { hosts, vms } = await snapshotOf(session);
    const [vm] = vms;
    assert.equal(vm?.name, 'real');
    assert.equal(vm?.uuid, (await libvirt.virsh('qemu:///system', 'domuuid', 'real')).trim());
    assert.deepEqual(
      [vm?.vcpus, vm?.memoryBytes, vm?.firmware, vm?.powerState],
      [1, 64 * 1024 * 1024, 'bios', 'running'],
    );
    assert.equal(vm?.virtualization.mode, 'virtio');
    assert.equal(vm?.virtualization.accelerator, 'tcg');
    assert.match(await libvirt.virsh('qemu:///system', 'domiflist', 'real'), new RegExp(`virtio +${vm?.nics[0]?.mac}`));
    const nodeInfo = await libvirt.virsh('qemu:///system', 'nodeinfo');
    assert.match(nodeInfo, new RegExp(`CPU\\(s\\): +${hosts[0]?.threads}\n`));
    assert.match(nodeInfo, new RegExp(`Memory size: +${(hosts[0]?.memoryBytes ?? 0) / 1024} KiB`));
    const samples = await session.samples?.read();
    const cpu = Number(
      /cpu_time +([0-9.]+) seconds/.exec(
        await libvirt.virsh('qemu:///system', 'cpu-stats', 'real', '--total').catch(() => ''),
      )?.[1] ?? Number.NaN,
    );
    const told = Number(samples?.[0]?.cpuNanoseconds ?? 0n) / 1e9;
    assert.ok(told > 0 && (Number.isNaN(cpu) || Math.abs(cpu - told) < 2), `${told} s, virsh says ${cpu} s`);
    await session.close();
    await libvirt.virsh('qemu:///system', 'destroy', 'real');
  });

  test('what the host used is what virsh says of it, the busy domain of its own included, and idle time is not', async () => {
    await libvirt.virsh('qemu:///system', 'create', writeDomain(libvirt, { name: 'busy', type: 'qemu' }));
    const session = await open(`qemu+unix:///system?socket=${libvirt.readOnlySocket}`);
    const { hosts } = await snapshotOf(session);
    const read = async () => {
      const [sample] = (await session.hostSamples?.read()) ?? [];
      assert.ok(sample !== undefined && sample.cpuNanoseconds !== null && sample.memoryUsedBytes !== null);
      return sample;
    };
    const domainNs = async () => (await session.samples?.read())?.[0]?.cpuNanoseconds ?? 0n;
    const virshNs = async (): Promise<bigint> => {
      const told = await libvirt.virsh('qemu:///system', 'nodecpustats');
      const figure = (name: string): bigint => BigInt(new RegExp(`^${name}: +([0-9]+)$`, 'm').exec(told)?.[1] ?? '-1');
      return figure('user') + figure('system');
    };
    const [hostFirst, domainFirst] = [await read(), await domainNs()];
    const outside = await virshNs();
    const domainLast = await eventually('the domain has used a second', 60_000, async () => {
      const now = await domainNs();
      return now - domainFirst > 1_000_000_000n ? now : undefined;
    });
    const hostLast = await read();
    assert.equal(hostFirst.nativeId, hosts[0]?.nativeId);
    assert.ok(
      (hostFirst.cpuNanoseconds ?? 0n) <= outside && outside <= (hostLast.cpuNanoseconds ?? 0n),
      `${hostFirst.cpuNanoseconds} ≤ ${outside} ≤ ${hostLast.cpuNanoseconds}`,
    );
    const rose = (hostLast.cpuNanoseconds ?? 0n) - (hostFirst.cpuNanoseconds ?? 0n);
    // The kernel counts a process by the nanosecond and a processor by ticks of 10 ms.
    assert.ok(rose >= domainLast - domainFirst - 100_000_000n, `${rose} holds ${domainLast - domainFirst}`);
    const ticks = BigInt(hosts[0]?.threads ?? 0) * BigInt(hostLast.atMs - hostFirst.atMs) * 1_000_000n;
    assert.ok(rose <= ticks + 100_000_000n, `${rose} is not more than ${ticks}`);
    const bootedMs = Date.now() - Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]) * 1_000;
    const offMs = Math.abs((hostLast.beganMs ?? 0) - bootedMs);
    // What other machines took of this one's processors is in no time of its own.
    assert.ok(offMs < (Date.now() - bootedMs) / 5, `its counters began ${offMs} ms from the boot`);
    const memory = await libvirt.virsh('qemu:///system', 'nodememstats');
    const [total, free] = ['total', 'free'].map((name) =>
      BigInt(new RegExp(`^${name} *: +([0-9]+) KiB$`, 'm').exec(memory)?.[1] ?? '0'),
    );
    assert.ok((hostLast.memoryUsedBytes ?? 0n) > 0n);
    assert.ok((hostLast.memoryUsedBytes ?? 0n) / 1024n <= (total ?? 0n) - (free ?? 0n) + 262_144n);
    await session.close();
    await libvirt.virsh('qemu:///system', 'destroy', 'busy');
  });

  test('read-only is held by libvirt itself, not by us alone', async () => {
    await assert.rejects(
      async () => {
        const session = await open(`test+unix:///default?socket=${libvirt.readOnlySocket}`, true);
        await session.power?.act('pause', '6695eb01-f6a4-8304-79aa-97f2502e193f');
      },
      { kind: 'denied' },
    );
  });

  test('what the other end says and is not libvirt is refused', async () => {
    await assert.rejects(open(`test+unix:///nosuch?socket=${libvirt.socket}`), /nosuch|not found|cannot/i);
  });

  test('a snapshot of 500 domains has all of them once', async () => {
    const names = Array.from({ length: 500 }, (_, index) => `many-${index}`);
    const batch = names.map((name) => `define ${writeDomain(libvirt, { name, type: 'test' })}`).join('; ');
    await libvirt.virsh('test:///default', batch);
    const session = await open(`test+unix:///default?socket=${libvirt.socket}`);
    const began = performance.now();
    const { vms } = await snapshotOf(session);
    const tookMs = performance.now() - began;
    assert.deepEqual(vms.map((vm) => vm.name).sort(), [...names, 'test'].sort(), `after ${tookMs} ms`);
    await session.close();
  });
});
