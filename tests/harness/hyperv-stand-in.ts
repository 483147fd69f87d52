/**
 * A Hyper-V host that is A STAND-IN: a real sshd on loopback with hyperv-stand-in-host.ts in the place of powershell.exe, and the
 * objects that it shows, in the shapes of the published class definitions.
 */
import { randomInt, randomUUID } from 'node:crypto';
import { chmodSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findProcesses, signalProcess } from '#platform';
import type { StandInState } from './hyperv-stand-in-host.ts';
import { type RunningSshd, startSshd } from './sshd.ts';

const HOST_PROGRAM = new URL('hyperv-stand-in-host.ts', import.meta.url).pathname;
const SWITCH = 'C08CB7B8-9B3C-408E-8E30-5E16A3AEB444';
const HOST_NAME = 'HV01';
/** A class of controllers has one GUID for IDE; SCSI controllers have one each. */
const IDE = '83F8638B-8DCA-4152-9EDA-2CA8B33039B4';
const VIRTUAL = 'Win32_PerfRawData_HvStats_HyperVHypervisorVirtualProcessor';
const LOGICAL = 'Win32_PerfRawData_HvStats_HyperVHypervisorLogicalProcessor';
/** Two hours of it in 100 ns: what a host has used that has been up for a day. */
const USED_UNITS = 72_000_000_000;

export interface GuestShape {
  readonly id?: string;
  /** As the class has it: braces, first three groups reversed. */
  readonly biosGuid?: string;
  readonly generation?: 1 | 2;
  readonly vcpus?: number;
  readonly memoryMib?: number;
  readonly notes?: readonly string[];
  readonly replicationMode?: number;
}

export class HypervStandIn {
  readonly sshd: RunningSshd;
  readonly #folder: string;
  readonly #statePath: string;

  constructor(sshd: RunningSshd, folder: string, statePath: string) {
    this.sshd = sshd;
    this.#folder = folder;
    this.#statePath = statePath;
  }

  url(changes: { readonly key?: string; readonly hosts?: string; readonly port?: number } = {}): URL {
    const { keyPath, knownHostsPath, port } = this.sshd;
    const files = `keyfile=${changes.key ?? keyPath}&known_hosts=${changes.hosts ?? knownHostsPath}`;
    return new URL(`hyperv+ssh://root@127.0.0.1:${changes.port ?? port}/?${files}`);
  }

  read(): StandInState {
    return JSON.parse(readFileSync(this.#statePath, 'utf8')) as StandInState;
  }

  change(how: (state: StandInState) => void): void {
    const state = this.read();
    how(state);
    writeFileSync(`${this.#statePath}.test`, JSON.stringify(state));
    renameSync(`${this.#statePath}.test`, this.#statePath);
  }

  vms(): { readonly id: string; readonly name: string; readonly enabledState: number }[] {
    const systems = (this.read().objects['Msvm_ComputerSystem'] ?? []).filter((row) => row['Name'] !== HOST_NAME);
    return systems.map((row) => ({
      id: String(row['Name']),
      name: String(row['ElementName']),
      enabledState: Number(row['EnabledState']),
    }));
  }

  idOf(name: string): string {
    const found = this.vms().find((vm) => vm.name === name);
    if (found === undefined) throw new Error(`the stand-in has no VM ${name}`);
    return found.id;
  }

  setState(name: string, enabledState: number): void {
    const id = this.idOf(name);
    this.change(({ objects }) => {
      const system = objects['Msvm_ComputerSystem']?.find((row) => row['Name'] === id);
      if (system !== undefined) system['EnabledState'] = enabledState;
    });
    // A VM that is off has no instances; one that is switched on has new ones.
    if (enabledState === 3) this.#forgetRun(name);
    else if (enabledState === 2 && !this.#hasRun(name)) this.beginRun(name);
  }

  /** Another worker process, and counters that begin anew. */
  beginRun(name: string, shape: { readonly instance?: string; readonly keepsWorker?: boolean } = {}): void {
    const id = this.idOf(name);
    this.#forgetRun(name);
    this.change(({ objects }) => {
      const system = objects['Msvm_ComputerSystem']?.find((row) => row['Name'] === id);
      if (system !== undefined && shape.keepsWorker !== true) system['ProcessID'] = randomInt(4, 100_000);
      const [settings] = rowsIn(objects, 'Msvm_ProcessorSettingData').filter((row) => JSON.stringify(row).includes(id));
      const count = Number(settings?.['VirtualQuantity'] ?? 0);
      for (let index = 0; index < count; index += 1)
        rowsIn(objects, VIRTUAL).push({ Name: `${shape.instance ?? name}:Hv VP ${index}`, PercentTotalRunTime: 0 });
    });
  }

  /** Instances of the counters of a VM's virtual processors rise, each by so many units of 100 ns. */
  run(name: string, units: number): void {
    this.change(({ objects }) => {
      const own = rowsIn(objects, VIRTUAL).filter((row) => String(row['Name']).startsWith(`${name}:Hv VP`));
      for (const row of [...own, ...rowsIn(objects, LOGICAL).slice(0, own.length)])
        row['PercentTotalRunTime'] = Number(row['PercentTotalRunTime']) + units;
    });
  }

  #hasRun(name: string): boolean {
    return rowsIn(this.read().objects, VIRTUAL).some((row) => String(row['Name']).startsWith(`${name}:Hv VP`));
  }

  #forgetRun(name: string): void {
    this.change(({ objects }) => {
      objects[VIRTUAL] = rowsIn(objects, VIRTUAL).filter((row) => !String(row['Name']).startsWith(`${name}:Hv VP`));
    });
  }

  /** A VM that is off. @returns its GUID */
  addVm(name: string, shape: GuestShape = {}): string {
    const id = shape.id ?? randomUUID().toUpperCase();
    this.change(({ objects }) => {
      const add = (of: string, row: Record<string, unknown>): void => {
        objects[of] = [...(objects[of] ?? []), row];
      };
      add('Msvm_ComputerSystem', {
        Caption: 'Virtual Machine',
        Name: id,
        ElementName: name,
        EnabledState: 3,
        ReplicationMode: shape.replicationMode ?? 0,
      });
      add('Msvm_VirtualSystemSettingData', {
        InstanceID: `Microsoft:${id}`,
        ElementName: name,
        VirtualSystemIdentifier: id,
        VirtualSystemType: 'Microsoft:Hyper-V:System:Realized',
        VirtualSystemSubType: `Microsoft:Hyper-V:SubType:${shape.generation ?? 2}`,
        BIOSGUID: shape.biosGuid ?? `{${randomUUID().toUpperCase()}}`,
        CreationTime: '/Date(1769900000000)/',
        Notes: [...(shape.notes ?? [])],
      });
      add('Msvm_MemorySettingData', {
        InstanceID: `Microsoft:${id}\\4764334D`,
        VirtualQuantity: shape.memoryMib ?? 1024,
      });
      add('Msvm_ProcessorSettingData', {
        InstanceID: `Microsoft:${id}\\B637F346\\0`,
        VirtualQuantity: shape.vcpus ?? 2,
      });
      add('Msvm_SummaryInformation', {
        Name: id,
        ElementName: name,
        MemoryUsage: 512,
        NumberOfProcessors: shape.vcpus ?? 2,
      });
    });
    return id;
  }

  remove(name: string): void {
    const id = this.idOf(name);
    this.#forgetRun(name);
    this.change(({ objects }) => {
      for (const [of, rows] of Object.entries(objects))
        objects[of] = rows.filter((row) => !JSON.stringify(row).includes(id));
    });
  }

  addDisk(
    id: string,
    disk: { kind: 'ide' | 'scsi'; slot: number; path: string; bytes: number; usedBytes: number },
  ): void {
    this.change((state) => {
      const controller = `Microsoft:${id}\\${disk.kind === 'ide' ? IDE : 'F4A1A8F2-1D4C-4B8B-9A0C-3C1E5B9B6E11'}\\0`;
      const drive = `${controller}\\${disk.slot}\\D`;
      const devices = rowsIn(state.objects, 'Msvm_ResourceAllocationSettingData');
      const kind = disk.kind === 'ide' ? 'Emulated IDE Controller' : 'Synthetic SCSI Controller';
      if (!devices.some((row) => row['InstanceID'] === controller))
        devices.push({ InstanceID: controller, ResourceSubType: `Microsoft:Hyper-V:${kind}`, Parent: null });
      devices.push({
        InstanceID: drive,
        ResourceSubType: 'Microsoft:Hyper-V:Synthetic Disk Drive',
        Parent: pathOf('Msvm_ResourceAllocationSettingData', controller),
        AddressOnParent: String(disk.slot),
      });
      rowsIn(state.objects, 'Msvm_StorageAllocationSettingData').push({
        InstanceID: `${controller}\\${disk.slot}\\L`,
        ResourceSubType: 'Microsoft:Hyper-V:Virtual Hard Disk',
        Parent: pathOf('Msvm_ResourceAllocationSettingData', drive),
        HostResource: [disk.path],
      });
      rowsIn(state.objects, 'Win32_PerfRawData_Counters_HyperVVirtualStorageDevice').push({
        Name: disk.path.replaceAll('\\', '-'),
        ReadBytesPersec: 4_096,
        WriteBytesPersec: 8_192,
        ReadOperationsPerSec: 1,
        WriteOperationsPerSec: 2,
      });
      state.disks[disk.path] = { largest: String(disk.bytes), format: '3', fileBytes: disk.usedBytes };
    });
  }

  addCard(id: string, card: { kind: 'Synthetic' | 'Emulated'; mac: string; addresses: readonly string[] }): void {
    this.change(({ objects }) => {
      const device = randomUUID().toUpperCase();
      const port = `Microsoft:${id}\\${device}`;
      rowsIn(objects, `Msvm_${card.kind}EthernetPortSettingData`).push({ InstanceID: port, Address: card.mac });
      rowsIn(objects, 'Msvm_EthernetPortAllocationSettingData').push({
        InstanceID: `${port}\\C`,
        HostResource: [
          `\\\\${HOST_NAME}\\root\\virtualization\\v2:Msvm_VirtualEthernetSwitch.CreationClassName="Msvm_VirtualEthernetSwitch",Name="${SWITCH}"`,
        ],
      });
      // The published examples end in a GUID, and do not say of what. The driver looks for the card's own.
      if (card.kind === 'Synthetic')
        rowsIn(objects, 'Win32_PerfRawData_NvspNicStats_HyperVVirtualNetworkAdapter').push({
          Name: `a VM_Network Adapter_${id.toLowerCase()}--${device.toLowerCase()}`,
          BytesReceivedPersec: 5_000,
          BytesSentPersec: 700,
        });
      rowsIn(objects, 'Msvm_GuestNetworkAdapterConfiguration').push({
        InstanceID: `Microsoft:GuestNetwork\\${id}\\${device}`,
        IPAddresses: [...card.addresses],
      });
    });
  }

  /** What the guest's services tell. */
  setGuest(id: string, items: readonly string[]): void {
    this.change(({ objects }) => {
      rowsIn(objects, 'Msvm_KvpExchangeComponent').push({ SystemName: id, GuestIntrinsicExchangeItems: [...items] });
    });
  }

  /** The host is gone, with every session. Safe to call twice. */
  async kill(): Promise<void> {
    for (const { pid } of await findProcesses(this.#statePath)) signalProcess(pid, 'SIGKILL');
    await this.sshd.dispose();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

export async function startHypervStandIn(): Promise<HypervStandIn> {
  const folder = mkdtempSync(join(tmpdir(), 'berth-hyperv-stand-in-'));
  const statePath = join(folder, 'state.json');
  const program = join(folder, 'powershell.exe');
  writeFileSync(program, `#!/bin/sh\nexec '${process.execPath}' '${HOST_PROGRAM}' '${statePath}' "$@"\n`);
  chmodSync(program, 0o755);
  writeFileSync(statePath, JSON.stringify(emptyHost()));
  const sshd = await startSshd('', [`SetEnv PATH=${folder}:/usr/bin:/bin`]);
  return new HypervStandIn(sshd, folder, statePath);
}

function emptyHost(): StandInState {
  const nowMs = Date.now();
  return {
    disks: {},
    objects: {
      Msvm_ComputerSystem: [
        { Caption: 'Hosting Computer System', Name: HOST_NAME, ElementName: HOST_NAME, EnabledState: 2 },
      ],
      Msvm_VirtualEthernetSwitch: [{ Name: SWITCH, ElementName: 'External' }],
      Win32_ComputerSystem: [{ Name: HOST_NAME, TotalPhysicalMemory: 137_438_953_472, NumberOfLogicalProcessors: 32 }],
      Win32_ComputerSystemProduct: [{ UUID: '4C4C4544-0035-4410-8052-B4C04F4E4632' }],
      Win32_Processor: [{ Name: 'Intel(R) Xeon(R) Gold 6130 CPU @ 2.10GHz', Architecture: 9 }],
      Win32_OperatingSystem: [
        {
          Caption: 'Microsoft Windows Server 2022 Datacenter',
          Version: '10.0.20348',
          LastBootUpTime: `/Date(${nowMs - 86_400_000})/`,
          LocalDateTime: `/Date(${nowMs})/`,
          TotalVisibleMemorySize: 134_217_728,
          FreePhysicalMemory: 100_663_296,
        },
      ],
      [LOGICAL]: [
        ...Array.from({ length: 32 }, (_, index) => ({ Name: `Hv LP ${index}`, PercentTotalRunTime: USED_UNITS })),
        { Name: '_Total', PercentTotalRunTime: USED_UNITS * 32 },
      ],
    },
  };
}

function rowsIn(objects: StandInState['objects'], of: string): Record<string, unknown>[] {
  objects[of] ??= [];
  return objects[of];
}

/** A WMI object path: backslashes and quotes within the key are escaped. */
function pathOf(of: string, instanceId: string): string {
  return `\\\\${HOST_NAME}\\root\\virtualization\\v2:${of}.InstanceID="${instanceId.replace(/["\\]/g, '\\$&')}"`;
}
