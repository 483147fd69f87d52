/**
 * From XAPI's records to facts. Pure.
 *
 * A VM is its UUID: references are valid for a session only. One that does not run is on no host: the pool decides where when it
 * starts.
 */
import { type HypervisorHost, normalizeMac, normalizeUuid, type PowerState, type VmFacts } from '../../facts.ts';
import type { ClassName, HostRecord, RecordOf, VmRecord } from './records.ts';

/** Records of every class by reference. */
export type PoolRecords = { readonly [Name in ClassName]: ReadonlyMap<string, RecordOf<Name>> };

const POWER: Readonly<Record<string, PowerState>> = {
  Running: 'running',
  Halted: 'off',
  Suspended: 'suspended',
  Paused: 'paused',
};

/** Templates and snapshots are VMs in XAPI's eyes, and so is each host's own control domain. */
export function isVm(record: VmRecord): boolean {
  return !record.is_a_template && !record.is_a_snapshot && !record.is_control_domain;
}

export function powerOf(record: VmRecord): PowerState {
  return POWER[record.power_state] ?? 'unknown';
}

/** Whether it refers to devices that are not among the records: it changed while they were read. */
export function isTorn(vm: VmRecord, records: PoolRecords): boolean {
  return (
    vm.VBDs.some((ref) => !records.VBD.has(ref)) ||
    vm.VIFs.some((ref) => !records.VIF.has(ref)) ||
    (vm.resident_on !== null && !records.host.has(vm.resident_on))
  );
}

/** @returns what `parseVmFacts` takes. */
export function vmFacts(vm: VmRecord, records: PoolRecords): Record<keyof VmFacts, unknown> {
  const guest = found(records.VM_guest_metrics, vm.guest_metrics);
  const metrics = found(records.VM_metrics, vm.metrics);
  const disks = disksOf(vm, records);
  const nics = nicsOf(vm, records);
  return {
    nativeId: vm.uuid,
    uuid: normalizeUuid(vm.uuid) ?? null,
    name: vm.name_label,
    powerState: powerOf(vm),
    hostId: found(records.host, vm.resident_on)?.uuid ?? null,
    vcpus: vm.VCPUs_at_startup,
    memoryBytes: vm.memory_dynamic_max ?? vm.memory_static_max,
    disks,
    nics,
    guestOs: guest?.os_version['name'] || null,
    firmware: firmwareOf(vm),
    tools: toolsOf(guest),
    tags: tagsOf(vm),
    createdAtMs: metrics?.install_time ?? null,
    virtualization: virtualizationOf(vm, {
      type: typeOf(vm, metrics),
      hasDrivers: guest?.PV_drivers_detected === true,
      hasDisk: disks.length > 0,
      hasNic: nics.length > 0,
    }),
  };
}

function found<Record_>(records: ReadonlyMap<string, Record_>, ref: string | null): Record_ | undefined {
  return ref === null ? undefined : records.get(ref);
}

function disksOf(vm: VmRecord, records: PoolRecords): VmFacts['disks'] {
  return vm.VBDs.flatMap((ref) => {
    const vbd = records.VBD.get(ref);
    const vdi = found(records.VDI, vbd?.VDI ?? null);
    // A drive for CDs has media that are not the VM's.
    if (vbd === undefined || vbd.type !== 'Disk') return [];
    const kind = vdi?.sm_config['image-format'] ?? vdi?.sm_config['vdi_type'];
    return [
      {
        name: `disk ${vbd.userdevice}`,
        format: kind ?? null,
        capacityBytes: vdi?.virtual_size ?? null,
        allocatedBytes: vdi?.physical_utilisation ?? null,
        datastore: found(records.SR, vdi?.SR ?? null)?.name_label ?? null,
        path: vdi?.location || null,
      },
    ];
  });
}

const IPV4 = /^(?:[0-9]{1,3}\.){3}[0-9]{1,3}$/;
const IPV6 = /^[0-9a-f]*:[0-9a-f:.]*$/i;
const MOST_ADDRESSES = 64;

/** Addresses are what the guest's agent says: `0/ip`, `0/ipv4/0`, `0/ipv6/1` where the first number is the card's. */
function nicsOf(vm: VmRecord, records: PoolRecords): VmFacts['nics'] {
  const networks = Object.entries(found(records.VM_guest_metrics, vm.guest_metrics)?.networks ?? {});
  return vm.VIFs.flatMap((ref) => {
    const vif = records.VIF.get(ref);
    if (vif === undefined) return [];
    const own = networks.filter(([key, value]) => {
      const [, device] = /^([0-9]{1,3})\/(?:ip|ipv[46]\/[0-9]{1,3})$/.exec(key) ?? [];
      return device === vif.device && value.length <= 45 && (IPV4.test(value) || IPV6.test(value));
    });
    return [
      {
        mac: normalizeMac(vif.MAC),
        network: found(records.network, vif.network)?.name_label ?? null,
        model: null,
        addresses: [...new Set(own.map(([, address]) => address))].slice(0, MOST_ADDRESSES),
      },
    ];
  });
}

/** How it runs, else how it would. */
function typeOf(vm: VmRecord, metrics: RecordOf<'VM_metrics'> | undefined): string {
  const current = metrics?.current_domain_type ?? '';
  if (/^(hvm|pv|pvh|pv_in_pvh)$/.test(current) && vm.power_state !== 'Halted') return current;
  if (/^(hvm|pv|pvh|pv_in_pvh)$/.test(vm.domain_type)) return vm.domain_type;
  return vm.HVM_boot_policy === '' ? 'pv' : 'hvm';
}

function firmwareOf(vm: VmRecord): VmFacts['firmware'] {
  if (typeOf(vm, undefined) !== 'hvm') return 'kernel';
  return vm.HVM_boot_params['firmware'] === 'uefi' ? 'uefi' : 'bios';
}

function virtualizationOf(
  { platform }: VmRecord,
  is: { readonly type: string; readonly hasDrivers: boolean; readonly hasDisk: boolean; readonly hasNic: boolean },
): VmFacts['virtualization'] {
  const own = [...(is.hasDisk ? ['disk:xen'] : []), ...(is.hasNic ? ['network:xen'] : [])];
  if (is.type !== 'hvm') {
    // A PV guest within a PVH shim talks to its kernel as PV; the hypervisor runs a PVH domain.
    const mode = is.type === 'pvh' ? ('xen-pvh' as const) : ('xen-pv' as const);
    const paravirtual = is.type === 'pv_in_pvh' ? [...own, 'shim:pvh'] : own;
    return { mode, accelerator: 'xen', paravirtual, emulated: [] };
  }
  const model = platform['nic_type'] === 'e1000' ? 'network:e1000' : 'network:rtl8139';
  // Each paravirtual device has an emulated twin, for as long as the guest has no driver for it.
  const emulated = [...(is.hasDisk ? ['disk:emulated'] : []), ...(is.hasNic ? [model] : [])];
  return {
    mode: is.hasDrivers ? 'xen-pvhvm' : 'xen-hvm',
    accelerator: 'xen',
    paravirtual: is.hasDrivers ? own : [],
    emulated,
  };
}

function toolsOf(guest: RecordOf<'VM_guest_metrics'> | undefined): string | null {
  if (guest === undefined) return null;
  const { major, minor, micro } = guest.PV_drivers_version;
  const numbers = [major, minor, micro].filter((one) => one !== undefined);
  if (numbers.length === 0) return guest.PV_drivers_detected ? 'PV drivers' : null;
  return `PV drivers ${numbers.join('.')}${guest.PV_drivers_up_to_date ? '' : ', not up to date'}`;
}

const OWNERS = ['owner', 'project'];
const CUSTOM_FIELD = 'XenCenter.CustomFields.';

/** Tags as they are, custom fields of XenCenter, and `owner` and `project` of other_config. The rest of it is programs' own. */
function tagsOf(vm: VmRecord): string[] {
  const named = Object.entries(vm.other_config).flatMap(([key, value]) => {
    if (OWNERS.includes(key)) return [`${key}=${value}`];
    return key.startsWith(CUSTOM_FIELD) ? [`${key.slice(CUSTOM_FIELD.length)}=${value}`] : [];
  });
  return [...new Set([...vm.tags, ...named])].sort();
}

/** @returns what `parseHostFacts` takes. */
export function hostFacts(
  host: HostRecord,
  metrics: RecordOf<'host_metrics'> | undefined,
  nowMs: number,
): Record<keyof HypervisorHost, unknown> {
  const bootSeconds = Number(host.other_config['boot_time'] ?? Number.NaN);
  const uptimeSeconds = Math.floor(nowMs / 1_000 - bootSeconds);
  return {
    nativeId: host.uuid,
    name: host.name_label,
    uuid: normalizeUuid(host.uuid) ?? null,
    cpuModel: host.cpu_info['modelname']?.trim() || null,
    threads: threadsOf(host),
    memoryBytes: metrics?.memory_total ?? null,
    hypervisor: 'Xen',
    hypervisorVersion: host.software_version['xen'] ?? host.software_version['product_version'] ?? null,
    // Nothing in the record says it.
    architecture: null,
    uptimeSeconds: Number.isFinite(uptimeSeconds) && uptimeSeconds >= 0 ? uptimeSeconds : null,
  };
}

/** Null when it is not told. */
export function threadsOf(host: HostRecord): number | null {
  const threads = Number(host.cpu_info['cpu_count'] ?? Number.NaN);
  return Number.isFinite(threads) && threads >= 0 ? threads : null;
}
