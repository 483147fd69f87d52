/**
 * Checkpoints: a VM's memory, devices and disk at one moment, in a folder of the VM, to go on from later or elsewhere.
 *
 *     VM's folder/checkpoints/NAME/  manifest.json  state  memory (sparse)  data.img (sparse)
 *
 * A folder gets its name when it is whole; names with a leading dot are being made, or were when a daemon died. Nothing in
 * it is ever written again: a VM that goes on from it has copies of its own.
 */
import { createHash, randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { BerthError, errnoOf, messageOf } from '#base';
import { files, nowMs } from '#platform';
import { packCheckpoint, unpackCheckpoint } from './checkpoint-archive.ts';
import { measureFile } from './checkpoint-blocks.ts';
import {
  CHECKPOINT_VERSION,
  type CheckpointManifest,
  type CheckpointNeeds,
  needsOf,
  parseManifest,
  requireSame,
} from './checkpoint-manifest.ts';
import { writeEmpty } from './empty-file.ts';
import { requireNoVolumes } from './fork.ts';
import { hasMachine } from './lifecycle.ts';
import type { SavedMachine, VmRecord, VmSpec } from './model.ts';
import type { EnginePorts, EngineSettings } from './ports.ts';
import { launchSaved } from './run-source.ts';
import { checkSavedMachine, restoring, saveMachine } from './saved-machine.ts';
import { copySparse } from './templates/index.ts';
import type { Vm } from './vm.ts';

const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/;

export interface CheckpointSummary {
  readonly name: string;
  readonly createdAtMs: number;
  /** What memory and disk hold. */
  readonly bytes: number;
}

export class Checkpoints {
  readonly #ports: EnginePorts;
  readonly #settings: EngineSettings;
  /** Folders that are not left over. */
  readonly #making = new Set<string>();
  readonly #make: (name: string, spec: VmSpec) => Promise<Vm>;

  /** @param make - a VM that was never started. */
  constructor(ports: EnginePorts, settings: EngineSettings, make: (name: string, spec: VmSpec) => Promise<Vm>) {
    this.#ports = ports;
    this.#settings = settings;
    this.#make = make;
  }

  /**
   * Puts a running VM away; it goes on, or ends there with `exit`.
   *
   * @throws checkpoint.name (invalid), checkpoint.exists, vm.* (conflict); guest.freeze, memory.save (unavailable): then it goes on.
   */
  async create(vm: Vm, name: string, { exit }: { readonly exit: boolean }): Promise<void> {
    const folder = folderOf(vm, name);
    const { record } = vm;
    if (await files.exists(folder))
      throw new BerthError('conflict', 'checkpoint.exists', `checkpoint ${name} exists already for VM ${record.name}`);
    if (exit && record.spec.autoRemove) {
      const what = `VM ${record.name} goes away when it ends, and its checkpoints with it`;
      throw new BerthError('conflict', 'checkpoint.auto_remove', what, { hint: 'leave it running: --leave-running' });
    }
    requireNoVolumes(vm, 'kept as a checkpoint');
    const kernel = vm.link().kernelRelease;
    const making = await this.#makeAside(vm);
    try {
      let needs: CheckpointNeeds | undefined;
      let log = { stdout: 0, stderr: 0 };
      const finish = async (): Promise<void> => {
        if (needs === undefined) return;
        await this.#complete(making, { record, needs, log });
        await files.rename(making, folder);
        await files.syncFolder(`${vm.folder}/checkpoints`);
      };
      await vm.whileFrozen({ flush: true, end: exit }, async (machine) => {
        needs = await this.#needs(record.spec, { qemu: await machine.version(), guestKernel: kernel });
        await saveMachine(machine, this.#settings.memoryProgram, making);
        await writeEmpty(`${making}/data.img`, 0, undefined);
        await copySparse(this.#settings.memoryProgram, vm.diskPath, [`${making}/data.img`]);
        log = (await vm.log()).offsetsOf(record.run);
        // A VM that ends with it ends when nothing can go wrong any more.
        if (exit) await finish();
      });
      if (!exit) await finish();
      vm.announce('checkpoint', { checkpoint: name });
    } catch (error) {
      await files.rm(making, { recursive: true, force: true });
      throw error;
    } finally {
      this.#making.delete(making);
    }
  }

  async list(vm: Vm): Promise<CheckpointSummary[]> {
    const found: CheckpointSummary[] = [];
    for (const name of await readFolder(`${vm.folder}/checkpoints`)) {
      if (!NAME.test(name)) continue;
      const manifest = await readManifest(vm, name).catch(() => undefined);
      const bytes = manifest === undefined ? 0 : manifest.files.memory.packedBytes + manifest.files.data.packedBytes;
      found.push({ name, createdAtMs: manifest?.createdAtMs ?? 0, bytes });
    }
    return found.sort((a, b) => a.createdAtMs - b.createdAtMs);
  }

  /** @throws checkpoint.not_found (not_found) */
  async remove(vm: Vm, name: string): Promise<void> {
    const folder = await requireFolder(vm, name);
    const aside = `${vm.folder}/checkpoints/.${randomBytes(6).toString('hex')}`;
    await files.rename(folder, aside);
    await files.rm(aside, { recursive: true, force: true });
  }

  /**
   * Memory and disk are again what they were, and the process goes on.
   *
   * @throws checkpoint.not_found; checkpoint.damaged (data_loss), checkpoint.other_machine (conflict): the VM is as it was;
   *   why the start failed.
   */
  async restore(vm: Vm, name: string): Promise<void> {
    const folder = await requireFolder(vm, name);
    const { spec, state, name: vmName } = vm.record;
    if (hasMachine(state)) {
      const what = `VM ${vmName} is running: it goes on from a checkpoint only after it has ended`;
      throw new BerthError('conflict', 'vm.running', what, { hint: `run "berth stop ${vmName}" first` });
    }
    const manifest = await readManifest(vm, name);
    requireSame(manifest.needs, await this.#needs(spec, this.#settings.versions));
    if (manifest.spec.imageId !== spec.imageId || manifest.spec.diskBytes !== spec.diskBytes)
      throw new BerthError('conflict', 'checkpoint.other_vm', `checkpoint ${name} was taken of another VM`);
    await this.#verify(folder, manifest);
    const memory = `${vm.folder}/restored-memory`;
    const uid = this.#settings.firstUid === undefined ? undefined : vm.record.uid;
    const program = this.#settings.memoryProgram;
    const prepare = async (): Promise<void> => {
      await files.rm(memory, { force: true });
      await writeEmpty(memory, 0, uid);
      await copySparse(program, `${folder}/memory`, [memory]);
      const disk = `${vm.diskPath}.restored`;
      await files.rm(disk, { force: true });
      await writeEmpty(disk, 0, uid);
      await copySparse(program, `${folder}/data.img`, [disk]);
      await files.rename(disk, vm.diskPath);
    };
    try {
      const saved = restoring({ ...savedIn(folder, manifest), memoryFile: memory });
      await vm.startFrom({
        origin: 'checkpoint',
        address: manifest.vm.address === '' ? undefined : manifest.vm.address,
        prepare,
        obtain: (plan) => launchSaved(plan, saved, Promise.resolve()),
      });
    } finally {
      // QEMU has it open; the space is given back when it ends.
      await files.rm(memory, { force: true });
    }
  }

  /** As one file. @throws checkpoint.not_found; checkpoint.damaged (data_loss) */
  async exportTo(vm: Vm, name: string): Promise<Readable> {
    const folder = await requireFolder(vm, name);
    const text = await files.readFile(`${folder}/manifest.json`, 'utf8');
    const manifest = parseManifest(text);
    await this.#verify(folder, manifest);
    return Readable.from(packCheckpoint(this.#settings.memoryProgram, folder, manifest, text));
  }

  /**
   * Makes a VM, not started, that has the checkpoint of an archive.
   *
   * @param options.name - of the VM; absent: the name it had. `checkpoint`: the checkpoint's.
   * @throws checkpoint.damaged (data_loss), checkpoint.no_image (not_found), vm.name_taken (conflict): nothing is left.
   */
  async import(
    input: Readable,
    options: { readonly name: string | undefined; readonly checkpoint: string },
  ): Promise<Vm> {
    requireName(options.checkpoint);
    // The engine sweeps what belongs to no VM when it opens.
    const aside = `${this.#settings.stateFolder}/vms/import-${randomBytes(8).toString('hex')}`;
    await files.mkdir(aside, { mode: 0o700 });
    try {
      const manifest = await unpackCheckpoint(input, aside, (found) => this.#requireImage(found));
      const vm = await this.#make(options.name ?? manifest.vm.name, { ...manifest.spec });
      try {
        await files.mkdir(`${vm.folder}/checkpoints`, { recursive: true, mode: 0o700 });
        await files.rename(aside, folderOf(vm, options.checkpoint));
      } catch (error) {
        await vm.remove({ force: true });
        throw error;
      }
      return vm;
    } finally {
      await files.rm(aside, { recursive: true, force: true });
    }
  }

  /** A folder for a checkpoint that is being made. Takes away what was being made when a daemon died. */
  async #makeAside(vm: Vm): Promise<string> {
    const parent = `${vm.folder}/checkpoints`;
    await files.mkdir(parent, { recursive: true, mode: 0o700 });
    for (const name of await readFolder(parent)) {
      const path = `${parent}/${name}`;
      if (name.startsWith('.') && !this.#making.has(path)) await files.rm(path, { recursive: true, force: true });
    }
    const aside = `${parent}/.${randomBytes(6).toString('hex')}`;
    this.#making.add(aside);
    await files.mkdir(aside, { mode: 0o700 });
    return aside;
  }

  async #requireImage({ spec }: CheckpointManifest): Promise<void> {
    try {
      await this.#ports.images.layersOf(spec.imageId);
    } catch (error) {
      const what = `the checkpoint's image ${spec.imageReference} (${spec.imageId}) is not here`;
      const hint = `run "berth pull ${spec.imageReference}", or bring it with "berth save" and "berth load"`;
      throw new BerthError('not_found', 'checkpoint.no_image', what, { hint, cause: error });
    }
  }

  async #needs(spec: VmSpec, versions: { qemu: string; guestKernel: string }): Promise<CheckpointNeeds> {
    const card = this.#settings.firstUid === undefined ? 'user' : 'tap';
    return needsOf(spec, await this.#settings.build(), versions, card);
  }

  async #complete(
    folder: string,
    { record, needs, log }: { record: VmRecord; needs: CheckpointNeeds; log: { stdout: number; stderr: number } },
  ): Promise<void> {
    const program = this.#settings.memoryProgram;
    const { initramfs } = await this.#settings.build();
    const state = await files.readFile(`${folder}/state`);
    const manifest: CheckpointManifest = {
      version: CHECKPOINT_VERSION,
      createdAtMs: nowMs(),
      vm: { id: record.id, name: record.name, address: record.network?.address ?? '' },
      spec: record.spec,
      needs,
      guestProgramSha256: sha256(await files.readFile(initramfs)),
      log: { stdout: log.stdout, stderr: log.stderr },
      files: {
        state: { bytes: state.length, sha256: sha256(state) },
        memory: await measureFile(program, `${folder}/memory`),
        data: await measureFile(program, `${folder}/data.img`),
      },
    };
    await files.writeFileAtomic(`${folder}/manifest.json`, JSON.stringify(manifest));
  }

  /** @throws checkpoint.damaged (data_loss) naming the file and what is wrong with it. */
  async #verify(folder: string, manifest: CheckpointManifest): Promise<void> {
    const { memory, data } = manifest.files;
    try {
      await checkSavedMachine(savedIn(folder, manifest));
      for (const [name, facts] of [
        ['memory', memory],
        ['data.img', data],
      ] as const) {
        const measured = await measureFile(this.#settings.memoryProgram, `${folder}/${name}`);
        if (measured.bytes !== facts.bytes || measured.sha256 !== facts.sha256)
          throw new BerthError('data_loss', 'checkpoint.damaged', `${folder}/${name} is not what was saved`);
      }
    } catch (error) {
      const what = `the checkpoint is damaged: ${messageOf(error)}`;
      throw new BerthError('data_loss', 'checkpoint.damaged', what, { cause: error });
    }
  }
}

/** What of a checkpoint is a machine that was put away. */
function savedIn(folder: string, { files: { state, memory } }: CheckpointManifest): SavedMachine {
  return {
    memoryFile: `${folder}/memory`,
    memoryBytes: memory.bytes,
    stateFile: `${folder}/state`,
    stateSha256: state.sha256,
  };
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** @throws checkpoint.name (invalid) */
function requireName(name: string): void {
  if (NAME.test(name)) return;
  const what = `Invalid checkpoint name (${name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, and 128 of them`;
  throw new BerthError('invalid', 'checkpoint.name', what);
}

function folderOf(vm: Vm, name: string): string {
  requireName(name);
  return `${vm.folder}/checkpoints/${name}`;
}

async function requireFolder(vm: Vm, name: string): Promise<string> {
  const folder = folderOf(vm, name);
  if (await files.exists(folder)) return folder;
  const what = `checkpoint ${name} does not exist for container ${vm.record.name}`;
  throw new BerthError('not_found', 'checkpoint.not_found', what);
}

async function readManifest(vm: Vm, name: string): Promise<CheckpointManifest> {
  try {
    return parseManifest(await files.readFile(`${folderOf(vm, name)}/manifest.json`, 'utf8'));
  } catch (error) {
    if (error instanceof BerthError) throw error;
    throw new BerthError('data_loss', 'checkpoint.damaged', `the manifest of checkpoint ${name}: ${messageOf(error)}`);
  }
}

async function readFolder(path: string): Promise<string[]> {
  try {
    return await files.readdir(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}
