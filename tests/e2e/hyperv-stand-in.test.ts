/** A Hyper-V host through the shipped command line and daemon: a real sshd, and a stand-in in the place of powershell.exe. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startTestDaemon, type TestDaemon } from '#harness';
import { runProcess } from '#platform';
import { type HypervStandIn, startHypervStandIn } from '../harness/hyperv-stand-in.ts';
import { eventually } from '../harness/vm-client.ts';

const BERTH = new URL('../../berth', import.meta.url).pathname;
const DEADLINE_MS = 15_000;
const [RUNNING, OFF] = [2, 3] as const;

let daemon: TestDaemon;
let host: HypervStandIn;

before(async () => {
  [daemon, host] = await Promise.all([startTestDaemon({ env: { BERTH_POOL: 'off' } }), startHypervStandIn()]);
  const id = host.addVm('shop', { vcpus: 4, memoryMib: 2048, notes: ['owner=ann'] });
  host.addCard(id, { kind: 'Synthetic', mac: '00155D010203', addresses: ['10.1.2.3'] });
  host.setState('shop', RUNNING);
});

after(async () => {
  await host?.kill();
  assert.deepEqual(await daemon?.dispose(), []);
});

async function said(...words: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await runProcess([BERTH, '--socket', daemon.socket, ...words]);
  assert.equal(exitCode, 0, `berth ${words.join(' ')}: ${stderr}`);
  return stdout;
}

async function shows(pattern: RegExp): Promise<void> {
  await eventually(String(pattern), DEADLINE_MS, async () => pattern.test(await said('fleet', 'ls')));
}

test('a host is added by one command; its VMs are looked at and acted on', async () => {
  assert.equal(await said('source', 'add', 'hv', host.url().href, '--allow-power', '--every', '1'), 'hv\n');
  await shows(/^v1 +shop +running +hv +HV01 +4 +2GiB .*10\.1\.2\.3 +virtio/m);
  assert.match(await said('source', 'ls'), /^hv +hyperv +up +.* power +Microsoft Windows Server 2022/m);
  assert.match(await said('source', 'test', 'hv'), /ok +inventory +1 hosts, 1 VMs\n.*events +not offered/);
  await said('fleet', 'stop', '--yes', 'shop');
  assert.equal(host.vms()[0]?.enabledState, OFF);
  await shows(/^v1 +shop +off +hv +HV01 /m);
  host.setState('shop', RUNNING);
  await shows(/^v1 +shop +running +hv +HV01 /m);
  const history = (await said('fleet', 'history', 'shop', '--json')).trim().split('\n');
  assert.deepEqual(
    history.map((line) => (JSON.parse(line) as { powerState: string }).powerState),
    ['running', 'off', 'running'],
  );
});

interface HostHour {
  readonly host: string;
  readonly cpuNs: { readonly used: string; readonly overhead: string; readonly idle: string };
}

test('what VMs and the host ran is in usage and utilization, each once', async () => {
  await said('source', 'pace', 'hv', '--sample-every', '1');
  const sums = async (): Promise<{ used: number; overhead: number; idle: number }> => {
    const lines = (await said('fleet', 'utilization', '--json')).split('\n').filter((line) => line !== '');
    const hours = lines.map((line) => JSON.parse(line) as HostHour).filter((hour) => hour.host === 'HV01');
    const sum = (name: keyof HostHour['cpuNs']): number =>
      hours.reduce((total, hour) => total + Number(hour.cpuNs[name]), 0);
    return { used: sum('used'), overhead: sum('overhead'), idle: sum('idle') };
  };
  await eventually('the host has been read twice', DEADLINE_MS, async () => (await sums()).idle > 0);
  const before = await sums();
  host.run('shop', 1_000_000);
  // A processor that no VM has: what it runs is the host's own.
  host.change(({ objects }) => {
    const rows = objects['Win32_PerfRawData_HvStats_HyperVHypervisorLogicalProcessor'] ?? [];
    const last = rows.find((row) => row['Name'] === 'Hv LP 31');
    if (last !== undefined) last['PercentTotalRunTime'] = Number(last['PercentTotalRunTime']) + 3_000_000;
  });
  const isThere = async (): Promise<boolean> => {
    const { used, overhead } = await sums();
    return used - before.used === 400_000_000 && overhead - before.overhead === 300_000_000;
  };
  await eventually('four processors ran 0.1 s each, and the host 0.3 s', DEADLINE_MS, isThere);
});
