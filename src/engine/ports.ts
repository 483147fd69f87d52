/** What the engine needs of its neighbours; daemon/ connects them. */
import type { Digest } from '#base';
import type { LayerFile, NetworkAttachment, PortBinding, VmRecord } from './model.ts';
import type { QemuBuild } from './qemu-command.ts';
import type { StartGate } from './start-gate.ts';
import type { Templates } from './templates/index.ts';

export interface NetworkPort {
  attach(request: {
    readonly vmId: string;
    readonly names: readonly string[];
    readonly ports: readonly PortBinding[];
    readonly mac: string | undefined;
    /** A tap that is there already. */
    readonly tap?: string | undefined;
    /** Taken when nobody has it. */
    readonly address?: string | undefined;
  }): Promise<NetworkAttachment>;
  /** What taps join; undefined where there are none. */
  readonly bridge: string | undefined;
  restore(vmId: string, attachment: NetworkAttachment, names: readonly string[]): Promise<void>;
  rename(vmId: string, names: readonly string[]): void;
  detach(vmId: string): Promise<void>;
  /**
   * Keeps a VM's published ports open while it has no machine: a connection calls `wake`, and is handed on when that is done. What
   * `wake` resolves to is called when the VM has answered, or the connection is gone.
   */
  hold(vmId: string, wake: () => Promise<() => void>): Promise<void>;
  /** The ports lead to the VM again. */
  unhold(vmId: string): Promise<void>;
}

export interface ImagePort {
  /** The image's layers, lowest first. @throws image.not_found (not_found) */
  layersOf(image: Digest): Promise<readonly LayerFile[]>;
}

export interface DiskPort {
  /** An empty, formatted disk, owned by `uid`. Nothing is left behind on failure. @throws disk.full (exhausted) */
  create(path: string, bytes: number, uid: number | undefined): Promise<void>;
}

export interface VolumePort {
  /** The file that is the volume's disk. @throws volume.not_found (not_found) */
  diskOf(name: string): string;
}

export interface RecordPort {
  save(record: VmRecord): void;
  remove(id: string): void;
  loadAll(): readonly VmRecord[];
}

/** Something that happened to a VM, as an outsider sees it. Times are milliseconds since the epoch. */
export interface VmHappening {
  readonly action: string;
  readonly vm: VmRecord;
  readonly attributes: Readonly<Record<string, string>>;
  readonly timeMs: number;
}

export interface EnginePorts {
  readonly network: NetworkPort | undefined;
  readonly images: ImagePort;
  readonly disks: DiskPort;
  readonly volumes: VolumePort;
  readonly records: RecordPort;
  readonly onHappening: (happening: VmHappening) => void;
  readonly log: (line: string) => void;
}

/** How machines came to be since this daemon started. */
export interface StartCounters {
  pool: number;
  clone: number;
  boot: number;
  /** Clones that did not work out: each went on as a boot. */
  cloneFailures: number;
}

export interface EngineSettings {
  /** VM folders live under it: disks and logs. */
  readonly stateFolder: string;
  /** Sockets live under it; short, because a socket's path has at most 107 bytes. */
  readonly runFolder: string;
  /** The QEMU to start VMs with; asked anew for each start, since the verdict on accelerators may change. */
  readonly build: () => Promise<QemuBuild>;
  readonly launcher: string;
  /** Keeps and copies guests' memory: memory/memory.c. */
  readonly memoryProgram: string;
  /** Makes twins of machines: twin/twin.c. Undefined where there are none: not root, or another processor. */
  readonly twinProgram: string | undefined;
  /** First of the unprivileged uids, one per VM; undefined when berthd is not root and QEMU runs as the same user. */
  readonly firstUid: number | undefined;
  /** The group that may open /dev/kvm; undefined when there is none or every user may. */
  readonly kvmGroup: number | undefined;
  /** Absent: every start boots the kernel. */
  readonly templates: Templates | undefined;
  /** Most machines that wait for a VM; 0: none do. */
  readonly poolSize: number;
  /** What such a machine rehearses with; undefined: nothing can be had, and there is no pool. */
  readonly rehearsal: () => Promise<
    { readonly layers: readonly LayerFile[]; readonly args: readonly string[] } | undefined
  >;
  readonly counters: StartCounters;
  readonly gate: StartGate;
  /** Of the guest's kernel and of QEMU: what checkpoints made here need elsewhere. */
  readonly versions: { readonly guestKernel: string; readonly qemu: string };
}
