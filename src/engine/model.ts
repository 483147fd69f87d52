/**
 * The engine's own words: what a VM is asked to be (spec) and what is known of it (record). No Docker wire types here.
 */
import { type Digest, MIB, type VmId } from '#base';

/** What runs inside the guest: the main process or an exec. Empty `user` means the image's default, root. */
export interface ProcessSpec {
  readonly args: readonly string[];
  /** `NAME=value`, later ones win. */
  readonly env: readonly string[];
  readonly workingDirectory: string;
  readonly user: string;
  readonly tty: boolean;
  readonly openStdin: boolean;
  /** Close standard input when the first attached client leaves. */
  readonly stdinOnce: boolean;
  readonly groups: readonly string[];
  readonly ulimits: readonly Ulimit[];
  /** Linux capability numbers taken out of the bounding set. */
  readonly dropCapabilities: readonly number[];
  readonly noNewPrivileges: boolean;
}

/** In characters. */
export interface TerminalSize {
  readonly rows: number;
  readonly columns: number;
}

export interface Ulimit {
  /** Linux RLIMIT_ number. */
  readonly resource: number;
  /** -1 is unlimited. */
  readonly soft: number;
  readonly hard: number;
}

export interface PortBinding {
  readonly protocol: 'tcp' | 'udp';
  readonly guestPort: number;
  /** Empty means every address of the host. */
  readonly hostIp: string;
  /** 0 means: choose one when the VM starts. */
  readonly hostPort: number;
}

/** A disk that outlives the VM, and where it is in the guest. */
export interface VolumeMount {
  readonly volume: string;
  /** Absolute and normal: without `.`, `..` and double slashes. */
  readonly path: string;
  readonly readOnly: boolean;
  /** While it is empty it gets what the image has there. */
  readonly fill: boolean;
}

export interface NetworkRequest {
  readonly mode: 'bridge' | 'none';
  readonly ports: readonly PortBinding[];
  readonly dns: readonly string[];
  readonly dnsSearch: readonly string[];
  readonly dnsOptions: readonly string[];
  /** `name:address`; the address `host-gateway` stands for the bridge's. */
  readonly extraHosts: readonly string[];
  readonly mac: string | undefined;
}

/** Of the one layout of devices. */
export const VOLUME_SLOTS = 4;

/** A VM of which nobody said how large it should be. */
export const DEFAULT_SHAPE = { vcpus: 1, memoryBytes: 256 * MIB } as const;

export interface VmSpec {
  readonly imageReference: string;
  readonly imageId: Digest;
  readonly process: ProcessSpec;
  /** Of the main process's terminal until the client says otherwise; absent when the client did not say. */
  readonly terminal: TerminalSize | undefined;
  readonly hostname: string;
  readonly domainName: string;
  readonly vcpus: number;
  readonly memoryBytes: number;
  readonly shmBytes: number;
  readonly diskBytes: number;
  readonly readonlyRoot: boolean;
  /** Mount point → tmpfs options. */
  readonly tmpfs: Readonly<Record<string, string>>;
  readonly sysctls: Readonly<Record<string, string>>;
  /** Each in one place, at most VOLUME_SLOTS; a folder comes before what lies in it. Absent in records of berth before volumes. */
  readonly volumes?: readonly VolumeMount[];
  readonly network: NetworkRequest;
  /** Linux signal number sent first by `stop`. */
  readonly stopSignal: number;
  readonly stopTimeoutSeconds: number;
  readonly autoRemove: boolean;
  /** Idle for so long it is put to sleep; 0: only when told to. */
  readonly sleepAfterSeconds: number;
  readonly labels: Readonly<Record<string, string>>;
  /** What the Docker door was asked for, kept as it was to be shown again by inspect. Opaque to the engine. */
  readonly docker: unknown;
}

/** What the network gave one VM, from start to end of one run. */
export interface NetworkAttachment {
  /** `bridge`: a tap in a bridge; `user`: QEMU's own stack, for a daemon that is not root. */
  readonly kind: 'bridge' | 'user';
  readonly bridge: string;
  readonly tap: string;
  readonly mac: string;
  readonly address: string;
  readonly prefixLength: number;
  readonly gateway: string;
  readonly mtu: number;
  readonly dns: readonly string[];
  /** As published, host ports chosen. */
  readonly ports: readonly PortBinding[];
}

export interface ExitFacts {
  readonly exitCode: number;
  readonly oomKilled: boolean;
  /** Why the VM ended when the process did not end by itself; empty otherwise. */
  readonly error: string;
  readonly atMs: number;
}

/**
 * What a run goes on from instead of booting, until it does: a VM of which a daemon died meanwhile is neither the one nor the
 * other. `fork`: the VM is nothing without it and goes away when it fails.
 */
export type RunOrigin = 'fork' | 'checkpoint';

export type RemovalIntent = 'none' | 'when_ended';

/**
 * Where a VM is in its life; the picture and the rules are in lifecycle.ts.
 */
export type VmState =
  | { readonly name: 'created'; readonly failure: ExitFacts | undefined }
  | { readonly name: 'starting' }
  | { readonly name: 'running' }
  | { readonly name: 'paused'; readonly error: string }
  /** Written out: it has no machine. `error`: why it could not be woken the last time. */
  | { readonly name: 'asleep'; readonly saved: SavedMachine; readonly error: string }
  | { readonly name: 'waking'; readonly saved: SavedMachine }
  | { readonly name: 'ending'; readonly exit: ExitFacts }
  | { readonly name: 'exited'; readonly exit: ExitFacts }
  | { readonly name: 'removing' }
  | { readonly name: 'dead'; readonly error: string };

/** A machine put away: memory and devices of a stopped machine, in two files. */
export interface SavedMachine {
  readonly memoryFile: string;
  readonly memoryBytes: number;
  readonly stateFile: string;
  readonly stateSha256: string;
}

/**
 * What berthd was doing to a machine that exists: `sleeping`: it is stopped while it is written out; `waking`: it is
 * about to run again. Whoever finds it so lets the machine go on.
 */
export type Transit = 'sleeping' | 'waking';

/** The QEMU of one run. */
export interface Machine {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat: with the pid it names one process for ever. */
  readonly startTicks: number;
  readonly accelerator: string;
  /** Where its sockets are. */
  readonly folder: string;
}

/**
 * Milliseconds after the request to start was taken, per stage of the last start; absent until reached, and where a stage
 * was not passed: a cold boot restores nothing, a machine from the pool was spawned before.
 */
export interface BootTimings {
  /** How this start began: a machine from the pool, a clone of a template, a boot of the kernel, or another's memory. */
  readonly way?: 'pool' | 'clone' | 'boot' | RunOrigin;
  /** Its turn came: address, ports and disks are there. */
  readonly queuedMs?: number;
  readonly spawnedMs?: number;
  readonly restoredMs?: number;
  /** The guest program answers. */
  readonly agentMs?: number;
  /** Name, network and root file system are in place. */
  readonly rootfsMs?: number;
  /** The main process runs. */
  readonly processMs?: number;
}

export type BootStage = Exclude<keyof BootTimings, 'way'>;

/** Everything that is stored of a VM. */
export interface VmRecord {
  readonly version: 1;
  readonly id: VmId;
  readonly name: string;
  readonly spec: VmSpec;
  readonly createdAtMs: number;
  readonly uid: number;
  readonly state: VmState;
  readonly removal: RemovalIntent;
  readonly run: number;
  readonly startedAtMs: number | undefined;
  readonly machine: Machine | undefined;
  readonly network: NetworkAttachment | undefined;
  readonly boot: BootTimings;
  readonly transit?: Transit | undefined;
  readonly origin?: RunOrigin | undefined;
  /** Its processes are frozen, and its machine perhaps stopped, for as long as a copy of it is taken. */
  readonly frozen?: boolean | undefined;
}

/** A layer as the images area keeps it: an EROFS file, lowest first in a list. */
export interface LayerFile {
  readonly path: string;
  readonly sizeBytes: number;
}
