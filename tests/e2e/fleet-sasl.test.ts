/** A libvirt that asks for a password, through the shipped command line and daemon. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startTestDaemon, type TestDaemon } from '#harness';
import { reservePort, runProcess } from '#platform';
import { type RunningLibvirt, startLibvirt } from '../harness/libvirt.ts';
import { eventually } from '../harness/vm-client.ts';

const BERTH = new URL('../../berth', import.meta.url).pathname;
const PASSWORD = 'Correct-Horse-7731';
const DEADLINE_MS = 15_000;

let daemon: TestDaemon;
let libvirt: RunningLibvirt;
let folder: string;
let url: string;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'berth-fleet-'));
  const reserved = await reservePort('tcp', '127.0.0.1', 0);
  await reserved.release();
  [daemon, libvirt] = await Promise.all([
    startTestDaemon({ env: { BERTH_POOL: 'off' } }),
    startLibvirt({ tlsPort: reserved.port, sasl: { mechanisms: 'scram-sha-256', users: { ann: PASSWORD } } }),
  ]);
  url = `test+tls://127.0.0.1:${reserved.port}/default?pkipath=${libvirt.folder}/pki`;
});

after(async () => {
  await libvirt.dispose();
  const leaks = await daemon.dispose();
  rmSync(folder, { recursive: true, force: true });
  assert.deepEqual(leaks, []);
});

const berth = (...words: string[]) => runProcess([BERTH, '--socket', daemon.socket, ...words]);

function credentialsFile(password: string): string {
  const file = join(folder, `credentials-${password.length}`);
  writeFileSync(file, JSON.stringify({ user: 'ann', password }), { mode: 0o600 });
  return file;
}

test('added with a credentials file its VMs are in the list; a wrong password is named, and none is written in the clear', async () => {
  const added = await berth('source', 'add', 'asking', url, '--credentials-file', credentialsFile(PASSWORD));
  assert.equal(added.exitCode, 0, added.stderr);
  await eventually('its VM is known', DEADLINE_MS, async () =>
    /v\d+ +test +running +asking/.test((await berth('fleet', 'ls')).stdout),
  );
  const wrong = `${PASSWORD}-not`;
  await berth('source', 'add', 'wrong', url, '--credentials-file', credentialsFile(wrong));
  await eventually('the wrong one is refused', DEADLINE_MS, async () =>
    /wrong +libvirt +down.*refused the login of ann by SCRAM-SHA-256/.test((await berth('source', 'ls')).stdout),
  );
  const tested = await berth('source', 'test', 'wrong');
  assert.equal(tested.exitCode, 1);
  assert.match(tested.stdout, /refused +failed +.*refused the login of ann.*is the password right/);
  await daemon.restart();
  await eventually('it signs in again after a restart', DEADLINE_MS, async () =>
    /asking +libvirt +up/.test((await berth('source', 'ls')).stdout),
  );
  const written = readdirSync(daemon.stateDir)
    .filter((name) => name.startsWith('fleet.'))
    .map((name) => readFileSync(join(daemon.stateDir, name), 'latin1'));
  for (const place of [
    ...written,
    readFileSync(daemon.logPath, 'utf8'),
    (await berth('source', 'ls', '--json')).stdout,
  ])
    assert.ok(!place.includes(PASSWORD) && !place.includes(Buffer.from(PASSWORD).toString('base64')));
});
