/** berth-twin on plain processes: what it makes, what it refuses, and what is left when it is killed. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { findProcesses, killAndWait, processInfo, runProcess } from '#platform';
import { thisInstallation } from '#setup';
import { eventually } from '../harness/vm-client.ts';

const { twinProgram } = thisInstallation();
const USER = '1999999';
let folder: string;

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'berth-twin-test-'));
});

afterEach(async () => {
  for (const found of await findProcesses(folder)) await killAndWait(found);
});

after(() => rmSync(folder, { recursive: true, force: true }));

/** Waits, with nothing open but its standard streams and perhaps 5. */
const SLEEPER = 'use POSIX (); POSIX::close($_) for grep { $_ != 5 } 3 .. 300; sleep 1000 while 1';

/** A process of the C library QEMU has, which waits; its arguments name the folder. */
async function waiting(script = ''): Promise<number> {
  const { pid } = spawn(
    '/bin/sh',
    ['-c', `${script} exec /usr/bin/perl -e "$1" "$2"`, 'sh', SLEEPER, join(folder, 'one')],
    {
      stdio: 'ignore',
    },
  );
  assert.ok(pid !== undefined);
  await eventually('it waits', 10_000, async () => {
    return (
      readFileSync(`/proc/${pid}/comm`, 'utf8') === 'perl\n' &&
      /nanosleep/.test(readFileSync(`/proc/${pid}/wchan`, 'utf8'))
    );
  });
  return pid;
}

async function twin(pid: number, ...args: string[]): Promise<{ pid: number; words: string }> {
  assert.ok(twinProgram !== undefined);
  const { exitCode, stdout, stderr } = await runProcess([twinProgram, String(pid), ...args]);
  assert.equal(exitCode === 0, stdout !== '', stderr);
  return { pid: Number(stdout.split(' ')[1] ?? 0), words: stderr };
}

const statusOf = (pid: number): Record<string, string> =>
  Object.fromEntries(
    readFileSync(`/proc/${pid}/status`, 'utf8')
      .trim()
      .split('\n')
      .map((line) => line.split(':\t') as [string, string]),
  );

async function runsOn(pid: number): Promise<void> {
  const info = await processInfo(pid);
  assert.equal(info?.state, 'S', 'it waits as before, and nobody holds it');
  assert.equal(statusOf(pid)['TracerPid'], '0');
}

before(() => writeFileSync(join(folder, 'one'), ''));

test('a twin is another process: another user without rights, nobody’s child, under its own name', async () => {
  const original = await waiting();
  const { pid } = await twin(original, '--user', USER, '--rename', `${folder}/one=${folder}/two`);
  await runsOn(pid);
  await runsOn(original);
  const status = statusOf(pid);
  assert.equal(status['Uid'], `${USER}\t${USER}\t${USER}\t${USER}`);
  assert.equal(status['Gid'], `${USER}\t${USER}\t${USER}\t${USER}`);
  assert.equal(status['Groups']?.trim(), '');
  for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapAmb']) assert.equal(status[set], '0'.repeat(16));
  assert.notEqual(status['PPid'], String(original));
  assert.notEqual(status['PPid'], String(process.pid));
  assert.ok(readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`${folder}/two`));
  assert.ok(readFileSync(`/proc/${original}/cmdline`, 'utf8').includes(`${folder}/one`));
  process.kill(original, 'SIGKILL');
  await eventually('the original is gone', 5_000, async () => (await processInfo(original)) === undefined);
  await runsOn(pid);
});

test('a twin has a twin, which is another user again', async () => {
  const original = await waiting();
  const first = await twin(original, '--user', USER);
  const second = await twin(first.pid, '--user', '1999998');
  assert.equal(statusOf(second.pid)['Uid']?.split('\t')[0], '1999998');
  await runsOn(first.pid);
  await runsOn(second.pid);
});

test('a file that is written to becomes the one that is named; without a name there is no twin', async () => {
  writeFileSync(join(folder, 'written'), '');
  writeFileSync(join(folder, 'instead'), '');
  const original = await waiting(`exec 5>${folder}/written;`);
  const refused = await twin(original);
  assert.match(refused.words, /descriptor 5 is .*written, and the twin has nothing instead/);
  await runsOn(original);
  const { pid } = await twin(original, '--file', `${folder}/written=${folder}/instead`);
  assert.equal(readlinkSync(`/proc/${pid}/fd/5`), `${folder}/instead`);
  assert.equal(readlinkSync(`/proc/${original}/fd/5`), `${folder}/written`);
});

test('a file that is to be replaced and is not open is refused: another would be shared in its place', async () => {
  const original = await waiting();
  const refused = await twin(original, '--file', `${folder}/elsewhere=${folder}/instead`);
  assert.match(refused.words, /has nothing open at .*elsewhere/);
  await runsOn(original);
});

/** Maps a file privately, writes the first byte, and says on SIGUSR1: that byte, another, and how long the open file is. mmap is 9, read 0. */
const MAPPER = `open(F, "+<", $ARGV[0]); open(Z, "<", "/dev/zero"); $at = syscall(9, 0, 1 << 24, 3, 2, fileno(F), 0);
  syscall(0, fileno(Z), $at, 1);
  sub byte { ord(unpack("P1", pack("Q", $at + $_[0]))) }
  $SIG{USR1} = sub { open(O, ">", "$ARGV[0].said"); print O byte(0), " ", byte(9), " ", -s F; close O };
  sleep 1000 while 1`;

test('a process lets go of the file of its memory: holes it makes do not reach the file, and it maps it as before', async () => {
  const file = join(folder, 'memory');
  writeFileSync(file, Buffer.alloc(16 << 20, 7));
  const { pid } = spawn('/usr/bin/perl', ['-e', MAPPER, file], { stdio: 'ignore' });
  assert.ok(pid !== undefined && twinProgram !== undefined);
  await eventually('it maps the file', 10_000, async () => readFileSync(`/proc/${pid}/maps`, 'utf8').includes(file));
  await eventually('it waits', 10_000, async () => (await processInfo(pid))?.state === 'S');
  const { exitCode, stdout, stderr } = await runProcess([twinProgram, String(pid), '--let-go', 'memory']);
  assert.equal(exitCode, 0, stderr);
  assert.equal(stdout, `free ${pid}\n`);
  await runsOn(pid);
  process.kill(pid, 'SIGUSR1');
  const said = await eventually('it says what it has', 10_000, async () => {
    return existsSync(`${file}.said`) && (readFileSync(`${file}.said`, 'utf8') || undefined);
  });
  assert.equal(said, '0 7 0', 'its own byte, the file’s byte, and an empty file behind its descriptor');
  assert.ok(readFileSync(`/proc/${pid}/maps`, 'utf8').includes(file), 'mapped still');
});

test('a process that maps no such file is told so, and goes on', async () => {
  assert.ok(twinProgram !== undefined);
  const original = await waiting();
  const { exitCode, stderr } = await runProcess([twinProgram, String(original), '--let-go', 'memory']);
  assert.equal(exitCode, 1);
  assert.match(stderr, /has no file open that its guest's memory is mapped from/);
  await runsOn(original);
});

test('what is no process, or no number, is refused in words', async () => {
  assert.ok(twinProgram !== undefined);
  for (const [words, args] of [
    [/cannot stop thread 2147483646/, ['2147483646']],
    [/one is not a number/, ['one']],
    [/usage:/, []],
    [/usage:/, ['1', '--rename', 'long=short1']],
    [/is not OLD=NEW/, ['1', '--file', 'nothing']],
  ] as const) {
    const { exitCode, stderr } = await runProcess([twinProgram, ...args]);
    assert.equal(exitCode, 1);
    assert.match(stderr, words);
  }
});

test('killed at any moment it leaves no half-made twin, and nothing stopped', async () => {
  assert.ok(twinProgram !== undefined);
  let [whole, lost] = [0, 0];
  for (let delayUs = 0; delayUs < 6_000; delayUs += 200) {
    const original = await waiting();
    const script = '"$1" "$2" & sleep "$3"; kill -9 $!; wait';
    const delay = String(delayUs / 1e6);
    await runProcess(['/bin/sh', '-c', script, 'sh', twinProgram, String(original), delay]);
    const left = await findProcesses(`${folder}/one`);
    for (const { pid } of left) {
      await eventually('it is not held', 5_000, async () => {
        const info = await processInfo(pid);
        return info === undefined || (info.state !== 't' && statusOf(pid)['TracerPid'] === '0');
      });
    }
    if (left.length === 2) whole += 1;
    if (!left.some(({ pid }) => pid === original)) lost += 1;
    for (const found of left) await killAndWait(found);
  }
  assert.ok(whole < 30, 'some were killed before there was a twin');
  assert.ok(lost <= 3, `${lost} originals of 30 were lost: the window is a millisecond`);
});
