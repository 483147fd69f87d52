/** All domains of a host, read once. */
import { BerthError } from '#base';
import { type HypervisorHost, parseHostFacts, parseVmFacts, type VmFacts } from '../../facts.ts';
import { ATTRIBUTES, BACKENDS, CONFIGURATIONS, HOST, INFO, STATES } from './commands.ts';
import { parseConfigurations } from './configurations.ts';
import { domainFacts, hostFacts, nativeIdOf, parseInfo } from './domain-facts.ts';
import { type DomainRow, parseListing } from './listing.ts';
import type { XenShell } from './shell.ts';
import { parseAddresses, parseBackends } from './xenstore.ts';

export interface Estate {
  readonly vms: readonly VmFacts[];
  /** Native ids of domains that are there and could not be read. */
  readonly unread: readonly string[];
  /** See `shapeOf`. */
  readonly shape: string;
}

export async function readHost(shell: XenShell): Promise<HypervisorHost> {
  const info = parseInfo(await shell.output(INFO));
  return parseHostFacts(hostFacts(info, await shell.output(HOST)));
}

/** Rows with the names that their configurations have. dom0, the host itself, is among them. */
export async function readRows(shell: XenShell): Promise<{
  readonly rows: readonly DomainRow[];
  readonly domains: ReturnType<typeof parseConfigurations>;
  readonly shape: string;
}> {
  // A domain that ends while they are listed makes xl complain, and is left out: no failure.
  const listed = await shell.run(CONFIGURATIONS);
  const text = listed.stdout.trim() === '' ? await shell.output(CONFIGURATIONS) : listed.stdout;
  const domains = parseConfigurations(text);
  const names = new Map(domains.map(({ domid, name }) => [domid, name]));
  const listing = await shell.output(STATES);
  return { rows: parseListing(listing, names), domains, shape: shapeOf(listing) };
}

/**
 * Configurations first, then states: a domain of the first that is not in the second is gone, one of the second that is not
 * in the first has just come, and is told as unread.
 */
export async function readEstate(shell: XenShell, hostId: string): Promise<Estate> {
  const { rows, domains, shape } = await readRows(shell);
  const backends = parseBackends(await shell.output(BACKENDS));
  const addresses = parseAddresses(await shell.output(ATTRIBUTES));
  const vms: VmFacts[] = [];
  const unread: string[] = [];
  for (const row of rows) {
    // dom0 is the host, not a VM of it.
    if (row.domid === 0) continue;
    const { configuration } = domains.find(({ domid }) => domid === row.domid) ?? {};
    const own = backends.filter((one) => one.domid === row.domid);
    const reading = { row, backends: own, addresses: addresses.get(row.domid) ?? new Map(), hostId };
    const vm = row.isNamed && configuration !== undefined ? tryFacts({ ...reading, configuration }) : undefined;
    if (vm === undefined) unread.push(nativeIdOf(row));
    else vms.push(vm);
  }
  return { vms, unread, shape };
}

function tryFacts(reading: Parameters<typeof domainFacts>[0]): VmFacts | undefined {
  try {
    return parseVmFacts(domainFacts(reading));
  } catch (error) {
    if (error instanceof BerthError && error.code === 'fleet.facts') return undefined;
    throw error;
  }
}

/** What `xl list -v` said without what changes by itself: time, and whether a domain has a processor just now. A hint, no facts. */
export function shapeOf(listing: string): string {
  return listing.replace(/ [r-][b-]([p-][s-][c-][d-]) +[0-9]+\.[0-9] /g, ' $1 ');
}
