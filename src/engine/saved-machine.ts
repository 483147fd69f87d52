/**
 * A machine put away: its memory and the state of its devices in two files of one folder. Its disks are not part of it.
 *
 * Who wants to go on from it launches a machine of the same layout, memory and processors, and restores: the memory is
 * mapped privately from the file, so nothing is read before it is needed and the file stays as it was.
 */
import { createHash } from 'node:crypto';
import { BerthError, MIB, messageOf } from '#base';
import { files } from '#platform';
import type { LaunchPlan, RunningMachine } from './machine.ts';
import type { SavedMachine } from './model.ts';
import { saveMemory } from './templates/index.ts';

/** Of the devices' state: 200 KiB, and a limit for a QEMU that was taken over. */
const MAX_STATE_BYTES = 64 * MIB;

/**
 * Stops `machine` and writes it into `folder`, which must exist. The machine stays stopped: its owner ends it or lets it
 * go on. On failure the folder holds what was written until then.
 *
 * @throws qmp.*, memory.save (unavailable)
 */
export async function saveMachine(
  machine: RunningMachine,
  memoryProgram: string,
  folder: string,
): Promise<SavedMachine> {
  // QEMU's own user writes it where that user may write; the copy is ours.
  const ownState = `${machine.identity.folder}/state`;
  await files.rm(ownState, { force: true });
  await machine.saveDevices(ownState);
  const [memoryFile, stateFile] = [`${folder}/memory`, `${folder}/state`];
  const state = await files.readUntrusted(ownState, MAX_STATE_BYTES);
  await files.writeFileAtomic(stateFile, state, 0o600);
  await files.rm(ownState, { force: true });
  await saveMemory(memoryProgram, machine.identity.pid, await machine.memoryRange(), memoryFile);
  const stateSha256 = createHash('sha256').update(state).digest('hex');
  return { memoryFile, memoryBytes: (await files.stat(memoryFile)).size, stateFile, stateSha256 };
}

/** Whether all is still there as it was saved. @throws saved.damaged (data_loss) naming what is not */
export async function checkSavedMachine(saved: SavedMachine): Promise<void> {
  const damaged = (why: string): BerthError => new BerthError('data_loss', 'saved.damaged', why);
  try {
    const { size } = await files.stat(saved.memoryFile);
    if (size !== saved.memoryBytes) throw damaged(`${saved.memoryFile} has ${size} bytes, not ${saved.memoryBytes}`);
    const digest = createHash('sha256')
      .update(await files.readFile(saved.stateFile))
      .digest('hex');
    if (digest !== saved.stateSha256) throw damaged(`${saved.stateFile} is not what was saved`);
  } catch (error) {
    throw error instanceof BerthError ? error : damaged(messageOf(error));
  }
}

/** What a launch plan needs to start from `saved`. The machine's user must own the memory file: QEMU opens it for writing, and writes nothing. */
export function restoring(saved: SavedMachine): Required<Pick<LaunchPlan, 'memory' | 'stateFile'>> {
  return { memory: { path: saved.memoryFile, sealed: false }, stateFile: saved.stateFile };
}
