/** The messages of guest/PROTOCOL.md as types, and their payloads. Pure. */
import { BerthError } from '#base';
import { Fields, FieldWriter, readU64, u16, u32, u64 } from './fields.ts';
import { encodeFrames, type Frame, NONCE_BYTES, protocolError } from './frame.ts';

export const PROTOCOL_VERSION = 1;
/** Of REHEARSE: a whole START. */
const START_FIELD = 100;

export type OutputStream = 'stdout' | 'stderr';

export interface GuestLayer {
  readonly firstSector: number;
  readonly sectors: number;
}

export interface GuestNetwork {
  /** `52:54:00:12:34:56` */
  readonly mac: string;
  /** Dotted IPv4. */
  readonly address: string;
  readonly prefixLength: number;
  /** Dotted IPv4; none when absent. */
  readonly gateway?: string;
  /** 0 or absent leaves the device's own. */
  readonly mtu?: number;
}

export interface GuestConfiguration {
  readonly hostname: string;
  readonly domainName?: string;
  /** Contents of /etc/hosts. */
  readonly hosts: string;
  /** Contents of /etc/resolv.conf. */
  readonly resolvConf: string;
  /** Lowest layer first. */
  readonly layers: readonly GuestLayer[];
  readonly network?: GuestNetwork;
  readonly readOnlyRoot?: boolean;
  readonly tmpfs?: readonly { readonly mountPoint: string; readonly options: string }[];
  /** `fill`: while it is empty it gets what the image has there. */
  readonly volumes?: readonly {
    readonly slot: number;
    readonly mountPoint: string;
    readonly readOnly: boolean;
    readonly fill: boolean;
  }[];
  /** The time, and the guest's CLOCK_BOOTTIME at that moment; without the latter it is the time of arrival. */
  readonly epochNs?: bigint;
  readonly boottimeNs?: bigint;
  /** 64 bytes. */
  readonly entropy?: Uint8Array;
  readonly shmBytes?: number;
  readonly sysctls?: Readonly<Record<string, string>>;
  /** Made when missing. */
  readonly workingDirectory?: string;
  /** 32 hexadecimal digits and a newline, for an image that has /etc/machine-id. */
  readonly machineId?: string;
  readonly productUuid?: string;
}

export interface GuestProcessSpec {
  readonly args: readonly string[];
  /** `NAME=value` each. */
  readonly env?: readonly string[];
  readonly cwd?: string;
  /** `name`, `uid`, `name:group`, `uid:gid`; root when absent. */
  readonly user?: string;
  readonly tty?: { readonly rows: number; readonly columns: number };
  /** false: /dev/null. */
  readonly stdin: boolean;
  /** Linux resource numbers; `unlimited` is 2^64-1. */
  readonly limits?: readonly {
    readonly resource: number;
    readonly soft: bigint | number;
    readonly hard: bigint | number;
  }[];
  readonly extraGroups?: readonly string[];
  /** Bit n: capability n leaves the bounding set. */
  readonly dropCapabilities?: bigint;
  readonly noNewPrivileges?: boolean;
  /** A start in a missing working directory fails instead of making it. */
  readonly cwdMustExist?: boolean;
  readonly oomScoreAdj?: number;
}

export type HostMessage =
  | { readonly type: 'hello'; readonly nonce: Uint8Array }
  | { readonly type: 'configure'; readonly configuration: GuestConfiguration }
  | { readonly type: 'start'; readonly id: number; readonly spec: GuestProcessSpec }
  | { readonly type: 'stdin'; readonly id: number; readonly data: Uint8Array }
  | { readonly type: 'stdin-eof'; readonly id: number }
  | { readonly type: 'signal'; readonly id: number; readonly signal: number }
  | { readonly type: 'resize'; readonly id: number; readonly rows: number; readonly columns: number }
  | { readonly type: 'ack'; readonly id: number; readonly stream: OutputStream; readonly offset: number }
  | { readonly type: 'resume'; readonly id: number; readonly stdoutOffset: number; readonly stderrOffset: number }
  | { readonly type: 'exit-ack'; readonly id: number }
  | { readonly type: 'top'; readonly request: number }
  | { readonly type: 'ping'; readonly request: number }
  | {
      readonly type: 'rehearse';
      readonly request: number;
      readonly configuration: GuestConfiguration;
      readonly spec: GuestProcessSpec;
    }
  | { readonly type: 'freeze'; readonly request: number; readonly flush: boolean }
  | { readonly type: 'thaw'; readonly request: number }
  | { readonly type: 'identify'; readonly request: number; readonly configuration: GuestConfiguration }
  | { readonly type: 'flush'; readonly request: number }
  | { readonly type: 'poweroff' }
  | { readonly type: 'memory'; readonly request: number }
  | { readonly type: 'set-clock'; readonly epochNs: bigint; readonly boottimeNs: bigint | undefined };

export type GuestPhase = 'fresh' | 'configured' | 'ending';

export interface GuestProcessState {
  readonly id: number;
  readonly state: 'running' | 'exited';
  readonly pid: number;
  readonly stdoutBytes: number;
  readonly stderrBytes: number;
  /** Bytes of input the guest program has received, whether or not the process has read them. */
  readonly stdinBytes: number;
}

export interface GuestHello {
  readonly version: number;
  readonly phase: GuestPhase;
  readonly kernelRelease: string;
  readonly bootId: string;
  readonly processes: readonly GuestProcessState[];
  /** CLOCK_BOOTTIME nanoseconds at which the guest program started. */
  readonly startedNs: number;
  /** CLOCK_BOOTTIME nanoseconds when it answered; 0 from a guest program that does not say. */
  readonly answeredNs: number;
}

export type StartOutcome =
  | { readonly ok: true; readonly pid: number }
  | {
      readonly ok: false;
      readonly reason: 'not_found' | 'not_executable' | 'unknown_user' | 'other';
      /** In runc's words, for the user. */
      readonly text: string;
    };

export interface ProcessExit {
  /** 128 + n for signal n. */
  readonly exitCode: number;
  readonly signal?: number;
  readonly oomKilled: boolean;
}

export interface GuestTopEntry {
  readonly pid: number;
  readonly ppid: number;
  readonly uid: number;
  readonly user?: string;
  readonly cpuMs: number;
  readonly startedAtMs: number;
  readonly tty: string;
  readonly command: string;
  readonly residentBytes: number;
  readonly virtualBytes: number;
  readonly state: string;
}

export interface GuestMemory {
  readonly totalBytes: number;
  readonly availableBytes: number;
  readonly freeBytes: number;
  readonly oomKills: number;
  /** Established, other than to itself. */
  readonly tcpConnections: number;
}

export interface ConfigureOutcome {
  /** Absent when all worked. */
  readonly error?: string;
  readonly step?: string;
  /** CLOCK_BOOTTIME nanoseconds around the guest's work, when the guest says. */
  readonly beganNs?: number;
  readonly endedNs?: number;
}

export type GuestMessage =
  | { readonly type: 'hello-ack'; readonly nonce: Buffer; readonly hello: GuestHello }
  | { readonly type: 'configured'; readonly outcome: ConfigureOutcome }
  | { readonly type: 'started'; readonly id: number; readonly outcome: StartOutcome }
  | {
      readonly type: 'output';
      readonly id: number;
      readonly stream: OutputStream;
      readonly offset: number;
      readonly data: Buffer;
    }
  | { readonly type: 'exited'; readonly id: number; readonly exit: ProcessExit }
  | { readonly type: 'stdin-window'; readonly id: number; readonly offset: number }
  | { readonly type: 'top-reply'; readonly request: number; readonly entries: readonly GuestTopEntry[] }
  /** `boottimeNs`: the guest's CLOCK_BOOTTIME when it answered; 0 from one that does not say. */
  | { readonly type: 'pong'; readonly request: number; readonly boottimeNs: number }
  /** Absent error: all went as it should. */
  | { readonly type: 'rehearsed'; readonly request: number; readonly error: string | undefined }
  | { readonly type: 'frozen'; readonly request: number; readonly error: string | undefined }
  | { readonly type: 'thawed'; readonly request: number }
  | { readonly type: 'identified'; readonly request: number; readonly error: string | undefined }
  | { readonly type: 'flushed'; readonly request: number }
  | { readonly type: 'log'; readonly text: string }
  | { readonly type: 'synced' }
  | { readonly type: 'memory-reply'; readonly request: number; readonly memory: GuestMemory }
  /** A newer guest's message: skipped. */
  | { readonly type: 'unknown' };

/** @throws guest.bad_value (invalid) for an address the wire cannot carry; guest.message_too_large (invalid). */
export function encodeMessage(message: HostMessage): Buffer {
  const none = Buffer.alloc(0);
  switch (message.type) {
    case 'hello':
      return encodeFrames(1, 0, Buffer.concat([message.nonce, u32(PROTOCOL_VERSION)]));
    case 'configure':
      return encodeFrames(2, 0, encodeConfiguration(message.configuration));
    case 'start':
      return encodeFrames(3, message.id, encodeProcess(message.spec));
    case 'stdin':
      return encodeFrames(4, message.id, message.data);
    case 'stdin-eof':
      return encodeFrames(5, message.id, none);
    case 'signal':
      return encodeFrames(6, message.id, u32(message.signal));
    case 'resize':
      return encodeFrames(7, message.id, Buffer.concat([u16(message.rows), u16(message.columns)]));
    case 'ack':
      return encodeFrames(
        8,
        message.id,
        Buffer.concat([Buffer.from([message.stream === 'stdout' ? 1 : 2]), u64(message.offset)]),
      );
    case 'resume':
      return encodeFrames(9, message.id, Buffer.concat([u64(message.stdoutOffset), u64(message.stderrOffset)]));
    case 'exit-ack':
      return encodeFrames(10, message.id, none);
    case 'top':
      return encodeFrames(11, message.request, none);
    case 'ping':
      return encodeFrames(12, message.request, none);
    case 'poweroff':
      return encodeFrames(13, 0, none);
    case 'memory':
      return encodeFrames(14, message.request, none);
    case 'set-clock':
      return encodeFrames(15, 0, encodeClock(message.epochNs, message.boottimeNs));
    case 'rehearse': {
      const start = new FieldWriter().bytes(START_FIELD, encodeProcess(message.spec)).finish();
      return encodeFrames(16, message.request, Buffer.concat([encodeConfiguration(message.configuration), start]));
    }
    case 'freeze':
      return encodeFrames(17, message.request, message.flush ? new FieldWriter().u32(1, 1).finish() : none);
    case 'thaw':
      return encodeFrames(18, message.request, none);
    case 'flush':
      return encodeFrames(20, message.request, none);
    case 'identify':
      return encodeFrames(19, message.request, encodeConfiguration(message.configuration));
  }
}

function encodeConfiguration(configuration: GuestConfiguration): Buffer {
  const fields = new FieldWriter().text(1, configuration.hostname);
  if (configuration.domainName !== undefined) fields.text(2, configuration.domainName);
  fields.text(3, configuration.hosts).text(4, configuration.resolvConf);
  for (const layer of configuration.layers) {
    fields.bytes(5, Buffer.concat([u64(layer.firstSector), u64(layer.sectors)]));
  }
  if (configuration.network !== undefined) fields.bytes(6, encodeNetwork(configuration.network));
  if (configuration.readOnlyRoot === true) fields.u32(7, 1);
  for (const { mountPoint, options } of configuration.tmpfs ?? []) fields.text(8, `${mountPoint}\0${options}`);
  if (configuration.epochNs !== undefined)
    fields.bytes(9, encodeClock(configuration.epochNs, configuration.boottimeNs));
  if (configuration.entropy !== undefined) fields.bytes(10, configuration.entropy);
  if (configuration.shmBytes !== undefined) fields.u64(11, configuration.shmBytes);
  for (const [name, value] of Object.entries(configuration.sysctls ?? {})) fields.text(12, `${name}=${value}`);
  if (configuration.workingDirectory !== undefined) fields.text(13, configuration.workingDirectory);
  if (configuration.machineId !== undefined) fields.text(14, configuration.machineId);
  if (configuration.productUuid !== undefined) fields.text(15, configuration.productUuid);
  for (const { slot, mountPoint, readOnly, fill } of configuration.volumes ?? [])
    fields.bytes(
      16,
      Buffer.concat([Buffer.from([slot, (readOnly ? 1 : 0) | (fill ? 2 : 0)]), Buffer.from(mountPoint)]),
    );
  return fields.finish();
}

function encodeClock(epochNs: bigint, boottimeNs: bigint | undefined): Buffer {
  return Buffer.concat([u64(epochNs), ...(boottimeNs === undefined ? [] : [u64(boottimeNs)])]);
}

function encodeNetwork(network: GuestNetwork): Buffer {
  return Buffer.concat([
    octets(network.mac, ':', 16, 6),
    octets(network.address, '.', 10, 4),
    Buffer.from([network.prefixLength]),
    octets(network.gateway ?? '0.0.0.0', '.', 10, 4),
    u16(network.mtu ?? 0),
  ]);
}

function octets(text: string, separator: string, radix: number, count: number): Buffer {
  const values = text.split(separator).map((part) => Number.parseInt(part, radix));
  if (values.length !== count || values.some((value) => !(value >= 0 && value <= 255))) {
    throw new BerthError('invalid', 'guest.bad_value', `${JSON.stringify(text)} is not an address of ${count} bytes`);
  }
  return Buffer.from(values);
}

function encodeProcess(spec: GuestProcessSpec): Buffer {
  const fields = new FieldWriter();
  for (const argument of spec.args) fields.text(1, argument);
  for (const variable of spec.env ?? []) fields.text(2, variable);
  if (spec.cwd !== undefined) fields.text(3, spec.cwd);
  if (spec.user !== undefined) fields.text(4, spec.user);
  if (spec.tty !== undefined) {
    fields.u32(5, 1).bytes(6, Buffer.concat([u16(spec.tty.rows), u16(spec.tty.columns)]));
  }
  if (spec.stdin) fields.u32(7, 1);
  for (const limit of spec.limits ?? []) {
    fields.bytes(8, Buffer.concat([u32(limit.resource), u64(limit.soft), u64(limit.hard)]));
  }
  for (const group of spec.extraGroups ?? []) fields.text(9, group);
  if (spec.dropCapabilities !== undefined) fields.u64(10, spec.dropCapabilities);
  if (spec.noNewPrivileges === true) fields.u32(11, 1);
  if (spec.cwdMustExist === true) fields.u32(13, 1);
  if (spec.oomScoreAdj !== undefined) fields.u32(12, spec.oomScoreAdj);
  return fields.finish();
}

/** @throws guest.protocol (data_loss) when the payload is not what its type says. */
export function decodeMessage(frame: Frame): GuestMessage {
  const { type, id, payload } = frame;
  switch (type) {
    case 129:
      return decodeHelloAck(payload);
    case 130:
      return { type: 'configured', outcome: decodeConfigured(new Fields(payload)) };
    case 131:
      return { type: 'started', id, outcome: decodeStarted(new Fields(payload)) };
    case 132:
      return decodeOutput(id, payload);
    case 133:
      return { type: 'exited', id, exit: decodeExit(new Fields(payload)) };
    case 134:
      if (payload.length < 8) throw protocolError('STDIN_WINDOW is cut');
      return { type: 'stdin-window', id, offset: readU64(payload, 0) };
    case 135:
      return { type: 'top-reply', request: id, entries: new Fields(payload).all(1).map(decodeTopEntry) };
    case 136:
      return { type: 'pong', request: id, boottimeNs: payload.length < 8 ? 0 : readU64(payload, 0) };
    case 137:
      return { type: 'log', text: payload.toString('utf8') };
    case 138:
      return { type: 'synced' };
    case 139:
      return { type: 'memory-reply', request: id, memory: decodeMemory(new Fields(payload)) };
    case 140:
      return { type: 'rehearsed', request: id, error: new Fields(payload).text(1) };
    case 141:
      return { type: 'frozen', request: id, error: new Fields(payload).text(1) };
    case 142:
      return { type: 'thawed', request: id };
    case 143:
      return { type: 'identified', request: id, error: new Fields(payload).text(1) };
    case 144:
      return { type: 'flushed', request: id };
    default:
      return { type: 'unknown' };
  }
}

function decodeHelloAck(payload: Buffer): GuestMessage {
  if (payload.length < NONCE_BYTES) throw protocolError('HELLO_ACK is cut');
  const fields = new Fields(payload.subarray(NONCE_BYTES));
  const phases: Readonly<Record<number, GuestPhase>> = { 1: 'fresh', 2: 'configured', 3: 'ending' };
  const phase = phases[fields.u32(2) ?? 0];
  if (phase === undefined) throw protocolError(`HELLO_ACK names phase ${fields.u32(2)}`);
  const hello: GuestHello = {
    version: fields.u32(1) ?? 0,
    phase,
    kernelRelease: fields.text(3) ?? '',
    bootId: fields.text(4) ?? '',
    processes: fields.all(5).map(decodeProcessState),
    startedNs: fields.u64(6) ?? 0,
    answeredNs: fields.u64(7) ?? 0,
  };
  return { type: 'hello-ack', nonce: payload.subarray(0, NONCE_BYTES), hello };
}

function decodeProcessState(record: Buffer): GuestProcessState {
  const fields = new Fields(record);
  return {
    id: fields.u32(1) ?? 0,
    state: fields.u32(2) === 2 ? 'exited' : 'running',
    pid: fields.u32(3) ?? 0,
    stdoutBytes: fields.u64(4) ?? 0,
    stderrBytes: fields.u64(5) ?? 0,
    stdinBytes: fields.u64(6) ?? 0,
  };
}

function decodeConfigured(fields: Fields): ConfigureOutcome {
  const error = fields.text(1);
  const step = fields.text(2);
  const beganNs = fields.u64(3);
  const endedNs = fields.u64(4);
  return {
    ...(error === undefined ? {} : { error }),
    ...(step === undefined ? {} : { step }),
    ...(beganNs === undefined ? {} : { beganNs }),
    ...(endedNs === undefined ? {} : { endedNs }),
  };
}

function decodeStarted(fields: Fields): StartOutcome {
  const pid = fields.u32(1);
  if (pid !== undefined) return { ok: true, pid };
  const reasons = { 1: 'not_found', 2: 'not_executable', 3: 'unknown_user' } as const;
  const kind = fields.u32(2) ?? 4;
  const reason = kind === 1 || kind === 2 || kind === 3 ? reasons[kind] : 'other';
  return { ok: false, reason, text: fields.text(3) ?? 'the guest gave no reason' };
}

function decodeOutput(id: number, payload: Buffer): GuestMessage {
  if (payload.length < 9) throw protocolError('OUTPUT is cut');
  const number = payload.readUInt8(0);
  if (number !== 1 && number !== 2) throw protocolError(`OUTPUT names stream ${number}`);
  return {
    type: 'output',
    id,
    stream: number === 1 ? 'stdout' : 'stderr',
    offset: readU64(payload, 1),
    data: payload.subarray(9),
  };
}

function decodeExit(fields: Fields): ProcessExit {
  const exitCode = fields.u32(1);
  if (exitCode === undefined) throw protocolError('EXITED names no exit code');
  const signal = fields.u32(2) ?? 0;
  return { exitCode, ...(signal === 0 ? {} : { signal }), oomKilled: fields.u32(3) === 1 };
}

function decodeTopEntry(record: Buffer): GuestTopEntry {
  const fields = new Fields(record);
  const user = fields.text(4);
  return {
    pid: fields.u32(1) ?? 0,
    ppid: fields.u32(2) ?? 0,
    uid: fields.u32(3) ?? 0,
    ...(user === undefined ? {} : { user }),
    cpuMs: fields.u64(5) ?? 0,
    startedAtMs: fields.u64(6) ?? 0,
    tty: fields.text(7) ?? '?',
    command: fields.text(8) ?? '',
    residentBytes: fields.u64(9) ?? 0,
    virtualBytes: fields.u64(10) ?? 0,
    state: fields.text(11) ?? '?',
  };
}

function decodeMemory(fields: Fields): GuestMemory {
  return {
    totalBytes: fields.u64(1) ?? 0,
    availableBytes: fields.u64(2) ?? 0,
    freeBytes: fields.u64(3) ?? 0,
    oomKills: fields.u64(4) ?? 0,
    tcpConnections: fields.u32(5) ?? 0,
  };
}
