/** Starting, stopping and looking at a daemon from another process. */
import { BerthError } from '#base';
import {
  files,
  hostUptimeMs,
  isAlive,
  monotonicMs,
  processMemoryBytes,
  signalProcess,
  sleep,
  spawnDaemon,
  unixRequest,
} from '#platform';
import { daemonCommand, type Installation } from '#setup';
import { type DaemonProcess, readPidFile } from './pid-file.ts';
import type { DaemonSettings } from './settings.ts';

/** A loaded host of two cores starts it within 2 s; recovering hundreds of VMs takes longer. */
const START_DEADLINE_MS = 60_000;
/** The daemon only lets go when it leaves; VMs run on. */
const STOP_DEADLINE_MS = 30_000;
const ROTATE_BYTES = 10 * 1024 * 1024;
/** Clock ticks a second of /proc/PID/stat. @source sysconf(_SC_CLK_TCK), 100 on every Linux Node runs on */
const TICKS_PER_SECOND = 100;

export interface StartOutcome {
  readonly pid: number | undefined;
  readonly alreadyRan: boolean;
}

export function daemonLogPath(settings: DaemonSettings): string {
  return `${settings.stateFolder}/berthd.log`;
}

export async function isServing(socket: string): Promise<boolean> {
  try {
    const { status, body } = await unixRequest({ socketPath: socket, method: 'GET', path: '/_ping' });
    body.resume();
    return status === 200;
  } catch {
    return false;
  }
}

/** What a daemon says that finds another one on its state folder. @source store/folder-lock.ts */
const LOCK_TAKEN = 'another berth daemon already uses the state folder';

/**
 * Starts the daemon in a session of its own and waits until it serves. Nothing happens when it serves already.
 *
 * @throws daemon.died (unavailable) with the log's last lines; daemon.late (timeout).
 */
export async function startDaemonProcess(settings: DaemonSettings, installation: Installation): Promise<StartOutcome> {
  if (await isServing(settings.socket)) {
    return { pid: (await readPidFile(settings.runFolder))?.pid, alreadyRan: true };
  }
  const logPath = daemonLogPath(settings);
  await files.mkdir(settings.stateFolder, { recursive: true, mode: 0o711 });
  await rotate(logPath);
  const folders = ['--state-dir', settings.stateFolder, '--run-dir', settings.runFolder, '--socket', settings.socket];
  const before = (await files.stat(logPath).catch(() => undefined))?.size ?? 0;
  const child = await spawnDaemon(daemonCommand(installation, folders), { outputPath: logPath });
  let hasEnded = false;
  void child.ended.then(() => {
    hasEnded = true;
  });
  const until = monotonicMs() + START_DEADLINE_MS;
  while (!(await isServing(settings.socket))) {
    if (hasEnded) {
      const words = await lastLines(logPath, before, 20);
      // Two commands may start it at once: the one whose daemon found the lock taken waits for the other's to serve.
      if (words.includes(LOCK_TAKEN) || (await isServing(settings.socket))) {
        hasEnded = false;
        await sleep(10);
        continue;
      }
      throw new BerthError('unavailable', 'daemon.died', `the daemon ended at once; its last words:\n${words}`, {
        hint: `the whole log is ${logPath}; "berth doctor" examines the machine`,
      });
    }
    if (monotonicMs() > until) {
      throw new BerthError(
        'timeout',
        'daemon.late',
        `the daemon (pid ${child.pid}) does not serve ${settings.socket} after ${START_DEADLINE_MS / 1000} s`,
        {
          hint: `its log is ${logPath}`,
        },
      );
    }
    await sleep(10);
  }
  return { pid: child.pid, alreadyRan: false };
}

async function rotate(path: string): Promise<void> {
  const facts = await files.stat(path).catch(() => undefined);
  if (facts !== undefined && facts.size > ROTATE_BYTES) await files.rename(path, `${path}.1`);
}

async function lastLines(path: string, from: number, count: number): Promise<string> {
  const text = (await files.readTextIfExists(path)) ?? '';
  return Buffer.from(text).subarray(from).toString('utf8').trim().split('\n').slice(-count).join('\n');
}

/**
 * SIGTERM, and the wait for the end.
 *
 * @returns the pid that ended; undefined when no daemon ran.
 * @throws daemon.immortal (timeout).
 */
export async function stopDaemonProcess(settings: DaemonSettings): Promise<number | undefined> {
  const daemon = await readPidFile(settings.runFolder);
  if (daemon === undefined) {
    if (!(await isServing(settings.socket))) return undefined;
    throw new BerthError(
      'conflict',
      'daemon.unknown',
      `a daemon serves ${settings.socket}, but ${settings.runFolder}/berthd.pid does not name it`,
      {
        hint: 'was it started with another --run-dir?',
      },
    );
  }
  signalProcess(daemon.pid, 'SIGTERM');
  const until = monotonicMs() + STOP_DEADLINE_MS;
  while (await isAlive(daemon)) {
    if (monotonicMs() > until) {
      throw new BerthError(
        'timeout',
        'daemon.immortal',
        `the daemon (pid ${daemon.pid}) is still there ${STOP_DEADLINE_MS / 1000} s after SIGTERM`,
        {
          hint: `kill -9 ${daemon.pid} does no harm: VMs run on, and the next daemon finds them`,
        },
      );
    }
    await sleep(20);
  }
  return daemon.pid;
}

export interface DaemonStatus {
  readonly running: boolean;
  readonly pid: number | null;
  readonly uptimeSeconds: number | null;
  readonly memoryBytes: number | null;
  readonly socket: string;
  readonly stateFolder: string;
  readonly runFolder: string;
  readonly log: string;
  readonly version: string | null;
  readonly accelerator: string | null;
  readonly vms: { readonly total: number; readonly running: number; readonly paused: number } | null;
}

export async function daemonStatus(settings: DaemonSettings): Promise<DaemonStatus> {
  const daemon = await readPidFile(settings.runFolder);
  const info = await askInfo(settings.socket);
  return {
    running: info !== undefined,
    pid: daemon?.pid ?? null,
    uptimeSeconds: daemon === undefined ? null : await uptimeOf(daemon),
    memoryBytes: daemon === undefined ? null : ((await processMemoryBytes(daemon.pid)) ?? null),
    socket: settings.socket,
    stateFolder: settings.stateFolder,
    runFolder: settings.runFolder,
    log: daemonLogPath(settings),
    version: info?.ServerVersion ?? null,
    accelerator: info?.DriverStatus?.find(([name]) => name === 'Accelerator')?.[1] ?? null,
    vms:
      info === undefined
        ? null
        : { total: info.Containers, running: info.ContainersRunning, paused: info.ContainersPaused },
  };
}

interface Info {
  readonly ServerVersion: string;
  readonly Containers: number;
  readonly ContainersRunning: number;
  readonly ContainersPaused: number;
  readonly DriverStatus?: readonly (readonly [string, string])[];
}

async function askInfo(socket: string): Promise<Info | undefined> {
  try {
    const { status, body } = await unixRequest({ socketPath: socket, method: 'GET', path: '/info' });
    const chunks: Buffer[] = [];
    for await (const chunk of body) chunks.push(chunk as Buffer);
    return status === 200 ? (JSON.parse(Buffer.concat(chunks).toString('utf8')) as Info) : undefined;
  } catch {
    return undefined;
  }
}

async function uptimeOf(daemon: DaemonProcess): Promise<number> {
  return Math.max(0, Math.round((await hostUptimeMs()) / 1000 - daemon.startTicks / TICKS_PER_SECOND));
}
