/**
 * How berth uses ssh: keys only, host keys strictly checked, nothing forwarded, and words for the far end that are
 * constants of ours. Pure.
 *
 * The far end hands its words to a shell, so nothing that came from elsewhere may be among them.
 *
 * @source ssh_config(5), OpenSSH 9.2
 */
import { BerthError } from '#base';

/** Variables of ours that ssh gets beside PATH. */
export const SSH_ENVIRONMENT: readonly string[] = ['SSH_AUTH_SOCK', 'HOME'];
/** Parameters of a URL that name files of this host. */
export const SSH_PARAMETERS: readonly string[] = ['keyfile', 'known_hosts'];

const OPTIONS: readonly string[] = [
  'BatchMode=yes',
  'StrictHostKeyChecking=yes',
  'UpdateHostKeys=no',
  'ForwardAgent=no',
  'ForwardX11=no',
  'ClearAllForwardings=yes',
  'PermitLocalCommand=no',
  'ControlPath=none',
  'ConnectTimeout=15',
  // A host that is gone without a word is noticed after half a minute.
  'ServerAliveInterval=10',
  'ServerAliveCountMax=3',
];

/** What is wrong with user, host and files of a URL that is to be reached by ssh, one sentence each. */
export function sshProblems(url: URL): string[] {
  const problems: string[] = [];
  if (url.hostname === '') problems.push('the host is missing');
  if (url.password !== '') problems.push('a password does not belong into a URL: ssh logs in with keys');
  if (!/^[A-Za-z0-9_.@-]*$/.test(decoded(url.username)) || url.username.startsWith('-'))
    problems.push('the user holds other than letters, digits and _.@-');
  if (!/^(\[[0-9a-f:.]+\]|[A-Za-z0-9_.-]*)$/i.test(url.hostname) || url.hostname.startsWith('-'))
    problems.push(`${url.hostname} is no host name`);
  for (const name of SSH_PARAMETERS) {
    const path = url.searchParams.get(name);
    // ssh reads blanks, quotes and % in a file name as its own.
    if (path !== null && !/^\/[A-Za-z0-9_./+@-]*$/.test(path))
      problems.push(`${name} must be an absolute path of letters, digits and _./+@-`);
  }
  return problems;
}

/** @param words - for the far end's shell: constants only. The URL has passed `sshProblems`. */
export function sshArguments(url: URL, words: readonly string[]): [string, ...string[]] {
  const keyFile = url.searchParams.get('keyfile');
  const knownHosts = url.searchParams.get('known_hosts');
  const options = [
    ...OPTIONS,
    ...(keyFile === null ? [] : [`IdentityFile=${keyFile}`, 'IdentitiesOnly=yes']),
    ...(knownHosts === null ? [] : [`UserKnownHostsFile=${knownHosts}`, 'GlobalKnownHostsFile=none']),
  ];
  return [
    'ssh',
    '-T',
    '-e',
    'none',
    ...options.flatMap((one) => ['-o', one]),
    ...(url.port === '' ? [] : ['-p', url.port]),
    ...(url.username === '' ? [] : ['-l', decoded(url.username)]),
    '--',
    url.hostname.replace(/^\[|\]$/g, ''),
    ...words,
  ];
}

/** Why ssh gave up, from its last words. @param where - the URL's host and port. */
export function sshFailure(words: string, where: string): BerthError {
  const told = words.trim().split('\n').slice(-3).join('; ').slice(0, 500) || 'it said nothing';
  if (/host key verification failed|host identification has changed|host key is known/i.test(words)) {
    const text = `the host key of ${where} is not the one that is known: ${told}`;
    const hint = `make sure that it is the right host, then put its key into known_hosts: ssh-keyscan, or ssh ${where} once as the daemon's user`;
    return new BerthError('unauthenticated', 'ssh.host_key', text, { hint });
  }
  if (/permission denied|too many authentication failures|no such identity/i.test(words)) {
    const text = `${where} did not let us in: ${told}`;
    const hint =
      "the daemon's user needs a key that the far end accepts: ?keyfile=PATH, or an agent; passwords are not used";
    return new BerthError('unauthenticated', 'ssh.login', text, { hint });
  }
  return new BerthError('unavailable', 'ssh.ended', `the ssh connection to ${where} ended: ${told}`);
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return '%';
  }
}
