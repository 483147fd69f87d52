/**
 * From a libvirt URL to how it is reached. Pure.
 *
 *     qemu:///system                              unix socket of this host
 *     qemu:///system?socket=/path                 another unix socket
 *     qemu+tls://host[:16514]/system              TLS, certificate verified or pinned; ?pkipath=FOLDER for our own
 *     qemu+ssh://user@host[:port]/system          ssh with virt-ssh-helper at the far end
 *
 * @source libvirt, docs/uri.rst
 */
import { BerthError } from '#base';

export const HYPERVISORS = ['qemu', 'xen', 'test', 'lxc', 'ch', 'bhyve', 'vbox'] as const;
export const TRANSPORTS = ['unix', 'tls', 'ssh'] as const;
const TLS_PORT = 16514;

export type Dial =
  | { readonly via: 'unix'; readonly candidates: readonly string[] }
  | { readonly via: 'tls'; readonly host: string; readonly port: number; readonly pkiFolder: string | undefined }
  | { readonly via: 'ssh'; readonly argv: readonly [string, ...string[]] };

export interface LibvirtAddress {
  readonly dial: Dial;
  /** What is asked of the daemon at the far end. */
  readonly connectUri: string;
}

/** What is wrong with it, one sentence each. */
export function problemsOf(url: URL): string[] {
  const problems: string[] = [];
  const [hypervisor = '', transport] = url.protocol.slice(0, -1).split('+');
  if (!(HYPERVISORS as readonly string[]).includes(hypervisor))
    problems.push(`${hypervisor} is none of ${HYPERVISORS.join(', ')}`);
  if (transport !== undefined && !(TRANSPORTS as readonly string[]).includes(transport))
    problems.push(`${transport} is none of ${TRANSPORTS.join(', ')}`);
  if (url.password !== '') problems.push('a password does not belong into a URL: use --credentials-file');
  if (transport !== undefined && transport !== 'unix' && url.hostname === '') problems.push('the host is missing');
  if ((transport === undefined || transport === 'unix') && url.hostname !== '')
    problems.push(`a host needs a transport: ${hypervisor}+ssh or ${hypervisor}+tls`);
  // What ssh carries to the far end is read by a shell there.
  if (!/^[A-Za-z0-9_./-]*$/.test(url.pathname))
    problems.push(`the path ${url.pathname} holds other than letters, digits and _./-`);
  if (!/^[A-Za-z0-9_.@-]*$/.test(decodeURIComponent(url.username)) || url.username.startsWith('-'))
    problems.push('the user holds other than letters, digits and _.@-');
  if (!/^(\[[0-9a-f:.]+\]|[A-Za-z0-9_.-]*)$/i.test(url.hostname) || url.hostname.startsWith('-'))
    problems.push(`${url.hostname} is no host name`);
  for (const name of url.searchParams.keys())
    if (name !== 'socket' && name !== 'pkipath')
      problems.push(`the parameter ${name} is not known; socket and pkipath are`);
  for (const [name, path] of url.searchParams)
    if (!path.startsWith('/')) problems.push(`${name} must be an absolute path`);
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
  if (transport === 'ssh') {
    const user = url.username === '' ? [] : ['-l', decodeURIComponent(url.username)];
    const port = url.port === '' ? [] : ['-p', url.port];
    const helper = ['virt-ssh-helper', ...(isReadOnly ? ['-r'] : []), `'${connectUri}'`];
    const argv = [
      'ssh',
      '-T',
      '-e',
      'none',
      '-o',
      'BatchMode=yes',
      '-o',
      'ConnectTimeout=15',
      ...port,
      ...user,
      '--',
      host,
      ...helper,
    ];
    return { connectUri, dial: { via: 'ssh', argv: argv as [string, ...string[]] } };
  }
  const given = url.searchParams.get('socket');
  return { connectUri, dial: { via: 'unix', candidates: given === null ? sockets(hypervisor, isReadOnly) : [given] } };
}

/** The daemon for everything, then the one for this hypervisor alone; anybody may connect to the read-only ones. */
function sockets(hypervisor: string, isReadOnly: boolean): string[] {
  const suffix = isReadOnly ? '-ro' : '';
  return [`/run/libvirt/libvirt-sock${suffix}`, `/run/libvirt/virt${hypervisor}d-sock${suffix}`];
}
