/**
 * From a libvirt URL to how it is reached. Pure.
 *
 *     qemu:///system                              unix socket of this host
 *     qemu:///system?socket=/path                 another unix socket
 *     qemu+tls://host[:16514]/system              TLS, certificate verified or pinned; ?pkipath=FOLDER for our own
 *     qemu+tcp://host[:16509]/system              without encryption
 *     qemu+ssh://user@host[:port]/system          ssh with virt-ssh-helper at the far end; ?keyfile=PATH, &known_hosts=PATH
 *
 * @source libvirt, docs/uri.rst
 */
import { BerthError } from '#base';
import { SSH_PARAMETERS, sshArguments, sshProblems } from '../../ssh.ts';

export const HYPERVISORS = ['qemu', 'xen', 'test', 'lxc', 'ch', 'bhyve', 'vbox'] as const;
export const TRANSPORTS = ['unix', 'tls', 'tcp', 'ssh'] as const;
const TLS_PORT = 16514;
const TCP_PORT = 16509;

export type Dial =
  | { readonly via: 'unix'; readonly candidates: readonly string[] }
  | { readonly via: 'tls'; readonly host: string; readonly port: number; readonly pkiFolder: string | undefined }
  | { readonly via: 'tcp'; readonly host: string; readonly port: number }
  | { readonly via: 'ssh'; readonly argv: readonly [string, ...string[]] };

export interface LibvirtAddress {
  readonly dial: Dial;
  /** What is asked of the daemon at the far end. */
  readonly connectUri: string;
}

/** Whether it is reached by a socket of this machine. */
export function isUnix(url: URL): boolean {
  const transport = url.protocol.slice(0, -1).split('+')[1];
  return transport === undefined || transport === 'unix';
}

/** What is wrong with it, one sentence each. */
export function problemsOf(url: URL): string[] {
  const problems: string[] = [];
  const [hypervisor = '', transport] = url.protocol.slice(0, -1).split('+');
  if (!(HYPERVISORS as readonly string[]).includes(hypervisor))
    problems.push(`${hypervisor} is none of ${HYPERVISORS.join(', ')}`);
  if (transport !== undefined && !(TRANSPORTS as readonly string[]).includes(transport))
    problems.push(`${transport} is none of ${TRANSPORTS.join(', ')}`);
  const isSsh = transport === 'ssh';
  if (isSsh) problems.push(...sshProblems(url));
  else {
    if (url.password !== '') problems.push('a password does not belong into a URL: use --credentials-file');
    if ((transport === 'tls' || transport === 'tcp') && url.hostname === '') problems.push('the host is missing');
    if (!/^(\[[0-9a-f:.]+\]|[A-Za-z0-9_.-]*)$/i.test(url.hostname)) problems.push(`${url.hostname} is no host name`);
  }
  if ((transport === undefined || transport === 'unix') && url.hostname !== '')
    problems.push(`a host needs a transport: ${hypervisor}+ssh or ${hypervisor}+tls`);
  // What ssh carries to the far end is read by a shell there.
  if (!/^[A-Za-z0-9_./-]*$/.test(url.pathname))
    problems.push(`the path ${url.pathname} holds other than letters, digits and _./-`);
  const known = isSsh ? SSH_PARAMETERS : ['socket', 'pkipath'];
  for (const [name, path] of url.searchParams) {
    if (!known.includes(name)) problems.push(`the parameter ${name} is not known; ${known.join(' and ')} are`);
    else if (!isSsh && !path.startsWith('/')) problems.push(`${name} must be an absolute path`);
  }
  return problems;
}

/** @throws source.url (invalid) with all problems. */
export function parseAddress(url: URL, isReadOnly: boolean): LibvirtAddress {
  const problems = problemsOf(url);
  if (problems.length > 0) throw new BerthError('invalid', 'source.url', `${url.href}: ${problems.join('; ')}`);
  const [hypervisor = '', transport = 'unix'] = url.protocol.slice(0, -1).split('+');
  const connectUri = `${hypervisor}://${url.pathname === '' ? '/' : url.pathname}`;
  const host = url.hostname.replace(/^\[|\]$/g, '');
  if (transport === 'tls')
    return {
      connectUri,
      dial: {
        via: 'tls',
        host,
        port: url.port === '' ? TLS_PORT : Number(url.port),
        pkiFolder: url.searchParams.get('pkipath') ?? undefined,
      },
    };
  if (transport === 'tcp')
    return { connectUri, dial: { via: 'tcp', host, port: url.port === '' ? TCP_PORT : Number(url.port) } };
  if (transport === 'ssh') {
    // In quotes, for the shell at the far end; `problemsOf` let no quote through.
    const words = ['virt-ssh-helper', ...(isReadOnly ? ['-r'] : []), `'${connectUri}'`];
    return { connectUri, dial: { via: 'ssh', argv: sshArguments(url, words) } };
  }
  const given = url.searchParams.get('socket');
  return { connectUri, dial: { via: 'unix', candidates: given === null ? sockets(hypervisor, isReadOnly) : [given] } };
}

/** The daemon for everything, then the one for this hypervisor alone; anybody may connect to the read-only ones. */
function sockets(hypervisor: string, isReadOnly: boolean): string[] {
  const suffix = isReadOnly ? '-ro' : '';
  return [`/run/libvirt/libvirt-sock${suffix}`, `/run/libvirt/virt${hypervisor}d-sock${suffix}`];
}
