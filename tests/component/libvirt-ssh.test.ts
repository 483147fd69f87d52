/** The libvirt driver over a real OpenSSH server with libvirt's own virt-ssh-helper. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { libvirtDriver } from '#fleet';
import { findProcesses, signalProcess } from '#platform';
import { snapshotOf } from '../../src/fleet/driver.conformance.ts';
import type { DriverSession, VmChange } from '../../src/fleet/driver.ts';
import { type RunningLibvirt, startLibvirt, writeDomain } from '../harness/libvirt.ts';
import { type RunningSshd, startSshd } from '../harness/sshd.ts';
import { eventually } from '../harness/vm-client.ts';

const DEADLINE_MS = 20_000;
const CONNECT = 'test:///default';

let libvirt: RunningLibvirt;
let sshd: RunningSshd;
/** libvirt's test driver forgets what was made in it when nobody is connected. */
let keeper: DriverSession;

before(async () => {
  libvirt = await startLibvirt();
  sshd = await startSshd(`${libvirt.folder}/run`);
  keeper = await libvirtDriver.open(
    { name: 'k', url: new URL(`test+unix:///default?socket=${libvirt.socket}`), allowPower: false },
    AbortSignal.timeout(DEADLINE_MS),
  );
});

after(async () => {
  await keeper?.close();
  await sshd?.dispose();
  await libvirt?.dispose();
});

const open = (given: { readonly key?: string; readonly hosts?: string; readonly allowPower?: boolean } = {}) => {
  const { key = sshd.keyPath, hosts = sshd.knownHostsPath, allowPower = false } = given;
  const url = new URL(`test+ssh://root@127.0.0.1:${sshd.port}/default?keyfile=${key}&known_hosts=${hosts}`);
  return libvirtDriver.open({ name: 'x', url, allowPower }, AbortSignal.timeout(DEADLINE_MS));
};

test('the VMs are there, and what happens to them is heard', async () => {
  const session = await open();
  assert.deepEqual(
    (await snapshotOf(session)).vms.map((vm) => vm.name),
    ['test'],
  );
  const changes: VmChange[] = [];
  await session.events?.watch((change) => changes.push(change));
  await libvirt.virsh(CONNECT, 'define', writeDomain(libvirt, { name: 'far', type: 'test' }));
  await libvirt.virsh(CONNECT, 'start', 'far');
  await eventually('far runs', DEADLINE_MS, async () =>
    changes.some((one) => one.kind === 'seen' && one.vm.name === 'far' && one.vm.powerState === 'running'),
  );
  await session.close();
  assert.equal(await session.ended, undefined);
  await eventually('ssh has ended', DEADLINE_MS, async () => (await findProcesses(sshd.knownHostsPath)).length === 0);
});

test('power verbs go through where they are permitted; a read-only session is refused by libvirt itself', async () => {
  const id = (await libvirt.virsh(CONNECT, 'domuuid', 'far')).trim();
  const session = await open({ allowPower: true });
  await session.power?.act('pause', id);
  assert.match(await libvirt.virsh(CONNECT, 'domstate', 'far'), /paused/);
  await session.close();
  const reader = await open();
  assert.equal(reader.power, undefined);
  await reader.close();
});

test('500 domains come through whole', async () => {
  const names = Array.from({ length: 500 }, (_, index) => `many-${index}`);
  const batch = names.map((name) => `define ${writeDomain(libvirt, { name, type: 'test' })}`).join('; ');
  await libvirt.virsh(CONNECT, batch);
  const session = await open();
  const { vms } = await snapshotOf(session);
  assert.deepEqual(vms.map((vm) => vm.name).sort(), [...names, 'far', 'test'].sort());
  await session.close();
});

test('a key that is refused and a host key that is another are told apart', async () => {
  await assert.rejects(open({ key: sshd.strangerPath }), { kind: 'unauthenticated', code: 'ssh.login' });
  await assert.rejects(open({ hosts: sshd.changedHostsPath }), { kind: 'unauthenticated', code: 'ssh.host_key' });
  await assert.rejects(open({ hosts: '/dev/null' }), { kind: 'unauthenticated', code: 'ssh.host_key' });
});

test('ssh killed in the middle of a look: the look fails and the session says why', async () => {
  const session = await open();
  const ssh = await findProcesses(sshd.knownHostsPath);
  const failed = assert.rejects(snapshotOf(session), { kind: 'unavailable' });
  for (const one of ssh) signalProcess(one.pid, 'SIGKILL');
  await failed;
  assert.equal((await session.ended)?.code, 'ssh.ended');
});

test('a libvirt that is not there is no login that failed', async () => {
  await libvirt.crash();
  await assert.rejects(open(), { kind: 'unavailable' });
});
