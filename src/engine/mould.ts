/**
 * Machines that have rehearsed: cloned from the template, and gone once through all that a start does.
 *
 *     clone ── greet ── rehearse: configured for an image of berth's own, a process run there, all of it taken down
 *
 * A mould is such a machine, stopped for good: disks with nothing behind them, nobody on its guest channel. What starts from
 * it is its twin. It holds nothing of any VM, and no VM is ever made of the mould itself.
 */
import { randomBytes } from 'node:crypto';
import { basename } from 'node:path';
import type { Duplex } from 'node:stream';
import { MIB } from '#base';
import { files, nowMs, setNice } from '#platform';
import { clockAt } from './guest-configuration.ts';
import { type GuestEvents, GuestLink } from './guest-link.ts';
import { type QemuIdentity, RunningMachine } from './machine.ts';
import type { LayerFile } from './model.ts';
import type { QemuBuild } from './qemu-command.ts';
import { layOutRootDisk } from './root-disk.ts';
import type { Template } from './templates/index.ts';
import { letGoOfMemoryFile, makeTwin } from './twin.ts';

const HELLO_DEADLINE_MS = 30_000;
const CONTROL_DEADLINE_MS = 10_000;

/** Nice values: a tenth of what others get. With less, hosts that are always busy would never have a mould. */
const GIVES_WAY = 10;
const USUAL = 0;

const DEAF: GuestEvents = { onOutput: () => {}, onExited: () => {}, onLog: () => {} };
const NO_EVENTS = { onGone: () => {}, onQmpEvent: () => {} };

/** What a rehearsal runs: an image of berth's own, a program in it that ends at once, and an empty disk. */
export interface Rehearsal {
  readonly layers: readonly LayerFile[];
  readonly args: readonly string[];
  makeDisk(path: string, uid: number): Promise<void>;
}

export interface MouldSettings {
  readonly launcher: string;
  /** Undefined: there are no twins. */
  readonly twinProgram: string | undefined;
  readonly kvmGroup: number | undefined;
  /** The bridge every machine's tap joins. */
  readonly bridge: string;
  readonly rehearsal: () => Promise<Rehearsal | undefined>;
  readonly log: (line: string) => void;
}

/** Where a machine is to be: an empty folder of the user `uid`. Its last part names the machine. */
export interface Place {
  readonly folder: string;
  readonly uid: number;
}

/** A machine whose guest greets and knows nothing yet. */
export interface FreshMachine {
  readonly machine: RunningMachine;
  readonly agent: Duplex;
  readonly uid: number;
  readonly tap: string;
}

/** @throws qemu.*, qmp.*, guest.*, process.*: whatever it met; nothing of it is left but the folder. */
export async function makeRehearsed(
  build: QemuBuild,
  template: Template,
  rehearsal: Rehearsal,
  place: Place,
  settings: MouldSettings,
): Promise<FreshMachine> {
  const { folder, uid } = place;
  const identity: QemuIdentity = { uid, group: settings.kvmGroup };
  const root = layOutRootDisk(rehearsal.layers);
  const [rootDescriptor, dataDisk] = [`${folder}/root.vmdk`, `${folder}/data.img`];
  await files.writeFileAtomic(rootDescriptor, root.descriptor, 0o644);
  await rehearsal.makeDisk(dataDisk, uid);
  const tap = tapOf(place);
  const machine = await RunningMachine.launch({
    launcher: settings.launcher,
    build,
    identity,
    plug: { kind: 'tap', tap, bridge: settings.bridge },
    folder,
    logFile: logIn(place),
    memory: { path: template.memory.path, sealed: true },
    stateFile: template.stateFile,
    run: {
      name: `berth-${basename(folder)}`,
      memory: 'restored',
      rootDescriptor,
      dataDisk,
      ...template.shape,
    },
  });
  try {
    // Seconds of work that nobody waits for.
    await setNice(machine.identity.pid, GIVES_WAY);
    const agent = await machine.connect(NO_EVENTS);
    await machine.qmp.negotiate(CONTROL_DEADLINE_MS);
    await machine.restore();
    const { twinProgram, log } = settings;
    const trouble = twinProgram === undefined ? undefined : await letGoOfMemoryFile(twinProgram, machine.identity);
    if (trouble !== undefined) log(trouble);
    const link = new GuestLink(agent, DEAF);
    const hello = await link.hello(false, HELLO_DEADLINE_MS);
    await link.rehearse(rehearsalOf(root.extents, clockAt(nowMs(), hello.answeredNs)), rehearsal.args);
    link.detach();
    await setNice(machine.identity.pid, USUAL);
    // Open still, and nobody's any more.
    for (const path of [rootDescriptor, dataDisk]) await files.rm(path, { force: true });
    return { machine, agent, uid, tap };
  } catch (error) {
    await machine.kill();
    throw error;
  }
}

export class Mould {
  readonly key: string;
  readonly #program: string;
  readonly #bridge: string;
  readonly #original: FreshMachine;
  /** The kernel lets one look into a process at a time. */
  #last: Promise<unknown> = Promise.resolve();

  private constructor(key: string, original: FreshMachine, program: string, bridge: string) {
    this.key = key;
    this.#original = original;
    this.#program = program;
    this.#bridge = bridge;
  }

  /** Makes one of a machine that has rehearsed, which is the mould's from now on. @throws qmp.*, guest.*: it is gone. */
  static async of(key: string, original: FreshMachine, program: string, bridge: string): Promise<Mould> {
    const { machine } = original;
    try {
      await machine.detachDisks();
      // Once more what a twin's guest meets first: its channel closes, opens, and someone greets.
      machine.hangUp();
      const link = new GuestLink(await machine.callAgain(), DEAF);
      await link.hello(false, HELLO_DEADLINE_MS);
      link.detach();
      machine.hangUp();
      await machine.stop();
      return new Mould(key, original, program, bridge);
    } catch (error) {
      await machine.kill();
      throw error;
    }
  }

  get uid(): number {
    return this.#original.uid;
  }

  get folder(): string {
    return this.#original.machine.identity.folder;
  }

  alive(): Promise<boolean> {
    return this.#original.machine.alive();
  }

  /** A machine like it, running, at `place`. @throws machine.twin (unavailable), qmp.*, socket.*: there is none */
  async twin(place: Place): Promise<FreshMachine> {
    const tap = tapOf(place);
    const { folder, uid } = place;
    const original = this.#original.machine.identity;
    const plan = { program: this.#program, original, uid, folder, logFile: logIn(place) };
    const turn = this.#last.then(() => makeTwin({ ...plan, plug: { kind: 'tap', tap, bridge: this.#bridge } }));
    this.#last = turn.catch(() => {});
    const machine = RunningMachine.adopt(await turn, plan.logFile);
    try {
      const agent = await machine.connect(NO_EVENTS);
      await machine.qmp.negotiate(CONTROL_DEADLINE_MS);
      await machine.qmp.execute('cont');
      return { machine, agent, uid, tap };
    } catch (error) {
      await machine.kill();
      throw error;
    }
  }

  async end(): Promise<void> {
    await this.#last;
    await this.#original.machine.kill();
    await files.rm(this.folder, { recursive: true, force: true });
  }
}

/** An interface's name has at most 15 characters; the place's has 13. */
function tapOf(place: Place): string {
  return `b${basename(place.folder)}`;
}

function logIn(place: Place): string {
  return `${place.folder}/qemu.log`;
}

function rehearsalOf(
  layers: readonly { readonly firstSector: number; readonly sectors: number }[],
  clock: ReturnType<typeof clockAt>,
): Parameters<GuestLink['rehearse']>[0] {
  return {
    hostname: 'rehearsal',
    domainName: '',
    hosts: '127.0.0.1\tlocalhost\n',
    resolvConf: 'nameserver 127.0.0.1\n',
    layers,
    // A documentation network (RFC 5737), on a link that comes up for a moment and says nothing.
    network: {
      mac: '02:00:00:00:00:01',
      address: '192.0.2.2',
      prefixLength: 24,
      gateway: '192.0.2.1',
      mtu: 1500,
    },
    readonlyRoot: false,
    tmpfs: [],
    volumes: [],
    clock,
    entropy: randomBytes(64),
    shmBytes: 64 * MIB,
    sysctls: {},
    workingDirectory: '/',
    machineId: `${'0'.repeat(32)}\n`,
    productUuid: '',
  };
}
