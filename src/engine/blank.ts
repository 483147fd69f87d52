/**
 * A QEMU that waits for any saved machine of one layout: started, and never filled. Its twin is filled instead, which spares
 * the 50 ms that QEMU takes to start.
 */
import { files } from '#platform';
import { type LaunchPlan, RunningMachine } from './machine.ts';
import type { SavedMachine } from './model.ts';
import type { MouldSettings, Place } from './mould.ts';
import type { QemuBuild } from './qemu-command.ts';
import type { Template } from './templates/index.ts';
import { letGoOfMemoryFile, makeTwin } from './twin.ts';

const CONTROL_DEADLINE_MS = 10_000;

export class Blank {
  readonly key: string;
  readonly uid: number;
  readonly #program: string;
  readonly #machine: RunningMachine;
  /** What it would be filled from. */
  readonly #stateFile: string;
  #last: Promise<unknown> = Promise.resolve();

  private constructor(template: Template, uid: number, program: string, machine: RunningMachine) {
    this.key = template.key;
    this.uid = uid;
    this.#program = program;
    this.#machine = machine;
    this.#stateFile = template.stateFile;
  }

  /** @throws qemu.*, qmp.*, process.*: nothing of it is left but the folder. */
  static async make(
    build: QemuBuild,
    template: Template,
    place: Place,
    settings: MouldSettings & { readonly twinProgram: string },
  ): Promise<Blank> {
    const name = place.folder.slice(place.folder.lastIndexOf('/') + 1);
    const machine = await RunningMachine.launch({
      launcher: settings.launcher,
      build,
      identity: { uid: place.uid, group: settings.kvmGroup },
      plug: { kind: 'tap', tap: `b${name}`, bridge: undefined },
      folder: place.folder,
      logFile: `${place.folder}/qemu.log`,
      memory: { path: template.memory.path, sealed: true },
      stateFile: template.stateFile,
      run: {
        name: `berth-${name}`,
        memory: 'restored',
        startsPaused: true,
        rootDescriptor: undefined,
        dataDisk: undefined,
        ...template.shape,
      },
    });
    try {
      const agent = await machine.connect({ onGone: () => {}, onQmpEvent: () => {} });
      await machine.qmp.negotiate(CONTROL_DEADLINE_MS);
      agent.destroy();
      const trouble = await letGoOfMemoryFile(settings.twinProgram, machine.identity);
      if (trouble !== undefined) settings.log(trouble);
      return new Blank(template, place.uid, settings.twinProgram, machine);
    } catch (error) {
      await machine.kill();
      throw error;
    }
  }

  alive(): Promise<boolean> {
    return this.#machine.alive();
  }

  /** As `plan` would launch it, but for its disks: they are to be attached. @throws machine.twin (unavailable) */
  async twin(plan: LaunchPlan, saved: SavedMachine): Promise<RunningMachine | undefined> {
    const { plug, identity, folder, logFile } = plan;
    if (plug.kind !== 'tap' || identity === undefined) return undefined;
    const twin = {
      program: this.#program,
      original: this.#machine.identity,
      uid: identity.uid,
      ...{ folder, logFile, plug },
      memoryFile: saved.memoryFile,
      files: [[this.#stateFile, saved.stateFile]] as const,
    };
    const turn = this.#last.then(() => makeTwin(twin));
    this.#last = turn.catch(() => {});
    return RunningMachine.adopt(await turn, logFile);
  }

  async end(): Promise<void> {
    await this.#last;
    await this.#machine.kill();
    await files.rm(this.#machine.identity.folder, { recursive: true, force: true });
  }
}
