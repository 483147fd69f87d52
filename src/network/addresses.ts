/** IPv4 arithmetic and the choice of a subnet: pure. */
import { BerthError } from '#base';

/** @throws address.malformed (invalid) */
export function parseIpv4(text: string): number {
  const parts = text.split('.');
  const numbers = parts.map((part) => (/^(0|[1-9][0-9]{0,2})$/.test(part) ? Number(part) : 256));
  if (parts.length !== 4 || numbers.some((number) => number > 255)) {
    throw new BerthError('invalid', 'address.malformed', `${JSON.stringify(text)} is not an IPv4 address`);
  }
  return numbers.reduce((sum, number) => sum * 256 + number, 0);
}

export function formatIpv4(address: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join('.');
}

/** A block of addresses. */
export interface Subnet {
  readonly base: number;
  readonly prefixLength: number;
}

/** @throws address.malformed (invalid) */
export function parseSubnet(text: string): Subnet {
  const [address, prefix] = text.split('/');
  const prefixLength = prefix === undefined ? 32 : Number(prefix);
  if (address === undefined || !Number.isInteger(prefixLength) || prefixLength < 0 || prefixLength > 32) {
    throw new BerthError('invalid', 'address.malformed', `${JSON.stringify(text)} is not an IPv4 subnet`);
  }
  const size = 2 ** (32 - prefixLength);
  return { base: Math.floor(parseIpv4(address) / size) * size, prefixLength };
}

export function formatSubnet(subnet: Subnet): string {
  return `${formatIpv4(subnet.base)}/${subnet.prefixLength}`;
}

export function subnetSize(subnet: Subnet): number {
  return 2 ** (32 - subnet.prefixLength);
}

export function overlaps(a: Subnet, b: Subnet): boolean {
  return a.base < b.base + subnetSize(b) && b.base < a.base + subnetSize(a);
}

/**
 * Candidates in order, out of private space that homes, clouds and Docker rarely use: /18 blocks. A Linux bridge has at most
 * 1,023 ports, but VMs that sleep keep their addresses without one: 16,381 in all.
 */
function* candidateSubnets(): Generator<Subnet> {
  const prefixLength = 18;
  for (const [start, blocks] of [
    ['172.30.0.0', 8],
    ['10.208.0.0', 64],
  ] as const) {
    for (let index = 0; index < blocks; index += 1)
      yield { base: parseIpv4(start) + index * 2 ** (32 - prefixLength), prefixLength };
  }
}

/**
 * The first candidate that touches nothing `taken`, or undefined. The search begins at `preferred`, the number of the
 * bridge: two daemons that look at the same moment have different bridges and so different subnets.
 */
export function chooseSubnet(taken: readonly Subnet[], preferred: number): Subnet | undefined {
  const all = [...candidateSubnets()];
  const turned = [...all.slice(preferred), ...all.slice(0, preferred)];
  return turned.find((candidate) => !taken.some((other) => overlaps(candidate, other)));
}

/** The gateway is the first address; guests get the lowest free one after it; the last is the broadcast address. */
export function gatewayOf(subnet: Subnet): number {
  return subnet.base + 1;
}

/** Whether a guest may have this address of the subnet. */
export function isForVms(subnet: Subnet, address: number): boolean {
  return address > gatewayOf(subnet) && address <= subnet.base + subnetSize(subnet) - 2;
}

/** @throws network.full (exhausted) */
export function lowestFree(subnet: Subnet, used: ReadonlySet<number>): number {
  const last = subnet.base + subnetSize(subnet) - 2;
  for (let address = gatewayOf(subnet) + 1; address <= last; address += 1) {
    if (!used.has(address)) return address;
  }
  throw new BerthError('exhausted', 'network.full', `no free address is left in ${formatSubnet(subnet)}`, {
    hint: 'stop or remove some VMs of this network',
  });
}

/** Docker's rule: locally administered prefix 02:42 and the four bytes of the address, so that no two guests share one. */
export function macOf(address: number): string {
  const bytes = [0x02, 0x42, ...[24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256)];
  return bytes.map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}
