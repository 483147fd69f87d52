/**
 * Sleep: a VM's machine is written out and ended, and made again when somebody needs it.
 *
 * Asleep a VM is a record, two files beside its disk, and its published ports, which berthd holds: a connection to one
 * of them wakes it and is served. Its address, its name and its process stay what they were.
 *
 * The order of things keeps a crash harmless. Falling asleep: the intent is stored, the machine stopped and written out,
 * `asleep` stored, and only then QEMU ended. Waking: the new machine is filled and does not run; `running` is stored;
 * then it runs, and the files are removed. So a record that says `asleep` or `waking` always has its files, and a
 * machine that has run one instruction is never thrown away for them.
 */
import { BerthError, messageOf } from '#base';
import { files } from '#platform';
import type { VmEvent } from './lifecycle.ts';
import type { RunningMachine } from './machine.ts';
import type { SavedMachine, Transit, VmRecord } from './model.ts';
import type { EnginePorts } from './ports.ts';
import { checkSavedMachine, saveMachine } from './saved-machine.ts';
import type { VmSession } from './vm-session.ts';

export interface ObtainedToFill {
  readonly machine: RunningMachine;
  /** Called once it is connected, before it is filled. */
  prepare(): Promise<void>;
}

/** What sleeping needs of the VM. */
export interface SleepHost {
  readonly record: VmRecord;
  readonly ports: EnginePorts;
  readonly memoryProgram: string;
  /** For the two files. */
  readonly folder: string;
  readonly session: VmSession | undefined;
  readonly hasExecs: boolean;
  apply(event: VmEvent): void;
  setTransit(transit: Transit | undefined): void;
  /** The machine is the VM's from now on; it is stored with the next state. */
  setSession(session: VmSession | undefined): void;
  newSession(machine: RunningMachine): VmSession;
  /** A QEMU that waits to be filled with `saved`, with the VM's sockets and network. @throws qemu.*, process.*, network.* */
  obtain(saved: SavedMachine): Promise<ObtainedToFill>;
  /** For a connection: resolves when it can be handed on, to what is called once it was answered, or is gone. */
  wake(): Promise<() => void>;
  /** Resolves when connections that waited are answered, or somebody needs the guest program. */
  untilServed(): Promise<void>;
  /** Closes what a VM without a machine needs not keep open. */
  quieten(): Promise<void>;
  /** The machine runs: connections that were held can be handed on. */
  runs(): void;
  /** Done in the background, before the next sleep or wake. */
  afterwards(work: () => Promise<void>): void;
  /** Connects to the machine anew, until it answers. */
  takeOver(): void;
  happened(action: string): void;
}

/**
 * @throws vm.not_running, vm.paused, vm.busy (conflict); vm.asleep (not_modified); vm.cannot_sleep (unsupported);
 *   what writing met: the VM runs on then.
 */
export async function putToSleep(host: SleepHost): Promise<void> {
  const { record, ports, session } = host;
  const refusal = refusalOf(record, ports, session, host.hasExecs);
  if (refusal !== undefined) throw refusal;
  if (session === undefined) throw new BerthError('bug', 'vm.no_session', `VM ${record.name} runs without a session`);
  host.setTransit('sleeping');
  await ports.network?.hold(record.id, () => host.wake());
  let saved: SavedMachine;
  try {
    // Asleep it may be removed, and what it held back for a volume with it.
    if ((record.spec.volumes ?? []).length > 0) await session.link?.flush();
    await files.rm(host.folder, { recursive: true, force: true });
    await files.mkdir(host.folder, { mode: 0o711 });
    saved = await saveMachine(session.machine, host.memoryProgram, host.folder);
    if (host.record.state.name !== 'running')
      throw new BerthError('conflict', 'vm.not_running', `VM ${record.name} ended while it was to fall asleep`);
  } catch (error) {
    await session.machine.qmp.execute('cont').catch(() => {});
    await ports.network?.unhold(record.id);
    await files.rm(host.folder, { recursive: true, force: true });
    if (host.record.state.name === 'running') host.setTransit(undefined);
    throw error;
  }
  host.apply({ type: 'fell_asleep', saved });
  host.setSession(undefined);
  await session.end();
  await files.rm(session.machine.identity.folder, { recursive: true, force: true });
  await host.quieten();
  host.happened('sleep');
}

function refusalOf(
  { state, name }: VmRecord,
  ports: EnginePorts,
  session: VmSession | undefined,
  hasExecs: boolean,
): BerthError | undefined {
  if (state.name === 'asleep') return new BerthError('not_modified', 'vm.asleep', `VM ${name} sleeps already`);
  if (state.name === 'paused')
    return new BerthError('conflict', 'vm.paused', `VM ${name} is paused`, { hint: 'unpause it before it can sleep' });
  if (state.name !== 'running') return new BerthError('conflict', 'vm.not_running', `VM ${name} is not running`);
  if (session?.isGreeted !== true)
    return new BerthError('unavailable', 'vm.unresponsive', `VM ${name} has not answered this daemon yet`);
  if (hasExecs)
    return new BerthError(
      'conflict',
      'vm.busy',
      `VM ${name} runs a command of "exec": it cannot sleep before that ends`,
    );
  if (ports.network !== undefined && ports.network.bridge === undefined)
    return new BerthError('unsupported', 'vm.cannot_sleep', 'a daemon that is not root cannot put VMs to sleep', {
      hint: 'it may not look into the memory of QEMU, and cannot hold the ports QEMU itself serves',
    });
  return undefined;
}

/**
 * @throws saved.damaged (data_loss) and what launching met: the VM stays asleep with the reason, its files are kept, and it
 *   is never started anew in silence.
 */
export async function wakeUp(host: SleepHost): Promise<void> {
  const { state, id, name, uid } = host.record;
  if (state.name !== 'asleep') return;
  const { saved } = state;
  host.apply({ type: 'waking' });
  let machine: RunningMachine | undefined;
  try {
    await checkSavedMachine(saved);
    await files.chown(saved.memoryFile, uid, uid);
    const obtained = await host.obtain(saved);
    machine = obtained.machine;
    const session = host.newSession(machine);
    const onFilled = (): void => {
      if (host.record.state.name !== 'waking')
        throw new BerthError('conflict', 'vm.ended', `VM ${name} was ended while it woke`);
      host.setSession(session);
      host.apply({ type: 'woke' });
    };
    await session.wakeUp({
      prepare: () => obtained.prepare(),
      onFilled,
      onRunning: () => host.runs(),
      untilServed: () => host.untilServed(),
    });
  } catch (error) {
    if (host.record.state.name === 'waking' || host.session === undefined) await machine?.kill();
    if (host.record.state.name === 'running') {
      // It runs, and cannot be talked to: as a machine that a new daemon finds, it is asked again until it answers or ends.
      host.afterwards(async () => await host.ports.network?.unhold(id));
      host.takeOver();
    }
    host.apply({ type: 'wake_failed', error: `it could not be woken: ${messageOf(error)}` });
    throw error instanceof BerthError && error.code === 'saved.damaged'
      ? new BerthError('data_loss', 'vm.sleep_lost', `VM ${name} cannot be woken: ${error.message}`, {
          hint: 'its disk is untouched; "kill" ends it, and the next start boots it from its disk',
          cause: error,
        })
      : error;
  }
  host.setTransit(undefined);
  host.happened('wake');
  // Who woke the VM need not wait for this; the next sleep does.
  host.afterwards(async () => {
    await host.ports.network?.unhold(id);
    await files.rm(host.folder, { recursive: true, force: true });
  });
}
