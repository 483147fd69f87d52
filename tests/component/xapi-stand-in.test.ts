/**
 * The XAPI driver against a stand-in for a pool, written from XAPI's published data model. Against a real XCP-ng or XenServer
 * nothing of this has run.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { Fleet, type SourceTarget, xapiDriver } from '#fleet';
import { type DriverWorld, driverConformance, periodsSince, snapshotOf } from '../../src/fleet/driver.conformance.ts';
import type { DriverSession, VmChange } from '../../src/fleet/driver.ts';
import { XapiClient } from '../../src/fleet/drivers/xapi/xapi-client.ts';
import { eventually } from '../harness/vm-client.ts';
import { startXapiStandIn, type XapiStandIn } from '../harness/xapi-stand-in.ts';
import { XAPI_CREDENTIALS } from '../harness/xapi-stand-in-database.ts';
import { STAND_IN_HOST_RATES, STAND_IN_RATES } from '../harness/xapi-stand-in-metrics.ts';

const DEADLINE_MS = 10_000;
const POWER = { Running: 'running', Halted: 'off', Suspended: 'suspended', Paused: 'paused' } as const;

function targetOf(pool: XapiStandIn, changes: Partial<SourceTarget> = {}): SourceTarget {
  return {
    name: 'pool',
    url: pool.url,
    pin: pool.master.pin,
    credentials: XAPI_CREDENTIALS,
    allowPower: false,
    ...changes,
  };
}

async function world(): Promise<DriverWorld> {
  const pool = await startXapiStandIn(2);
  const { database } = pool;
  return {
    driver: xapiDriver,
    target: targetOf(pool),
    deadUrl: new URL('xapi://127.0.0.1:1/'),
    offIsNowhere: true,
    look: async () =>
      database.vms().map(([, record]) => ({
        nativeId: String(record['uuid']),
        name: String(record['name_label']),
        powerState: POWER[record['power_state'] as keyof typeof POWER],
      })),
    create: async (name) => void database.addVm(name),
    start: async (name) => database.setRunning(database.vmNamed(name), pool.members[1]?.hostRef ?? ''),
    stop: async (name) => database.setHalted(database.vmNamed(name)),
    remove: async (name) => database.remove(database.vmNamed(name)),
    crash: () => pool.kill(),
    eventDeadlineMs: 2_000,
    measuresHosts: true,
  };
}

describe('XAPI (a stand-in for a pool)', () => driverConformance(world));

describe('what only XAPI has (a stand-in for a pool)', () => {
  let pool: XapiStandIn;
  const sessions: DriverSession[] = [];

  before(async () => {
    pool = await startXapiStandIn(2);
  });

  after(() => pool.kill());

  afterEach(async () => {
    pool.onCall = () => undefined;
    pool.masterIndex = 0;
    for (const session of sessions.splice(0)) await session.close();
  });

  const open = async (changes: Partial<SourceTarget> = {}): Promise<DriverSession> => {
    const session = await xapiDriver.open(targetOf(pool, changes), AbortSignal.timeout(DEADLINE_MS));
    sessions.push(session);
    return session;
  };
  const host = (index: number): string => pool.members[index]?.hostRef ?? '';
  const hostUuid = (index: number): string => String(pool.database.record(host(index))['uuid']);

  test('facts of a VM are what its records say: devices, addresses, tools, owner, how it is virtualized', async () => {
    const { database } = pool;
    const vm = database.addVm('shop', {
      uuid: '0A0B0C0D-1111-4222-8333-444455556666'.toLowerCase(),
      memoryBytes: 3 * 2 ** 30,
      vcpus: 4,
      tags: ['tier=gold'],
      otherConfig: { owner: 'ann', 'XenCenter.CustomFields.project': 'web', auto_poweron: 'true' },
      uefi: true,
    });
    database.addDisk(vm, { place: 0, sizeBytes: 10 * 2 ** 30, usedBytes: 4 * 2 ** 30 });
    database.addCdDrive(vm, 3);
    database.addCard(vm, { place: 0, mac: '0E:88:AA:00:00:01', network: 'Pool-wide network' });
    database.addCard(vm, { place: 1, mac: '0e:88:aa:00:00:02', network: 'Storage' });
    database.setRunning(vm, host(1));
    const session = await open();
    const seen = async () => (await snapshotOf(session)).vms.find((one) => one.name === 'shop');
    assert.equal((await seen())?.virtualization.mode, 'xen-hvm', 'no drivers told of yet');
    database.setGuest(vm, {
      os: 'Debian GNU/Linux 12',
      networks: {
        '0/ip': '10.1.2.3',
        '0/ipv4/0': '10.1.2.3',
        '0/ipv6/0': 'fe80::1',
        '1/ip': '$(reboot)',
        '9/ip': '10.9.9.9',
      },
    });
    assert.deepEqual(await seen(), {
      nativeId: '0a0b0c0d-1111-4222-8333-444455556666',
      uuid: '0a0b0c0d-1111-4222-8333-444455556666',
      name: 'shop',
      powerState: 'running',
      hostId: hostUuid(1),
      vcpus: 4,
      memoryBytes: 3 * 2 ** 30,
      disks: [
        {
          name: 'disk 0',
          format: 'vhd',
          capacityBytes: 10 * 2 ** 30,
          allocatedBytes: 4 * 2 ** 30,
          datastore: 'Local storage',
          path: String(database.allOf('VDI')[0]?.[1]['uuid']),
        },
      ],
      nics: [
        {
          mac: '0e:88:aa:00:00:01',
          network: 'Pool-wide network',
          model: null,
          addresses: ['10.1.2.3', 'fe80::1'],
        },
        { mac: '0e:88:aa:00:00:02', network: 'Storage', model: null, addresses: [] },
      ],
      guestOs: 'Debian GNU/Linux 12',
      firmware: 'uefi',
      tools: 'PV drivers 8.4.0',
      tags: ['owner=ann', 'project=web', 'tier=gold'],
      createdAtMs: Date.parse('2026-02-03T04:05:06Z'),
      virtualization: {
        mode: 'xen-pvhvm',
        accelerator: 'xen',
        paravirtual: ['disk:xen', 'network:xen'],
        emulated: ['disk:emulated', 'network:rtl8139'],
      },
    });
    database.remove(vm);
  });

  test('templates, snapshots and control domains are no VMs, and hosts say what they are', async () => {
    const session = await open();
    const { vms, hosts } = await snapshotOf(session);
    assert.deepEqual(vms, []);
    const facts = hosts.map((one) => [one.name, one.threads, one.memoryBytes, one.hypervisor, one.hypervisorVersion]);
    const same = [16, 64 * 2 ** 30, 'Xen', '4.17.5-13'];
    assert.deepEqual(facts.sort(), [
      ['xcp-1', ...same],
      ['xcp-2', ...same],
    ]);
    assert.ok(hosts.every((one) => Math.abs((one.uptimeSeconds ?? 0) - 86_400) < 60));
    const { product, version, endpoint } = await session.fingerprint();
    assert.deepEqual([product, version, endpoint], ['XCP-ng', '8.3', 'lab-pool']);
  });

  test('a member that is not the master sends us there only when the certificate there is the one that is trusted', async () => {
    const member = pool.members[1];
    const url = new URL(`xapi://${member?.address}:${pool.port}/`);
    const tried = pool.loginCount;
    await assert.rejects(open({ url, pin: member?.pin }), {
      code: 'tls.untrusted',
      kind: 'unauthenticated',
      message: new RegExp(
        `127\\.0\\.0\\.2:${pool.port} is not its pool's master, and the master 127\\.0\\.0\\.1.*${pool.master.pin}`,
      ),
      hint: /xapi:\/\/127\.0\.0\.1/,
    });
    assert.equal(pool.loginCount, tried + 1, 'the password was not sent to the other');
    await assert.rejects(open({ url, pin: undefined }), { code: 'tls.untrusted' });
    assert.equal(pool.loginCount, tried + 1);
  });

  test('a certificate that the whole pool shares is followed to the master, which the fingerprint says', async () => {
    const shared = await startXapiStandIn(2, { certificate: 'shared' });
    try {
      const url = new URL(`xapi://127.0.0.2:${shared.port}/`);
      const session = await xapiDriver.open(targetOf(shared, { url }), AbortSignal.timeout(DEADLINE_MS));
      const { limits } = await session.fingerprint();
      assert.ok(limits.some((one) => /127\.0\.0\.2:\d+ is a member of the pool; its master is 127\.0\.0\.1/.test(one)));
      assert.equal((await snapshotOf(session)).hosts.length, 2);
      // The master changes: what was said to the old one is refused, and the session says why.
      shared.masterIndex = 1;
      await assert.rejects(snapshotOf(session), { kind: 'unavailable', code: 'xapi.not_master' });
      assert.equal((await session.ended)?.code, 'xapi.not_master');
    } finally {
      await shared.kill();
    }
  });

  test('a master that is no address is not followed', async () => {
    const real = pool.master.address;
    const evil = { ...pool.master, address: 'evil.example/@127.0.0.1' };
    Object.assign(pool.members[0] ?? {}, { address: evil.address });
    try {
      const url = new URL(`xapi://127.0.0.2:${pool.port}/`);
      await assert.rejects(open({ url, pin: pool.members[1]?.pin }), { kind: 'invalid', code: 'xapi.master' });
    } finally {
      Object.assign(pool.members[0] ?? {}, { address: real });
    }
  });

  test('a wrong password, none, and a certificate that nobody signed are told apart', async () => {
    await assert.rejects(open({ credentials: { user: 'root', password: 'wrong-one' } }), (error: Error) => {
      assert.equal((error as { code?: string }).code, 'xapi.login');
      assert.equal((error as { kind?: string }).kind, 'unauthenticated');
      assert.ok(!JSON.stringify([error, error.message]).includes('wrong-one'));
      return true;
    });
    await assert.rejects(open({ credentials: undefined }), { code: 'xapi.no_credentials' });
    await assert.rejects(open({ pin: undefined }), {
      code: 'tls.untrusted',
      hint: new RegExp(`sha256:${pool.master.pin}`),
    });
    await assert.rejects(open({ pin: '0'.repeat(64) }), { code: 'tls.untrusted' });
  });

  test('a session that ends in the middle ends ours with the reason, listening or looking, and a new one works', async () => {
    const session = await open();
    await session.events?.watch(() => {});
    pool.expireSessions();
    assert.equal((await session.ended)?.code, 'xapi.expired');
    const looking = await open();
    pool.onCall = (method) => {
      if (method === 'VBD.get_all_records') pool.expireSessions();
      return undefined;
    };
    await assert.rejects(snapshotOf(looking), { kind: 'unavailable', code: 'xapi.expired' });
    pool.onCall = () => undefined;
    assert.equal((await snapshotOf(await open())).hosts.length, 2);
  });

  test('moves between members, new names, disks and a VM made a template are heard with all facts', async () => {
    const { database } = pool;
    const vm = database.addVm('mover');
    database.setRunning(vm, host(0));
    const session = await open();
    const changes: VmChange[] = [];
    await session.events?.watch((change) => changes.push(change));
    const last = () => changes.findLast((one) => one.kind === 'seen' && one.vm.name === 'mover-2');
    database.change(vm, { resident_on: host(1), name_label: 'mover-2' });
    database.addDisk(vm, { place: 0, sizeBytes: 2 ** 30, usedBytes: 0 });
    await eventually('the move is heard', DEADLINE_MS, async () => {
      const change = last();
      return change?.kind === 'seen' && change.vm.hostId === hostUuid(1) && change.vm.disks.length === 1;
    });
    const disk = () => {
      const change = last();
      return change?.kind === 'seen' ? change.vm.disks[0] : undefined;
    };
    const [vdi = ''] = database.allOf('VDI').at(-1) ?? [];
    database.change(vdi, { virtual_size: String(2 ** 31) });
    await eventually('a larger disk is its VM’s', DEADLINE_MS, async () => disk()?.capacityBytes === 2 ** 31);
    database.change(String(database.record(vdi)['SR']), { name_label: 'renamed' });
    await eventually('so is the name of its store', DEADLINE_MS, async () => disk()?.datastore === 'renamed');
    database.setGuest(vm, { os: 'Debian 12', networks: {} });
    await eventually('and its guest', DEADLINE_MS, async () => {
      const change = last();
      return change?.kind === 'seen' && change.vm.guestOs === 'Debian 12';
    });
    database.change(String(database.record(vdi)['SR']), { name_label: 'Local storage' });
    await eventually('all is heard', DEADLINE_MS, async () => disk()?.datastore === 'Local storage');
    const heard = changes.length;
    database.change(vm, { allowed_operations: ['pause'] });
    database.change(vm, { is_a_template: true });
    await eventually('a template is no VM', DEADLINE_MS, async () => changes.some((one) => one.kind === 'gone'));
    assert.equal(changes.length, heard + 1, 'what changes nothing that is looked at is not told');
    database.remove(vm);
  });

  test('a token that is lost is told as missed, and what comes after it is heard', async () => {
    const session = await open();
    const changes: VmChange[] = [];
    await session.events?.watch((change) => changes.push(change));
    pool.database.loseEvents();
    await eventually('missed', DEADLINE_MS, async () => changes.some((one) => one.kind === 'missed'));
    const vm = pool.database.addVm('after');
    await eventually('heard', DEADLINE_MS, async () =>
      changes.some((one) => one.kind === 'seen' && one.vm.name === 'after'),
    );
    pool.database.remove(vm);
  });

  test('a VM that moves and gets a disk while it is looked at is told as one of its states, whole', async () => {
    const { database } = pool;
    const vm = database.addVm('restless');
    database.addDisk(vm, { place: 0, sizeBytes: 2 ** 30, usedBytes: 0 });
    database.setRunning(vm, host(0));
    const session = await open();
    let isMoved = false;
    pool.onCall = (method) => {
      if (method === 'VBD.get_all_records' && !isMoved) {
        isMoved = true;
        // The old disk is taken away after the VM's record was read: what it refers to is not there any more.
        for (const ref of database.record(vm)['VBDs'] as string[]) database.remove(ref);
        database.change(vm, { VBDs: [], resident_on: host(1) });
        database.addDisk(vm, { place: 1, sizeBytes: 2 ** 31, usedBytes: 0 });
      }
      return undefined;
    };
    const { vms } = await snapshotOf(session);
    const seen = vms.find((one) => one.name === 'restless');
    assert.deepEqual([seen?.hostId, seen?.disks.map((disk) => disk.name)], [hostUuid(1), ['disk 1']]);
    database.remove(vm);
  });

  test('hostile names come through as they are, a record that is none and a UUID twice keep their last facts', async () => {
    const { database } = pool;
    const name = '"}],"id":1}\n\u0000<b>$(reboot)\u202e';
    const hostile = database.addVm(name.repeat(100));
    const broken = database.addVm('broken');
    database.change(broken, { power_state: 7 });
    const uuid = '11111111-2222-4333-8444-555555555555';
    const twins = [database.addVm('one', { uuid }), database.addVm('two', { uuid })];
    const session = await open();
    const unread: string[] = [];
    const names: string[] = [];
    for await (const page of session.snapshot(AbortSignal.timeout(DEADLINE_MS))) {
      unread.push(...page.unread);
      names.push(...page.vms.map((vm) => vm.name));
    }
    assert.deepEqual(names, [name.repeat(100).slice(0, 1_024)]);
    assert.deepEqual(unread.sort(), [uuid, String(database.record(broken)['uuid'])].sort());
    database.change(broken, { uuid: 8 });
    await assert.rejects(snapshotOf(session), { code: 'xapi.malformed' });
    for (const ref of [hostile, broken, ...twins]) database.remove(ref);
  });

  test('answers that are too large, no JSON, of another shape or of another server end the look with the reason', async () => {
    const session = await open();
    const faults = {
      'xapi.too_large': { kind: 'raw', body: Buffer.alloc(65 * 2 ** 20, ' ') },
      'xapi.malformed': { kind: 'raw', body: '<html>a login page</html>' },
    } as const;
    for (const [code, fault] of Object.entries(faults)) {
      pool.onCall = (method) => (method === 'VM.get_all_records' ? fault : undefined);
      await assert.rejects(snapshotOf(session), { code });
    }
    for (const body of ['{"jsonrpc":"2.0","id":1,"result":{}}', '{"jsonrpc":"2.0","id":"x"}', '[]', 'null']) {
      pool.onCall = (method) => (method === 'VM.get_all_records' ? { kind: 'raw', body } : undefined);
      await assert.rejects(snapshotOf(session), { code: 'xapi.malformed' }, body);
    }
    pool.onCall = (method) => (method === 'VM.get_all_records' ? { kind: 'raw', body: '', status: 503 } : undefined);
    await assert.rejects(snapshotOf(session), { kind: 'unavailable', code: 'xapi.status' });
  });

  test('a server that does not answer is left when patience ends, and closing does not wait for it', async () => {
    pool.onCall = (method) => (method === 'session.login_with_password' ? { kind: 'hang' } : undefined);
    const began = performance.now();
    const late = AbortSignal.timeout(300);
    await assert.rejects(xapiDriver.open(targetOf(pool), late));
    pool.onCall = () => undefined;
    const session = await open();
    pool.onCall = () => ({ kind: 'hang' });
    await session.close();
    assert.ok(performance.now() - began < 5_000, `${performance.now() - began} ms`);
  });

  test('a call that is not answered in its time ends with that, even when bytes drip in', async () => {
    const client = new XapiClient({ host: pool.master.address, port: pool.port, pin: pool.master.pin });
    pool.onCall = (method) => (method === 'session.logout' ? { kind: 'hang' } : { kind: 'drip' });
    for (const method of ['session.logout', 'session.login_with_password']) {
      const began = performance.now();
      const params = [XAPI_CREDENTIALS.user, XAPI_CREDENTIALS.password];
      await assert.rejects(client.call(method, params, 300), { kind: 'timeout', code: 'xapi.late' });
      assert.ok(performance.now() - began < 2_000);
    }
    client.close();
  });

  test('what failed is said: a VM that runs cannot be started, one without tools is not known, hosts are no VMs', async () => {
    const { database } = pool;
    const vm = database.addVm('runs');
    database.setRunning(vm, host(0));
    const session = await open({ allowPower: true });
    const act = async (verb: 'start' | 'stop' | 'resume' | 'snapshot', id: unknown) =>
      session.power?.act(verb, String(id));
    await assert.rejects(act('start', database.record(vm)['uuid']), { kind: 'conflict', code: 'xapi.bad_state' });
    const [, control] = database.allOf('VM').find(([, record]) => record['is_control_domain'] === true) ?? [];
    await assert.rejects(act('stop', control?.['uuid']), { kind: 'not_found', code: 'vm.not_found' });
    database.change(vm, { power_state: 'Suspended' });
    await act('resume', database.record(vm)['uuid']);
    assert.equal(database.record(vm)['power_state'], 'Running');
    await act('snapshot', database.record(vm)['uuid']);
    assert.equal((await snapshotOf(session)).vms.length, 1, 'a snapshot is no VM');
    assert.deepEqual(database.allOf('task'), [], 'tasks are cleared away');
    database.remove(vm);
  });

  test('what VMs consumed is read from the host they run on, whatever way it writes numbers and whatever its clock', async () => {
    const { database } = pool;
    const near = database.addVm('near');
    const far = database.addVm('far');
    const idle = database.addVm('idle');
    database.setRunning(near, host(0));
    database.setRunning(far, host(1));
    const shared = await open();
    const uuid = (ref: string): string => String(database.record(ref)['uuid']);
    for (const [numbers, aheadMs] of [
      ['quoted', 0],
      ['bare', 3_600_000],
    ] as const) {
      Object.assign(pool, { numbers, clockAheadMs: aheadMs });
      const sinceMs = Date.now() - 10 * 60_000;
      const read = shared.periods === undefined ? undefined : await periodsSince(shared.periods, sinceMs);
      assert.deepEqual([...(read?.running ?? [])].sort(), [uuid(near), uuid(far)].sort());
      const own = (read?.periods ?? []).filter((one) => one.nativeId === uuid(near));
      assert.ok(own.length >= 9 && own.length <= 11, `${own.length} minutes`);
      for (const [at, one] of own.entries()) {
        assert.equal(one.endMs - one.startMs, 60_000);
        assert.ok(at === 0 || one.startMs === own[at - 1]?.endMs);
        assert.ok(one.endMs <= Date.now() + 5_000 && one.endMs > sinceMs - 65_000);
        assert.deepEqual(
          { ...one, startMs: 0, endMs: 0 },
          {
            nativeId: uuid(near),
            startMs: 0,
            endMs: 0,
            cpuNanoseconds: 45_000_000_000n,
            memoryUsedBytes: BigInt(STAND_IN_RATES.memory - STAND_IN_RATES.memory_internal_free * 1024),
            diskReadBytes: 60_030n,
            diskWrittenBytes: 120_000n,
            receivedBytes: 18_000n,
            sentBytes: 24_000n,
          },
        );
      }
      // An eighth of the host's 16 threads is two; and 40 GiB are not free.
      const ofHost = (read?.hosts ?? []).filter((one) => one.nativeId === hostUuid(0));
      assert.equal(ofHost.length, own.length);
      for (const [at, one] of ofHost.entries()) {
        assert.deepEqual([one.startMs, one.endMs], [own[at]?.startMs, own[at]?.endMs]);
        assert.equal(one.cpuNanoseconds, BigInt(STAND_IN_HOST_RATES.cpu_avg * 16 * 60) * 1_000_000_000n);
        assert.equal(one.memoryUsedBytes, 40n * 2n ** 30n);
      }
      assert.ok((read?.hosts ?? []).every((one) => one.nativeId === hostUuid(0)));
      // The other member shows a certificate of its own, which nobody pinned.
      assert.deepEqual(
        (read?.periods ?? []).filter((one) => one.nativeId === uuid(far)),
        [],
      );
    }
    assert.ok((await shared.fingerprint()).limits.some((one) => /^xcp-2 does not tell .*certificate/.test(one)));
    Object.assign(pool, { numbers: 'quoted', clockAheadMs: 0 });
    for (const ref of [near, far, idle]) database.remove(ref);
  });
});

describe('a pool behind a bad line (a stand-in)', () => {
  let pool: XapiStandIn;
  let fleet: Fleet;
  let folder: string;
  const log: string[] = [];

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'berth-xapi-faults-'));
    pool = await startXapiStandIn(2);
    for (let index = 0; index < 300; index += 1) {
      const vm = pool.database.addVm(`vm-${index}`);
      pool.database.addDisk(vm, { place: 0, sizeBytes: 2 ** 30, usedBytes: 0 });
      pool.database.setRunning(vm, pool.members[index % 2]?.hostRef ?? '');
    }
    fleet = await Fleet.open({ folder, drivers: [xapiDriver], holder: 'test', log: (line) => log.push(line) });
    fleet.addSource({ name: 'pool', url: pool.url.href, pin: pool.master.pin, credentials: XAPI_CREDENTIALS });
    await becomes('up');
  });

  after(async () => {
    await fleet.close();
    await pool.kill();
    rmSync(folder, { recursive: true, force: true });
  });

  const becomes = (state: string): Promise<unknown> =>
    eventually(`the pool is ${state}`, DEADLINE_MS, async () => fleet.sources()[0]?.state === state);
  const count = (): number => fleet.queries.counts().reduce((sum, one) => sum + one.vms, 0);
  const again = async (): Promise<void> => {
    pool.onCall = () => undefined;
    fleet.refresh('pool');
    await becomes('up');
  };

  test('an answer that breaks off in the middle of a look takes no VM away', async () => {
    assert.equal(count(), 300);
    for (const method of ['VM.get_all_records', 'VBD.get_all_records']) {
      pool.onCall = (asked) => (asked === method ? { kind: 'cut', afterBytes: 5_000 } : undefined);
      fleet.refresh('pool');
      await becomes('down');
      assert.equal(fleet.sources()[0]?.problem?.kind, 'unavailable');
      assert.equal(count(), 300);
      await again();
    }
    assert.equal(fleet.past.at(Date.now(), { limit: 1_000 }).items.length, 300, 'one interval each, none ended');
  });

  test('a VM that moves between members in the middle of a look is on one host, has moved once and was never gone', async () => {
    const { database } = pool;
    const [ref = '', record] = database.vms()[0] ?? [];
    const id = Number(fleet.queries.find(String(record?.['uuid'])).id.slice(1));
    const before = fleet.past.ofVm(id, { limit: 10 }).items;
    let isMoved = false;
    pool.onCall = (method) => {
      if (method === 'VDI.get_all_records' && !isMoved) {
        isMoved = true;
        database.change(ref, { resident_on: pool.members[1]?.hostRef });
      }
      return undefined;
    };
    fleet.refresh('pool');
    await eventually('it has moved', DEADLINE_MS, async () => {
      const { hostId } = fleet.queries.find(String(record?.['uuid'])).facts;
      return isMoved && hostId === database.record(pool.members[1]?.hostRef ?? '')['uuid'];
    });
    await again();
    const after_ = fleet.past.ofVm(id, { limit: 10 }).items;
    assert.equal(after_.length, before.length + 1);
    assert.equal(after_.filter((one) => one.closed === null).length, 1);
    assert.equal(count(), 300);
  });

  test('a clone with the same UUID in another pool is another VM, and both have their history', async () => {
    const other = await startXapiStandIn(1);
    const uuid = '0c0c0c0c-1111-4222-8333-444455556666';
    const made = [pool, other].map(({ database }, at) => {
      const vm = database.addVm('twin', { uuid });
      database.addCard(vm, { place: 0, mac: `0e:88:aa:00:00:0${at + 1}`, network: 'LAN' });
      return vm;
    });
    fleet.addSource({ name: 'other', url: other.url.href, pin: other.master.pin, credentials: XAPI_CREDENTIALS });
    const twins = () => fleet.queries.list({ limit: 1_000 }).items.filter((vm) => vm.facts.uuid === uuid);
    await eventually('both are known', DEADLINE_MS, async () => twins().length === 2);
    assert.deepEqual(
      twins()
        .map((vm) => vm.source)
        .sort(),
      ['other', 'pool'],
    );
    pool.database.remove(made[0] ?? '');
    await eventually('one is gone', DEADLINE_MS, async () => twins().length === 1);
    await fleet.removeSource('other');
    await other.kill();
    assert.equal(count(), 300);
  });

  test('what a pool wrote down before the first look is told once, and what it leaves open stays open', async () => {
    const old = await startXapiStandIn(2);
    old.clockAheadMs = 3_600_000;
    const { database } = old;
    const vm = database.addVm("odd (uuid: 00000000-0000-4000-8000-000000000000)' web");
    const [first, second] = old.members.map((member) => String(database.record(member.hostRef)['uuid']));
    // In the hosts' clock, an hour ahead of ours.
    const ago = (minutes: number): Date => new Date(Date.now() + 3_600_000 - minutes * 60_000);
    const startedOn = (uuid: string | undefined): string =>
      `VM '${String(database.record(vm)['name_label'])}' started on host: rack (uuid: ${uuid})`;
    database.addMessage(vm, { name: 'VM_STARTED', when: ago(50), body: startedOn(first) });
    database.addMessage(vm, { name: 'VM_CLONED', when: ago(49) });
    database.addMessage(vm, { name: 'VM_SHUTDOWN', when: ago(40), body: 'VM shutdown' });
    database.addMessage(vm, { name: 'VM_STARTED', when: ago(30), body: startedOn(first) });
    const [together, both] = [ago(28), ago(25)];
    for (const name of ['VM_PAUSED', 'VM_UNPAUSED']) database.addMessage(vm, { name, when: together });
    database.addMessage(vm, { name: 'VM_SHUTDOWN', when: both });
    database.addMessage(vm, { name: 'VM_STARTED', when: both, body: startedOn(first) });
    database.addMessage(vm, { name: 'VM_RESUMED', when: ago(22), body: startedOn(first) });
    database.addMessage(vm, { name: 'VM_REBOOTED', when: ago(20) });
    database.addMessage(vm, { name: 'VM_MIGRATED', when: ago(10) });
    database.add('message', { uuid: 'x', name: 'VM_STARTED', cls: 'VM', obj_uuid: '', timestamp: 'never', body: 7 });
    database.setRunning(vm, old.members[1]?.hostRef ?? '');
    fleet.addSource({ name: 'old', url: old.url.href, pin: old.master.pin, credentials: XAPI_CREDENTIALS });
    const source = () => fleet.sources().find((one) => one.name === 'old');
    await eventually('the past is told', DEADLINE_MS, async () => source()?.toldMs != null);
    const id = Number(fleet.queries.find(String(database.record(vm)['uuid'])).id.slice(1));
    const hostNames = new Map(old.members.map(({ hostRef }) => [database.record(hostRef)['name_label'], hostRef]));
    const told = fleet.past.ofVm(id, { limit: 100 }).items.map((one) => {
      const ref = hostNames.get(one.host ?? '');
      return [one.powerState, ref === undefined ? null : database.record(ref)['uuid'], one.opened.how];
    });
    assert.deepEqual(told, [
      ['running', first, 'told'],
      ['off', null, 'told'],
      ['running', first, 'told'],
      ['unknown', first, 'told'],
      ['unknown', null, 'told'],
      ['running', first, 'told'],
      ['running', second, 'told'],
      ['running', second, 'poll'],
    ]);
    const opened = fleet.past.ofVm(id, { limit: 100 }).items[0]?.opened.atMs ?? 0;
    assert.ok(Math.abs(Date.now() - 50 * 60_000 - opened) < 10_000, 'in our clock');
    await fleet.removeSource('old');
    await old.kill();
  });

  test('a pool that stops answering in the middle of a look does not keep the daemon from leaving', async () => {
    let isAsked = false;
    pool.onCall = (method) => {
      isAsked ||= method === 'VIF.get_all_records';
      return method === 'VIF.get_all_records' ? { kind: 'hang' } : undefined;
    };
    fleet.refresh('pool');
    await eventually('it looks', DEADLINE_MS, async () => isAsked);
    const began = performance.now();
    await fleet.close();
    assert.ok(performance.now() - began < 5_000, `${performance.now() - began} ms`);
    pool.onCall = () => undefined;
    fleet = await Fleet.open({ folder, drivers: [xapiDriver], holder: 'test', log: (line) => log.push(line) });
    await becomes('up');
    assert.equal(count(), 300);
  });

  test('a renewed certificate is said with its fingerprint, nobody is gone, and the password is not sent', async () => {
    const pin = await pool.renewCertificate(0);
    const tried = pool.loginCount;
    fleet.refresh('pool');
    await becomes('down');
    await eventually('the certificate is the reason', DEADLINE_MS, async () => {
      fleet.refresh('pool');
      return fleet.sources()[0]?.problem?.code === 'tls.untrusted';
    });
    assert.match(fleet.sources()[0]?.problem?.message ?? '', new RegExp(pin));
    assert.equal(pool.loginCount, tried);
    assert.equal(count(), 300);
    assert.ok(fleet.queries.list({ limit: 5 }).items.every((vm) => vm.isStale));
    assert.ok(!JSON.stringify([log, fleet.sources()]).includes(XAPI_CREDENTIALS.password));
  });
});
