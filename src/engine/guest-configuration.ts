/** What the guest is told before anything runs in it: a value made from the VM's record. */
import { randomBytes } from 'node:crypto';
import type { VmRecord } from './model.ts';
import type { Extent } from './root-disk.ts';

export interface GuestConfiguration {
  readonly hostname: string;
  readonly domainName: string;
  readonly hosts: string;
  readonly resolvConf: string;
  readonly layers: readonly Extent[];
  readonly network:
    | {
        readonly mac: string;
        readonly address: string;
        readonly prefixLength: number;
        readonly gateway: string;
        readonly mtu: number;
      }
    | undefined;
  readonly readonlyRoot: boolean;
  readonly tmpfs: readonly { readonly path: string; readonly options: string }[];
  readonly volumes: readonly { readonly path: string; readonly readOnly: boolean; readonly fill: boolean }[];
  readonly clock: GuestClock;
  readonly entropy: Buffer;
  readonly shmBytes: number;
  readonly sysctls: Readonly<Record<string, string>>;
  readonly workingDirectory: string;
  readonly machineId: string;
  readonly productUuid: string;
}

/** One moment on two clocks: nanoseconds since the epoch, and the guest's own since its boot. */
export interface GuestClock {
  readonly epochNs: bigint;
  readonly boottimeNs: bigint | undefined;
}

/** What the guest's clock showed when its message arrived, `nowMs`. It left the guest less than a millisecond before. */
export function clockAt(nowMs: number, boottimeNs: number): GuestClock {
  const epochNs = BigInt(Math.round(nowMs * 1000)) * 1000n;
  return { epochNs, boottimeNs: boottimeNs === 0 ? undefined : BigInt(boottimeNs) };
}

/** Stable for as long as the VM exists; two VMs never have the same. */
export function machineIdOf(record: VmRecord): string {
  return record.id.slice(0, 32);
}

/** The machine id in the shape of a random UUID (RFC 9562, version 4). */
export function productUuidOf(record: VmRecord): string {
  const id = machineIdOf(record);
  const variant = '89ab'[Number.parseInt(id[16] ?? '0', 16) % 4];
  return `${id.slice(0, 8)}-${id.slice(8, 12)}-4${id.slice(13, 16)}-${variant}${id.slice(17, 20)}-${id.slice(20)}`;
}

export function configurationOf(record: VmRecord, extents: readonly Extent[], clock: GuestClock): GuestConfiguration {
  const { spec, network } = record;
  return {
    hostname: spec.hostname,
    domainName: spec.domainName,
    hosts: renderHosts(record),
    resolvConf: renderResolvConf(record),
    layers: extents,
    network,
    readonlyRoot: spec.readonlyRoot,
    tmpfs: Object.entries(spec.tmpfs).map(([path, options]) => ({ path, options })),
    volumes: spec.volumes ?? [],
    clock,
    entropy: randomBytes(64),
    shmBytes: spec.shmBytes,
    sysctls: spec.sysctls,
    workingDirectory: spec.process.workingDirectory,
    machineId: `${machineIdOf(record)}\n`,
    productUuid: `${productUuidOf(record)}\n`,
  };
}

/** As Docker writes it: loopback names, extra hosts, then the VM's own address and names. */
export function renderHosts({ spec, network }: VmRecord): string {
  const lines = [
    '127.0.0.1\tlocalhost',
    '::1\tlocalhost ip6-localhost ip6-loopback',
    'fe00::0\tip6-localnet',
    'ff00::0\tip6-mcastprefix',
    'ff02::1\tip6-allnodes',
    'ff02::2\tip6-allrouters',
  ];
  for (const entry of spec.network.extraHosts) {
    const colon = entry.indexOf(':');
    const [name, address] = [entry.slice(0, colon), entry.slice(colon + 1)];
    const resolved = address === 'host-gateway' ? (network?.gateway ?? '127.0.0.1') : address;
    lines.push(`${resolved}\t${name}`);
  }
  const full = spec.domainName === '' ? '' : `${spec.hostname}.${spec.domainName} `;
  lines.push(`${network?.address ?? '127.0.1.1'}\t${full}${spec.hostname}`);
  return `${lines.join('\n')}\n`;
}

export function renderResolvConf({ spec, network }: VmRecord): string {
  const servers = spec.network.dns.length > 0 ? spec.network.dns : (network?.dns ?? []);
  const lines = servers.map((server) => `nameserver ${server}`);
  if (spec.network.dnsSearch.length > 0) lines.push(`search ${spec.network.dnsSearch.join(' ')}`);
  if (spec.network.dnsOptions.length > 0) lines.push(`options ${spec.network.dnsOptions.join(' ')}`);
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
}
