/**
 * The Hyper-V driver over a real sshd, with a stand-in in the place of powershell.exe that holds objects of the published class
 * definitions. The PowerShell script itself is read, not run, and against a real Hyper-V nothing of this has run.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { BerthError } from '#base';
import { Fleet, hypervDriver } from '#fleet';
import { findProcesses, signalProcess, spawnStreams } from '#platform';
import { ConsumptionTable } from '../../src/fleet/consumption/consumption-table.ts';
import { type DriverWorld, driverConformance, snapshotOf } from '../../src/fleet/driver.conformance.ts';
import type { DriverSession, SnapshotPage, VmSample } from '../../src/fleet/driver.ts';
import { RemoteLine } from '../../src/fleet/drivers/hyperv/remote-line.ts';
import { REMOTE_WORDS } from '../../src/fleet/drivers/hyperv/script.ts';
import { Inventory } from '../../src/fleet/inventory/inventory.ts';
import { SourceTable } from '../../src/fleet/inventory/sources.ts';
import { SSH_ENVIRONMENT, sshArguments } from '../../src/fleet/ssh.ts';
import { type HypervStandIn, startHypervStandIn } from '../harness/hyperv-stand-in.ts';
import { startSshd } from '../harness/sshd.ts';
import { eventually } from '../harness/vm-client.ts';

const DEADLINE_MS = 20_000;
const [RUNNING, OFF, PAUSED, SAVED] = [2, 3, 9, 32769] as const;
const POWER: Readonly<Record<number, 'running' | 'off' | 'paused' | 'suspended'>> = {
  2: 'running',
  3: 'off',
  9: 'paused',
  32769: 'suspended',
};

async function world(): Promise<DriverWorld> {
  const host = await startHypervStandIn();
  return {
    driver: hypervDriver,
    target: { name: 'hv', url: host.url(), allowPower: false },
    deadUrl: host.url({ port: 1 }),
    look: async () =>
      host.vms().map(({ id, name, enabledState }) => ({
        nativeId: id,
        name,
        powerState: POWER[enabledState] ?? 'unknown',
      })),
    create: async (name) => void host.addVm(name),
    start: async (name) => host.setState(name, RUNNING),
    stop: async (name) => host.setState(name, OFF),
    remove: async (name) => host.remove(name),
    crash: () => host.kill(),
    eventDeadlineMs: DEADLINE_MS,
    measuresHosts: true,
  };
}

describe('Hyper-V (a stand-in behind a real sshd)', () => driverConformance(world));

describe('what only Hyper-V has (a stand-in behind a real sshd)', () => {
  let host: HypervStandIn;
  const sessions: DriverSession[] = [];

  before(async () => {
    host = await startHypervStandIn();
  });

  after(() => host.kill());

  afterEach(async () => {
    for (const session of sessions.splice(0)) await session.close();
    host.change((state) => {
      delete state.fault;
      state.isLimited = false;
      state.hasNoHyperV = false;
    });
    for (const { name } of host.vms()) host.remove(name);
  });

  const open = async (changes: { url?: URL; allowPower?: boolean } = {}): Promise<DriverSession> => {
    const target = { name: 'hv', url: host.url(), allowPower: false, ...changes };
    const session = await hypervDriver.open(target, AbortSignal.timeout(DEADLINE_MS));
    sessions.push(session);
    return session;
  };
  const item = (name: string, data: string): string =>
    `<INSTANCE CLASSNAME="Msvm_KvpExchangeDataItem"><PROPERTY NAME="Caption" TYPE="string"></PROPERTY>` +
    `<PROPERTY NAME="Data" TYPE="string"><VALUE>${data}</VALUE></PROPERTY>` +
    `<PROPERTY NAME="Name" TYPE="string"><VALUE>${name}</VALUE></PROPERTY></INSTANCE>`;

  test('facts of VMs of both generations are what the classes say', async () => {
    const id = host.addVm('shop', {
      biosGuid: '{78563412-AB90-EFCD-1234-567890ABCDEF}',
      vcpus: 4,
      memoryMib: 2048,
      notes: ['owner=ann\r\nAsk Bob before you stop it = really'],
    });
    host.addDisk(id, {
      kind: 'scsi',
      slot: 0,
      path: 'C:\\ClusterStorage\\Vol1\\shop.vhdx',
      bytes: 2 ** 40,
      usedBytes: 5,
    });
    host.addCard(id, { kind: 'Synthetic', mac: '00155D010203', addresses: ['10.1.2.3', 'fe80::1', '$(reboot)'] });
    host.setGuest(id, [
      item('OSName', 'Windows Server 2019'),
      item('IntegrationServicesVersion', '10.0.17763'),
      '<not',
    ]);
    host.setState('shop', RUNNING);
    const old = host.addVm('old', { generation: 1 });
    host.addDisk(old, { kind: 'ide', slot: 1, path: 'D:\\vms\\old.vhd', bytes: 100, usedBytes: 50 });
    host.addCard(old, { kind: 'Emulated', mac: '00-15-5D-01-02-04', addresses: [] });
    host.setState('old', SAVED);
    const { vms, hosts } = await snapshotOf(await open());
    const uuid = '4c4c4544-0035-4410-8052-b4c04f4e4632';
    assert.deepEqual(
      vms.find((vm) => vm.nativeId === id),
      {
        nativeId: id,
        uuid: '12345678-90ab-cdef-1234-567890abcdef',
        name: 'shop',
        powerState: 'running',
        hostId: uuid,
        vcpus: 4,
        memoryBytes: 2 ** 31,
        disks: [
          {
            name: 'SCSI 0:0',
            format: 'vhdx',
            capacityBytes: 2 ** 40,
            allocatedBytes: 5,
            datastore: 'C:\\ClusterStorage\\Vol1',
            path: 'C:\\ClusterStorage\\Vol1\\shop.vhdx',
          },
        ],
        nics: [{ mac: '00:15:5d:01:02:03', network: 'External', model: 'netvsc', addresses: ['10.1.2.3', 'fe80::1'] }],
        guestOs: 'Windows Server 2019',
        firmware: 'uefi',
        tools: 'integration services 10.0.17763',
        tags: ['owner=ann'],
        createdAtMs: 1_769_900_000_000,
        virtualization: {
          mode: 'virtio',
          accelerator: 'hyperv',
          paravirtual: ['disk:storvsc', 'network:netvsc'],
          emulated: [],
        },
      },
    );
    const before = vms.find((vm) => vm.nativeId === old);
    assert.deepEqual([before?.firmware, before?.powerState, before?.disks[0]?.name], ['bios', 'suspended', 'IDE 0:1']);
    assert.deepEqual(before?.virtualization, {
      mode: 'full',
      accelerator: 'hyperv',
      paravirtual: [],
      emulated: ['disk:ide', 'network:dec21140'],
    });
    const { uptimeSeconds, ...facts } = hosts[0] ?? {};
    assert.equal(uptimeSeconds, 86_400);
    assert.deepEqual(facts, {
      nativeId: uuid,
      name: 'HV01',
      uuid,
      cpuModel: 'Intel(R) Xeon(R) Gold 6130 CPU @ 2.10GHz',
      threads: 32,
      memoryBytes: 137_438_953_472,
      hypervisor: 'Hyper-V',
      hypervisorVersion: '10.0.20348',
      architecture: 'x86_64',
    });
  });

  test('snapshots and planned VMs are no VMs, a replica is one without a UUID, one without settings is unread', async () => {
    host.addVm('original');
    host.addVm('copy', { replicationMode: 2 });
    host.change(({ objects }) => {
      const settings = objects['Msvm_VirtualSystemSettingData'] ?? [];
      const [first] = settings;
      // A snapshot names its VM, and has settings of its own.
      for (const kind of ['Snapshot:Realized', 'System:Planned'])
        settings.unshift({ ...first, BIOSGUID: '', VirtualSystemType: `Microsoft:Hyper-V:${kind}` });
      objects['Msvm_ComputerSystem']?.push({ Name: 'AAAAAAAA-0000-4000-8000-00000000000B', EnabledState: 3 });
    });
    const session = await open();
    const pages: SnapshotPage[] = [];
    for await (const page of session.snapshot(AbortSignal.timeout(DEADLINE_MS))) pages.push(page);
    assert.deepEqual(pages.flatMap((page) => page.vms.map((vm) => [vm.name, vm.uuid === null, vm.tags])).sort(), [
      ['copy', true, ['replica']],
      ['original', false, []],
    ]);
    assert.deepEqual(
      pages.flatMap((page) => page.unread),
      ['AAAAAAAA-0000-4000-8000-00000000000B'],
    );
    host.change(({ objects }) => {
      objects['Msvm_ComputerSystem'] =
        objects['Msvm_ComputerSystem']?.filter((row) => row['Name'] !== 'AAAAAAAA-0000-4000-8000-00000000000B') ?? [];
    });
  });

  const samplesOf = async (session: DriverSession): Promise<Map<string, VmSample>> =>
    new Map((await session.samples?.read())?.map((one) => [one.nativeId, one]));

  test('processor time, memory, cards and disks are told of what runs, by counters of their own', async () => {
    const id = host.addVm('busy');
    host.addCard(id, { kind: 'Synthetic', mac: '00155D010203', addresses: [] });
    host.addCard(id, { kind: 'Synthetic', mac: '00155D010204', addresses: [] });
    host.addDisk(id, { kind: 'scsi', slot: 0, path: 'C:\\VMs\\busy.vhdx', bytes: 1e9, usedBytes: 1e8 });
    host.setState('busy', RUNNING);
    host.run('busy', 30_000_000);
    host.setState('busy', PAUSED);
    host.addVm('idle');
    const session = await open();
    const samples = await samplesOf(session);
    assert.deepEqual([...samples.keys()], [id]);
    const { atMs, run, ...told } = samples.get(id) ?? {};
    assert.ok(atMs !== undefined && /^worker [0-9]+$/.test(run ?? ''));
    assert.deepEqual(told, {
      nativeId: id,
      cpuNanoseconds: 6_000_000_000n,
      memoryUsedBytes: 512n * 2n ** 20n,
      receivedBytes: 10_000n,
      sentBytes: 1_400n,
      diskReadBytes: 4_096n,
      diskWrittenBytes: 8_192n,
      diskReads: 1n,
      diskWrites: 2n,
    });
  });

  test('of VMs that share a name, and of one that is called like the second of them, no time is told', async () => {
    const [first, second] = [host.addVm('twin'), host.addVm('Twin')];
    const [numbered, other] = [host.addVm('twin#1'), host.addVm('other')];
    for (const name of ['twin', 'Twin', 'twin#1', 'other']) host.setState(name, RUNNING);
    const session = await open();
    const times = async (): Promise<(bigint | null | undefined)[]> => {
      const samples = await samplesOf(session);
      return [first, second, numbered, other].map((id) => samples.get(id)?.cpuNanoseconds);
    };
    assert.deepEqual(await times(), [null, null, null, 0n]);
    // One that is off has the name as well: it may have been switched on since.
    host.setState('Twin', OFF);
    host.remove('twin#1');
    assert.deepEqual(await times(), [null, undefined, undefined, 0n]);
    host.remove('Twin');
    host.run('twin', 5);
    assert.deepEqual(await times(), [1_000n, undefined, undefined, 0n]);
  });

  test('instances that are missing, too many or of nobody are not added up', async () => {
    const id = host.addVm('odd', { vcpus: 3 });
    host.addVm('renamed');
    host.setState('odd', RUNNING);
    host.setState('renamed', RUNNING);
    host.beginRun('renamed', { instance: 'its name when it was switched on' });
    const session = await open();
    assert.deepEqual(
      [...(await samplesOf(session)).values()].map((one) => one.cpuNanoseconds),
      [0n, null],
    );
    const processors = 'Win32_PerfRawData_HvStats_HyperVHypervisorVirtualProcessor';
    const first = { Name: 'odd:Hv VP 0', PercentTotalRunTime: 7 };
    for (const rows of [[], [first], [first, first, first], [first, first, { ...first, Name: 'odd:Hv VP 9' }]]) {
      host.change(({ objects }) => {
        objects[processors] = rows;
      });
      assert.equal((await samplesOf(session)).get(id)?.cpuNanoseconds, null, JSON.stringify(rows));
    }
    host.change(({ objects }) => {
      objects[processors] = [];
    });
  });

  test('a Windows without one of the classes tells the others', async () => {
    const id = host.addVm('old');
    host.addDisk(id, { kind: 'scsi', slot: 0, path: 'C:\\VMs\\old.vhdx', bytes: 1e9, usedBytes: 1e8 });
    host.setState('old', RUNNING);
    const classes = ['HvStats_HyperVHypervisorVirtualProcessor', 'HvStats_HyperVHypervisorLogicalProcessor'];
    host.change((state) => {
      state.missing = classes.map((name) => `Win32_PerfRawData_${name}`);
    });
    try {
      const session = await open();
      const sample = (await samplesOf(session)).get(id);
      assert.deepEqual([sample?.cpuNanoseconds, sample?.diskReads, sample?.memoryUsedBytes], [null, 1n, 2n ** 29n]);
      const [told] = (await session.hostSamples?.read()) ?? [];
      assert.deepEqual([told?.cpuNanoseconds, told?.memoryUsedBytes], [null, 2n ** 35n]);
    } finally {
      host.change((state) => {
        delete state.missing;
      });
    }
  });

  test('a disk that two VMs have, and a checkpoint’s, are told of nobody twice', async () => {
    const [one, two, three] = [host.addVm('one'), host.addVm('two'), host.addVm('three')];
    const disk = { kind: 'scsi', slot: 0, bytes: 1e9, usedBytes: 1e8 } as const;
    for (const id of [one, two]) host.addDisk(id, { ...disk, path: 'C:\\shared.vhdx' });
    host.addDisk(three, { ...disk, path: 'C:\\three.vhdx' });
    host.change(({ objects }) => {
      const own = objects['Msvm_StorageAllocationSettingData']?.find((row) =>
        String(row['InstanceID']).includes(three),
      );
      const checkpoint = String(own?.['InstanceID']).replace(three, 'AAAAAAAA-0000-4000-8000-00000000000C');
      objects['Msvm_StorageAllocationSettingData']?.push({ ...own, InstanceID: checkpoint });
    });
    for (const name of ['one', 'two', 'three']) host.setState(name, RUNNING);
    const samples = await samplesOf(await open());
    assert.deepEqual(
      [one, two, three].map((id) => samples.get(id)?.diskReads),
      [null, null, 1n],
    );
  });

  test('a host tells all that its processors did, and the memory that is not free; its total row is not added', async () => {
    const session = await open();
    const [before] = (await session.hostSamples?.read()) ?? [];
    const { hosts } = await snapshotOf(session);
    assert.equal(before?.nativeId, hosts[0]?.nativeId);
    assert.deepEqual([before?.cpuHoldsVms, before?.run, before?.memoryUsedBytes], [true, null, 2n ** 35n]);
    const rows = host.read().objects['Win32_PerfRawData_HvStats_HyperVHypervisorLogicalProcessor'] ?? [];
    const own = rows.filter((row) => row['Name'] !== '_Total').map((row) => BigInt(Number(row['PercentTotalRunTime'])));
    assert.equal(own.length, 32);
    assert.equal(before?.cpuNanoseconds, 100n * own.reduce((sum, one) => sum + one, 0n));
    assert.ok(Math.abs((before?.beganMs ?? 0) - (Date.now() - 86_400_000)) < 10_000);
    host.addVm('busy');
    host.setState('busy', RUNNING);
    host.run('busy', 10);
    const [later] = (await session.hostSamples?.read()) ?? [];
    assert.equal((later?.cpuNanoseconds ?? 0n) - (before?.cpuNanoseconds ?? 0n), 2_000n);
  });

  test('a VM that is restarted, or reset by its guest, counts each run once: nothing twice, and what was not seen is a gap', async () => {
    const id = host.addVm('busy', { vcpus: 1 });
    host.setState('busy', RUNNING);
    host.run('busy', 1_000);
    const session = await open();
    const inventory = Inventory.open(':memory:');
    try {
      const fresh = { name: 'hv', url: 'hyperv+ssh://x/', driver: 'hyperv', sealedSecret: null, pin: null };
      const paces = { allowPower: false, everyMs: 30_000, sampleEveryMs: 60_000 };
      let nowMs = Date.now() - 600_000;
      const sourceId = new SourceTable(inventory.database).add({ ...fresh, ...paces }, nowMs).id;
      const { vms } = await snapshotOf(session);
      inventory.apply({
        sourceId,
        observation: { kind: 'snapshot', vms, unread: [], isComplete: true },
        hosts: [],
        moment: { how: 'poll', atMs: nowMs, observedMs: nowMs, notBeforeMs: nowMs },
      });
      const table = new ConsumptionTable(inventory.database);
      const counted = async (): Promise<[nanoseconds: number, gaps: string]> => {
        nowMs += 60_000;
        const samples = [...(await samplesOf(session)).values()].map((one) => ({ ...one, atMs: nowMs }));
        table.take({ sourceId, nowMs, everyMs: 60_000 }, samples);
        const sum = inventory.database.get<{ ns: number | null }>('SELECT SUM(cpu_ns) AS ns FROM consumed')?.ns ?? 0;
        const gaps = inventory.database.all<{ kind: string }>('SELECT kind FROM gap ORDER BY from_ms');
        return [sum, gaps.map((gap) => gap.kind).join(' ')];
      };
      assert.deepEqual(await counted(), [0, ''], 'it ran before anybody looked');
      host.run('busy', 30);
      assert.deepEqual(await counted(), [3_000, '']);
      // More than the run before had: only the worker process tells that it is another one.
      host.beginRun('busy');
      host.run('busy', 2_000);
      assert.deepEqual(await counted(), [203_000, 'reset']);
      // The guest resets itself: the worker process stays, the counters begin anew.
      host.beginRun('busy', { keepsWorker: true });
      host.run('busy', 10);
      assert.deepEqual(await counted(), [204_000, 'reset reset']);
      // While somebody else has its name nothing is told, and afterwards it goes on from where it stood.
      const twin = host.addVm('Busy');
      host.run('busy', 5);
      assert.deepEqual(await counted(), [204_000, 'reset reset']);
      host.remove('Busy');
      host.run('busy', 5);
      assert.deepEqual(await counted(), [205_000, 'reset reset']);
      assert.notEqual(twin, id);
    } finally {
      inventory.close();
    }
  });

  test('power: states that do not fit, guests without services, and what is no GUID are refused with the reason', async () => {
    const id = host.addVm('vm');
    const session = await open({ allowPower: true });
    const act = async (verb: 'start' | 'stop' | 'shutdown' | 'resume' | 'snapshot', nativeId = id) =>
      session.power?.act(verb, nativeId);
    await assert.rejects(act('resume'), { kind: 'conflict', code: 'hyperv.bad_state' });
    await act('start');
    await assert.rejects(act('shutdown'), { kind: 'unsupported', code: 'hyperv.no_tools' });
    host.setGuest(id, []);
    await act('snapshot');
    assert.equal((await snapshotOf(session)).vms.length, 1, 'a snapshot is no VM');
    await act('shutdown');
    assert.equal(host.vms()[0]?.enabledState, OFF);
    const evil = `${id}'; Remove-VM * #`;
    for (const wrong of [evil, 'HV01', '', '00000000-0000-4000-8000-000000000000'])
      await assert.rejects(act('stop', wrong), { kind: 'not_found', code: 'vm.not_found' });
  });

  test('a user who may not see VMs, a host without the role and a refusal are said, and nobody is gone', async () => {
    host.addVm('there');
    const session = await open();
    host.change((state) => {
      state.isLimited = true;
    });
    await assert.rejects(snapshotOf(session), { kind: 'denied', code: 'hyperv.denied', hint: /Hyper-V Administrator/ });
    host.change((state) => {
      state.isLimited = false;
      state.hasNoHyperV = true;
    });
    await assert.rejects(snapshotOf(session), { kind: 'unsupported', code: 'hyperv.no_hyperv' });
    host.change((state) => {
      state.hasNoHyperV = false;
      state.fault = { on: 'look', kind: 'denied' };
    });
    await assert.rejects(snapshotOf(session), { kind: 'denied', code: 'hyperv.denied' });
  });

  test('hostile names come through as they are; what is no answer is refused', async () => {
    const name = 'a\u0000\u202e"}\r\nberth-0 {"result":{}}\n$(reboot)';
    host.addVm(name);
    const session = await open();
    assert.deepEqual(
      (await snapshotOf(session)).vms.map((vm) => vm.name),
      [name],
    );
    for (const text of ['', '[]', '{"result":{"systems":5}}', '{"result":[]}', 'null', '{"error":5}']) {
      host.change((state) => {
        state.fault = { on: 'look', kind: 'raw', text };
      });
      await assert.rejects(snapshotOf(session), { kind: 'invalid', code: 'hyperv.malformed' }, text);
    }
  });

  test('an answer without end is cut off with its size, and the session ends', async () => {
    const session = await open();
    host.change((state) => {
      state.fault = { on: 'look', kind: 'huge' };
    });
    await assert.rejects(snapshotOf(session), { kind: 'invalid', code: 'hyperv.too_much' });
    assert.equal((await session.ended)?.code, 'hyperv.too_much');
  });

  test('a host that does not answer is left when patience ends', async () => {
    host.change((state) => {
      state.fault = { on: 'name', kind: 'hang' };
    });
    const began = performance.now();
    const target = { name: 'hv', url: host.url(), allowPower: false };
    await assert.rejects(hypervDriver.open(target, AbortSignal.timeout(2_000)));
    assert.ok(performance.now() - began < 5_000);
    await eventually('ssh has ended', DEADLINE_MS, async () => (await sshOf(host)).length === 0);
  });

  test('an answer that does not come in its time ends the line with that', async () => {
    host.change((state) => {
      state.fault = { on: 'look', kind: 'hang' };
    });
    const child = await spawnStreams(sshArguments(host.url(), REMOTE_WORDS), SSH_ENVIRONMENT);
    const explain = (words: string): BerthError => new BerthError('unavailable', 'test.ended', words);
    const line = new RemoteLine({ child, where: 'hv', explain });
    assert.ok('computer' in (await line.ask(['name'], DEADLINE_MS)));
    await assert.rejects(line.ask(['look'], 300), { kind: 'timeout', code: 'hyperv.late' });
    assert.equal((await line.ended)?.code, 'hyperv.late');
    await assert.rejects(line.ask(['name'], 300), { code: 'hyperv.late' });
    await child.ended;
  });

  test('a key that is refused, a host key that is another and a host that is no Windows are told apart', async () => {
    const { strangerPath, changedHostsPath } = host.sshd;
    await assert.rejects(open({ url: host.url({ key: strangerPath }) }), { code: 'ssh.login' });
    await assert.rejects(open({ url: host.url({ hosts: changedHostsPath }) }), {
      kind: 'unauthenticated',
      code: 'ssh.host_key',
    });
    const plain = await startSshd();
    try {
      const url = new URL(
        `hyperv+ssh://root@127.0.0.1:${plain.port}/?keyfile=${plain.keyPath}&known_hosts=${plain.knownHostsPath}`,
      );
      await assert.rejects(open({ url }), { kind: 'unsupported', code: 'hyperv.no_powershell' });
    } finally {
      await plain.dispose();
    }
  });
});

describe('a Hyper-V host behind a bad line (a stand-in)', () => {
  let host: HypervStandIn;
  let fleet: Fleet;
  let folder: string;

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'berth-hyperv-faults-'));
    host = await startHypervStandIn();
    const biosGuid = '{78563412-AB90-EFCD-1234-567890ABCDEF}';
    // Clones have the same number, and cards of their own.
    for (const [name, mac] of [
      ['one', '00155D000001'],
      ['two', '00155D000002'],
    ] as const)
      host.addCard(host.addVm(name, { biosGuid }), { kind: 'Synthetic', mac, addresses: [] });
    for (let index = 0; index < 20; index += 1) host.addVm(`vm-${index}`);
    fleet = await Fleet.open({ folder, drivers: [hypervDriver], holder: 'test', log: () => {} });
    fleet.addSource({ name: 'hv', url: host.url().href, everyMs: 1_000 });
    await becomes('up');
  });

  after(async () => {
    await fleet.close();
    await host.kill();
    rmSync(folder, { recursive: true, force: true });
  });

  const becomes = (state: string): Promise<unknown> =>
    eventually(`the host is ${state}`, DEADLINE_MS, async () => fleet.sources()[0]?.state === state);
  const count = (): number => fleet.queries.counts().reduce((sum, one) => sum + one.vms, 0);

  test('clones with one number are two VMs', () => {
    assert.equal(count(), 22);
    const uuid = '12345678-90ab-cdef-1234-567890abcdef';
    const twins = fleet.queries.list({ limit: 50 }).items.filter((vm) => vm.facts.uuid === uuid);
    assert.deepEqual(twins.map((vm) => vm.name).sort(), ['one', 'two']);
  });

  test('an answer that breaks off, and ssh that dies in the middle of a look, take no VM away', async () => {
    host.change((state) => {
      state.fault = { on: 'look', kind: 'cut' };
    });
    await becomes('down');
    assert.equal(fleet.sources()[0]?.problem?.kind, 'unavailable');
    assert.equal(count(), 22);
    host.change((state) => {
      state.fault = { on: 'look', kind: 'hang' };
    });
    fleet.refresh('hv');
    await eventually('ssh is there again', DEADLINE_MS, async () => (await sshOf(host)).length > 0);
    for (const { pid } of await sshOf(host)) signalProcess(pid, 'SIGKILL');
    host.change((state) => {
      delete state.fault;
    });
    host.setState('one', RUNNING);
    fleet.refresh('hv');
    await becomes('up');
    assert.equal(count(), 22);
    const past = fleet.past.at(Date.now(), { limit: 100 }).items;
    assert.equal(past.length, 22, 'one interval each, none ended');
    await eventually('what changed meanwhile is found', DEADLINE_MS, async () =>
      fleet.queries.list({ limit: 50 }).items.some((vm) => vm.name === 'one' && vm.facts.powerState === 'running'),
    );
  });
});

async function sshOf(host: HypervStandIn) {
  const found = await findProcesses(host.sshd.knownHostsPath);
  return found.filter(({ argv }) => argv[0] === 'ssh');
}
