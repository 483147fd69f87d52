/**
 * Makes a template: boots the one layout with nothing behind its disks, waits until the guest program greets, stops it
 * there, and keeps memory and devices for others to start from.
 *
 * The guest has been told nothing by then: no name, no image, no secret. Its disks are placeholders, its card is
 * plugged into nothing.
 */
import { createHash } from 'node:crypto';
import { files } from '#platform';
import { GuestLink } from '../guest-link.ts';
import { type LaunchPlan, type NetworkPlug, type QemuIdentity, RunningMachine } from '../machine.ts';
import { type QemuBuild, qemuArguments } from '../qemu-command.ts';
import { MemoryHolder } from './memory-holder.ts';

/** As for a VM: TCG on a loaded host. */
const BOOT_DEADLINE_MS = 120_000;
const CONTROL_DEADLINE_MS = 10_000;

/** What two machines must have in common for one to start from the other. */
export interface MachineShape {
  readonly vcpus: number;
  readonly memoryBytes: number;
}

export interface Template {
  readonly key: string;
  readonly shape: MachineShape;
  readonly memory: MemoryHolder;
  readonly stateFile: string;
  readonly stateSha256: string;
}

export interface MakerSettings {
  readonly launcher: string;
  readonly memoryProgram: string;
  readonly identity: QemuIdentity | undefined;
  /** What a card without a network is plugged into. */
  readonly plug: (tap: string) => NetworkPlug;
}

/** Everything a saved state depends on: two machines of one key can start from one another. */
export async function templateKey(
  build: QemuBuild,
  shape: MachineShape,
  plugKind: NetworkPlug['kind'],
): Promise<string> {
  const hash = createHash('sha256');
  for (const path of [build.binary, build.kernel, build.initramfs, build.firmware]) {
    if (path === undefined) continue;
    const facts = await files.stat(path);
    hash.update(`${path}:${facts.size}:${facts.mtimeMs}:${facts.ino}\n`);
  }
  const network =
    plugKind === 'tap'
      ? { kind: 'tap' as const, descriptor: 3 }
      : { kind: 'user' as const, isolated: true, address: '', ports: [] };
  const run = { name: '', memory: 'template' as const, qmpSocket: '', agentSocket: '', network };
  const disks = { rootDescriptor: undefined, dataDisk: undefined };
  return hash
    .update(
      JSON.stringify(qemuArguments(build, { ...run, ...disks, vcpus: shape.vcpus, memoryBytes: shape.memoryBytes })),
    )
    .digest('hex');
}

/**
 * @param folder - empty; state and sockets go there. It is left as it is on failure: the caller removes it.
 * @throws qemu.*, qmp.*, guest.*, process.*: whatever the boot met.
 */
export async function makeTemplate(
  key: string,
  shape: MachineShape,
  build: QemuBuild,
  settings: MakerSettings,
  folder: string,
): Promise<Template> {
  const { identity } = settings;
  if (identity !== undefined) await files.chown(folder, identity.uid, identity.uid);
  const memory = await MemoryHolder.hold(settings.memoryProgram, shape.memoryBytes, `berth-template ${folder}`);
  try {
    const plan: LaunchPlan = {
      launcher: settings.launcher,
      build,
      identity,
      plug: settings.plug(`bm${key.slice(0, 12)}`),
      folder,
      logFile: `${folder}/qemu.log`,
      memory: { path: memory.path, sealed: false },
      run: { name: 'berth-template', memory: 'template', rootDescriptor: undefined, dataDisk: undefined, ...shape },
    };
    const stateFile = `${folder}/state`;
    await bootAndSave(plan, stateFile);
    await memory.seal();
    // QEMU's user wrote it; nobody writes it again.
    if (identity !== undefined) for (const path of [stateFile, folder]) await files.chown(path, 0, 0);
    const stateSha256 = createHash('sha256')
      .update(await files.readFile(stateFile))
      .digest('hex');
    return { key, shape, memory, stateFile, stateSha256 };
  } catch (error) {
    await memory.end();
    throw error;
  }
}

async function bootAndSave(plan: LaunchPlan, stateFile: string): Promise<void> {
  const machine = await RunningMachine.launch(plan);
  try {
    const stream = await machine.connect({ onGone: () => {}, onQmpEvent: () => {} });
    await machine.qmp.negotiate(CONTROL_DEADLINE_MS);
    const link = new GuestLink(stream, { onOutput: () => {}, onExited: () => {}, onLog: () => {} });
    await link.hello(false, BOOT_DEADLINE_MS);
    await machine.saveDevices(stateFile);
  } finally {
    await machine.kill();
  }
}
