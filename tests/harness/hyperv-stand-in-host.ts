/**
 * A STAND-IN for powershell.exe on a Hyper-V host, started by a real sshd. It does not run PowerShell: it takes out of the script
 * it is given which properties of which classes the script asks for, and answers with objects of the published class
 * definitions (Hyper-V WMI provider v2, Win32 provider), held in a file that a test changes. A class, a property or a condition
 * that the definitions do not have is refused as WMI refuses it. No code of it is the driver's.
 *
 * Usage: hyperv-stand-in-host.ts STATE -NoLogo -NoProfile -NonInteractive -EncodedCommand BASE64
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

type Row = Record<string, unknown>;

export interface StandInState {
  /** By class. */
  readonly objects: Record<string, Row[]>;
  /** What methods of the image service and the file system tell of a disk. */
  readonly disks: Record<string, { largest: string; format: string; fileBytes: number }>;
  /** The user may not see VMs: WMI shows none. */
  isLimited?: boolean;
  /** The role is not installed. */
  hasNoHyperV?: boolean;
  /** Classes that this Windows does not have. */
  missing?: readonly string[];
  fault?: { readonly on: string; readonly kind: 'cut' | 'hang' | 'huge' | 'denied' | 'raw'; readonly text?: string };
}

/** Properties that the published definitions have, as far as anybody here could ask for them. */
const PUBLISHED: Readonly<Record<string, readonly [namespace: string, ...properties: readonly string[]]>> = {
  Msvm_ComputerSystem: [
    'root/virtualization/v2',
    ...['Caption', 'Description', 'ElementName', 'InstallDate', 'Name', 'EnabledState', 'RequestedState'],
    ...['HealthState', 'OperationalStatus', 'OnTimeInMilliseconds', 'ProcessID', 'TimeOfLastStateChange'],
    ...[
      'TimeOfLastConfigurationChange',
      'NumberOfNumaNodes',
      'ReplicationState',
      'ReplicationHealth',
      'ReplicationMode',
    ],
  ],
  Msvm_VirtualSystemSettingData: [
    'root/virtualization/v2',
    ...['InstanceID', 'Caption', 'Description', 'ElementName', 'VirtualSystemIdentifier', 'VirtualSystemType', 'Notes'],
    ...['CreationTime', 'ConfigurationID', 'ConfigurationDataRoot', 'VirtualSystemSubType', 'BIOSGUID'],
    ...['BIOSSerialNumber', 'BootOrder', 'SecureBootEnabled', 'Version', 'Parent', 'SnapshotDataRoot'],
  ],
  Msvm_MemorySettingData: [
    'root/virtualization/v2',
    ...['InstanceID', 'ElementName', 'ResourceType', 'ResourceSubType', 'PoolID', 'AllocationUnits', 'VirtualQuantity'],
    ...['Reservation', 'Limit', 'Weight', 'DynamicMemoryEnabled'],
  ],
  Msvm_ProcessorSettingData: [
    'root/virtualization/v2',
    ...[
      'InstanceID',
      'ElementName',
      'ResourceType',
      'ResourceSubType',
      'VirtualQuantity',
      'Reservation',
      'Limit',
      'Weight',
    ],
  ],
  Msvm_SyntheticEthernetPortSettingData: [
    'root/virtualization/v2',
    ...['InstanceID', 'ElementName', 'Address', 'StaticMacAddress', 'VirtualSystemIdentifiers', 'ResourceSubType'],
  ],
  Msvm_EmulatedEthernetPortSettingData: [
    'root/virtualization/v2',
    ...['InstanceID', 'ElementName', 'Address', 'StaticMacAddress', 'VirtualSystemIdentifiers', 'ResourceSubType'],
  ],
  Msvm_EthernetPortAllocationSettingData: [
    'root/virtualization/v2',
    ...['InstanceID', 'ElementName', 'Parent', 'HostResource', 'EnabledState', 'LastKnownSwitchName'],
  ],
  Msvm_VirtualEthernetSwitch: ['root/virtualization/v2', 'Name', 'ElementName', 'EnabledState', 'MaxVMQOffloads'],
  Msvm_StorageAllocationSettingData: [
    'root/virtualization/v2',
    ...['InstanceID', 'ElementName', 'ResourceType', 'ResourceSubType', 'Parent', 'HostResource', 'Address', 'Access'],
  ],
  Msvm_ResourceAllocationSettingData: [
    'root/virtualization/v2',
    ...['InstanceID', 'ElementName', 'ResourceType', 'ResourceSubType', 'Parent', 'Address', 'AddressOnParent'],
  ],
  Msvm_GuestNetworkAdapterConfiguration: [
    'root/virtualization/v2',
    ...['InstanceID', 'ProtocolIFType', 'DHCPEnabled', 'IPAddresses', 'Subnets', 'DefaultGateways', 'DNSServers'],
  ],
  Msvm_KvpExchangeComponent: [
    'root/virtualization/v2',
    ...['SystemName', 'DeviceID', 'EnabledState', 'GuestIntrinsicExchangeItems', 'GuestExchangeItems'],
  ],
  Msvm_SummaryInformation: [
    'root/virtualization/v2',
    ...['Name', 'ElementName', 'EnabledState', 'MemoryUsage', 'NumberOfProcessors', 'ProcessorLoad', 'UpTime'],
  ],
  Win32_ComputerSystem: [
    'root/cimv2',
    ...['Name', 'DNSHostName', 'Domain', 'TotalPhysicalMemory', 'NumberOfLogicalProcessors', 'NumberOfProcessors'],
  ],
  Win32_ComputerSystemProduct: ['root/cimv2', 'UUID', 'Name', 'Vendor', 'IdentifyingNumber'],
  Win32_Processor: ['root/cimv2', 'Name', 'Architecture', 'NumberOfCores', 'NumberOfLogicalProcessors', 'Manufacturer'],
  Win32_OperatingSystem: [
    'root/cimv2',
    ...['Caption', 'Version', 'BuildNumber', 'LastBootUpTime', 'LocalDateTime', 'TotalVisibleMemorySize'],
    ...['FreePhysicalMemory', 'FreeVirtualMemory', 'TotalVirtualMemorySize'],
  ],
  Win32_PerfRawData_HvStats_HyperVHypervisorVirtualProcessor: [
    'root/cimv2',
    ...['Name', 'PercentGuestRunTime', 'PercentHypervisorRunTime', 'PercentRemoteRunTime', 'PercentTotalRunTime'],
    ...['Frequency_PerfTime', 'Timestamp_PerfTime', 'Timestamp_Sys100NS'],
  ],
  Win32_PerfRawData_HvStats_HyperVHypervisorLogicalProcessor: [
    'root/cimv2',
    ...['Name', 'PercentGuestRunTime', 'PercentHypervisorRunTime', 'PercentIdleTime', 'PercentTotalRunTime'],
    ...['Frequency_PerfTime', 'Timestamp_PerfTime', 'Timestamp_Sys100NS'],
  ],
  Win32_PerfRawData_NvspNicStats_HyperVVirtualNetworkAdapter: [
    'root/cimv2',
    ...['Name', 'BytesReceivedPersec', 'BytesSentPersec', 'PacketsReceivedPersec', 'PacketsSentPersec'],
  ],
  Win32_PerfRawData_Counters_HyperVVirtualStorageDevice: [
    'root/cimv2',
    ...['Name', 'ErrorCount', 'QueueLength', 'ReadBytesPersec', 'ReadOperationsPerSec', 'WriteBytesPersec'],
    'WriteOperationsPerSec',
  ],
};

class WmiFailure extends Error {
  readonly code: string;
  constructor(message: string, hresult: string) {
    super(message);
    this.code = `HRESULT ${hresult},Microsoft.Management.Infrastructure.CimCmdlets.GetCimInstanceCommand`;
  }
}

const [statePath = '', ...flags] = process.argv.slice(2);
const readState = (): StandInState => JSON.parse(readFileSync(statePath, 'utf8')) as StandInState;

function writeState(state: StandInState): void {
  writeFileSync(`${statePath}.host`, JSON.stringify(state));
  renameSync(`${statePath}.host`, statePath);
}

/** The script's own table of what it asks for: one line each, `when|name|namespace|class|properties|condition`. */
function tableIn(script: string): string[][] {
  const table = /\$asked=@'\n([\s\S]*?)\n'@/.exec(script)?.[1];
  if (table === undefined) throw new Error('the script asks for nothing that this stand-in could find');
  return table.split('\n').map((line) => line.split('|'));
}

function rowsOf(state: StandInState, [, , namespace, of = '', names = '', only = '']: readonly string[]): Row[] {
  const [home, ...published] = PUBLISHED[of] ?? [];
  if (namespace === 'root/virtualization/v2' && state.hasNoHyperV === true)
    throw new WmiFailure('Invalid namespace', '0x8004100e');
  if (home === undefined || home !== namespace || state.missing?.includes(of) === true)
    throw new WmiFailure('Invalid class', '0x80041010');
  const wanted = names.split(',');
  const [, property, value] = /^([A-Za-z]+)='([^']*)'$/.exec(only) ?? [];
  for (const name of [...wanted, ...(only === '' ? [] : [property ?? only])])
    if (!published.includes(name)) throw new WmiFailure(`Invalid query: ${of} has no ${name}`, '0x80041017');
  if (state.isLimited === true && namespace === 'root/virtualization/v2') return [];
  const rows = (state.objects[of] ?? []).filter((row) => property === undefined || row[property] === value);
  return rows.map((row) => Object.fromEntries(wanted.map((name) => [name, row[name] ?? null])));
}

function disksOf(state: StandInState, storage: readonly Row[]): Row[] {
  const media = storage.filter((row) => row['ResourceSubType'] === 'Microsoft:Hyper-V:Virtual Hard Disk');
  const paths = [...new Set(media.flatMap((row) => row['HostResource'] as string[]))];
  return paths.map((path) => {
    const disk = state.disks[path];
    return {
      Path: path,
      MaxInternalSize: disk?.largest ?? null,
      Format: disk?.format ?? null,
      FileSize: disk?.fileBytes ?? null,
    };
  });
}

/** EnabledStates that a request may begin with, and what comes of it. @source Msvm_ComputerSystem.RequestStateChange */
function act(state: StandInState, verb: string, id: string): number {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id)) throw new WmiFailure('no GUID', '0x80041008');
  const vm = state.objects['Msvm_ComputerSystem']?.find((row) => row['Name'] === id.toUpperCase());
  if (vm === undefined) return -1;
  const now = Number(vm['EnabledState']);
  const allowed: Readonly<Record<string, readonly [from: readonly number[], to: number]>> = {
    start: [[3, 32769], 2],
    stop: [[2, 9], 3],
    pause: [[2], 9],
    resume: [[9, 32769], 2],
    shutdown: [[2], 3],
    reboot: [[2], 2],
    snapshot: [[2, 3, 9, 32769], now],
  };
  const [from, to] = allowed[verb] ?? [[], 0];
  if (verb === 'shutdown' || verb === 'reboot') {
    const guests = state.objects['Msvm_KvpExchangeComponent'] ?? [];
    if (!guests.some((row) => row['SystemName'] === vm['Name'])) return -2;
  }
  if (!from.includes(now)) return 32775;
  vm['EnabledState'] = to;
  if (verb === 'snapshot') {
    const realized = state.objects['Msvm_VirtualSystemSettingData']?.find(
      (row) => row['VirtualSystemIdentifier'] === vm['Name'],
    );
    const snapshot = { ...realized, InstanceID: `Microsoft:${crypto.randomUUID().toUpperCase()}` };
    const kind = { VirtualSystemType: 'Microsoft:Hyper-V:Snapshot:Realized', ElementName: 'a snapshot' };
    state.objects['Msvm_VirtualSystemSettingData']?.push({ ...snapshot, ...kind });
  }
  writeState(state);
  return 4096;
}

function answer(table: readonly string[][], request: string): string | undefined {
  const [mark = '', verb = '', what = '', id = ''] = request.split(' ');
  const state = readState();
  const fault = state.fault?.on === verb ? state.fault : undefined;
  if (fault?.kind === 'hang') return undefined;
  if (fault?.kind === 'huge') return `${mark} "${'x'.repeat(65 * 2 ** 20)}"`;
  if (fault?.kind === 'raw') return `${mark} ${fault.text ?? ''}`;
  try {
    if (fault?.kind === 'denied') throw new WmiFailure('Access denied', '0x80041003');
    if (verb === 'act') return `${mark} ${JSON.stringify({ result: { returned: act(state, what, id) } })}`;
    const asked = table.filter(([when]) => when === verb);
    if (asked.length === 0) throw new WmiFailure(`nothing is asked for by ${verb}`, '0x80041017');
    const result = Object.fromEntries(asked.map((line) => [line[1], rowsOf(state, line)]));
    if (verb === 'look') result['disks'] = disksOf(state, result['storage'] ?? []);
    const text = `${mark} ${JSON.stringify({ result })}`;
    if (fault?.kind !== 'cut') return text;
    process.stdout.write(text.slice(0, text.length / 2), () => process.exit(1));
    return undefined;
  } catch (error) {
    if (!(error instanceof WmiFailure)) throw error;
    return `${mark} ${JSON.stringify({ error: { message: error.message, code: error.code } })}`;
  }
}

const known = ['-NoLogo', '-NoProfile', '-NonInteractive', '-EncodedCommand'];
const encoded = flags.at(-1) ?? '';
if (flags.slice(0, -1).join() !== known.join() || flags.join(' ').length > 8_000) {
  process.stderr.write(`The term '${flags.join(' ')}' is not recognized\n`);
  process.exit(64);
}
const bootstrap = Buffer.from(encoded, 'base64').toString('utf16le');
if (!/FromBase64String\(\[Console\]::In\.ReadLine\(\)\)/.test(bootstrap)) process.exit(65);

let table: string[][] | undefined;
// A banner, as profiles and systems' policies have it.
process.stdout.write('Authorized use only.\r\n');
for await (const line of createInterface({ input: process.stdin })) {
  if (table === undefined) table = tableIn(Buffer.from(line, 'base64').toString('utf8'));
  else {
    const text = answer(table, line.trim());
    if (text !== undefined) process.stdout.write(`${text}\n`);
  }
}
