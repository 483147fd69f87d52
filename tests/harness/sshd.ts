/**
 * A real OpenSSH server on loopback with a key of its own and one client key, in a mount namespace: Debian's package is
 * unpacked beside the other build products, since installing it would open port 22 of this machine.
 */
import { spawn } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connectTcp, reservePort, runChecked } from '#platform';
import { eventually } from './vm-client.ts';

const CHECKOUT = new URL('../..', import.meta.url).pathname;
const START_DEADLINE_MS = 20_000;

/** The separated process of sshd runs as a user that this machine need not have. `$1` our folder, `$2` sshd, `$3` /run/libvirt. */
const PRIVATE_START = `set -e
mkdir -p /run/sshd /run/libvirt
cp /etc/passwd "$1/passwd"
grep -q ^sshd: "$1/passwd" || echo 'sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin' >>"$1/passwd"
mount --bind "$1/passwd" /etc/passwd
[ -z "$3" ] || mount --bind "$3" /run/libvirt
exec "$2" -D -e -f "$1/sshd_config"`;

export interface RunningSshd {
  readonly port: number;
  readonly keyPath: string;
  /** A key that it does not let in. */
  readonly strangerPath: string;
  readonly knownHostsPath: string;
  /** Knows another key for it. */
  readonly changedHostsPath: string;
  dispose(): Promise<void>;
}

/** @param libvirtFolder - appears as /run/libvirt to whoever logs in. @param more - lines of sshd_config. */
export async function startSshd(libvirtFolder = '', more: readonly string[] = []): Promise<RunningSshd> {
  const root = await unpackedServer();
  const folder = mkdtempSync(join(tmpdir(), 'berth-sshd-'));
  const file = (name: string): string => join(folder, name);
  for (const name of ['host', 'client', 'stranger'])
    await runChecked(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', file(name)]);
  copyFileSync(file('client.pub'), file('authorized_keys'));
  const reserved = await reservePort('tcp', '127.0.0.1', 0);
  const { port } = reserved;
  await reserved.release();
  const settings = [
    `Port ${port}`,
    'ListenAddress 127.0.0.1',
    `HostKey ${file('host')}`,
    `AuthorizedKeysFile ${file('authorized_keys')}`,
    'PermitRootLogin prohibit-password',
    'PasswordAuthentication no',
    'KbdInteractiveAuthentication no',
    'StrictModes no',
    'UsePAM no',
    'PidFile none',
    ...more,
  ];
  writeFileSync(file('sshd_config'), `${settings.join('\n')}\n`);
  const publicKey = (name: string): string =>
    readFileSync(file(`${name}.pub`), 'utf8')
      .split(' ')
      .slice(0, 2)
      .join(' ');
  writeFileSync(file('known_hosts'), `[127.0.0.1]:${port} ${publicKey('host')}\n`);
  writeFileSync(file('changed_hosts'), `[127.0.0.1]:${port} ${publicKey('stranger')}\n`);
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LD_LIBRARY_PATH: join(root, 'usr/lib/x86_64-linux-gnu') };
  const argv = ['--mount', 'sh', '-c', PRIVATE_START, 'sh', folder, join(root, 'usr/sbin/sshd'), libvirtFolder];
  const child = spawn('unshare', argv, { stdio: ['ignore', 'ignore', 'pipe'], env });
  let words = '';
  child.stderr.on('data', (chunk: Buffer) => {
    words = (words + chunk.toString()).slice(-4_000);
  });
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const dispose = async (): Promise<void> => {
    child.kill('SIGTERM');
    await ended;
    rmSync(folder, { recursive: true, force: true });
  };
  await eventually('sshd listens', START_DEADLINE_MS, async () => {
    if (child.exitCode !== null) throw new Error(`sshd ended: ${words}`);
    const socket = await connectTcp('127.0.0.1', port, 1_000).catch(() => undefined);
    socket?.destroy();
    return socket !== undefined;
  });
  return {
    port,
    keyPath: file('client'),
    strangerPath: file('stranger'),
    knownHostsPath: file('known_hosts'),
    changedHostsPath: file('changed_hosts'),
    dispose,
  };
}

async function unpackedServer(): Promise<string> {
  const folder = join(CHECKOUT, '.build/tests/sshd');
  if (existsSync(folder)) return folder;
  const aside = `${folder}.tmp`;
  rmSync(aside, { recursive: true, force: true });
  mkdirSync(join(aside, 'debs'), { recursive: true });
  const debs = join(aside, 'debs');
  // Its other libraries come with Debian itself and with QEMU.
  await runChecked(['apt-get', 'download', '-q', 'openssh-server', 'libwrap0'], { cwd: debs });
  for (const archive of readdirSync(debs)) await runChecked(['dpkg-deb', '-x', join(debs, archive), aside]);
  rmSync(debs, { recursive: true });
  renameSync(aside, folder);
  return folder;
}
