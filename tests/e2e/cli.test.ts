/** The shipped `./berth`, as people start it, against a daemon of its own. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startTestDaemon, type TestDaemon } from '#harness';
import { findProcesses } from '#platform';

const BERTH = new URL('../../berth', import.meta.url).pathname;
const IMAGE = 'berth/busybox';
/** TCG on a loaded host; a hang is told from slowness by it. */
const DEADLINE_MS = 90_000;

interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

let daemon: TestDaemon;
let folder: string;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'berth-cli-'));
  daemon = await startTestDaemon();
});

after(async () => {
  const leaks = await daemon.dispose();
  rmSync(folder, { recursive: true, force: true });
  assert.deepEqual(leaks, []);
});

function environment(): NodeJS.ProcessEnv {
  return {
    ...process.env,
    BERTH_STATE_DIR: daemon.stateDir,
    BERTH_RUN_DIR: daemon.runDir,
    DOCKER_HOST: 'tcp://192.0.2.1:1',
  };
}

function start(command: string, args: readonly string[], env = environment()): ChildProcess {
  return spawn(command, args, { env, stdio: ['pipe', 'pipe', 'pipe'], timeout: DEADLINE_MS, killSignal: 'SIGKILL' });
}

function outcome(child: ChildProcess, input?: string): Promise<Outcome> {
  let stdout = '';
  let stderr = '';
  child.stdout?.on('data', (data: Buffer) => {
    stdout += data.toString();
  });
  child.stderr?.on('data', (data: Buffer) => {
    stderr += data.toString();
  });
  child.stdin?.end(input);
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, stdout, stderr })));
}

const berth = (...args: string[]): Promise<Outcome> => outcome(start(BERTH, args));

async function until(what: string, condition: () => Promise<boolean> | boolean): Promise<void> {
  const deadline = Date.now() + DEADLINE_MS;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `it never came to this: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** An orphan that nobody has reaped yet has ended all the same. */
function isRunning(pid: number): boolean {
  return existsSync(`/proc/${pid}/stat`) && !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
}

test('run gives output, errors and exit code apart', async () => {
  const got = await berth('run', '--rm', IMAGE, 'sh', '-c', 'echo out; echo err >&2; exit 7');
  assert.deepEqual(got, { code: 7, stdout: 'out\n', stderr: 'err\n' });
});

test('run passes standard input and its end', async () => {
  const got = await outcome(start(BERTH, ['run', '-i', '--rm', IMAGE, 'wc', '-c']), 'x'.repeat(300_000));
  assert.deepEqual([got.code, got.stdout.trim()], [0, '300000']);
});

test('a program that is not there is 127, a folder 126, a wrong flag 125', async () => {
  const [missing, isFolder, wrong] = await Promise.all([
    berth('run', '--rm', IMAGE, '/not/there'),
    berth('run', '--rm', IMAGE, '/etc'),
    berth('run', '--no-such-flag', IMAGE),
  ]);
  assert.deepEqual([missing.code, isFolder.code, wrong.code], [127, 126, 125]);
  assert.match(wrong.stderr, /no-such-flag[\s\S]*hint: see "berth run --help"/);
});

test('one VM: its whole life', async () => {
  const made = await berth(
    'run',
    '-d',
    '--name',
    'life',
    '-e',
    'A=1',
    '-l',
    'x=y',
    '-p',
    '127.0.0.1::80',
    '--hostname',
    'inside',
    IMAGE,
    'sh',
    '-c',
    'echo up; sleep 1000',
  );
  assert.match(made.stdout, /^[0-9a-f]{64}\n$/, made.stderr);
  const ran = await berth('exec', '-e', 'B=2', '-w', '/tmp', 'life', 'sh', '-c', 'echo $A $B $(hostname) $PWD; exit 3');
  assert.deepEqual([ran.code, ran.stdout], [3, '1 2 inside /tmp\n']);
  assert.equal((await berth('exec', 'life', 'no-such-program')).code, 127);
  assert.equal((await berth('logs', 'life')).stdout, 'up\n');
  assert.match((await berth('logs', '-t', 'life')).stdout, /^20[0-9-]+T[0-9:.]+Z up\n$/);
  assert.match((await berth('top', 'life')).stdout, /PID[\s\S]*sleep 1000/);
  assert.match((await berth('port', 'life', '80')).stdout, /^127\.0\.0\.1:[0-9]+\n$/);
  assert.equal((await berth('inspect', '-f', '{{.State.Status}} {{.Config.Labels.x}}', 'life')).stdout, 'running y\n');
  assert.equal((await berth('pause', 'life')).stdout, 'life\n');
  assert.match((await berth('ps')).stdout, /\(Paused\)/);
  assert.equal((await berth('unpause', 'life')).code, 0);
  assert.equal((await berth('rename', 'life', 'other')).code, 0);
  assert.equal((await berth('stop', '-t', '1', 'other')).stdout, 'other\n');
  const waited = await berth('wait', 'other');
  assert.match(waited.stdout, /^(137|143)\n$/);
  assert.equal((await berth('rm', 'other')).stdout, 'other\n');
  const gone = await berth('rm', 'other');
  assert.deepEqual([gone.code, gone.stderr.includes('No such container')], [1, true]);
});

test('create and start -a are a run', async () => {
  assert.match(
    (await berth('create', '--name', 'later', IMAGE, 'sh', '-c', 'echo now; exit 4')).stdout,
    /^[0-9a-f]{64}\n$/,
  );
  assert.deepEqual(await berth('start', '-a', 'later'), { code: 4, stdout: 'now\n', stderr: '' });
  assert.equal((await berth('rm', 'later')).code, 0);
});

test('ps without Node prints what ps with Node prints', async () => {
  await berth('create', '--name', 'shown-1', '-p', '8080:80', IMAGE, 'sh', '-c', 'echo "quotes" \\ and\ttabs; sleep 1');
  await berth('create', '--name', 'shown-2', IMAGE, 'echo', 'grüße, 世界, in more than twenty signs');
  const program = new URL('../../.build/cli/main.cjs', import.meta.url).pathname;
  // Ages are whole seconds: below a minute they could differ between two commands.
  const ageless = (text: string): string =>
    text
      .replace(/(Less than a second|1 second|[0-9]+ seconds|About a minute) +ago */g, 'some time ago ')
      // The column is as wide as its longest age.
      .replace(/ {2,}/g, '  ');
  for (const flags of [[], ['-a'], ['-aq'], ['-a', '--no-trunc'], ['-l'], ['-n', '2'], ['-qa', '--no-trunc']]) {
    const fast = await berth('ps', ...flags);
    const slow = await outcome(start(process.execPath, [program, 'ps', ...flags]));
    assert.equal(ageless(fast.stdout), ageless(slow.stdout), flags.join(' '));
    assert.equal(fast.code, 0);
  }
  const lines = (await berth('ps', '-a', '--filter', 'name=shown', '--json')).stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { Names: string });
  assert.deepEqual(lines.map((line) => line.Names).sort(), ['shown-1', 'shown-2']);
  await berth('rm', 'shown-1', 'shown-2');
});

test('SIGTERM to an attached run reaches the process', async () => {
  const child = start(BERTH, [
    'run',
    '--rm',
    '--name',
    'told',
    IMAGE,
    'sh',
    '-c',
    'trap "echo told; exit 9" TERM; echo ready; while :; do sleep 0.1; done',
  ]);
  const ended = outcome(child);
  let seen = '';
  child.stdout?.on('data', (data: Buffer) => {
    seen += data.toString();
  });
  await until('ready', () => seen.includes('ready'));
  child.kill('SIGTERM');
  const got = await ended;
  assert.deepEqual([got.code, got.stdout], [9, 'ready\ntold\n']);
});

test('a terminal: raw keys, the size, and keys that leave the VM running', async () => {
  // `script` gives the command a terminal of its own.
  const line = `stty rows 33 cols 99; ${BERTH} run -it --name term ${IMAGE} sh`;
  const child = start('script', ['-qfec', line, '/dev/null']);
  let seen = '';
  child.stdout?.on('data', (data: Buffer) => {
    seen += data.toString();
  });
  const closed = new Promise<number | null>((resolve) => child.once('close', resolve));
  await until('a prompt', () => seen.includes('# '));
  child.stdin?.write('stty size; tty\r');
  await until('the size', () => /33 99/.test(seen));
  child.stdin?.write('\u0010\u0011');
  assert.equal(await closed, 0, seen);
  assert.equal((await berth('inspect', '-f', '{{.State.Running}}', 'term')).stdout, 'true\n');
  assert.equal((await berth('rm', '-f', 'term')).code, 0);
});

test('images: save, load, tag, history, remove', async () => {
  const archive = join(folder, 'image.tar');
  assert.equal((await berth('save', '-o', archive, IMAGE)).code, 0);
  assert.equal((await berth('tag', IMAGE, 'mine:1')).code, 0);
  assert.match((await berth('images', '--format', '{{.Repository}}:{{.Tag}}')).stdout, /mine:1/);
  assert.match((await berth('history', 'mine:1')).stdout, /^IMAGE/);
  assert.equal((await berth('rmi', 'mine:1')).stdout, 'Untagged: mine:1\n');
  assert.match((await berth('load', '-i', archive)).stdout, /Loaded image: .*busybox/);
  const missing = await berth('run', '--pull', 'never', 'no/such:image', 'x');
  assert.equal(missing.code, 125);
  assert.match(missing.stderr, /No such image/i);
});

test('events tell what happened', async () => {
  await berth('run', '--rm', '--name', 'eventful', IMAGE, 'true');
  const got = await berth(
    'events',
    '--since',
    '1m',
    '--until',
    '0s',
    '--filter',
    'container=eventful',
    '--format',
    '{{.Action}}',
  );
  assert.match(got.stdout, /create\n[\s\S]*start\n[\s\S]*die\n/);
});

test('env files, cidfile, info and version', async () => {
  const envFile = join(folder, 'env');
  const cidFile = join(folder, 'cid');
  writeFileSync(envFile, 'FROM_FILE=yes\n');
  const got = await berth(
    'run',
    '--rm',
    '--env-file',
    envFile,
    '--cidfile',
    cidFile,
    IMAGE,
    'sh',
    '-c',
    'echo $FROM_FILE',
  );
  assert.equal(got.stdout, 'yes\n');
  assert.match(readFileSync(cidFile, 'utf8'), /^[0-9a-f]{64}$/);
  assert.equal((await berth('run', '--cidfile', cidFile, IMAGE)).code, 125);
  assert.match((await berth('info', '--json')).stdout, /"ServerVersion"/);
  assert.match((await berth('version', '--format', '{{.Server.ApiVersion}}')).stdout, /^1\.50\n$/);
  assert.match((await berth('system', 'df')).stdout, /^TYPE/);
});

test('the daemon starts by itself, is looked at, and stops', async () => {
  const own = mkdtempSync(join(tmpdir(), 'berth-auto-'));
  // QEMU's users pass through it.
  chmodSync(own, 0o711);
  const env = { ...environment(), BERTH_STATE_DIR: join(own, 'state'), BERTH_RUN_DIR: join(own, 'run') };
  const run = (...args: string[]): Promise<Outcome> => outcome(start(BERTH, args, env));
  try {
    assert.equal((await run('daemon', 'status')).code, 1);
    const first = await run('ps', '-q');
    assert.deepEqual([first.code, first.stdout], [0, '']);
    assert.match(first.stderr, /^berth: starting the daemon/);
    const status = JSON.parse((await run('daemon', 'status', '--json')).stdout) as { running: boolean; pid: number };
    assert.ok(status.running && isRunning(status.pid));
    assert.match((await run('daemon', 'start')).stdout, /runs already/);
    assert.match((await run('daemon', 'logs')).stdout, /serving on/);
    assert.match((await run('daemon', 'stop')).stdout, /has ended/);
    assert.ok(!isRunning(status.pid));
    assert.match((await run('daemon', 'stop')).stdout, /no daemon runs/);
    assert.deepEqual(await processesOf(own), [], 'nothing outlives it, however soon it was stopped');
  } finally {
    await run('daemon', 'stop');
    rmSync(own, { recursive: true, force: true });
  }
});

test('commands that start the daemon at the same moment share one', async () => {
  const own = mkdtempSync(join(tmpdir(), 'berth-race-'));
  chmodSync(own, 0o711);
  const env = { ...environment(), BERTH_STATE_DIR: join(own, 'state'), BERTH_RUN_DIR: join(own, 'run') };
  const run = (...args: string[]): Promise<Outcome> => outcome(start(BERTH, args, env));
  try {
    const all = await Promise.all([1, 2, 3].map(() => run('ps', '-q')));
    assert.deepEqual(
      all.map(({ code, stdout }) => [code, stdout]),
      [
        [0, ''],
        [0, ''],
        [0, ''],
      ],
      all.map(({ stderr }) => stderr).join(''),
    );
  } finally {
    await run('daemon', 'stop');
    assert.deepEqual(await processesOf(own), [], 'nothing outlives it, however soon it was stopped');
    rmSync(own, { recursive: true, force: true });
  }
});

/** Command lines that name the folder: name servers, templates, machines. */
async function processesOf(folder: string): Promise<string[]> {
  const found = await findProcesses(folder);
  return found.filter(({ pid }) => pid !== process.pid).map(({ argv }) => argv.join(' '));
}

test('a daemon that cannot start says why', async () => {
  const own = mkdtempSync(join(tmpdir(), 'berth-fail-'));
  const got = await outcome(
    start(BERTH, ['--state-dir', join(own, 'bad,name'), '--run-dir', join(own, 'run'), 'daemon', 'start']),
  );
  assert.equal(got.code, 1);
  assert.match(got.stderr, /its last words:[\s\S]*commas/);
  rmSync(own, { recursive: true, force: true });
});

test('doctor proves that VMs run', async () => {
  const got = await berth('doctor', '--json');
  const diagnosis = JSON.parse(got.stdout) as {
    canRunVms: boolean;
    accelerator: string;
    findings: { name: string; verdict: string }[];
  };
  assert.deepEqual([got.code, diagnosis.canRunVms], [0, true]);
  assert.match(diagnosis.accelerator, /^(kvm|tcg)$/);
  for (const name of ['bridge', 'tap', 'nftables', 'names']) {
    assert.equal(diagnosis.findings.find((one) => one.name === name)?.verdict, 'ok', name);
  }
});
