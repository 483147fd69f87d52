/** `-p` specifications. Pure. @source docs.docker.com/engine/network, "Published ports" */
import { usageError } from './command-line.ts';

export interface PublishedPorts {
  readonly exposed: Record<string, object>;
  readonly bindings: Record<string, { HostIp: string; HostPort: string }[]>;
}

/** `8080:80`, `127.0.0.1::53/udp`, `8000-8002:80-82`, `[::1]:80:80`. @throws usage (invalid) */
export function parsePublished(specs: readonly string[]): PublishedPorts {
  const published: PublishedPorts = { exposed: {}, bindings: {} };
  for (const spec of specs) {
    const found = /^(?:(?:\[([^\]]+)\]|([^:[\]]*)):)?(?:([0-9-]*):)?([0-9-]+)(?:\/([a-z]+))?$/i.exec(spec);
    if (found === null)
      throw usageError(`invalid publish opts format (should be [IP:][HOST:]GUEST[/PROTOCOL]): ${spec}`);
    // With one colon only, what stands before it is the host's port.
    const [, six, four = '', middle, guestText = '', protocol = 'tcp'] = found;
    const isPort = middle === undefined && six === undefined && /^[0-9-]*$/.test(four);
    const hostIp = six ?? (isPort ? '' : four);
    const hostText = isPort ? four : (middle ?? '');
    if (middle === undefined && !isPort)
      throw usageError(
        `invalid publish opts format: no host port in ${spec}; write ${spec.replace(/:(?=[^:]*$)/, '::')}`,
      );
    const guest = parseRange(guestText, spec);
    const host = hostText === '' ? undefined : parseRange(hostText, spec);
    const count = guest.last - guest.first;
    const hostCount = host === undefined ? count : host.last - host.first;
    if (hostCount !== count && count !== 0)
      throw usageError(`Invalid ranges specified for container and host Ports: ${guestText} and ${hostText}`);
    for (let offset = 0; offset <= count; offset += 1) {
      const key = `${guest.first + offset}/${protocol.toLowerCase()}`;
      const port = host === undefined ? '' : hostCount === count ? String(host.first + offset) : hostText;
      published.exposed[key] = {};
      published.bindings[key] = [...(published.bindings[key] ?? []), { HostIp: hostIp, HostPort: port }];
    }
  }
  return published;
}

function parseRange(text: string, spec: string): { first: number; last: number } {
  const [, first = '', last = first] = /^([0-9]+)(?:-([0-9]+))?$/.exec(text) ?? [];
  const range = { first: Number(first), last: Number(last) };
  if (first === '' || range.first < 1 || range.last > 65535 || range.last < range.first) {
    throw usageError(`invalid port range ${JSON.stringify(text)} in ${spec}: ports are from 1 to 65535`);
  }
  return range;
}

/** `80`, `80-90/udp` of `--expose`. @throws usage (invalid) */
export function parseExposed(specs: readonly string[]): Record<string, object> {
  const exposed: Record<string, object> = {};
  for (const spec of specs) {
    const [ports = '', protocol = 'tcp'] = spec.split('/');
    const { first, last } = parseRange(ports, spec);
    for (let port = first; port <= last; port += 1) exposed[`${port}/${protocol.toLowerCase()}`] = {};
  }
  return exposed;
}
