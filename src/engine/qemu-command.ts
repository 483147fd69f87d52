/**
 * The QEMU command line of an OCI guest: a value, built from values, golden-tested, spawned by someone else.
 */
import { MIB } from '#base';
import { type PortBinding, VOLUME_SLOTS } from './model.ts';

export interface QemuBuild {
  readonly binary: string;
  readonly accelerator: 'kvm' | 'tcg';
  /** -bios value: qboot skips what SeaBIOS probes for and a direct kernel boot never uses (about 120 ms under TCG). */
  readonly firmware: string | undefined;
  readonly kernel: string;
  readonly initramfs: string;
}

/**
 * What the network card is plugged into. All machines of one daemon have the same kind: a card's abilities are part of a
 * saved state. The guest sets the card's address (MAC) itself.
 */
export type QemuNetwork =
  | { readonly kind: 'tap'; readonly descriptor: number }
  /** QEMU's own stack; `isolated`: without a way out. */
  | {
      readonly kind: 'user';
      readonly isolated: boolean;
      readonly address: string;
      readonly ports: readonly PortBinding[];
    };

/**
 * Where the guest's memory comes from.
 *
 * `own`: the machine's alone. `template`: descriptor 4, written by the guest for others to start from. `restored`:
 * descriptor 4 mapped privately, each page copied when it is first written; the state of the devices comes by
 * descriptor 5.
 */
export type QemuMemory = 'own' | 'template' | 'restored';
export const MEMORY_DESCRIPTOR = 4;
export const STATE_DESCRIPTOR = 5;

export interface QemuRun extends MachineSize {
  /** Shown by ps and `info name`; holds the VM's id. */
  readonly name: string;
  readonly memory: QemuMemory;
  /** A restored machine that does not run before it is told to. */
  readonly startsPaused?: boolean;
  readonly qmpSocket: string;
  readonly agentSocket: string;
  /** VMDK descriptor; absent for an image without layers, and for a machine that gets its disks later. */
  readonly rootDescriptor: string | undefined;
  /** Absent for a machine that gets its disks later. */
  readonly dataDisk: string | undefined;
  /** Disks in the slots for volumes, from the first on. */
  readonly volumes?: readonly string[];
  readonly network: QemuNetwork;
}

/** Of the disks a machine has before it has its own: as large as any that may come. */
const PLACEHOLDER_BYTES = 16 * 2 ** 40;

/**
 * Why each word is there (measured under TCG, 2026-11-21, decisions/0001): `cryptomgr.notests`, `no_timer_check`,
 * `8250.nr_uarts=1` and `rcupdate.rcu_expedited=1` take about 300 ms off a cold boot; `mitigations=off` is safe for the
 * host, since it concerns only the guest against its own processes, and only under TCG, which does not speculate.
 *
 * The rest is idle time (decisions/0008): `tsc=reliable` holds under TCG alone, where QEMU gives all processors one
 * counter that never goes back; `psi=0` ends a wake-up every 2 s.
 */
export function kernelArguments(accelerator: 'kvm' | 'tcg'): string[] {
  return [
    'console=ttyS0',
    'quiet',
    'panic=-1',
    'reboot=t',
    'rdinit=/init',
    'cryptomgr.notests',
    'random.trust_cpu=on',
    '8250.nr_uarts=1',
    'no_timer_check',
    'audit=0',
    'rcupdate.rcu_expedited=1',
    ...(accelerator === 'tcg' ? ['mitigations=off', 'tsc=reliable', 'psi=0'] : []),
  ];
}

/** What a start translates, and is not needed again until a fork or an exec does some of it once more. */
const START_MIB = 16;

/**
 * How many MiB of translated code TCG keeps (decisions/0008). QEMU's own choice is 1 GiB, and every VM fills what it is
 * given. Beside what a start takes, a sixteenth of the guest's memory, since bigger guests run bigger programs; 16 MiB serve
 * a shell; a region of 2 MiB and some to spare for each processor.
 *
 * Room that is full is emptied as a whole. A machine that is nearly full gives forks that are: each then empties it and
 * translates everything anew, which took 60 ms of a fork's 120.
 */
function translationMib({ vcpus, memoryBytes }: MachineSize): number {
  return Math.min(256, START_MIB + Math.max(16, 8 * vcpus, Math.floor(memoryBytes / MIB / 16)));
}

export interface MachineSize {
  readonly vcpus: number;
  readonly memoryBytes: number;
}

/** The machine itself, without kernel and devices: what a probe and a VM have in common. */
export function machineArguments(build: QemuBuild, size: MachineSize, options = ''): string[] {
  const machine = `q35,smm=off,i8042=off,vmport=off,sata=off,usb=off,graphics=off${options}`;
  const accelerator = build.accelerator === 'kvm' ? 'kvm' : `tcg,tb-size=${translationMib(size)}`;
  // 5-level page tables make every walk of TCG's software MMU longer and serve no guest of this size. "Enhanced" string
  // moves are a promise of TCG's that it does not keep: byte by byte, they are its slowest way to copy a page.
  const cpu = build.accelerator === 'kvm' ? 'host' : 'max,la57=off,erms=off,fsrm=off';
  return [
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    ...['-machine', machine, '-accel', accelerator, '-cpu', cpu],
    ...['-smp', String(size.vcpus), '-m', `${Math.ceil(size.memoryBytes / MIB)}M`],
    ...(build.firmware === undefined ? [] : ['-bios', build.firmware]),
  ];
}

/** What a machine boots. */
export function kernelFiles(build: QemuBuild): string[] {
  return ['-kernel', build.kernel, '-initrd', build.initramfs];
}

export type BlockNode = Readonly<Record<string, unknown>> & { readonly 'node-name': string };

/** The layers of an image as one read-only disk. */
export function rootNode(nodeName: string, descriptor: string): BlockNode {
  const file = { driver: 'file', filename: descriptor, 'read-only': true };
  return { driver: 'vmdk', 'node-name': nodeName, 'read-only': true, file };
}

export function dataNode(nodeName: string, path: string): BlockNode {
  const file = { driver: 'file', filename: path, discard: 'unmap' };
  return { driver: 'raw', 'node-name': nodeName, discard: 'unmap', 'detect-zeroes': 'unmap', file };
}

/** Behind a disk that has nothing yet. */
export function placeholder(nodeName: string, readOnly: boolean): BlockNode {
  return {
    driver: 'null-co',
    'node-name': nodeName,
    size: PLACEHOLDER_BYTES,
    'read-zeroes': true,
    'read-only': readOnly,
  };
}

/** What the network card is plugged into. */
export const NETDEV = 'net0';

/** Of every machine alike, for it is part of a template: the guest program puts the VM's own over what the kernel shows. */
const PLACEHOLDER_UUID = '00000000-0000-4000-8000-000000000001';

/** Paths in the machine's object tree of the two disks, for giving them another block node. */
export const ROOT_DEVICE = '/machine/peripheral/root';
export const DATA_DEVICE = '/machine/peripheral/data';

/** What the slot is called: node, device and serial number. */
export function volumeSlot(index: number): string {
  return `volume${index}`;
}

/** One for each processor would be memory for nothing, and 256 requests as well: a volume is one of several disks. */
const VOLUME_QUEUE = 'num-queues=1,queue-size=64';
// A full host disk stops the VM instead of breaking its file system; it goes on after `unpause`.
const WRITABLE = 'discard=on,werror=enospc,rerror=report';

/**
 * The one layout of devices: every machine has all of them in the same order, so that each can start from the saved state
 * of any other of the same build, memory and number of processors. Disks and network are what is behind the devices.
 */
export function qemuArguments(build: QemuBuild, run: QemuRun): string[] {
  const disk = (node: BlockNode): string[] => ['-blockdev', JSON.stringify(node)];
  const { rootDescriptor, dataDisk } = run;
  return [
    ...['-name', `${run.name},debug-threads=on`, '-uuid', PLACEHOLDER_UUID],
    ...machineArguments(build, run, ',memory-backend=memory,suppress-vmdesc=on'),
    // A saved state is the devices' alone, with nothing before or after them: see RunningMachine.saveDevices.
    ...['-global', 'migration.send-configuration=off', '-object', memoryObject(run)],
    // A restored machine is past its boot: it needs no kernel, which QEMU would read and keep.
    ...(run.memory === 'restored'
      ? ['-incoming', 'defer', ...(run.startsPaused === true ? ['-S'] : [])]
      : [...kernelFiles(build), '-append', kernelArguments(build.accelerator).join(' ')]),
    // A guest that powers off or crashes leaves QEMU waiting, so that its console can still be read.
    '-no-shutdown',
    ...['-chardev', `socket,id=qmp,path=${run.qmpSocket},server=on,wait=off`, '-mon', 'chardev=qmp,mode=control'],
    // A ring, so that a guest that floods its console fills 64 KiB of memory and no disk.
    ...['-chardev', 'ringbuf,id=console,size=65536', '-serial', 'chardev:console'],
    // One port beside the console's reserved one: each has two queues, whether it is used or not.
    ...['-device', 'virtio-serial-pci,id=serial,max_ports=2'],
    ...['-chardev', `socket,id=agent,path=${run.agentSocket},server=on,wait=off`],
    ...['-device', 'virtserialport,bus=serial.0,chardev=agent,name=berth.agent'],
    ...disk(rootDescriptor === undefined ? placeholder('root', true) : rootNode('root', rootDescriptor)),
    ...['-device', 'virtio-blk-pci,id=root,drive=root,serial=root'],
    ...disk(dataDisk === undefined ? placeholder('data', false) : dataNode('data', dataDisk)),
    ...['-device', `virtio-blk-pci,id=data,drive=data,serial=data,${WRITABLE}`],
    ...['-netdev', netdevOf(run.network), '-device', `virtio-net-pci,id=net,netdev=${NETDEV},romfile=`],
    // The guest names the memory it has freed, in blocks of 2 MiB; QEMU gives it back to the host (decisions/0015).
    ...['-device', 'virtio-balloon-pci,id=balloon,free-page-reporting=on'],
    ...Array.from({ length: VOLUME_SLOTS }, (_, index) => volumeSlot(index)).flatMap((slot, index) => {
      const path = run.volumes?.[index];
      return [
        ...disk(path === undefined ? placeholder(slot, false) : dataNode(slot, path)),
        ...['-device', `virtio-blk-pci,id=${slot},drive=${slot},serial=${slot},${VOLUME_QUEUE},${WRITABLE}`],
      ];
    }),
  ];
}

function memoryObject(run: QemuRun): string {
  const size = `id=memory,size=${Math.ceil(run.memoryBytes / MIB)}M`;
  if (run.memory === 'own') return `memory-backend-memfd,${size},share=on`;
  const share = run.memory === 'template' ? 'on' : 'off';
  return `memory-backend-file,${size},mem-path=/proc/self/fd/${MEMORY_DESCRIPTOR},share=${share}`;
}

function netdevOf(network: QemuNetwork): string {
  if (network.kind === 'tap') return `tap,id=${NETDEV},fd=${network.descriptor}`;
  if (network.isolated) return `user,id=${NETDEV},ipv6=off,restrict=on`;
  const forwards = network.ports.map(
    (port) => `hostfwd=${port.protocol}:${port.hostIp}:${port.hostPort}-${network.address}:${port.guestPort}`,
  );
  return [`user,id=${NETDEV},ipv6=off`, ...forwards].join(',');
}
