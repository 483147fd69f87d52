/** The objects of the XAPI stand-in: records with the published fields, and what changed when, for event.from. */
import { randomUUID } from 'node:crypto';

export const XAPI_CREDENTIALS = { user: 'root', password: 'pool-secret' };

/** What the calls see of the pool. */
export interface StandInPool {
  readonly database: XapiDatabase;
  readonly master: { readonly address: string; readonly hostRef: string };
  readonly masterIndex: number;
  readonly sessions: Set<string>;
  readonly numbers: 'quoted' | 'bare';
  readonly clockAheadMs: number;
  loginCount: number;
}

/** Integers are text, references are opaque, nothing is `OpaqueRef:NULL`. */
export type XapiRecord = Record<string, unknown>;

export const NULL_REF = 'OpaqueRef:NULL';

/** What XAPI reports as a code and texts. */
export class XapiFailure extends Error {
  readonly code: string;
  readonly about: readonly string[];

  constructor(code: string, ...about: readonly string[]) {
    super(code);
    this.code = code;
    this.about = about;
  }
}

export interface StoredObject {
  readonly class: string;
  readonly record: XapiRecord;
  readonly createdAt: number;
  modifiedAt: number;
}

export interface VmShape {
  readonly uuid?: string;
  readonly memoryBytes?: number;
  readonly vcpus?: number;
  readonly tags?: readonly string[];
  readonly otherConfig?: Readonly<Record<string, string>>;
  readonly domainType?: string;
  readonly uefi?: boolean;
  readonly isTemplate?: boolean;
  readonly isSnapshot?: boolean;
  readonly isControlDomain?: boolean;
}

export class XapiDatabase {
  readonly objects = new Map<string, StoredObject>();
  readonly deleted: { readonly class: string; readonly ref: string; readonly at: number }[] = [];
  /** Counts changes: the number in a token. */
  generation = 1;
  /** Tokens from before this are lost. */
  oldestToken = 0;
  readonly #waiting = new Set<() => void>();

  /** Whoever waits for something to happen looks again. */
  rouse(): void {
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }

  async untilRoused(timeoutMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      timer.unref();
      this.#waiting.add(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  loseEvents(): void {
    this.generation += 1;
    this.oldestToken = this.generation;
    this.rouse();
  }

  add(className: string, record: XapiRecord, ref = `OpaqueRef:${randomUUID()}`): string {
    this.generation += 1;
    const at = this.generation;
    this.objects.set(ref, { class: className, record, createdAt: at, modifiedAt: at });
    this.rouse();
    return ref;
  }

  change(ref: string, fields: XapiRecord): void {
    const found = this.object(ref);
    this.generation += 1;
    Object.assign(found.record, fields);
    found.modifiedAt = this.generation;
    this.rouse();
  }

  remove(ref: string): void {
    const found = this.object(ref);
    this.generation += 1;
    this.objects.delete(ref);
    this.deleted.push({ class: found.class, ref, at: this.generation });
    this.rouse();
  }

  object(ref: string): StoredObject {
    const found = this.objects.get(ref);
    if (found === undefined) throw new XapiFailure('HANDLE_INVALID', 'VM', ref);
    return found;
  }

  record(ref: string): XapiRecord {
    return this.object(ref).record;
  }

  allOf(className: string): [string, XapiRecord][] {
    return [...this.objects].flatMap(([ref, one]) => (one.class === className ? [[ref, one.record]] : []));
  }

  vmNamed(name: string): string {
    const found = this.vms().find(([, record]) => record['name_label'] === name);
    if (found === undefined) throw new Error(`the stand-in has no VM ${name}`);
    return found[0];
  }

  /** Without templates, snapshots and control domains. */
  vms(): [string, XapiRecord][] {
    const others = ['is_a_template', 'is_a_snapshot', 'is_control_domain'];
    return this.allOf('VM').filter(([, record]) => others.every((field) => record[field] === false));
  }

  addPool(master: string, name: string): void {
    this.add('pool', { uuid: randomUUID(), name_label: name, master, default_SR: NULL_REF, other_config: {} });
    this.addVm('Debian Template', { isTemplate: true });
    this.addVm('a snapshot', { isTemplate: true, isSnapshot: true });
  }

  addHost(ref: string, { name, address }: { readonly name: string; readonly address: string }): void {
    const metrics = this.add('host_metrics', {
      uuid: randomUUID(),
      memory_total: String(64 * 2 ** 30),
      memory_free: String(32 * 2 ** 30),
      live: true,
      last_updated: '20260101T00:00:00Z',
    });
    const software = { product_brand: 'XCP-ng', product_version: '8.3.0', xen: '4.17.5-13', xapi: '25.6' };
    const cpu = { cpu_count: '16', socket_count: '1', vendor: 'AuthenticAMD', modelname: 'AMD EPYC 7302P 16-Core' };
    const control = this.addVm(`Control domain on host: ${name}`, { isControlDomain: true });
    this.add(
      'host',
      {
        uuid: randomUUID(),
        name_label: name,
        name_description: '',
        hostname: name,
        address,
        enabled: true,
        metrics,
        cpu_info: cpu,
        software_version: { ...software, product_version_text: '8.3' },
        other_config: { boot_time: `${Math.floor(Date.now() / 1_000) - 86_400}.` },
        resident_VMs: [control],
        control_domain: control,
        API_version_major: '2',
        API_version_minor: '21',
      },
      ref,
    );
    this.change(control, { resident_on: ref, power_state: 'Running' });
  }

  addVm(name: string, shape: VmShape = {}): string {
    const metrics = this.add('VM_metrics', {
      uuid: randomUUID(),
      memory_actual: '0',
      VCPUs_number: '0',
      install_time: shape.isTemplate === true ? '19700101T00:00:00Z' : '20260203T04:05:06Z',
      start_time: '19700101T00:00:00Z',
      current_domain_type: 'unspecified',
    });
    const type = shape.domainType ?? 'hvm';
    return this.add('VM', {
      uuid: shape.uuid ?? randomUUID(),
      name_label: name,
      name_description: '',
      power_state: 'Halted',
      user_version: '1',
      is_a_template: shape.isTemplate ?? false,
      is_default_template: false,
      is_a_snapshot: shape.isSnapshot ?? false,
      is_control_domain: shape.isControlDomain ?? false,
      resident_on: NULL_REF,
      affinity: NULL_REF,
      memory_overhead: '12582912',
      memory_target: '0',
      memory_static_max: String(shape.memoryBytes ?? 2 ** 30),
      memory_dynamic_max: String(shape.memoryBytes ?? 2 ** 30),
      memory_dynamic_min: String(shape.memoryBytes ?? 2 ** 30),
      memory_static_min: '536870912',
      VCPUs_max: String(shape.vcpus ?? 2),
      VCPUs_at_startup: String(shape.vcpus ?? 2),
      VBDs: [],
      VIFs: [],
      snapshots: [],
      PV_kernel: '',
      PV_args: '',
      HVM_boot_policy: type === 'hvm' ? 'BIOS order' : '',
      HVM_boot_params: { order: 'cd', ...(shape.uefi === true ? { firmware: 'uefi' } : {}) },
      domain_type: type,
      platform: { acpi: '1', apic: 'true', nic_type: 'rtl8139' },
      other_config: { mac_seed: randomUUID(), ...shape.otherConfig },
      domid: '-1',
      metrics,
      guest_metrics: NULL_REF,
      tags: [...(shape.tags ?? [])],
      blocked_operations: {},
      snapshot_time: '19700101T00:00:00Z',
    });
  }

  addDisk(vm: string, disk: { readonly place: number; readonly sizeBytes: number; readonly usedBytes: number }): void {
    const stores = this.allOf('SR');
    const sr = stores[0]?.[0] ?? this.add('SR', { uuid: randomUUID(), name_label: 'Local storage', type: 'ext' });
    const uuid = randomUUID();
    const vdi = this.add('VDI', {
      uuid,
      name_label: 'root',
      SR: sr,
      virtual_size: String(disk.sizeBytes),
      physical_utilisation: String(disk.usedBytes),
      location: uuid,
      type: 'user',
      sm_config: { 'image-format': 'vhd' },
      managed: true,
    });
    this.#attach(vm, 'VBDs', 'VBD', { type: 'Disk', userdevice: String(disk.place), device: '', VDI: vdi, mode: 'RW' });
  }

  addCdDrive(vm: string, place: number): void {
    const drive = { type: 'CD', userdevice: String(place), device: '', VDI: NULL_REF, mode: 'RO', empty: true };
    this.#attach(vm, 'VBDs', 'VBD', drive);
  }

  addCard(vm: string, card: { readonly place: number; readonly mac: string; readonly network: string }): void {
    const known = this.allOf('network').find(([, record]) => record['name_label'] === card.network);
    const network =
      known?.[0] ?? this.add('network', { uuid: randomUUID(), name_label: card.network, bridge: 'xenbr0' });
    this.#attach(vm, 'VIFs', 'VIF', { device: String(card.place), MAC: card.mac, network, MTU: '1500' });
  }

  /** What XAPI writes down of a VM; `when` in its own clock, of which whole seconds are kept. */
  addMessage(vm: string, message: { readonly name: string; readonly when: Date; readonly body?: string }): void {
    const timestamp = message.when
      .toISOString()
      .replace(/\.[0-9]+Z$/, 'Z')
      .replace(/-/g, '');
    const about = { cls: 'VM', obj_uuid: this.record(vm)['uuid'] };
    this.add('message', {
      uuid: randomUUID(),
      name: message.name,
      priority: '5',
      ...about,
      timestamp,
      body: message.body ?? '',
    });
  }

  /** What the agent in the guest tells. */
  setGuest(vm: string, told: { readonly os: string; readonly networks: Readonly<Record<string, string>> }): void {
    const guest = this.add('VM_guest_metrics', {
      uuid: randomUUID(),
      os_version: { name: told.os, uname: '6.1.0', distro: 'debian' },
      networks: told.networks,
      PV_drivers_version: { major: '8', minor: '4', micro: '0', build: '1' },
      PV_drivers_detected: true,
      PV_drivers_up_to_date: true,
      live: true,
    });
    this.change(vm, { guest_metrics: guest });
  }

  setRunning(vm: string, host: string): void {
    const { metrics, domain_type: type } = this.record(vm);
    this.change(String(metrics), { current_domain_type: type, VCPUs_number: this.record(vm)['VCPUs_at_startup'] });
    this.change(vm, { power_state: 'Running', resident_on: host, domid: '7' });
  }

  setHalted(vm: string): void {
    this.change(vm, { power_state: 'Halted', resident_on: NULL_REF, domid: '-1', guest_metrics: NULL_REF });
  }

  #attach(vm: string, field: 'VBDs' | 'VIFs', className: string, record: XapiRecord): void {
    const ref = this.add(className, { uuid: randomUUID(), VM: vm, currently_attached: true, ...record });
    this.change(vm, { [field]: [...(this.record(vm)[field] as string[]), ref] });
  }
}
