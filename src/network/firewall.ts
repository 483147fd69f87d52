/**
 * The nftables rules of one bridge: a value, loaded as a whole in one transaction.
 *
 * One table per bridge, so that two daemons never touch each other's rules and removing the table removes everything.
 * Published ports are kernel DNAT, for packets from outside (prerouting) and from this host (output). A client on
 * 127.0.0.1 is masqueraded, since the guest could not answer to that address.
 */
import { formatSubnet, type Subnet } from './addresses.ts';

export interface PublishedPort {
  readonly protocol: 'tcp' | 'udp';
  readonly hostIp: string;
  readonly hostPort: number;
  readonly guestAddress: string;
  readonly guestPort: number;
}

export function tableName(bridge: string): string {
  return `berth_${bridge}`;
}

/** Input for `nft -f -`: replaces the bridge's table. */
export function renderRules(bridge: string, subnet: Subnet, ports: readonly PublishedPort[]): string {
  const table = tableName(bridge);
  const inside = formatSubnet(subnet);
  const everywhere = ports.filter((port) => port.hostIp === '' || port.hostIp === '0.0.0.0');
  const somewhere = ports.filter((port) => port.hostIp !== '' && port.hostIp !== '0.0.0.0');
  const target = (port: PublishedPort): string => `${port.guestAddress} . ${port.guestPort}`;
  const anyElements = everywhere.map((port) => `${port.protocol} . ${port.hostPort} : ${target(port)}`);
  const atElements = somewhere.map((port) => `${port.hostIp} . ${port.protocol} . ${port.hostPort} : ${target(port)}`);
  const elements = (list: readonly string[]): string => (list.length === 0 ? '' : `elements = { ${list.join(', ')} }`);
  return `
table ip ${table}
delete table ip ${table}
table ip ${table} {
  map published {
    type inet_proto . inet_service : ipv4_addr . inet_service
    ${elements(anyElements)}
  }
  map published_at {
    type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
    ${elements(atElements)}
  }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    dnat ip to ip daddr . meta l4proto . th dport map @published_at
    fib daddr type local dnat ip to meta l4proto . th dport map @published
  }
  chain output {
    type nat hook output priority -100; policy accept;
    dnat ip to ip daddr . meta l4proto . th dport map @published_at
    fib daddr type local dnat ip to meta l4proto . th dport map @published
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${inside} oifname != "${bridge}" masquerade
    ip saddr 127.0.0.0/8 oifname "${bridge}" masquerade
    ip saddr ${inside} oifname "${bridge}" ct status dnat masquerade
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    oifname "${bridge}" ct state established,related accept
    oifname "${bridge}" ct status dnat accept
    oifname "${bridge}" iifname != "${bridge}" drop
  }
}
`;
}
