/**
 * From a create body and an image's config to the engine's spec. What berth cannot do yet is refused by name: a
 * setting that is silently dropped would be found out in production.
 */
import { BerthError, type Digest, GIB, MIB } from '#base';
import {
  DEFAULT_SHAPE,
  type PortBinding,
  type ProcessSpec,
  type TerminalSize,
  type Ulimit,
  type VmSpec,
} from '#engine';
import type { CreateBody, HostConfig } from './create-body.ts';
import { parseSignal } from './signals.ts';
import { sizeOption } from './size-option.ts';
import { type WantedVolumes, wantedVolumes } from './volume-requests.ts';

/** What this needs of an image's config, in OCI's names. */
export interface ImageDefaults {
  readonly User?: string | null | undefined;
  readonly Env?: readonly string[] | null | undefined;
  readonly Entrypoint?: readonly string[] | null | undefined;
  readonly Cmd?: readonly string[] | null | undefined;
  readonly WorkingDir?: string | null | undefined;
  readonly StopSignal?: string | null | undefined;
  readonly Labels?: Readonly<Record<string, string>> | null | undefined;
  readonly ExposedPorts?: Readonly<Record<string, unknown>> | null | undefined;
  readonly Volumes?: Readonly<Record<string, unknown>> | null | undefined;
  readonly Healthcheck?: unknown;
}

/** Of a VM without --memory: fits a shell and a small server; a guest kernel alone takes about 40 MiB. */
/** How long a VM may be idle before it is put to sleep: a label, so that every client of Docker's API can say it. */
const SLEEP_LABEL = 'berth.sleep-after';
/** With 64 MiB the guest's kernel does not come up; with 72 a shell has 8 MiB free (measured 2026-11-22). */
export const MINIMUM_MEMORY_BYTES = 80 * MIB;
const MAXIMUM_VCPUS = 64;
const DEFAULT_SHM_BYTES = 64 * MIB;
/** Size of the writable disk; it is sparse, so only what is written takes room. */
const DEFAULT_DISK_BYTES = 10 * GIB;
const DEFAULT_PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** @source getrlimit(2), Linux numbers */
const LIMIT_NUMBERS: Readonly<Record<string, number>> = {
  cpu: 0,
  fsize: 1,
  data: 2,
  stack: 3,
  core: 4,
  rss: 5,
  nproc: 6,
  nofile: 7,
  memlock: 8,
  as: 9,
  locks: 10,
  sigpending: 11,
  msgqueue: 12,
  nice: 13,
  rtprio: 14,
  rttime: 15,
};

/** @source capabilities(7), linux/capability.h */
const CAPABILITIES = [
  'CHOWN',
  'DAC_OVERRIDE',
  'DAC_READ_SEARCH',
  'FOWNER',
  'FSETID',
  'KILL',
  'SETGID',
  'SETUID',
  'SETPCAP',
  'LINUX_IMMUTABLE',
  'NET_BIND_SERVICE',
  'NET_BROADCAST',
  'NET_ADMIN',
  'NET_RAW',
  'IPC_LOCK',
  'IPC_OWNER',
  'SYS_MODULE',
  'SYS_RAWIO',
  'SYS_CHROOT',
  'SYS_PTRACE',
  'SYS_PACCT',
  'SYS_ADMIN',
  'SYS_BOOT',
  'SYS_NICE',
  'SYS_RESOURCE',
  'SYS_TIME',
  'SYS_TTY_CONFIG',
  'MKNOD',
  'LEASE',
  'AUDIT_WRITE',
  'AUDIT_CONTROL',
  'SETFCAP',
  'MAC_OVERRIDE',
  'MAC_ADMIN',
  'SYSLOG',
  'WAKE_ALARM',
  'BLOCK_SUSPEND',
  'AUDIT_READ',
  'PERFMON',
  'BPF',
  'CHECKPOINT_RESTORE',
];

export interface Translation {
  readonly spec: VmSpec;
  readonly warnings: readonly string[];
  readonly volumes: WantedVolumes['requests'];
}

/** @throws create.* (invalid) for values out of range; create.unsupported (unsupported) naming the field. */
export function translateCreate(
  body: CreateBody,
  image: { readonly id: Digest; readonly config: ImageDefaults },
): Translation {
  const host: Partial<HostConfig> = body.HostConfig ?? {};
  refuseUnsupported(body, host);
  const warnings: string[] = [];
  const volumes = wantedVolumes(host);
  if (Object.keys(body.Volumes ?? {}).length + volumes.anonymous.length > 0)
    warnings.push('A volume without a name is a folder of the VM’s own disk: it lives and goes with the VM.');
  if ((body.Healthcheck?.Test ?? []).length > 0 && body.Healthcheck?.Test?.[0] !== 'NONE') {
    warnings.push('Health checks are not run yet.');
  }
  const spec: VmSpec = {
    imageReference: body.Image ?? '',
    imageId: image.id,
    process: processOf(body, host, image.config),
    terminal: terminalOf(host),
    hostname: hostNameOf(body.Hostname ?? ''),
    domainName: hostNameOf(body.Domainname ?? ''),
    vcpus: vcpusOf(host, warnings),
    memoryBytes: memoryOf(host),
    shmBytes: host.ShmSize || DEFAULT_SHM_BYTES,
    diskBytes: diskOf(host),
    readonlyRoot: host.ReadonlyRootfs === true,
    tmpfs: tmpfsOf(host),
    sysctls: host.Sysctls ?? {},
    volumes: volumes.mounts,
    network: {
      mode: host.NetworkMode === 'none' || body.NetworkDisabled === true ? 'none' : 'bridge',
      ports: portsOf(body, host, image.config),
      dns: host.Dns ?? [],
      dnsSearch: host.DnsSearch ?? [],
      dnsOptions: host.DnsOptions ?? [],
      extraHosts: (host.ExtraHosts ?? []).map(checkExtraHost),
      mac: macOf(body),
    },
    stopSignal: parseSignal(body.StopSignal || image.config.StopSignal || 'TERM'),
    stopTimeoutSeconds: body.StopTimeout ?? 10,
    autoRemove: host.AutoRemove === true,
    sleepAfterSeconds: sleepAfterOf(body.Labels?.[SLEEP_LABEL]),
    labels: { ...image.config.Labels, ...body.Labels },
    docker: { ...body, ...mergedWith(image.config, body), HostConfig: host },
  };
  return { spec, warnings, volumes: volumes.requests };
}

function unsupported(what: string, hint: string): BerthError {
  return new BerthError('unsupported', 'create.unsupported', `${what} is not supported yet`, { hint });
}

function invalid(message: string): BerthError {
  return new BerthError('invalid', 'create.invalid', message);
}

function refuseUnsupported(body: CreateBody, host: Partial<HostConfig>): void {
  const filled = (list: readonly unknown[] | null | undefined): boolean => (list ?? []).length > 0;
  const foreign = (host.Mounts ?? []).find((mount) => mount.Type !== 'tmpfs' && mount.Type !== 'volume');
  if (foreign !== undefined)
    throw unsupported(`a mount of type ${foreign.Type} (--mount)`, 'there are the types volume and tmpfs');
  if (filled(host.VolumesFrom)) throw unsupported('HostConfig.VolumesFrom', 'start without --volumes-from');
  if (filled(host.Links)) throw unsupported('HostConfig.Links', 'VMs of one network find each other by name');
  if (filled(host.Devices) || filled(host.DeviceRequests)) {
    throw unsupported('HostConfig.Devices', 'a VM has devices of its own; start without --device and --gpus');
  }
  const policy = host.RestartPolicy?.Name ?? '';
  if (policy !== '' && policy !== 'no') throw unsupported(`the restart policy ${policy}`, 'start without --restart');
  const mode = host.NetworkMode ?? '';
  if (!['', 'default', 'bridge', 'none', 'nat'].includes(mode)) {
    throw unsupported(`the network mode ${mode}`, 'use the default network or --network none');
  }
  for (const name of Object.keys(body.NetworkingConfig?.EndpointsConfig ?? {})) {
    if (!['default', 'bridge', 'none', mode].includes(name))
      throw unsupported(`the network ${name}`, 'use the default network');
  }
  for (const [field, value] of [
    ['PidMode', host.PidMode],
    ['UTSMode', host.UTSMode],
    ['IpcMode', host.IpcMode],
  ] as const) {
    if (value === 'host' || value?.startsWith('container:') === true) {
      throw unsupported(`HostConfig.${field} ${value}`, 'a VM has a kernel of its own and shares nothing with others');
    }
  }
  const runtime = host.Runtime ?? '';
  if (runtime !== '' && runtime !== 'berth') throw invalid(`Unknown runtime specified ${runtime}`);
  const driver = host.LogConfig?.Type ?? '';
  if (!['', 'json-file', 'local', 'default'].includes(driver)) {
    throw unsupported(`the log driver ${driver}`, 'start without --log-driver; "logs" reads what berth keeps');
  }
}

/**
 * What inspect shows: the request laid over the image's config, as dockerd merges them. An entrypoint of the request
 * drops the image's command.
 */
function mergedWith(image: ImageDefaults, body: CreateBody): Record<string, unknown> {
  const [ownEntrypoint, ownCommand] = [listOf(body.Entrypoint), listOf(body.Cmd)];
  const hasCommand = ownCommand !== undefined && ownCommand.length > 0;
  const ports = { ...image.ExposedPorts, ...body.ExposedPorts };
  for (const key of Object.keys(body.HostConfig?.PortBindings ?? {}))
    ports[key.includes('/') ? key : `${key}/tcp`] = {};
  const volumes = { ...image.Volumes, ...body.Volumes };
  return {
    Entrypoint: ownEntrypoint ?? image.Entrypoint ?? null,
    Cmd: hasCommand ? ownCommand : ownEntrypoint === undefined ? (image.Cmd ?? null) : null,
    ExposedPorts: Object.keys(ports).length > 0 ? ports : undefined,
    Volumes: Object.keys(volumes).length > 0 ? volumes : null,
    WorkingDir: body.WorkingDir || image.WorkingDir || '',
    StopSignal: body.StopSignal || image.StopSignal || undefined,
    Healthcheck: body.Healthcheck ?? image.Healthcheck ?? undefined,
  };
}

/** The CLI sends its own size; zeroes mean that it has none. */
function terminalOf(host: Partial<HostConfig>): TerminalSize | undefined {
  const [rows = 0, columns = 0] = host.ConsoleSize ?? [];
  return rows > 0 && columns > 0 && rows < 65_536 && columns < 65_536 ? { rows, columns } : undefined;
}

/** It becomes a line of the name server's hosts file, where white space would make another name or another line. */
function hostNameOf(name: string): string {
  if (name !== '' && !/^[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?$/.test(name))
    throw invalid(`invalid hostname format: ${JSON.stringify(name)}`);
  return name;
}

function listOf(value: readonly string[] | string | null | undefined): readonly string[] | undefined {
  if (value === null || value === undefined) return undefined;
  return typeof value === 'string' ? [value] : value;
}

function processOf(body: CreateBody, host: Partial<HostConfig>, image: ImageDefaults): ProcessSpec {
  const ownEntrypoint = listOf(body.Entrypoint);
  const ownCommand = listOf(body.Cmd);
  // An entrypoint given on the command line drops the image's command, `--entrypoint ""` both.
  const entrypoint = (ownEntrypoint ?? image.Entrypoint ?? []).filter((word, _, all) => all.length > 1 || word !== '');
  const useImageCommand = ownEntrypoint === undefined && (ownCommand === undefined || ownCommand.length === 0);
  const command = useImageCommand ? (image.Cmd ?? []) : (ownCommand ?? []);
  const args = [...entrypoint, ...command];
  if (args.length === 0) throw invalid('no command specified');
  const workingDirectory = body.WorkingDir || image.WorkingDir || '/';
  if (!workingDirectory.startsWith('/'))
    throw invalid(`the working directory '${workingDirectory}' is invalid, it needs to be an absolute path`);
  return {
    args,
    env: mergeEnvironment(image.Env ?? [], body.Env ?? []),
    workingDirectory,
    user: body.User || image.User || '',
    tty: body.Tty === true,
    openStdin: body.OpenStdin === true,
    stdinOnce: body.StdinOnce === true,
    groups: host.GroupAdd ?? [],
    ulimits: (host.Ulimits ?? []).map(ulimitOf),
    dropCapabilities: droppedCapabilities(host),
    noNewPrivileges: (host.SecurityOpt ?? []).some((option) => /^no-new-privileges([:=]true)?$/.test(option)),
  };
}

/** The image's environment with the request's laid over it; `NAME` without `=` takes a variable away, as in dockerd. */
export function mergeEnvironment(image: readonly string[], own: readonly string[]): string[] {
  const merged = new Map<string, string>();
  for (const entry of image) merged.set(nameOf(entry), entry);
  for (const entry of own) {
    if (entry.includes('=')) merged.set(nameOf(entry), entry);
    else merged.delete(entry);
  }
  const hasPath = merged.has('PATH');
  return [...(hasPath ? [] : [DEFAULT_PATH]), ...merged.values()];
}

function nameOf(entry: string): string {
  const equals = entry.indexOf('=');
  return equals < 0 ? entry : entry.slice(0, equals);
}

function droppedCapabilities(host: Partial<HostConfig>): number[] {
  const names = (host.CapDrop ?? []).map((name) => name.toUpperCase().replace(/^CAP_/, ''));
  const kept = new Set((host.CapAdd ?? []).map((name) => name.toUpperCase().replace(/^CAP_/, '')));
  const dropped = names.includes('ALL') ? CAPABILITIES : names;
  return dropped
    .filter((name) => !kept.has(name) && !kept.has('ALL'))
    .map((name) => {
      const number = CAPABILITIES.indexOf(name);
      if (number < 0) throw invalid(`invalid CapDrop: unknown capability: "CAP_${name}"`);
      return number;
    });
}

function ulimitOf(limit: { Name: string; Soft: number; Hard: number }): Ulimit {
  const resource = LIMIT_NUMBERS[limit.Name];
  if (resource === undefined) throw invalid(`invalid ulimit type: ${limit.Name}`);
  if (limit.Hard !== -1 && (limit.Soft === -1 || limit.Soft > limit.Hard)) {
    throw invalid(`ulimit soft limit must be less than or equal to hard limit: ${limit.Soft} > ${limit.Hard}`);
  }
  return { resource, soft: limit.Soft, hard: limit.Hard };
}

function vcpusOf(host: Partial<HostConfig>, warnings: string[]): number {
  const fromQuota = host.CpuQuota && host.CpuQuota > 0 ? host.CpuQuota / (host.CpuPeriod || 100_000) : 0;
  const wanted = host.NanoCpus ? host.NanoCpus / 1e9 : fromQuota;
  if (wanted === 0) return 1;
  if (wanted < 0.01 || wanted > MAXIMUM_VCPUS) {
    throw invalid(
      `range of CPUs is from 0.01 to ${MAXIMUM_VCPUS}.00, as a VM of berth has at most ${MAXIMUM_VCPUS} vCPUs`,
    );
  }
  const vcpus = Math.ceil(wanted);
  if (vcpus !== wanted) warnings.push(`A VM has whole vCPUs: ${wanted} was rounded up to ${vcpus}; no quota is set.`);
  return vcpus;
}

/** `30s`, `5m`, `1h`, a number of seconds; nothing: 0. @throws create.sleep_after (invalid) */
function sleepAfterOf(text: string | undefined): number {
  if (text === undefined) return 0;
  const [, amount, unit] = /^([0-9]{1,9})(s|m|h|)$/.exec(text) ?? [];
  const seconds = Number(amount) * ({ '': 1, s: 1, m: 60, h: 3600 }[unit ?? ''] ?? 1);
  if (amount === undefined || seconds === 0) {
    throw new BerthError('invalid', 'create.sleep_after', `${SLEEP_LABEL}=${text} is not a time such as 30s, 5m or 1h`);
  }
  return seconds;
}

function memoryOf(host: Partial<HostConfig>): number {
  const bytes = host.Memory ?? 0;
  if (bytes === 0) return DEFAULT_SHAPE.memoryBytes;
  if (bytes < MINIMUM_MEMORY_BYTES) {
    throw invalid(
      `Minimum memory limit allowed is ${MINIMUM_MEMORY_BYTES / MIB}MB: the guest's own kernel needs that much; ${bytes} bytes were asked for`,
    );
  }
  return Math.ceil(bytes / MIB) * MIB;
}

function diskOf(host: Partial<HostConfig>): number {
  const size = host.StorageOpt?.['size'];
  return size === undefined ? DEFAULT_DISK_BYTES : sizeOption(size, `storage option size=${size}`);
}

function tmpfsOf(host: Partial<HostConfig>): Record<string, string> {
  const tmpfs: Record<string, string> = { ...host.Tmpfs };
  for (const mount of host.Mounts ?? []) {
    if (mount.Type !== 'tmpfs') continue;
    const options = mount.TmpfsOptions;
    const words = [
      ...(options?.SizeBytes ? [`size=${options.SizeBytes}`] : []),
      ...(options?.Mode ? [`mode=${options.Mode.toString(8)}`] : []),
    ];
    tmpfs[mount.Target ?? ''] = words.join(',');
  }
  for (const path of Object.keys(tmpfs)) {
    if (!path.startsWith('/'))
      throw invalid(`invalid tmpfs mount point ${JSON.stringify(path)}: it must be an absolute path`);
  }
  return tmpfs;
}

function checkExtraHost(entry: string): string {
  const colon = entry.search(/[:=]/);
  if (colon <= 0 || colon === entry.length - 1) throw invalid(`bad format for add-host: "${entry}"`);
  return `${entry.slice(0, colon)}:${entry.slice(colon + 1)}`;
}

function macOf(body: CreateBody): string | undefined {
  const mac = body.MacAddress || undefined;
  if (mac !== undefined && !/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(mac)) throw invalid(`invalid MAC address: ${mac}`);
  return mac;
}

function portsOf(body: CreateBody, host: Partial<HostConfig>, image: ImageDefaults): PortBinding[] {
  const ports: PortBinding[] = [];
  for (const [key, bindings] of Object.entries(host.PortBindings ?? {})) {
    const { guestPort, protocol } = parsePort(key);
    for (const binding of bindings ?? [{ HostIp: '', HostPort: '' }]) {
      ports.push({
        protocol,
        guestPort,
        hostIp: hostIpOf(binding.HostIp ?? ''),
        hostPort: hostPortOf(String(binding.HostPort ?? '')),
      });
    }
  }
  if (host.PublishAllPorts === true) {
    const exposed = new Set([...Object.keys(image.ExposedPorts ?? {}), ...Object.keys(body.ExposedPorts ?? {})]);
    for (const key of exposed) {
      const { guestPort, protocol } = parsePort(key);
      if (ports.some((port) => port.guestPort === guestPort && port.protocol === protocol)) continue;
      ports.push({ protocol, guestPort, hostIp: '', hostPort: 0 });
    }
  }
  return ports;
}

function parsePort(key: string): { guestPort: number; protocol: 'tcp' | 'udp' } {
  const [port, protocol = 'tcp'] = key.split('/');
  const guestPort = Number(port);
  if (!Number.isInteger(guestPort) || guestPort < 1 || guestPort > 65535)
    throw invalid(`invalid port specification: "${key}"`);
  if (protocol !== 'tcp' && protocol !== 'udp') throw unsupported(`publishing of ${protocol} ports`, 'tcp and udp are');
  return { guestPort, protocol };
}

function hostPortOf(text: string): number {
  if (text === '') return 0;
  // A range such as 8000-8010 asks for any of them; berth takes the first.
  const port = Number(text.split('-')[0]);
  if (!Number.isInteger(port) || port < 0 || port > 65535) throw invalid(`invalid port specification: "${text}"`);
  return port;
}

function hostIpOf(text: string): string {
  if (text === '::' || text === '[::]') return '';
  if (text.includes(':')) throw unsupported(`publishing on the IPv6 address ${text}`, 'publish on an IPv4 address');
  if (text !== '' && !/^([0-9]{1,3}\.){3}[0-9]{1,3}$/.test(text)) throw invalid(`invalid IP address: ${text}`);
  return text;
}
