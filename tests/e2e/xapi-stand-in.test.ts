/** A pool through the shipped command line and daemon. The pool is a stand-in written from XAPI's published data model. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startTestDaemon, type TestDaemon } from '#harness';
import { runProcess } from '#platform';
import { eventually } from '../harness/vm-client.ts';
import { startXapiStandIn, type XapiStandIn } from '../harness/xapi-stand-in.ts';
import { XAPI_CREDENTIALS } from '../harness/xapi-stand-in-database.ts';

const BERTH = new URL('../../berth', import.meta.url).pathname;
const DEADLINE_MS = 15_000;

let daemon: TestDaemon;
let pool: XapiStandIn;
let folder: string;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'berth-xapi-e2e-'));
  [daemon, pool] = await Promise.all([startTestDaemon({ env: { BERTH_POOL: 'off' } }), startXapiStandIn(2)]);
  const vm = pool.database.addVm('shop', { memoryBytes: 2 ** 30, vcpus: 2, otherConfig: { owner: 'ann' } });
  pool.database.addCard(vm, { place: 0, mac: '0e:88:aa:00:00:01', network: 'LAN' });
  pool.database.setRunning(vm, pool.members[1]?.hostRef ?? '');
  pool.database.setGuest(vm, { os: 'Debian 12', networks: { '0/ip': '10.1.2.3' } });
  writeFileSync(join(folder, 'credentials.json'), JSON.stringify(XAPI_CREDENTIALS), { mode: 0o600 });
});

after(async () => {
  await pool?.kill();
  const leaks = await daemon?.dispose();
  rmSync(folder, { recursive: true, force: true });
  assert.deepEqual(leaks, []);
});

async function said(...words: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await runProcess([BERTH, '--socket', daemon.socket, ...words]);
  assert.equal(exitCode, 0, `berth ${words.join(' ')}: ${stderr}`);
  return stdout;
}

async function shows(pattern: RegExp): Promise<void> {
  await eventually(String(pattern), DEADLINE_MS, async () => pattern.test(await said('fleet', 'ls')));
}

test('a pool is added by one command; its VMs, moves and power are seen, and its password is nowhere', async () => {
  const options = ['--credentials-file', join(folder, 'credentials.json'), '--pin', `sha256:${pool.master.pin}`];
  assert.equal(await said('source', 'add', 'pool', pool.url.href, '--allow-power', ...options), 'pool\n');
  await shows(/^v1 +shop +running +pool +xcp-2 +2 +1GiB .*10\.1\.2\.3 .*xen-pvhvm/m);
  assert.match(await said('source', 'ls'), /^pool +xapi +up +.* power +XCP-ng 8\.3/m);
  assert.match(await said('source', 'test', 'pool'), /ok +inventory +2 hosts, 1 VMs\nok +events/);
  pool.database.change(pool.database.vmNamed('shop'), { resident_on: pool.master.hostRef });
  await shows(/^v1 +shop +running +pool +xcp-1 /m);
  assert.match(await said('fleet', 'moves'), /shop.*xcp-2.*xcp-1/);
  await said('fleet', 'stop', '--yes', 'shop');
  assert.equal(pool.database.record(pool.database.vmNamed('shop'))['power_state'], 'Halted');
  await shows(/^v1 +shop +off +pool /m);
  const told = [await said('source', 'ls', '--json'), readFileSync(daemon.logPath, 'utf8')].join();
  assert.ok(!told.includes(XAPI_CREDENTIALS.password));
});
