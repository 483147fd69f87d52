/** One open connection to libvirt as a session of a driver. */
import { BerthError } from '#base';
import { nowMs } from '#platform';
import type {
  DriverSession,
  Fingerprint,
  HostSampleFacet,
  PowerFacet,
  PowerVerb,
  SampleFacet,
  SnapshotPage,
  SourceTarget,
  VmSample,
} from '../../driver.ts';
import { type HypervisorHost, normalizeMac, parseHostFacts, parseVmFacts, type VmFacts } from '../../facts.ts';
import { isOwnName, ownMachineUuid } from '../../own-machine.ts';
import { isUnix } from './address.ts';
import type { LibvirtConnection } from './connection.ts';
import { domainFacts, nodeFacts, versionText } from './domain-facts.ts';
import { hostSampleFacet } from './host-counters.ts';
import { eventFacet } from './libvirt-events.ts';
import {
  type DomainRef,
  FEATURE_EVENT_CALLBACKS,
  PROCEDURE,
  readDomain,
  readTypedParameters,
  STATS_ALL,
  type TypedValue,
  writeDomain,
} from './procedures.ts';
import { type XdrReader, XdrWriter } from './xdr.ts';

/** Domains asked for at once. libvirtd works on five requests of a client; more only wait there. */
const CALLS_AT_ONCE = 8;
const PAGE_DOMAINS = 200;

type Stats = ReadonlyMap<string, TypedValue>;

export async function openSession(connection: LibvirtConnection, target: SourceTarget): Promise<DriverSession> {
  const host = await readHost(connection, target);
  const reading = new DomainReader(connection, host.nativeId);
  const feature = await connection.call(PROCEDURE.connectSupportsFeature, new XdrWriter().int(FEATURE_EVENT_CALLBACKS));
  const hasEvents = feature.int() === 1;
  const hostSamples = await hostSampleFacet(connection, host);
  return {
    ended: connection.ended,
    fingerprint: () => fingerprint(connection, { hasEvents, hostSamples, target }),
    snapshot: (signal) => snapshot({ connection, reading, target }, signal),
    close: async () => {
      connection.expectEnd();
      await connection.call(PROCEDURE.connectClose, undefined, 1_000).catch(() => {});
      connection.close();
    },
    ...(hasEvents ? { events: eventFacet(connection, (domain) => reading.read(domain)) } : {}),
    ...(target.allowPower ? { power: powerFacet(connection) } : {}),
    samples: sampleFacet(connection),
    ...(typeof hostSamples === 'string' ? {} : { hostSamples }),
  };
}

async function fingerprint(
  connection: LibvirtConnection,
  facets: { hasEvents: boolean; hostSamples: HostSampleFacet | string; target: SourceTarget },
): Promise<Fingerprint> {
  const [type, version, endpoint] = await Promise.all([
    connection.call(PROCEDURE.connectGetType),
    connection.call(PROCEDURE.connectGetLibVersion),
    connection.call(PROCEDURE.connectGetHostname),
  ]);
  const limits = [
    ...(facets.hasEvents ? [] : ['no events: libvirt is older than 1.3.3; changes are found by looking']),
    ...(typeof facets.hostSamples === 'string' ? [facets.hostSamples] : []),
    ...(facets.target.url.protocol.endsWith('+tcp:')
      ? ['not encrypted: whoever is on the way can read and change what is said']
      : []),
    ...(facets.target.allowPower ? [] : ['read-only: libvirt refuses every change of this connection']),
  ];
  return {
    product: `libvirt ${type.string()}`,
    version: versionText(version.unsignedHyper()),
    endpoint: endpoint.string(),
    limits,
  };
}

async function readHost(connection: LibvirtConnection, target: SourceTarget): Promise<HypervisorHost> {
  const [hostName, capabilities, info, type, version] = await Promise.all([
    connection.call(PROCEDURE.connectGetHostname),
    connection.call(PROCEDURE.connectGetCapabilities),
    connection.call(PROCEDURE.nodeGetInfo),
    connection.call(PROCEDURE.connectGetType),
    // The test driver has a version; LXC has none.
    connection.call(PROCEDURE.connectGetVersion).catch(() => undefined),
  ]);
  const model = Buffer.from(Array.from({ length: 32 }, () => info.int() & 0xff));
  const memoryKib = info.unsignedHyper();
  const [name, hypervisor] = [hostName.string(), type.string()];
  // The machine of the test driver is made up.
  const isOwn = isUnix(target.url) && hypervisor !== 'TEST' && isOwnName(name);
  return parseHostFacts(
    nodeFacts({
      hostName: name,
      uuid: isOwn ? await ownMachineUuid() : null,
      capabilities: capabilities.string(),
      model: model.toString('latin1').replace(/\0.*$/s, ''),
      memoryKib,
      cpus: info.int(),
      hypervisor,
      version: version?.unsignedHyper() ?? 0n,
    }),
  );
}

async function listDomains(connection: LibvirtConnection): Promise<DomainRef[]> {
  const reply = await connection.call(PROCEDURE.connectListAllDomains, new XdrWriter().int(1).uint(0));
  return reply.list(readDomain);
}

/** Figures of all domains in one call, by UUID. */
async function allStats(
  connection: LibvirtConnection,
  groups: number,
): Promise<Map<string, { readonly id: number; readonly stats: Stats }>> {
  const args = new XdrWriter().uint(0).uint(groups).uint(0);
  const reply = await connection.call(PROCEDURE.connectGetAllDomainStats, args);
  const records = reply.list((reader) => {
    const { uuid, id } = readDomain(reader);
    return [uuid.toString('hex'), { id, stats: readTypedParameters(reader) }] as const;
  });
  return new Map(records);
}

interface Looked {
  readonly connection: LibvirtConnection;
  readonly reading: DomainReader;
  readonly target: SourceTarget;
}

async function* snapshot({ connection, reading, target }: Looked, signal: AbortSignal): AsyncIterable<SnapshotPage> {
  const [host, domains, stats] = await Promise.all([
    readHost(connection, target),
    listDomains(connection),
    allStats(connection, STATS_ALL).catch(() => undefined),
  ]);
  yield { hosts: [host], vms: [], unread: [] };
  for (let from = 0; from < domains.length; from += PAGE_DOMAINS) {
    signal.throwIfAborted();
    const vms: VmFacts[] = [];
    const unread: string[] = [];
    await eachAtOnce(domains.slice(from, from + PAGE_DOMAINS), async (domain) => {
      const known = stats?.get(domain.uuid.toString('hex'))?.stats;
      try {
        const vm = await reading.read(domain, known);
        if (vm !== undefined) vms.push(vm);
      } catch (error) {
        // One domain that cannot be read says nothing about the others; a connection that broke does.
        if (!(error instanceof BerthError) || error.code === 'libvirt.broken') throw error;
        unread.push(uuidText(domain.uuid));
      }
    });
    yield { hosts: [], vms, unread };
  }
}

async function eachAtOnce<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let item = items[next++]; item !== undefined; item = items[next++]) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(CALLS_AT_ONCE, items.length) }, worker));
}

export function uuidText(bytes: Buffer): string {
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

class DomainReader {
  readonly #connection: LibvirtConnection;
  readonly #hostId: string;

  constructor(connection: LibvirtConnection, hostId: string) {
    this.#connection = connection;
    this.#hostId = hostId;
  }

  /** @param known - its figures, when they are at hand. @returns undefined when libvirt no longer has it. */
  async read(domain: DomainRef, known?: Stats): Promise<VmFacts | undefined> {
    const args = new XdrWriter();
    writeDomain(args, domain);
    try {
      const [xml, stats] = await Promise.all([
        this.#connection.call(PROCEDURE.domainGetXml, args.uint(0)),
        known ?? this.#statsOf(domain),
      ]);
      const isRunning = Number(stats.get('state.state') ?? 0) === 1;
      const addresses = isRunning ? await this.#addressesOf(domain) : new Map<string, string[]>();
      return parseVmFacts(domainFacts({ xml: xml.string(), stats, addresses, hostId: this.#hostId }));
    } catch (error) {
      if (error instanceof BerthError && error.code === 'libvirt.no_domain') return undefined;
      throw error;
    }
  }

  async #statsOf(domain: DomainRef): Promise<Stats> {
    const args = new XdrWriter().uint(1);
    writeDomain(args, domain);
    const one = await this.#connection
      .call(PROCEDURE.connectGetAllDomainStats, args.uint(STATS_ALL).uint(0))
      .catch(async (error: unknown) => {
        if (error instanceof BerthError && error.code === 'libvirt.unsupported') return undefined;
        throw error;
      });
    const records = one?.list((reader) => [readDomain(reader), readTypedParameters(reader)] as const);
    const found = records?.[0]?.[1];
    if (found?.has('state.state') === true) return found;
    const info = new XdrWriter();
    writeDomain(info, domain);
    const state = (await this.#connection.call(PROCEDURE.domainGetInfo, info)).int();
    return new Map<string, TypedValue>([...(found ?? []), ['state.state', state]]);
  }

  /** From the leases of libvirt's own networks, then from the host's neighbour table. Hosts without either say nothing. */
  async #addressesOf(domain: DomainRef): Promise<Map<string, string[]>> {
    const found = new Map<string, string[]>();
    for (const source of [0, 2]) {
      const args = new XdrWriter();
      writeDomain(args, domain);
      const reply = await this.#connection
        .call(PROCEDURE.domainInterfaceAddresses, args.uint(source).uint(0))
        .catch((error: unknown) => {
          if (error instanceof BerthError && error.code === 'libvirt.broken') throw error;
          return undefined;
        });
      for (const { mac, addresses } of reply?.list(readInterface) ?? []) {
        const before = found.get(mac) ?? [];
        found.set(mac, [...new Set([...before, ...addresses])]);
      }
      if (found.size > 0) break;
    }
    return found;
  }
}

function readInterface(reader: XdrReader): { mac: string; addresses: string[] } {
  reader.string();
  const mac = normalizeMac(reader.optional((one) => one.string())) ?? '';
  const addresses = reader.list((one) => {
    one.int();
    const address = one.string();
    one.uint();
    return address;
  });
  return { mac, addresses };
}

/** `snapshot` takes libvirt's own name for it. */
function powerFacet(connection: LibvirtConnection): PowerFacet {
  const plain = (procedure: number) => async (domain: DomainRef) => {
    const args = new XdrWriter();
    writeDomain(args, domain);
    await connection.call(procedure, args);
  };
  const actions: Readonly<Record<PowerVerb, (domain: DomainRef) => Promise<void>>> = {
    start: plain(PROCEDURE.domainCreate),
    stop: plain(PROCEDURE.domainDestroy),
    shutdown: plain(PROCEDURE.domainShutdown),
    pause: plain(PROCEDURE.domainSuspend),
    resume: plain(PROCEDURE.domainResume),
    reboot: async (domain) => {
      const args = new XdrWriter();
      writeDomain(args, domain);
      await connection.call(PROCEDURE.domainReboot, args.uint(0));
    },
    snapshot: async (domain) => {
      const args = new XdrWriter();
      writeDomain(args, domain);
      await connection.call(PROCEDURE.domainSnapshotCreateXml, args.string('<domainsnapshot/>').uint(0));
    },
  };
  return {
    verbs: Object.keys(actions) as PowerVerb[],
    act: async (verb, nativeId) => {
      const uuid = Buffer.from(nativeId.replaceAll('-', ''), 'hex');
      const found = await connection.call(PROCEDURE.domainLookupByUuid, new XdrWriter().opaque(uuid));
      await actions[verb](readDomain(found));
    },
  };
}

function sampleFacet(connection: LibvirtConnection): SampleFacet {
  return {
    read: async () => {
      const all = await allStats(connection, STATS_ALL);
      const atMs = nowMs();
      // A domain with a number has a machine, whatever state that is in.
      return [...all].flatMap(([hex, { id, stats }]) =>
        id < 0 ? [] : [{ ...countersOf(stats), nativeId: uuidText(Buffer.from(hex, 'hex')), atMs, run: String(id) }],
      );
    },
  };
}

function countersOf(stats: Stats): Omit<VmSample, 'nativeId' | 'atMs' | 'run'> {
  const figure = (name: string): bigint | null => {
    const value = stats.get(name);
    return typeof value === 'bigint' ? value : typeof value === 'number' ? BigInt(Math.trunc(value)) : null;
  };
  const sum = (group: string, name: string): bigint | null => {
    const count = Number(figure(`${group}.count`) ?? 0n);
    const values = Array.from({ length: Math.min(count, 512) }, (_, at) => figure(`${group}.${at}.${name}`));
    const known = values.filter((value) => value !== null);
    return known.length === 0 ? null : known.reduce((total, value) => total + value, 0n);
  };
  const kib = (value: bigint | null): bigint | null => (value === null ? null : value * 1024n);
  const [available, unused] = [figure('balloon.available'), figure('balloon.unused')];
  const used = available !== null && unused !== null && available >= unused ? available - unused : null;
  return {
    cpuNanoseconds: figure('cpu.time'),
    memoryUsedBytes: kib(used ?? figure('balloon.current')),
    diskReadBytes: sum('block', 'rd.bytes'),
    diskWrittenBytes: sum('block', 'wr.bytes'),
    diskReads: sum('block', 'rd.reqs'),
    diskWrites: sum('block', 'wr.reqs'),
    receivedBytes: sum('net', 'rx.bytes'),
    sentBytes: sum('net', 'tx.bytes'),
  };
}
