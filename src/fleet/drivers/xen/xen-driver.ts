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
import { PREPARE, WATCH } from './commands.ts';
import { XenShell } from './shell.ts';
import { openSession } from './xen-session.ts';

export const xenDriver: FleetDriver = { name: 'xen', schemes: SCHEMES, problemsOf, open };

async function open(target: SourceTarget, signal: AbortSignal): Promise<DriverSession> {
  signal.throwIfAborted();
  const { url, allowPower } = target;
  const isRemote = url.protocol === 'xl+ssh:';
  const where = isRemote ? url.host : 'this host';
  const explain = (words: string): BerthError =>
    isRemote
      ? sshFailure(words, where)
      : new BerthError(
          'unavailable',
          'xen.shell',
          `the shell for xl ended: ${words.trim().slice(-500) || 'without a word'}`,
        );
  const argv = shellArguments(url);
  const start = (): Promise<ChildStreams> => spawnStreams(argv, isRemote ? SSH_ENVIRONMENT : []);
  const shell = new XenShell({ child: await start(), where, explain });
  const giveUp = (): void => shell.close();
  signal.addEventListener('abort', giveUp, { once: true });
  try {
    signal.throwIfAborted();
    const { status } = await shell.run(PREPARE);
    if (status !== 0) {
      const hint = 'is it a Xen host, and dom0? Debian has xl in xen-utils; XCP-ng and XenServer are other sources';
      throw new BerthError('unsupported', 'xen.no_xl', `there is no xl at ${where}`, { hint });
    }
    const startWatch = async (): Promise<ChildStreams> => {
      const child = await start();
      child.stdin.write(`${WATCH}\n`);
      return child;
    };
    return await openSession({ shell, where, allowPower, startWatch, explain });
  } catch (error) {
    shell.close();
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', giveUp);
  }
}
