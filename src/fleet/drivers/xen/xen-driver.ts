/**
 * Xen without libvirt or XAPI: `xl` and xenstore's tools, run in dom0's shell, here or by ssh.
 *
 * One connection runs the commands, a second one the watch.
 */
import { BerthError } from '#base';
import { type ChildStreams, spawnStreams } from '#platform';
import type { DriverSession, FleetDriver, SourceTarget } from '../../driver.ts';
import { SSH_ENVIRONMENT, sshFailure } from '../../ssh.ts';
import { problemsOf, SCHEMES, shellArguments } from './address.ts';
import { WATCH } from './commands.ts';
import { prepare, XenShell } from './shell.ts';
import { openSession, type SessionParts } from './xen-session.ts';

export const xenDriver: FleetDriver = { name: 'xen', schemes: SCHEMES, problemsOf, open };

async function open(target: SourceTarget, signal: AbortSignal): Promise<DriverSession> {
  signal.throwIfAborted();
  const line = lineTo(target.url);
  const shell = await line.startShell();
  const giveUp = (): void => shell.close();
  signal.addEventListener('abort', giveUp, { once: true });
  try {
    signal.throwIfAborted();
    await prepare(shell, line.where);
    return await openSession({ ...line, shell, allowPower: target.allowPower });
  } catch (error) {
    shell.close();
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', giveUp);
  }
}

function lineTo(url: URL): Omit<SessionParts, 'shell' | 'allowPower'> {
  const isRemote = url.protocol === 'xl+ssh:';
  const where = isRemote ? url.host : 'this host';
  const explain = (words: string): BerthError => {
    if (isRemote) return sshFailure(words, where);
    const told = words.trim().slice(-500) || 'without a word';
    return new BerthError('unavailable', 'xen.shell', `the shell for xl ended: ${told}`);
  };
  const argv = shellArguments(url);
  const start = (): Promise<ChildStreams> => spawnStreams(argv, isRemote ? SSH_ENVIRONMENT : []);
  return {
    where,
    explain,
    startShell: async () => new XenShell({ child: await start(), where, explain }),
    startWatch: async () => {
      const child = await start();
      child.stdin.write(`${WATCH}\n`);
      return child;
    },
  };
}
