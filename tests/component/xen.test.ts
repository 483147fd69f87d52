/** The Xen driver against a real Xen 4.17 over real ssh. `xl` typed at dom0 is the outside view. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { Fleet, xenDriver } from '#fleet';
import { findProcesses, runChecked, signalProcess } from '#platform';
import { ConsumptionTable } from '../../src/fleet/consumption/consumption-table.ts';
import { type DriverWorld, driverConformance, snapshotOf } from '../../src/fleet/driver.conformance.ts';
import type { DriverSession, VmChange, VmSample } from '../../src/fleet/driver.ts';
import { Inventory } from '../../src/fleet/inventory/inventory.ts';
import { SourceTable } from '../../src/fleet/inventory/sources.ts';
import { eventually } from '../harness/vm-client.ts';
import { type RunningXen, startXen } from '../harness/xen.ts';

/** Under emulation a command of xl takes a quarter of a second, a guest two to be made. */
const EVENT_DEADLINE_MS = 15_000;
/** A guest boots within four seconds; within thirty when others use the machine. */
const DEADLINE_MS = 60_000;

function urlOf(
  xen: RunningXen,
  files: { readonly key?: string; readonly hosts?: string; readonly port?: number } = {},
): URL {
  const { key = xen.keyPath, hosts = xen.knownHostsPath, port = xen.port } = files;
  return new URL(`xl+ssh://root@127.0.0.1:${port}/?keyfile=${key}&known_hosts=${hosts}`);
}

/** Rows of `xl list -v` without dom0; for guests whose names have no blanks. */
async function look(xen: RunningXen) {
  const rows = (await xen.run('xl list -v')).trim().split('\n').slice(2);
  return rows.map((row) => {
    const [name = '', domid = '', , , flags = '', , uuid = ''] = row.split(/\s+/);
    const powerState = flags.includes('p') ? ('paused' as const) : ('running' as const);
    return { nativeId: uuid, name, domid, powerState, flags };
  });
}

async function worldOf(): Promise<DriverWorld> {
  const xen = await startXen();
  const paths = new Map<string, string>();
  return {
    driver: xenDriver,
    target: { name: 'conform', url: urlOf(xen), allowPower: false },
    deadUrl: urlOf(xen, { port: 1 }),
    forgetsStopped: true,
    look: async () => (await look(xen)).map(({ nativeId, name, powerState }) => ({ nativeId, name, powerState })),
    create: async (name) => {
      paths.set(name, await xen.define(name));
    },
    start: async (name) => {
      await xen.run(`xl create ${paths.get(name)}`);
    },
    stop: async (name) => {
      await xen.run(`xl destroy ${name}`);
    },
    remove: async (name) => {
      await xen.run(`rm ${paths.get(name)}`);
    },
    crash: () => xen.kill(),
    eventDeadlineMs: EVENT_DEADLINE_MS,
    measuresHosts: true,
  };
}

describe('Xen by xl over ssh', () => driverConformance(worldOf));

test('without ssh it is a shell of this host, which says that it is no Xen host', async () => {
  const opening = xenDriver.open(
    { name: 'x', url: new URL('xl:///'), allowPower: false },
    AbortSignal.timeout(DEADLINE_MS),
  );
  await assert.rejects(opening, (error: { code?: string }) => /^xen\.(no_xl|failed)$/.test(error.code ?? ''));
});

test('a host that boots while nobody looks gives a domain the number it had: it is another run, and both count', async () => {
  const uuid = '0badb007-1111-4222-8333-444455556666';
  const inventory = Inventory.open(':memory:');
  const table = new ConsumptionTable(inventory.database);
  const fresh = { name: 'lab', url: 'xl:///', driver: 'xen', sealedSecret: null, pin: null, allowPower: false };
  const paces = { everyMs: 30_000, sampleEveryMs: 60_000 };
  const sourceId = new SourceTable(inventory.database).add({ ...fresh, ...paces }, Date.now()).id;
  /** Boots the host, makes the domain and reads it once it has used more than so much. */
  const afterBoot = async (leastNs: bigint): Promise<VmSample> => {
    const xen = await startXen();
    try {
      await xen.run(`xl create ${await xen.define('again', { uuid })}`);
      const session = await xenDriver.open(
        { name: 'x', url: urlOf(xen), allowPower: false },
        AbortSignal.timeout(DEADLINE_MS),
      );
      const { vms, hosts } = await snapshotOf(session);
      const now = Date.now();
      const moment = { how: 'poll' as const, atMs: now, observedMs: now, notBeforeMs: now };
      inventory.apply({
        sourceId,
        observation: { kind: 'snapshot', vms, unread: [], isComplete: true },
        hosts,
        moment,
      });
      inventory.setSourceState(sourceId, 'up', { moment });
      const sample = await eventually('the domain has used its time', DEADLINE_MS, async () =>
        (await session.samples?.read())?.find((one) => (one.cpuNanoseconds ?? 0n) > leastNs),
      );
      await session.close();
      table.take({ sourceId, nowMs: sample.atMs, everyMs: 60_000 }, [sample]);
      return sample;
    } finally {
      await xen.kill();
    }
  };
  const first = await afterBoot(0n);
  // More than before: what fell would have been seen to begin anew.
  const second = await afterBoot(first.cpuNanoseconds ?? 0n);
  const numberOf = (sample: VmSample): string => sample.run?.split('.').at(-1) ?? '';
  assert.equal(numberOf(second), numberOf(first));
  assert.notEqual(second.run, first.run);
  const { ns } = inventory.database.get<{ ns: string }>('SELECT CAST(SUM(cpu_ns) AS TEXT) AS ns FROM consumed') ?? {};
  assert.equal(ns, String(second.cpuNanoseconds), 'all that it did since the boot');
  inventory.close();
});

describe('what only Xen has', () => {
  let xen: RunningXen;
  let folder: string;

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'berth-xen-test-'));
    xen = await startXen();
  });

  after(async () => {
    await xen.kill();
    rmSync(folder, { recursive: true, force: true });
  });

  const sessions: DriverSession[] = [];

  afterEach(async () => {
    for (const session of sessions.splice(0)) await session.close();
  });

  const open = async (url = urlOf(xen), allowPower = false): Promise<DriverSession> => {
    const session = await xenDriver.open({ name: 'x', url, allowPower }, AbortSignal.timeout(DEADLINE_MS));
    sessions.push(session);
    return session;
  };
  const destroyAll = (): Promise<string> =>
    xen.run('for d in $(xenstore-list /local/domain); do [ "$d" = 0 ] || xl destroy "$d"; done');
  const create = async (...words: Parameters<RunningXen['define']>): Promise<void> => {
    await xen.run(`xl create ${await xen.define(...words)}`);
  };
  /** A domain that was built and waits: it costs an emulated machine nothing. */
  const createPaused = async (...words: Parameters<RunningXen['define']>): Promise<void> => {
    await xen.run(`xl create -p ${await xen.define(...words)}`);
  };

  test('facts of a PV and of a PVH guest are what xl and their configurations say', async () => {
    const uuid = '0a0b0c0d-1111-4222-8333-444455556666';
    await create('web', { uuid, disk: 0, mac: '00:16:3e:0a:0b:0c' });
    await createPaused('modern', { type: 'pvh', vcpus: 2 });
    const [, web, modern] = (await xen.run('xl domid web && xl domid modern')).match(/^([0-9]+)\n([0-9]+)$/m) ?? [];
    await xen.run(`xenstore-write /local/domain/${web}/attr/vif/0/ipv4/0 10.7.0.5`);
    await eventually('blkback has told the size', DEADLINE_MS, async () =>
      (await xen.run(`xenstore-ls /local/domain/0/backend/vbd/${web}`)).includes('sectors'),
    );
    const session = await open();
    const { hosts, vms } = await snapshotOf(session);
    await xen.run('xl destroy modern');
    const vm = vms.find((one) => one.name === 'web');
    assert.deepEqual([vm?.nativeId, vm?.uuid, vm?.vcpus, vm?.memoryBytes], [uuid, uuid, 1, 96 * 2 ** 20]);
    assert.deepEqual(vm?.disks, [
      {
        name: 'xvda',
        format: 'raw',
        capacityBytes: 16 * 2 ** 20,
        allocatedBytes: null,
        datastore: null,
        path: '/dev/ram0',
      },
    ]);
    assert.deepEqual(vm?.nics, [
      { mac: '00:16:3e:0a:0b:0c', network: 'xenbr0', model: 'vif', addresses: ['10.7.0.5'] },
    ]);
    assert.equal(vm?.virtualization.mode, 'xen-pv');
    const other = vms.find((one) => one.name === 'modern');
    assert.deepEqual([other?.virtualization.mode, other?.vcpus, other?.powerState], ['xen-pvh', 2, 'paused']);
    assert.ok(Number(modern) > Number(web));
    const [host] = hosts;
    const info = await xen.run('xl info');
    assert.match(info, new RegExp(`^host +: ${host?.name}$`, 'm'));
    assert.match(info, new RegExp(`^nr_cpus +: ${host?.threads}$`, 'm'));
    assert.match(info, new RegExp(`^total_memory +: ${(host?.memoryBytes ?? 0) / 2 ** 20}$`, 'm'));
    assert.match(info, new RegExp(`^xen_version +: ${host?.hypervisorVersion}$`, 'm'));
  });

  test('counters are those that xentop shows, and they grow', async () => {
    const session = await open();
    const read = async () => {
      const samples = (await session.samples?.read()) ?? [];
      return samples.find((one) => one.nativeId.startsWith('0a0b0c0d'));
    };
    const first = await read();
    const row = (await xen.run('xentop -b -f -i 1')).split('\n').find((line) => / web /.test(line)) ?? '';
    const last = await read();
    const [, , cpu, , memory, , , , , , , , , , reads, , readSectors] = row.trim().split(/\s+/).map(Number);
    assert.ok(first !== undefined && last !== undefined);
    const seconds = (one: typeof first): number => Math.floor(Number(one.cpuNanoseconds) / 1e9);
    assert.ok(seconds(first) <= Number(cpu) && Number(cpu) <= seconds(last), `${row} ${first.cpuNanoseconds}`);
    assert.equal(Number(first.memoryUsedBytes) / 1024, memory);
    assert.ok(
      Number(first.diskReads) > 0 &&
        Number(first.diskReads) <= Number(reads) &&
        Number(reads) <= Number(last.diskReads),
    );
    assert.ok(Number(first.diskReadBytes) / 512 <= Number(readSectors));
    assert.ok(Number(last.sentBytes) > 0, 'the guest has spoken IPv6 at least');
  });

  test("what the host used is dom0's time, which grows, and the memory that xl does not call free", async () => {
    const session = await open();
    const dom0Seconds = async (): Promise<number> =>
      Number(/^Domain-0 .* ([0-9]+\.[0-9]) +0{8}-/m.exec(await xen.run('xl list -v'))?.[1]);
    const before_ = await dom0Seconds();
    const [sample] = (await session.hostSamples?.read()) ?? [];
    const after_ = await dom0Seconds();
    assert.ok(sample !== undefined && !sample.cpuHoldsVms);
    const seconds = Number(sample.cpuNanoseconds) / 1e9;
    assert.ok(before_ <= seconds && seconds <= after_ && seconds > 1, `${before_} ≤ ${seconds} ≤ ${after_}`);
    const free = Number(/^free_memory +: ([0-9]+)$/m.exec(await xen.run('xl info'))?.[1]);
    const { hosts } = await snapshotOf(session);
    assert.equal(Number(sample.memoryUsedBytes), (hosts[0]?.memoryBytes ?? 0) - free * 2 ** 20);
    assert.equal(sample.nativeId, hosts[0]?.nativeId);
    assert.equal(sample.run, (await xen.run('cat /proc/sys/kernel/random/boot_id')).trim());
    const vms = (await session.samples?.read()) ?? [];
    assert.ok(vms.length > 0 && vms.every((one) => one.run?.startsWith(`${sample.run}.`)));
    const upSeconds = Number((await xen.run('cat /proc/uptime')).split(' ')[0]);
    assert.ok(Math.abs((sample.beganMs ?? 0) - (Date.now() - upSeconds * 1_000)) < 30_000);
  });

  test('a pause has no event: it is told as missed, within seconds', async () => {
    const session = await open();
    const changes: VmChange[] = [];
    const stop = await session.events?.watch((change) => changes.push(change));
    await xen.run('xl pause web');
    await eventually('missed', EVENT_DEADLINE_MS, async () => changes.some((one) => one.kind === 'missed'));
    const { vms } = await snapshotOf(session);
    await xen.run('xl unpause web');
    assert.equal(vms.find((one) => one.name === 'web')?.powerState, 'paused');
    await stop?.();
  });

  test('a guest that is asked to shut down or reboot does so, under the same UUID', async () => {
    const session = await open(urlOf(xen), true);
    const id = '0a0b0c0d-1111-4222-8333-444455556666';
    const domid = async (): Promise<string | undefined> =>
      (await look(xen)).find((one) => one.nativeId === id && one.flags[3] !== 's')?.domid;
    const before = await domid();
    await session.power?.act('reboot', id);
    await eventually('web runs under another number', DEADLINE_MS, async () => {
      const now = await domid();
      return now !== undefined && now !== before;
    });
    await eventually('it is seen again', DEADLINE_MS, async () =>
      (await snapshotOf(session)).vms.some((one) => one.nativeId === id && one.powerState === 'running'),
    );
    // Its userland has loaded the driver, and has a program that powers off.
    await eventually('web is up', DEADLINE_MS, async () =>
      (await xen.run(`xenstore-read /local/domain/0/backend/vif/${await domid()}/0/state`)).startsWith('4'),
    );
    await session.power?.act('shutdown', id);
    await eventually('web is gone', DEADLINE_MS, async () => (await domid()) === undefined);
    await assert.rejects(session.power?.act('start', id) ?? Promise.resolve(), { kind: 'unsupported' });
  });

  test('hostile names are names: quotes, line breaks that look like rows, other alphabets', async () => {
    const row =
      'x    9    96     1     -b----       3.4 00000000-0000-0000-0000-000000000009        -                -';
    const names = [`a"b'c\\ $(reboot) \`id\``, `n\n${row}\nö 日本`];
    await destroyAll();
    for (const name of names) await createPaused(name);
    const session = await open(urlOf(xen), true);
    const { vms } = await snapshotOf(session);
    assert.deepEqual(vms.map((vm) => vm.name).sort(), [...names].sort());
    for (const vm of vms) await session.power?.act('stop', vm.nativeId);
    assert.deepEqual((await snapshotOf(session)).vms, []);
  });

  test('a domain that ends between the list and its state is not there, and the look is whole', async () => {
    await destroyAll();
    await createPaused('victim');
    await createPaused('other');
    // The real xl, with somebody who destroys a domain as soon as it has been listed.
    const program = '/usr/lib/xen-4.17/bin/xl';
    const meddler = `#!/bin/sh
${program}.real "$@"; status=$?
[ "$*" = "list -l" ] && ${program}.real destroy victim
exit $status
`;
    const text = Buffer.from(meddler).toString('base64');
    await xen.run(`mv ${program} ${program}.real; echo ${text} | base64 -d >${program}; chmod 755 ${program}`);
    const session = await open();
    const names = (await snapshotOf(session)).vms.map((vm) => vm.name);
    await xen.run(`mv ${program}.real ${program}`);
    assert.deepEqual(names, ['other']);
    assert.deepEqual(
      (await look(xen)).map((one) => one.name),
      ['other'],
    );
  });

  test('re-created with the same name between two looks: another VM, and the history of the first has ended', async () => {
    const log: string[] = [];
    const fleet = await Fleet.open({ folder, drivers: [xenDriver], holder: 'test', log: (line) => log.push(line) });
    fleet.addSource({ name: 'lab', url: urlOf(xen).href });
    const other = await eventually('other is known', DEADLINE_MS, async () =>
      fleet.queries.list({ limit: 10 }).items.find((vm) => vm.name === 'other'),
    );
    await fleet.close();
    await xen.run('xl destroy other');
    await createPaused('other');
    const [now] = await look(xen);
    const again = await Fleet.open({ folder, drivers: [xenDriver], holder: 'test', log: (line) => log.push(line) });
    await eventually('the other one is known', DEADLINE_MS, async () =>
      again.queries.list({ limit: 10 }).items.some((vm) => vm.facts.nativeId === now?.nativeId),
    );
    const vms = again.queries.list({ limit: 10 }).items;
    assert.deepEqual(
      vms.map((vm) => vm.facts.nativeId),
      [now?.nativeId],
    );
    assert.notEqual(vms[0]?.id, other.id);
    const history = again.past.ofVm(Number(other.id.slice(1)), { limit: 10 }).items;
    assert.ok(history.length > 0 && history.every((interval) => interval.closed !== null), JSON.stringify(history));
    await again.close();
  });

  test('a login that is refused, a host key that is another, a host without xl: each says what it is', async () => {
    const stranger = join(folder, 'stranger');
    await runChecked(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', stranger]);
    await assert.rejects(open(urlOf(xen, { key: stranger })), { kind: 'unauthenticated', code: 'ssh.login' });
    const changed = join(folder, 'changed');
    const { stdout } = await runChecked(['ssh-keygen', '-y', '-f', stranger]);
    writeFileSync(changed, `[127.0.0.1]:${xen.port} ${stdout}`);
    await assert.rejects(open(urlOf(xen, { hosts: changed })), { kind: 'unauthenticated', code: 'ssh.host_key' });
    const empty = join(folder, 'empty');
    writeFileSync(empty, '');
    await assert.rejects(open(urlOf(xen, { hosts: empty })), { kind: 'unauthenticated', code: 'ssh.host_key' });
    await xen.run('mv /usr/sbin/xl /usr/sbin/xl.away');
    await assert.rejects(open(), { kind: 'unsupported', code: 'xen.no_xl' });
    await xen.run('mv /usr/sbin/xl.away /usr/sbin/xl');
    await xen.run('mv /usr/lib/xen-4.17/bin/xl /usr/lib/xen-4.17/bin/xl.away');
    await assert.rejects(open(), { kind: 'unavailable', code: 'xen.failed' });
    await xen.run('mv /usr/lib/xen-4.17/bin/xl.away /usr/lib/xen-4.17/bin/xl');
  });

  test('ssh killed in the middle of a look: the look fails, the session ends with the reason, nobody hangs', async () => {
    const session = await open();
    const ssh = await findProcesses(xen.knownHostsPath);
    const failed = assert.rejects(snapshotOf(session), { kind: 'unavailable', code: 'ssh.ended' });
    for (const one of ssh) signalProcess(one.pid, 'SIGKILL');
    await failed;
    assert.equal((await session.ended)?.code, 'ssh.ended');
  });

  test('a watch that dies ends the session: it would be deaf', async () => {
    const session = await open();
    await session.events?.watch(() => {});
    await xen.run('killall xenstore-watch');
    assert.equal((await session.ended)?.kind, 'unavailable');
  });

  test('nothing stays behind: no ssh here, no shell and no watch there', async () => {
    const session = await open();
    await session.events?.watch(() => {});
    await session.close();
    await eventually('no ssh is left', DEADLINE_MS, async () => (await findProcesses(xen.knownHostsPath)).length === 0);
    await eventually('no watch is left', DEADLINE_MS, async () => !/xenstore-watch/.test(await xen.run('ps')));
  });
});
