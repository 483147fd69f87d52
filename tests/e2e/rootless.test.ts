/** A daemon of an ordinary user: VMs and published ports, without any right of root. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, chownSync, copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { findProcesses, runProcess } from '#platform';
import { eventually } from '../harness/vm-client.ts';

/** nobody on Debian. */
const UID = 65_534;
const CHECKOUT = new URL('../..', import.meta.url).pathname;
let folder: string;
let socket: string;
let berthd: ChildProcess;

before(async () => {
  // A copy that user can read, wherever the checkout lies: what the daemon needs and nothing more.
  folder = mkdtempSync(join(tmpdir(), 'berth-rootless-'));
  chmodSync(folder, 0o755);
  for (const name of ['package.json', '.build']) cpSync(join(CHECKOUT, name), join(folder, name), { recursive: true });
  const node = join(folder, 'node');
  copyFileSync(process.execPath, node);
  chmodSync(node, 0o755);
  for (const name of ['data', 'runtime']) {
    mkdirSync(join(folder, name), { mode: 0o700 });
    chownSync(join(folder, name), UID, UID);
  }
  socket = join(folder, 'runtime/berth/berth.sock');
  const env = {
    PATH: process.env['PATH'] ?? '',
    HOME: join(folder, 'data'),
    XDG_DATA_HOME: join(folder, 'data'),
    XDG_RUNTIME_DIR: join(folder, 'runtime'),
  };
  berthd = spawn(node, [join(folder, '.build/daemon/main.mjs')], { uid: UID, gid: UID, env, stdio: 'inherit' });
  await eventually('the daemon serves', 30_000, async () => existsSync(socket));
});

after(async () => {
  await docker('rm', '-f', 'web');
  const ended = new Promise((resolve) => berthd.once('exit', resolve));
  berthd.kill('SIGTERM');
  await ended;
  const left = (await findProcesses(folder)).filter((one) => one.pid !== process.pid);
  assert.deepEqual(
    left.map((one) => one.argv.join(' ')),
    [],
    'no process is left',
  );
  rmSync(folder, { recursive: true });
});

function docker(...args: string[]): Promise<{ exitCode: number | null; stdout: string; stderr: string }> {
  return runProcess(['docker', '-H', `unix://${socket}`, ...args], {
    deadlineMs: 60_000,
    env: { PATH: process.env['PATH'] ?? '', HOME: folder },
  });
}

test('an ordinary user runs a VM and publishes a port, without a process of root', async () => {
  const hello = await docker('run', '--rm', 'berth/busybox', 'echo', 'hello');
  assert.deepEqual([hello.exitCode, hello.stdout], [0, 'hello\n'], hello.stderr);
  const script = 'mkdir /www; echo served > /www/index.html; exec httpd -f -p 80 -h /www';
  const made = await docker('run', '-d', '--name', 'web', '-p', '127.0.0.1::80', 'berth/busybox', 'sh', '-c', script);
  assert.equal(made.exitCode, 0, made.stderr);
  const { stdout: published } = await docker('port', 'web', '80/tcp');
  await eventually(
    'it serves',
    20_000,
    async () =>
      (await runProcess(['curl', '-s', '--max-time', '3', `http://${published.trim()}/`])).stdout === 'served\n',
  );
  const qemu = await findProcesses(join(folder, 'runtime/berth/vm/'));
  assert.equal(qemu.length, 1);
  const { stdout: owner } = await runProcess(['ps', '-o', 'uid=', '-p', String(qemu[0]?.pid)]);
  assert.equal(Number(owner), UID);
});

test('a port below 1024 is refused with the remedy', async () => {
  const refused = await docker('run', '--rm', '-p', '80:80', 'berth/busybox', 'true');
  assert.equal(refused.exitCode, 125);
  assert.match(refused.stderr, /only root may publish port 80.*1024/s);
});
