/**
 * The default network: one bridge with NAT, addresses handed out by berthd, names by dnsmasq, published ports by DNAT.
 *
 * Nothing of it lies on the boot path: taps are made by the launcher and vanish with QEMU, addresses travel over the
 * guest channel. The bridge, the rules and the name server stay while VMs run and no daemon is there.
 */
import * as v from 'valibot';
import { BerthError, messageOf, UndoStack } from '#base';
import { files, joinTcp, type PortReservation, reservePort, runChecked, runProcess } from '#platform';
import {
  chooseSubnet,
  formatIpv4,
  formatSubnet,
  gatewayOf,
  isForVms,
  lowestFree,
  macOf,
  overlaps,
  parseIpv4,
  parseSubnet,
  type Subnet,
} from './addresses.ts';
import { type PublishedPort, renderRules, tableName } from './firewall.ts';
import { NameServer } from './names.ts';

export interface Binding {
  readonly protocol: 'tcp' | 'udp';
  readonly guestPort: number;
  readonly hostIp: string;
  readonly hostPort: number;
}

export interface AttachmentRequest {
  readonly vmId: string;
  readonly names: readonly string[];
  readonly ports: readonly Binding[];
  readonly mac: string | undefined;
  /** A tap that is there already; otherwise one is named for the VM. */
  readonly tap?: string | undefined;
  /** Taken when nobody has it. */
  readonly address?: string | undefined;
}

export interface Attachment {
  readonly kind: 'bridge' | 'user';
  readonly bridge: string;
  readonly tap: string;
  readonly mac: string;
  readonly address: string;
  readonly prefixLength: number;
  readonly gateway: string;
  readonly mtu: number;
  readonly dns: readonly string[];
  readonly ports: readonly Binding[];
}

/** What is stored, so that a bridge keeps its name and subnet over restarts. */
export interface BridgeIdentity {
  readonly bridge: string;
  readonly subnet: string;
}

export interface BridgeOptions {
  /** Folder for the name server's files. */
  readonly runFolder: string;
  readonly identity: BridgeIdentity | undefined;
  /** Written on the bridge as its alias: one state folder's word for itself. A bridge of the same name with another owner is somebody else's. */
  readonly owner: string;
  readonly saveIdentity: (identity: BridgeIdentity) => void;
  readonly log: (line: string) => void;
}

interface Lease {
  readonly attachment: Attachment;
  readonly names: readonly string[];
  readonly reservations: readonly PortReservation[];
  /** Its VM sleeps: the ports are served here. */
  readonly held?: boolean | undefined;
}

const MTU = 1500;
/** Of one VM, from the first that wakes it until it is awake. */
const MAX_HELD_CONNECTIONS = 1_024;
/** Of one sleep, in berthd's log. */
const MAX_HELD_LINES = 10;
/** A VM that is awake answers within milliseconds, or refuses; on a loaded host later. */
const HELD_CONNECT_DEADLINE_MS = 10_000;
/** Most bridges one host can have before berth says so; a limit against loops, not a design figure. */
const MAX_BRIDGES = 128;

const Routes = v.array(v.object({ dst: v.string() }));
const Links = v.array(v.object({ ifname: v.string(), ifalias: v.optional(v.string()) }));

export class BridgeNetwork {
  readonly identity: BridgeIdentity;
  readonly #subnet: Subnet;
  readonly #names: NameServer;
  readonly #log: (line: string) => void;
  readonly #leases = new Map<string, Lease>();
  /** Rules are loaded one after the other: each load is the whole picture at that moment. */
  #loading: Promise<void> = Promise.resolve();

  private constructor(identity: BridgeIdentity, options: BridgeOptions) {
    this.identity = identity;
    this.#subnet = parseSubnet(identity.subnet);
    this.#log = options.log;
    this.#names = new NameServer(`${options.runFolder}/dns`, identity.bridge, this.gateway);
  }

  get gateway(): string {
    return formatIpv4(gatewayOf(this.#subnet));
  }

  /**
   * Makes the bridge, or takes over the one an earlier daemon of the same state folder made.
   *
   * @throws network.unavailable (unavailable) naming what the host refused.
   */
  static async open(options: BridgeOptions): Promise<BridgeNetwork> {
    try {
      const identity = (await reclaimBridge(options)) ?? (await claimBridge(options.owner));
      options.saveIdentity(identity);
      const network = new BridgeNetwork(identity, options);
      await network.#bringUp();
      return network;
    } catch (error) {
      throw new BerthError(
        'unavailable',
        'network.unavailable',
        `the default network cannot be set up: ${messageOf(error)}`,
        {
          hint: 'berth needs CAP_NET_ADMIN, the bridge and tun modules, nftables and dnsmasq; "berth doctor" says which is missing',
          cause: error,
        },
      );
    }
  }

  /** Takes a VM that was already attached before this daemon started. Ports are bound again as far as possible. */
  async restore(vmId: string, attachment: Attachment, names: readonly string[]): Promise<void> {
    const reservations: PortReservation[] = [];
    for (const port of attachment.ports) {
      try {
        reservations.push(await reservePort(port.protocol, port.hostIp, port.hostPort));
      } catch (error) {
        this.#log(
          `port ${port.hostPort}/${port.protocol} of VM ${vmId.slice(0, 12)} is redirected but not reserved: ${messageOf(error)}`,
        );
      }
    }
    this.#leases.set(vmId, { attachment, names, reservations });
  }

  /** After all `restore` calls: rules and names as they should be. */
  async reconcile(): Promise<void> {
    await this.#loadRules();
    for (const [vmId, lease] of this.#leases) this.#announce(vmId, lease);
    await this.#names.settled();
  }

  /**
   * Reserves an address and the host ports, and publishes them.
   *
   * @throws port.taken (conflict), network.full (exhausted), address.malformed (invalid).
   */
  async attach(request: AttachmentRequest): Promise<Attachment> {
    const undo = new UndoStack();
    try {
      const used = new Set([...this.#leases.values()].map((lease) => parseIpv4(lease.attachment.address)));
      const address = wished(request.address, this.#subnet, used) ?? lowestFree(this.#subnet, used);
      const attachment: Attachment = {
        kind: 'bridge',
        bridge: this.identity.bridge,
        tap: request.tap ?? `bt${request.vmId.slice(0, 12)}`,
        mac: request.mac ?? macOf(address),
        address: formatIpv4(address),
        prefixLength: this.#subnet.prefixLength,
        gateway: this.gateway,
        mtu: MTU,
        dns: [this.gateway],
        ports: [],
      };
      // Taken at once, before the first await, so that two starts never choose the same address.
      this.#leases.set(request.vmId, { attachment, names: request.names, reservations: [] });
      undo.push(() => {
        this.#leases.delete(request.vmId);
      });
      const ports: Binding[] = [];
      const reservations: PortReservation[] = [];
      for (const port of request.ports) {
        const reservation = await reservePort(port.protocol, port.hostIp, port.hostPort);
        undo.push(() => reservation.release());
        reservations.push(reservation);
        ports.push({ ...port, hostPort: reservation.port });
      }
      const lease = { attachment: { ...attachment, ports }, names: request.names, reservations };
      this.#leases.set(request.vmId, lease);
      if (ports.length > 0) await this.#loadRules();
      this.#announce(request.vmId, lease);
      undo.release();
      return lease.attachment;
    } catch (error) {
      await undo.unwind((failure) => this.#log(`undoing an attachment: ${messageOf(failure)}`));
      throw error;
    }
  }

  /** Gives everything of a VM back. Safe to call for a VM that holds nothing. */
  async detach(vmId: string): Promise<void> {
    const lease = this.#leases.get(vmId);
    if (lease === undefined) return;
    this.#leases.delete(vmId);
    this.#names.set(vmId, undefined, this.#log);
    if (lease.attachment.ports.length > 0) await this.#loadRules();
    for (const reservation of lease.reservations) await reservation.release();
  }

  /**
   * Keeps a VM's published ports open while it has no machine. Whoever connects is accepted, wakes the VM, and is handed
   * on to it by berthd for as long as the connection lasts; later ones go straight to the VM. A datagram wakes it too and
   * is lost, as datagrams may be: its sender asks again.
   */
  async hold(vmId: string, wake: () => Promise<() => void>): Promise<void> {
    const lease = this.#leases.get(vmId);
    if (lease === undefined || lease.held === true) return;
    this.#leases.set(vmId, { ...lease, held: true });
    const { attachment, reservations } = lease;
    let waiting = 0;
    let told = 0;
    for (const reservation of reservations) {
      const port = attachment.ports.find((one) => one.hostPort === reservation.port);
      if (port === undefined) continue;
      reservation.serve((client) => {
        if (waiting >= MAX_HELD_CONNECTIONS) {
          client?.destroy();
          return;
        }
        waiting += 1;
        wake()
          .then(async (served) => {
            if (client === undefined) return served();
            const guest = { address: attachment.address, port: port.guestPort, deadlineMs: HELD_CONNECT_DEADLINE_MS };
            await joinTcp(client, guest, served).catch((error: unknown) => {
              served();
              throw error;
            });
          })
          .catch((error: unknown) => {
            client?.destroy();
            told += 1;
            // Whoever connects does not fill our log.
            if (told > MAX_HELD_LINES) return;
            this.#log(`a connection to port ${port.hostPort} could not be served: ${messageOf(error)}`);
          })
          .finally(() => {
            waiting -= 1;
          });
      });
    }
    if (attachment.ports.length > 0) await this.#loadRules();
  }

  /** The VM is there again. Connections that were handed on stay as they are. */
  async unhold(vmId: string): Promise<void> {
    const lease = this.#leases.get(vmId);
    if (lease?.held !== true) return;
    this.#leases.set(vmId, { ...lease, held: false });
    // Between the rules and the end of serving here a connection may still arrive: it finds the VM awake.
    if (lease.attachment.ports.length > 0) await this.#loadRules();
    for (const reservation of lease.reservations) reservation.serve(undefined);
  }

  /** The VM has another name now. */
  rename(vmId: string, names: readonly string[]): void {
    const lease = this.#leases.get(vmId);
    if (lease === undefined) return;
    const renamed = { ...lease, names };
    this.#leases.set(vmId, renamed);
    this.#announce(vmId, renamed);
  }

  /** With no VM left: takes down bridge, rules and name server. With VMs running: leaves all of it for them. */
  async close(): Promise<void> {
    await this.#names.settled();
    if (this.#leases.size > 0) {
      for (const lease of this.#leases.values())
        for (const reservation of lease.reservations) await reservation.release();
      return;
    }
    await this.#names.stop();
    await runProcess(['nft', 'delete', 'table', 'ip', tableName(this.identity.bridge)]);
    await runProcess(['ip', 'link', 'delete', this.identity.bridge]);
  }

  #announce(vmId: string, lease: Lease): void {
    this.#names.set(vmId, { address: lease.attachment.address, names: lease.names }, this.#log);
  }

  async #bringUp(): Promise<void> {
    const { bridge } = this.identity;
    const links = v.parse(Links, JSON.parse((await runChecked(['ip', '-j', 'link', 'show'])).stdout));
    if (!links.some((link) => link.ifname === bridge))
      await runChecked(['ip', 'link', 'add', bridge, 'type', 'bridge']);
    const address = `${this.gateway}/${this.#subnet.prefixLength}`;
    await runChecked(['ip', 'address', 'replace', address, 'dev', bridge]);
    // A bridge without a hardware address of its own takes the lowest of its ports', another one whenever VMs come and go;
    // guests that know the one before then talk to nobody.
    const mac = macOf(gatewayOf(this.#subnet));
    await runChecked(['ip', 'link', 'set', bridge, 'address', mac, 'up', 'mtu', String(MTU)]);
    // Clients on 127.0.0.1 reach published ports only when packets with that source may leave by the bridge.
    await files.writeKernelSetting(`/proc/sys/net/ipv4/conf/${bridge}/route_localnet`, '1');
    await files.writeKernelSetting('/proc/sys/net/ipv4/ip_forward', '1');
    await this.#loadRules();
    await this.#names.start();
  }

  #loadRules(): Promise<void> {
    const load = async (): Promise<void> => {
      const served = [...this.#leases.values()].filter((lease) => lease.held !== true);
      const ports: PublishedPort[] = served.flatMap(({ attachment }) =>
        attachment.ports.map((port) => ({ ...port, guestAddress: attachment.address })),
      );
      await runChecked(['nft', '-f', '-'], { input: renderRules(this.identity.bridge, this.#subnet, ports) });
    };
    const loaded = this.#loading.then(load, load);
    this.#loading = loaded.catch(() => {});
    return loaded;
  }
}

/** The address, when it is one of the subnet's own for VMs and free. */
function wished(address: string | undefined, subnet: Subnet, used: ReadonlySet<number>): number | undefined {
  if (address === undefined) return undefined;
  const number = parseIpv4(address);
  return isForVms(subnet, number) && !used.has(number) ? number : undefined;
}

/**
 * The bridge of an earlier daemon of this state folder: still there, or made again under its name. Undefined when there was
 * none, or when its name or its addresses belong to somebody else by now.
 */
async function reclaimBridge({ identity, owner }: BridgeOptions): Promise<BridgeIdentity | undefined> {
  if (identity === undefined) return undefined;
  const links = v.parse(Links, JSON.parse((await runChecked(['ip', '-j', 'link', 'show'])).stdout));
  const link = links.find((one) => one.ifname === identity.bridge);
  if (link !== undefined) return link.ifalias === owner ? identity : undefined;
  const subnet = parseSubnet(identity.subnet);
  if ((await takenSubnets()).some((other) => overlaps(other, subnet))) return undefined;
  const made = await runProcess(['ip', 'link', 'add', identity.bridge, 'type', 'bridge']);
  if (made.exitCode !== 0) return undefined;
  await runChecked(['ip', 'link', 'set', identity.bridge, 'alias', owner]);
  return identity;
}

async function takenSubnets(): Promise<Subnet[]> {
  const routes = v.parse(
    Routes,
    JSON.parse((await runChecked(['ip', '-j', '-4', 'route', 'show', 'table', 'all'])).stdout),
  );
  return routes.filter((route) => /^[0-9.]+(\/[0-9]+)?$/.test(route.dst)).map((route) => parseSubnet(route.dst));
}

/** The first free bridge name and subnet of this host; making the bridge is what claims the name. */
async function claimBridge(owner: string): Promise<BridgeIdentity> {
  const taken = await takenSubnets();
  for (let index = 0; index < MAX_BRIDGES; index += 1) {
    const bridge = `berth${index}`;
    const made = await runProcess(['ip', 'link', 'add', bridge, 'type', 'bridge']);
    if (made.exitCode === 0) {
      const subnet = chooseSubnet(taken, index);
      if (subnet !== undefined) {
        await runChecked(['ip', 'link', 'set', bridge, 'alias', owner]);
        return { bridge, subnet: formatSubnet(subnet) };
      }
      await runProcess(['ip', 'link', 'delete', bridge]);
      throw new BerthError(
        'exhausted',
        'network.no_subnet',
        'every subnet berth could use overlaps a route of this host',
      );
    }
    if (!/exists/i.test(made.stderr)) {
      throw new BerthError('unavailable', 'network.no_bridge', `cannot make a bridge: ${made.stderr.trim()}`);
    }
  }
  throw new BerthError('exhausted', 'network.no_bridge', `${MAX_BRIDGES} berth bridges exist on this host`);
}
