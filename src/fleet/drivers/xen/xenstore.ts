/**
 * What `xenstore-ls -f` prints: one line for each node, values with their odd characters escaped by it. Pure.
 *
 *     /local/domain/0/backend/vbd/1/51712/sectors = "32768"
 *
 * Lines that are none are passed over: guests write some of these nodes, and what they write is cut off at a length.
 */

/** blkback counts in these whatever the sector size. @source xen/include/public/io/blkif.h */
const SECTOR_BYTES = 512;
/** What a front end and a back end agree on when both are there. @source xen/include/public/io/xenbus.h */
const CONNECTED = '4';

export interface Backend {
  /** `vbd`, `qdisk`, `vif`. */
  readonly kind: string;
  readonly domid: number;
  readonly isConnected: boolean;
  /** A disk's name in the guest: `xvda`. */
  readonly device: string | undefined;
  readonly capacityBytes: number | null;
}

export function parseBackends(text: string): Backend[] {
  const found = new Map<string, { kind: string; domid: number; values: Map<string, string> }>();
  for (const line of text.split('\n')) {
    const parts = /^\/local\/domain\/0\/backend\/([a-z0-9]+)\/([0-9]{1,5})\/([0-9]{1,10})\/([a-z-]+) = "(.*)"$/.exec(
      line,
    );
    if (parts === null) continue;
    const [, kind = '', domid = '', device = '', key = '', value = ''] = parts;
    const id = `${kind}/${domid}/${device}`;
    const backend = found.get(id) ?? { kind, domid: Number(domid), values: new Map<string, string>() };
    backend.values.set(key, value);
    found.set(id, backend);
  }
  return [...found.values()].map(({ kind, domid, values }) => {
    const sectors = Number(values.get('sectors') ?? Number.NaN);
    return {
      kind,
      domid,
      isConnected: values.get('state') === CONNECTED,
      device: values.get('dev'),
      capacityBytes: Number.isSafeInteger(sectors * SECTOR_BYTES) && sectors >= 0 ? sectors * SECTOR_BYTES : null,
    };
  });
}

const IPV4 = /^(?:[0-9]{1,3}\.){3}[0-9]{1,3}$/;
const IPV6 = /^[0-9a-f:]*:[0-9a-f:.]*$/i;
const MOST_ADDRESSES = 64;

/**
 * Addresses that an agent in the guest wrote, by domain and place of the network card. The guest says them: they may be lies.
 *
 * @source xe-guest-utilities: attr/vif/N/ipv4/M, attr/vif/N/ipv6/M; before 7.0 attr/ethN/ip
 */
export function parseAddresses(text: string): Map<number, Map<number, string[]>> {
  const byDomain = new Map<number, Map<number, string[]>>();
  for (const line of text.split('\n')) {
    const parts =
      /^\/local\/domain\/([0-9]{1,5})\/attr\/(?:vif\/([0-9]{1,3})\/ipv[46]\/[0-9]{1,3}|eth([0-9]{1,3})\/ip) = "([0-9a-fA-F:.]{2,45})"$/.exec(
        line,
      );
    if (parts === null) continue;
    const [, domid, vif, eth, address = ''] = parts;
    if (!IPV4.test(address) && !IPV6.test(address)) continue;
    const nics = byDomain.get(Number(domid)) ?? new Map<number, string[]>();
    const place = Number(vif ?? eth);
    const before = nics.get(place) ?? [];
    if (before.includes(address) || before.length >= MOST_ADDRESSES) continue;
    nics.set(place, [...before, address]);
    byDomain.set(Number(domid), nics);
  }
  return byDomain;
}
