/** Who serves a run folder: `PID START_TICKS`. The pair names one process until the host reboots; a pid alone names nobody. */
import { BerthError, errnoOf } from '#base';
import { files, isAlive, processInfo } from '#platform';

export interface DaemonProcess {
  readonly pid: number;
  readonly startTicks: number;
}

/** @throws daemon.no_space (exhausted) */
export async function writePidFile(runFolder: string): Promise<void> {
  const own = await processInfo(process.pid);
  try {
    await files.writeFileAtomic(pidPath(runFolder), `${process.pid} ${own?.startTicks ?? 0}\n`, 0o644);
  } catch (error) {
    if (errnoOf(error) !== 'ENOSPC') throw error;
    throw new BerthError('exhausted', 'daemon.no_space', `no space left in the run folder ${runFolder}`, {
      hint: 'free some, or choose another with --run-dir',
      cause: error,
    });
  }
}

export async function removePidFile(runFolder: string): Promise<void> {
  await files.rm(pidPath(runFolder), { force: true });
}

/** The daemon that wrote it, or undefined when that one is gone. */
export async function readPidFile(runFolder: string): Promise<DaemonProcess | undefined> {
  const text = await files.readTextIfExists(pidPath(runFolder));
  const found = /^([0-9]+) ([0-9]+)\n$/.exec(text ?? '');
  if (found === null) return undefined;
  const named = { pid: Number(found[1]), startTicks: Number(found[2]) };
  return (await isAlive(named)) ? named : undefined;
}

function pidPath(runFolder: string): string {
  return `${runFolder}/berthd.pid`;
}
