/** A guest without berthd: QEMU under TCG, the guest program, and a channel to it. For component tests. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  GuestChannel,
  type GuestChannelHandlers,
  type GuestConfiguration,
  type GuestLayer,
  type GuestProcessSpec,
  type ProcessExit,
  type StartOutcome,
} from '#engine';
import { thisInstallation } from '#setup';

const KERNEL_OPTIONS =
  'console=ttyS0 quiet panic=-1 reboot=t rdinit=/init mitigations=off cryptomgr.notests random.trust_cpu=on ' +
  '8250.nr_uarts=1 no_timer_check audit=0 rcupdate.rcu_expedited=1 init_on_alloc=0';

const BOOT_DEADLINE_MS = 60_000;

export interface BareGuestOptions {
  /** EROFS images, lowest layer first. */
  readonly layers: readonly string[];
  readonly kernelOptions?: string;
  readonly memoryMib?: number;
}

export class BareGuest {
  readonly folder: string;
  readonly layers: readonly GuestLayer[];
  readonly #qemu: ChildProcess;
  readonly exited: Promise<number | null>;
  readonly spawnedAt: number;
  /** Open connections and running QEMUs, for the leak check. */
  readonly #sockets = new Set<Socket>();

  private constructor(folder: string, layers: readonly GuestLayer[], qemu: ChildProcess, spawnedAt: number) {
    this.folder = folder;
    this.layers = layers;
    this.#qemu = qemu;
    this.spawnedAt = spawnedAt;
    this.exited = new Promise((resolve) => qemu.once('exit', (code) => resolve(code)));
  }

  static async boot(options: BareGuestOptions): Promise<BareGuest> {
    const { kernel, initramfs } = thisInstallation();
    const folder = mkdtempSync(join(tmpdir(), 'bare-guest-'));
    const { descriptor, layers } = concatenate(options.layers);
    const root = join(folder, 'root.vmdk');
    const data = join(folder, 'data.raw');
    writeFileSync(root, descriptor);
    writeFileSync(data, '');
    truncateSync(data, 256 * 1024 * 1024);
    execFileSync('mkfs.ext4', ['-q', '-F', '-E', 'assume_storage_prezeroed=1,lazy_journal_init=1', data]);
    const drives =
      layers.length === 0
        ? []
        : [
            '-blockdev',
            `driver=vmdk,file.driver=file,file.filename=${root},read-only=on,node-name=root`,
            '-device',
            'virtio-blk-pci,drive=root,serial=root',
          ];
    const argv = [
      '-nodefaults',
      '-no-user-config',
      '-display',
      'none',
      '-no-reboot',
      '-machine',
      'q35,smm=off,i8042=off,vmport=off,sata=off,usb=off,graphics=off,accel=tcg',
      '-bios',
      '/usr/share/qemu/qboot.rom',
      '-cpu',
      'max,la57=off',
      '-m',
      String(options.memoryMib ?? 128),
      '-kernel',
      kernel,
      '-initrd',
      initramfs,
      '-append',
      `${KERNEL_OPTIONS} ${options.kernelOptions ?? ''}`,
      '-serial',
      `file:${join(folder, 'console.log')}`,
      '-device',
      'virtio-serial-pci',
      '-chardev',
      `socket,id=agent,path=${join(folder, 'agent.sock')},server=on,wait=off`,
      '-device',
      'virtserialport,chardev=agent,name=berth.agent',
      ...drives,
      '-blockdev',
      `driver=raw,file.driver=file,file.filename=${data},node-name=data,discard=unmap`,
      '-device',
      'virtio-blk-pci,drive=data,serial=data',
      '-netdev',
      'user,id=net,restrict=on',
      '-device',
      'virtio-net-pci,netdev=net,mac=52:54:00:12:34:56,romfile=',
    ];
    const errors = openSync(join(folder, 'qemu.log'), 'w');
    const spawnedAt = performance.now();
    const qemu = spawn('qemu-system-x86_64', argv, { stdio: ['ignore', errors, errors] });
    closeSync(errors);
    return new BareGuest(folder, layers, qemu, spawnedAt);
  }

  get pid(): number {
    return this.#qemu.pid ?? 0;
  }

  console(): string {
    return `${readFileSync(join(this.folder, 'qemu.log'), 'utf8')}${readFileSync(join(this.folder, 'console.log'), 'utf8')}`;
  }

  /** User and system time of QEMU so far. */
  cpuMs(): number {
    const fields = readFileSync(`/proc/${this.pid}/stat`, 'utf8')
      .replace(/^.*\) /, '')
      .split(' ');
    return (Number(fields[11]) + Number(fields[12])) * 10;
  }

  /** Connects as soon as QEMU listens. */
  async connect(): Promise<Socket> {
    const path = join(this.folder, 'agent.sock');
    const deadline = performance.now() + BOOT_DEADLINE_MS;
    for (;;) {
      const socket = await new Promise<Socket | undefined>((resolve) => {
        const attempt = connect(path);
        attempt.once('connect', () => resolve(attempt));
        attempt.once('error', () => resolve(undefined));
      });
      if (socket !== undefined) {
        this.#sockets.add(socket);
        socket.once('close', () => this.#sockets.delete(socket));
        return socket;
      }
      if (performance.now() > deadline) throw new Error(`QEMU does not listen: ${this.console()}`);
      await sleep(2);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    if (this.#qemu.exitCode === null && this.#qemu.signalCode === null) this.#qemu.kill('SIGKILL');
    await this.exited;
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A VMDK descriptor that shows several files as one disk, and where each lies on it. */
function concatenate(files: readonly string[]): { descriptor: string; layers: GuestLayer[] } {
  let next = 0;
  const layers = files.map((file) => {
    const sectors = Math.ceil(statSync(file).size / 512);
    const layer = { firstSector: next, sectors };
    next += sectors;
    return layer;
  });
  const extents = files.map((file, index) => `RW ${layers[index]?.sectors ?? 0} FLAT "${file}" 0`);
  const descriptor = [
    '# Disk DescriptorFile',
    'version=1',
    'CID=fffffffe',
    'parentCID=ffffffff',
    'createType="twoGbMaxExtentFlat"',
    ...extents,
    'ddb.virtualHWVersion = "4"',
    '',
  ].join('\n');
  return { descriptor, layers };
}

export interface Finished {
  readonly outcome: StartOutcome;
  readonly exit?: ProcessExit;
  readonly stdout: Buffer;
  readonly stderr: Buffer;
}

/** A channel that keeps what comes out of each process and acknowledges it at once. */
export class GuestSession {
  readonly channel: GuestChannel;
  readonly logs: string[] = [];
  readonly closed: Promise<void>;
  readonly synced: Promise<void>;
  readonly socket: Socket;
  readonly output = new Map<number, { stdout: Buffer[]; stderr: Buffer[] }>();
  readonly #exits = new Map<number, { promise: Promise<ProcessExit>; resolve: (exit: ProcessExit) => void }>();
  readonly #waiters = new Set<() => void>();
  #nextId = 100;

  constructor(socket: Socket, handlers: Partial<GuestChannelHandlers> = {}) {
    this.socket = socket;
    const closed = Promise.withResolvers<void>();
    const synced = Promise.withResolvers<void>();
    this.closed = closed.promise;
    this.synced = synced.promise;
    this.channel = new GuestChannel(socket, {
      onOutput: (output) => {
        this.outputOf(output.id)[output.stream].push(Buffer.from(output.data));
        this.channel.ack(output.id, output.stream, output.offset + output.data.length);
        for (const waiter of this.#waiters) waiter();
      },
      onExited: (id, exit) => {
        this.#exitOf(id).resolve(exit);
        if (id !== 0) this.channel.exitAck(id);
      },
      onLog: (text) => this.logs.push(text),
      onSynced: () => synced.resolve(),
      onClosed: () => closed.resolve(),
      ...handlers,
    });
  }

  outputOf(id: number): { stdout: Buffer[]; stderr: Buffer[] } {
    const known = this.output.get(id) ?? { stdout: [], stderr: [] };
    this.output.set(id, known);
    return known;
  }

  #exitOf(id: number): { promise: Promise<ProcessExit>; resolve: (exit: ProcessExit) => void } {
    const known = this.#exits.get(id) ?? Promise.withResolvers<ProcessExit>();
    this.#exits.set(id, known);
    return known;
  }

  exitOf(id: number): Promise<ProcessExit> {
    return this.#exitOf(id).promise;
  }

  text(id: number): string {
    return Buffer.concat(this.outputOf(id).stdout).toString();
  }

  /** Resolves when the process has printed a match. */
  async printed(id: number, pattern: RegExp, deadlineMs = 20_000): Promise<void> {
    if (pattern.test(this.text(id))) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiter = () => pattern.test(this.text(id)) && resolve();
    const timer = setTimeout(() => reject(new Error(`${pattern} never came; got ${this.text(id)}`)), deadlineMs);
    this.#waiters.add(waiter);
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      this.#waiters.delete(waiter);
    }
  }

  newId(): number {
    this.#nextId += 1;
    return this.#nextId;
  }

  /** Starts a process and waits for its end. */
  async run(spec: Partial<GuestProcessSpec> & { args: readonly string[] }, id = this.newId()): Promise<Finished> {
    const outcome = await this.channel.start(id, { stdin: false, ...spec });
    if (!outcome.ok) return { outcome, stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) };
    const exit = await this.exitOf(id);
    const { stdout, stderr } = this.outputOf(id);
    return { outcome, exit, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr) };
  }
}

export function configurationFor(guest: BareGuest, more: Partial<GuestConfiguration> = {}): GuestConfiguration {
  return {
    hostname: 'bare',
    hosts: '127.0.0.1 localhost\n10.0.2.15 bare\n',
    resolvConf: 'nameserver 10.0.2.3\n',
    layers: guest.layers,
    ...more,
  };
}
