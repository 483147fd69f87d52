/**
 * Processes that outlive berthd: started in their own session, found again through /proc, ended by pid.
 *
 * A pid alone names nothing: pids are used again. `startTicks` (field 22 of /proc/PID/stat, clock ticks since boot)
 * and the pid together name one process until the host reboots.
 */
import { spawn } from 'node:child_process';
import { open, readdir, readFile } from 'node:fs/promises';
import { getPriority, setPriority } from 'node:os';
import { BerthError, errnoOf } from '#base';
import { monotonicMs, sleep } from './clock.ts';

export interface ProcessInfo {
  readonly pid: number;
  readonly startTicks: number;
  /** The letter of /proc/PID/stat: R running, S sleeping, D disk, T stopped, Z zombie ... */
  readonly state: string;
  readonly threads: number;
  /** Processor time of all its threads, user and system, in hundredths of a second. */
  readonly cpuTicks: number;
}

export interface DetachedProcess {
  readonly pid: number;
  /** Settles once, when the process has ended and was reaped by us. */
  readonly ended: Promise<{ readonly exitCode: number | null; readonly signal: string | null }>;
}

/**
 * Starts a program in a session of its own; it goes on when berthd dies. Its environment is empty but for PATH.
 *
 * @throws process.not_found (unavailable) when it cannot be started.
 */
export async function spawnDetached(argv: readonly [string, ...string[]]): Promise<DetachedProcess> {
  const [command, ...args] = argv;
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' };
  const child = spawn(command, args, { detached: true, stdio: 'ignore', env, cwd: '/' });
  const ended = new Promise<{ exitCode: number | null; signal: string | null }>((resolve) => {
    child.once('exit', (exitCode, signal) => resolve({ exitCode, signal }));
  });
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', (error) =>
      reject(
        new BerthError('unavailable', 'process.not_found', `cannot run ${command}`, {
          hint: 'run "berth doctor" to see what is missing',
          cause: error,
        }),
      ),
    );
  });
  child.unref();
  return { pid: child.pid ?? -1, ended };
}

/** A detached process one can talk to in lines while both are there. */
export interface TalkingProcess extends DetachedProcess {
  /** The next line it says. @throws process.silent (timeout), process.ended (unavailable) with its standard error */
  nextLine(deadlineMs: number): Promise<string>;
  say(line: string): void;
  /** Closes the talk; the process goes on or ends as it sees fit. */
  hangUp(): void;
}

/** As `spawnDetached`, with standard streams that are pipes to us. @throws process.not_found (unavailable) */
export async function spawnTalking(argv: readonly [string, ...string[]]): Promise<TalkingProcess> {
  const [command, ...args] = argv;
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' };
  const child = spawn(command, args, { detached: true, stdio: 'pipe', env, cwd: '/' });
  const ended = new Promise<{ exitCode: number | null; signal: string | null }>((resolve) => {
    child.once('exit', (exitCode, signal) => resolve({ exitCode, signal }));
  });
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', (error) =>
      reject(new BerthError('unavailable', 'process.not_found', `cannot run ${command}`, { cause: error })),
    );
  });
  child.unref();
  let words = '';
  let text = '';
  let isOver = false;
  let rouse: () => void = () => {};
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString();
    rouse();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    words = (words + chunk.toString()).slice(-1_000);
  });
  child.stdin.on('error', () => {});
  child.once('close', () => {
    isOver = true;
    rouse();
  });
  const nextLine = async (deadlineMs: number): Promise<string> => {
    const until = monotonicMs() + deadlineMs;
    for (;;) {
      const end = text.indexOf('\n');
      if (end >= 0) {
        const line = text.slice(0, end);
        text = text.slice(end + 1);
        return line;
      }
      if (isOver)
        throw new BerthError('unavailable', 'process.ended', `${command} ended: ${words.trim() || 'without a word'}`);
      const leftMs = until - monotonicMs();
      if (leftMs <= 0)
        throw new BerthError('timeout', 'process.silent', `${command} said nothing for ${deadlineMs} ms`);
      const limit = new AbortController();
      const news = new Promise<void>((resolve) => {
        rouse = resolve;
      });
      await Promise.race([news, sleep(leftMs, limit.signal).catch(() => {})]);
      limit.abort();
    }
  };
  return {
    pid: child.pid ?? -1,
    ended,
    nextLine,
    say: (line) => void child.stdin.write(`${line}\n`),
    hangUp: () => {
      for (const pipe of [child.stdin, child.stdout, child.stderr]) pipe.destroy();
    },
  };
}

/**
 * As `spawnDetached`, with the caller's environment, `env` over it, and the output appended to a file.
 *
 * @throws process.not_found (unavailable) when it cannot be started.
 */
export async function spawnDaemon(
  argv: readonly [string, ...string[]],
  options: { readonly outputPath: string; readonly env?: Readonly<Record<string, string>> },
): Promise<DetachedProcess> {
  const [command, ...args] = argv;
  const output = await open(options.outputPath, 'a', 0o600);
  try {
    const env = { ...process.env, ...options.env };
    const child = spawn(command, args, { detached: true, stdio: ['ignore', output.fd, output.fd], cwd: '/', env });
    const ended = new Promise<{ exitCode: number | null; signal: string | null }>((resolve) => {
      child.once('exit', (exitCode, signal) => resolve({ exitCode, signal }));
    });
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', (error) =>
        reject(new BerthError('unavailable', 'process.not_found', `cannot run ${command}`, { cause: error })),
      );
    });
    child.unref();
    return { pid: child.pid ?? -1, ended };
  } finally {
    await output.close();
  }
}

/** What /proc says of `pid` now, or undefined when there is no such process. */
export async function processInfo(pid: number): Promise<ProcessInfo | undefined> {
  let text: string;
  try {
    text = await readFile(`/proc/${pid}/stat`, 'utf8');
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ESRCH') return undefined;
    throw error;
  }
  // The second field, the name in brackets, may hold anything; fields are counted from the last bracket.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return {
    pid,
    state: fields[0] ?? '?',
    cpuTicks: Number(fields[11] ?? 0) + Number(fields[12] ?? 0),
    threads: Number(fields[17] ?? 0),
    startTicks: Number(fields[19] ?? 0),
  };
}

/**
 * Whether the process named by pid and start is still there and not a zombie.
 *
 * Of a process that ends, the first thread is a zombie before the others have gone, and they hold what all share: files,
 * sockets, a tap. It counts as alive until it is alone.
 */
export async function isAlive(named: { readonly pid: number; readonly startTicks: number }): Promise<boolean> {
  const info = await processInfo(named.pid);
  if (info === undefined || info.startTicks !== named.startTicks) return false;
  return (info.state !== 'Z' && info.state !== 'X') || info.threads > 1;
}

/** All processes whose command line holds `needle`, with that command line. */
export async function findProcesses(needle: string): Promise<(ProcessInfo & { readonly argv: readonly string[] })[]> {
  const found: (ProcessInfo & { readonly argv: readonly string[] })[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^[0-9]+$/.test(name)) continue;
    try {
      const text = await readFile(`/proc/${name}/cmdline`, 'utf8');
      if (!text.includes(needle)) continue;
      const info = await processInfo(Number(name));
      if (info !== undefined && info.state !== 'Z') found.push({ ...info, argv: text.split('\0').slice(0, -1) });
    } catch {
      // It ended between the listing and the look: then it is not there.
    }
  }
  return found;
}

/** Sends a signal; a process that is gone already is no error. */
export function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (errnoOf(error) !== 'ESRCH') throw error;
  }
}

/**
 * Gives all threads of a process that is there, and those they make from now on, one nice value: 19 gives way to everybody,
 * 0 is usual. Only root may take it back to 0. A process that is gone is no error.
 *
 * @source setpriority(2): on Linux a nice value is a thread's own
 */
export async function setNice(pid: number, nice: number): Promise<void> {
  // Threads that one not met yet has made meanwhile are met in the next round.
  for (let met = 1; met > 0; ) {
    met = 0;
    for (const thread of await threadsOf(pid)) {
      try {
        if (getPriority(thread) === nice) continue;
        setPriority(thread, nice);
      } catch (error) {
        if (!(error instanceof Error && 'info' in error && errnoOfSystem(error.info) === 'ESRCH')) throw error;
      }
      met += 1;
    }
  }
}

/** None when it is gone. */
async function threadsOf(pid: number): Promise<number[]> {
  try {
    return (await readdir(`/proc/${pid}/task`)).map(Number);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ESRCH') return [];
    throw error;
  }
}

/** Node tells of such calls in `info`, as no other. */
function errnoOfSystem(info: unknown): unknown {
  return typeof info === 'object' && info !== null && 'code' in info ? info.code : undefined;
}

/**
 * SIGKILL, then waits until the process is gone (or a zombie of ours).
 *
 * @throws process.immortal (timeout) when it is still there after `deadlineMs`: it hangs inside the kernel.
 */
export async function killAndWait(
  named: { readonly pid: number; readonly startTicks: number },
  deadlineMs = 10_000,
): Promise<void> {
  const until = monotonicMs() + deadlineMs;
  let waitMs = 1;
  if (await isAlive(named)) signalProcess(named.pid, 'SIGKILL');
  while (await isAlive(named)) {
    if (monotonicMs() > until) {
      throw new BerthError(
        'timeout',
        'process.immortal',
        `process ${named.pid} is still there ${deadlineMs} ms after SIGKILL`,
      );
    }
    await sleep(waitMs);
    waitMs = Math.min(waitMs * 2, 50);
  }
}

/** Milliseconds since the host started: the clock that `startTicks` counts on. */
export async function hostUptimeMs(): Promise<number> {
  return Number((await readFile('/proc/uptime', 'utf8')).split(' ')[0]) * 1000;
}

/** Memory that is the process's own, shared pages counted in part; undefined when it may not be read. */
export async function processMemoryBytes(pid: number): Promise<number | undefined> {
  try {
    const found = /^Pss:\s+([0-9]+) kB/m.exec(await readFile(`/proc/${pid}/smaps_rollup`, 'utf8'));
    return found === null ? undefined : Number(found[1]) * 1024;
  } catch {
    return undefined;
  }
}
