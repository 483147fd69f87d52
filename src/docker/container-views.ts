/** What Docker's clients are shown of a VM: pure translations of its record. */
import { humanDuration, shortId } from '#base';
import { type HostMemory, isUp, type PortBinding, type VmRecord, type VmState } from '#engine';
import { rfc3339 } from './durations.ts';

/** Docker's seven words for a container's state. */
export function stateName(state: VmState): string {
  if (state.name === 'starting') return 'created';
  if (state.name === 'ending' || state.name === 'asleep' || state.name === 'waking') return 'running';
  return state.name;
}

/** The STATUS column of `docker ps`. */
export function statusText(record: VmRecord, nowMs: number): string {
  const { state } = record;
  const up = (): string => `Up ${humanDuration((nowMs - (record.startedAtMs ?? nowMs)) / 1000)}`;
  switch (state.name) {
    case 'created':
    case 'starting':
      return 'Created';
    case 'running':
    case 'ending':
      return up();
    case 'paused':
      return `${up()} (Paused)`;
    case 'asleep':
    case 'waking':
      return `${up()} (asleep)`;
    case 'exited':
      return `Exited (${state.exit.exitCode}) ${humanDuration((nowMs - state.exit.atMs) / 1000)} ago`;
    case 'removing':
      return 'Removal In Progress';
    case 'dead':
      return 'Dead';
  }
}

function docker(record: VmRecord): Record<string, unknown> {
  return record.spec.docker as Record<string, unknown>;
}

function hostConfig(record: VmRecord): Record<string, unknown> {
  return (docker(record)['HostConfig'] ?? {}) as Record<string, unknown>;
}

/** One element of `GET /containers/json`. */
export function listEntry(record: VmRecord, nowMs: number, size: { rw: number; root: number } | undefined): object {
  const { spec } = record;
  return {
    Id: record.id,
    Names: [`/${record.name}`],
    Image: spec.imageReference,
    ImageID: spec.imageId,
    Command: spec.process.args.map((word) => (word.includes(' ') ? `'${word}'` : word)).join(' '),
    Created: Math.floor(record.createdAtMs / 1000),
    Ports: (record.network?.ports ?? []).map((port) => ({
      IP: port.hostIp === '' ? '0.0.0.0' : port.hostIp,
      PrivatePort: port.guestPort,
      PublicPort: port.hostPort,
      Type: port.protocol,
    })),
    Labels: spec.labels,
    State: stateName(record.state),
    Status: statusText(record, nowMs),
    HostConfig: { NetworkMode: spec.network.mode === 'none' ? 'none' : 'bridge' },
    NetworkSettings: { Networks: networksOf(record) },
    Mounts: mountPoints(record),
    ...(size === undefined ? {} : { SizeRw: size.rw, SizeRootFs: size.root }),
  };
}

function mountPoints({ spec }: VmRecord): object[] {
  return (spec.volumes ?? []).map(({ volume, path, readOnly }) => ({
    Type: 'volume',
    Name: volume,
    Source: volume,
    Destination: path,
    Driver: 'local',
    Mode: readOnly ? 'ro' : 'rw',
    RW: !readOnly,
    Propagation: '',
  }));
}

function networksOf(record: VmRecord): Record<string, object> {
  const { network, spec } = record;
  const name = spec.network.mode === 'none' ? 'none' : 'bridge';
  return {
    [name]: {
      IPAMConfig: null,
      Links: null,
      Aliases: null,
      MacAddress: network?.mac ?? '',
      DriverOpts: null,
      GwPriority: 0,
      NetworkID: network?.bridge ?? '',
      EndpointID: network === undefined ? '' : record.id,
      Gateway: network?.gateway ?? '',
      IPAddress: network?.address ?? '',
      IPPrefixLen: network?.prefixLength ?? 0,
      IPv6Gateway: '',
      GlobalIPv6Address: '',
      GlobalIPv6PrefixLen: 0,
      DNSNames: network === undefined ? null : [record.name, shortId(record.id)],
    },
  };
}

function portMap(record: VmRecord): Record<string, object[] | null> {
  const map: Record<string, object[] | null> = {};
  const exposed = (docker(record)['ExposedPorts'] ?? {}) as Record<string, unknown>;
  if (record.network !== undefined) for (const key of Object.keys(exposed)) map[key] = null;
  for (const port of record.network?.ports ?? []) {
    const key = `${port.guestPort}/${port.protocol}`;
    map[key] = [
      ...(map[key] ?? []),
      { HostIp: port.hostIp === '' ? '0.0.0.0' : port.hostIp, HostPort: String(port.hostPort) },
    ];
  }
  return map;
}

function requestedPorts(ports: readonly PortBinding[]): Record<string, object[]> {
  const map: Record<string, object[]> = {};
  for (const port of ports) {
    const key = `${port.guestPort}/${port.protocol}`;
    map[key] = [
      ...(map[key] ?? []),
      { HostIp: port.hostIp, HostPort: port.hostPort === 0 ? '' : String(port.hostPort) },
    ];
  }
  return map;
}

/** What inspect shows beside the record. */
export interface InspectFacts {
  readonly trouble: string;
  readonly logPath: string;
  readonly execIds: readonly string[];
  readonly size: { readonly rw: number; readonly root: number } | undefined;
  readonly memory: { readonly guestUsedBytes: number | undefined; readonly host: HostMemory | undefined };
}

export function inspectView(record: VmRecord, facts: InspectFacts): object {
  const { spec, state } = record;
  const own = docker(record);
  const host = hostConfig(record);
  const { process } = spec;
  return {
    Id: record.id,
    Created: rfc3339(record.createdAtMs),
    Path: process.args[0] ?? '',
    Args: process.args.slice(1),
    State: stateView(record, facts.trouble),
    Image: spec.imageId,
    ResolvConfPath: '',
    HostnamePath: '',
    HostsPath: '',
    LogPath: facts.logPath,
    Name: `/${record.name}`,
    RestartCount: 0,
    Driver: 'erofs-overlay',
    Platform: 'linux',
    MountLabel: '',
    ProcessLabel: '',
    AppArmorProfile: '',
    ExecIDs: facts.execIds.length === 0 ? null : facts.execIds,
    HostConfig: {
      Binds: null,
      ContainerIDFile: '',
      LogConfig: { Type: 'json-file', Config: {} },
      VolumeDriver: '',
      VolumesFrom: null,
      CapAdd: null,
      CapDrop: null,
      CgroupnsMode: 'private',
      Dns: [],
      DnsOptions: [],
      DnsSearch: [],
      ExtraHosts: null,
      GroupAdd: null,
      IpcMode: 'private',
      Cgroup: '',
      Links: null,
      OomScoreAdj: 0,
      PidMode: '',
      Privileged: false,
      PublishAllPorts: false,
      SecurityOpt: null,
      UTSMode: '',
      UsernsMode: '',
      ConsoleSize: [0, 0],
      Isolation: '',
      CpuShares: 0,
      Memory: 0,
      NanoCpus: 0,
      CgroupParent: '',
      BlkioWeight: 0,
      BlkioWeightDevice: [],
      BlkioDeviceReadBps: [],
      BlkioDeviceWriteBps: [],
      BlkioDeviceReadIOps: [],
      BlkioDeviceWriteIOps: [],
      CpuPeriod: 0,
      CpuQuota: 0,
      CpuRealtimePeriod: 0,
      CpuRealtimeRuntime: 0,
      CpusetCpus: '',
      CpusetMems: '',
      Devices: [],
      DeviceCgroupRules: null,
      DeviceRequests: null,
      MemoryReservation: 0,
      MemorySwap: 0,
      OomKillDisable: false,
      Ulimits: [],
      CpuCount: 0,
      CpuPercent: 0,
      IOMaximumIOps: 0,
      IOMaximumBandwidth: 0,
      MaskedPaths: null,
      ReadonlyPaths: null,
      ...known(host),
      NetworkMode: spec.network.mode === 'none' ? 'none' : 'bridge',
      PortBindings: requestedPorts(spec.network.ports),
      RestartPolicy: { Name: 'no', MaximumRetryCount: 0 },
      AutoRemove: spec.autoRemove,
      ReadonlyRootfs: spec.readonlyRoot,
      ShmSize: spec.shmBytes,
      Runtime: 'berth',
      MemorySwappiness: null,
      PidsLimit: host['PidsLimit'] || null,
    },
    GraphDriver: { Name: 'erofs-overlay', Data: null },
    ...(facts.size === undefined ? {} : { SizeRw: facts.size.rw, SizeRootFs: facts.size.root }),
    Mounts: mountPoints(record),
    Config: {
      Hostname: spec.hostname,
      Domainname: spec.domainName,
      User: process.user,
      AttachStdin: own['AttachStdin'] === true,
      AttachStdout: own['AttachStdout'] === true,
      AttachStderr: own['AttachStderr'] === true,
      ...(own['ExposedPorts'] ? { ExposedPorts: own['ExposedPorts'] } : {}),
      Tty: process.tty,
      OpenStdin: process.openStdin,
      StdinOnce: process.stdinOnce,
      Env: process.env,
      Cmd: own['Cmd'] ?? null,
      Image: spec.imageReference,
      Volumes: own['Volumes'] ?? null,
      WorkingDir: own['WorkingDir'] ?? process.workingDirectory,
      Entrypoint: own['Entrypoint'] ?? null,
      OnBuild: null,
      Labels: spec.labels,
      ...(own['Healthcheck'] ? { Healthcheck: own['Healthcheck'] } : {}),
      ...(own['StopSignal'] ? { StopSignal: own['StopSignal'] } : {}),
      ...(typeof own['StopTimeout'] === 'number' ? { StopTimeout: own['StopTimeout'] } : {}),
    },
    NetworkSettings: {
      Bridge: '',
      SandboxID: '',
      SandboxKey: '',
      Ports: portMap(record),
      HairpinMode: false,
      LinkLocalIPv6Address: '',
      LinkLocalIPv6PrefixLen: 0,
      SecondaryIPAddresses: null,
      SecondaryIPv6Addresses: null,
      EndpointID: record.network === undefined ? '' : record.id,
      Gateway: record.network?.gateway ?? '',
      GlobalIPv6Address: '',
      GlobalIPv6PrefixLen: 0,
      IPAddress: record.network?.address ?? '',
      IPPrefixLen: record.network?.prefixLength ?? 0,
      IPv6Gateway: '',
      MacAddress: record.network?.mac ?? '',
      Networks: networksOf(record),
    },
    // berth's own facts; clients that do not know the key pass over it.
    Berth: {
      State: state.name,
      Accelerator: record.machine?.accelerator ?? '',
      Vcpus: spec.vcpus,
      MemoryBytes: spec.memoryBytes,
      DiskBytes: spec.diskBytes,
      Uid: record.uid,
      ...memoryView(facts.memory),
      BootMs: record.boot,
    },
  };
}

/** Of a VM that runs. A guest that does not answer leaves its own figure out. */
function memoryView({ guestUsedBytes, host }: InspectFacts['memory']): object {
  if (host === undefined) return {};
  return {
    Memory: {
      ...(guestUsedBytes === undefined ? {} : { GuestUsedBytes: guestUsedBytes }),
      HostResidentBytes: host.residentBytes,
      HostUniqueBytes: host.uniqueBytes,
      TemplateSharedBytes: host.templateSharedBytes,
    },
  };
}

/** Of a host config, what says something: an empty text or null must not hide a default. */
function known(host: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const given = Object.entries(host).filter(([, value]) => value !== '' && value !== null && value !== undefined);
  const log = host['LogConfig'] as { Type?: string | null } | null | undefined;
  return Object.fromEntries(given.filter(([name]) => name !== 'LogConfig' || Boolean(log?.Type)));
}

function stateView(record: VmRecord, trouble: string): object {
  const { state } = record;
  const exit = state.name === 'exited' ? state.exit : state.name === 'created' ? state.failure : undefined;
  const stopped = state.name === 'paused' || state.name === 'dead' || state.name === 'asleep' ? state.error : '';
  const running = isUp(state) && state.name !== 'starting';
  return {
    Status: stateName(state),
    Running: running,
    Paused: state.name === 'paused',
    Restarting: false,
    OOMKilled: exit?.oomKilled ?? false,
    Dead: state.name === 'dead',
    Pid: running ? (record.machine?.pid ?? 0) : 0,
    ExitCode: exit?.exitCode ?? 0,
    Error: exit?.error || stopped || trouble,
    StartedAt: rfc3339(record.startedAtMs),
    FinishedAt: rfc3339(state.name === 'exited' ? state.exit.atMs : undefined),
  };
}
