/**
 * A real libvirtd with folders of its own (in a mount namespace), so that it knows nothing of another one on this
 * machine. `virsh` is the outside view: no part of berth.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runChecked, runProcess } from '#platform';
import { eventually } from './vm-client.ts';

const START_DEADLINE_MS = 30_000;

/** Everything libvirt writes goes to memory file systems that end with it. The folder is `$1`. */
const PRIVATE_START = `set -e
for folder in /etc/libvirt /var/lib/libvirt /var/cache/libvirt /run/libvirt /var/log/libvirt; do
  mkdir -p "$folder"; mount -t tmpfs none "$folder"
done
cp "$1/qemu.conf" /etc/libvirt/qemu.conf
if test -d "$1/sasl"; then mkdir -p /etc/sasl2; mount --bind "$1/sasl" /etc/sasl2; fi
exec libvirtd $2 -f "$1/libvirtd.conf" -p "$1/pid"`;

export interface RunningLibvirt {
  /** `socket=PATH`, for a URL's query. */
  readonly socket: string;
  readonly readOnlySocket: string;
  readonly folder: string;
  virsh(connect: 'test:///default' | 'qemu:///system', ...args: readonly string[]): Promise<string>;
  /** SIGKILL; domains of QEMU are ended first, they would live on. */
  crash(): Promise<void>;
  /** Comes up again on the same sockets. */
  restart(): Promise<void>;
  dispose(): Promise<void>;
}

/** Logins by SASL on every way to it, with users in a database of the test's own folder. */
export interface SaslUsers {
  /** As `mech_list` has them: `scram-sha-256 plain`. */
  readonly mechanisms: string;
  readonly users: Readonly<Record<string, string>>;
}

export interface LibvirtOptions {
  /** Serves TLS there too, with the certificates of `<folder>/pki`. */
  readonly tlsPort?: number;
  /** Serves there without encryption, too. */
  readonly tcpPort?: number;
  /** Who comes by TLS needs no certificate then, who comes by tcp or the socket for writing needs a password as well. */
  readonly sasl?: SaslUsers;
}

export async function startLibvirt(options: LibvirtOptions = {}): Promise<RunningLibvirt> {
  const folder = mkdtempSync(join(tmpdir(), 'berth-libvirt-'));
  mkdirSync(join(folder, 'run'));
  const { tlsPort, tcpPort, sasl } = options;
  const login = sasl === undefined ? 'none' : 'sasl';
  if (sasl !== undefined) await makeSaslUsers(join(folder, 'sasl'), sasl);
  const pki = join(folder, 'pki');
  if (tlsPort !== undefined) await makePki(pki);
  const settings = {
    unix_sock_dir: join(folder, 'run'),
    auth_unix_rw: login,
    auth_unix_ro: 'none',
    listen_addr: '127.0.0.1',
    listen_tls: tlsPort === undefined ? 0 : 1,
    listen_tcp: tcpPort === undefined ? 0 : 1,
    auth_tcp: login,
    ...(tcpPort === undefined ? {} : { tcp_port: String(tcpPort) }),
    ...(tlsPort === undefined
      ? {}
      : {
          tls_port: String(tlsPort),
          auth_tls: login,
          tls_no_verify_certificate: sasl === undefined ? 0 : 1,
          ca_file: join(pki, 'cacert.pem'),
          cert_file: join(pki, 'servercert.pem'),
          key_file: join(pki, 'serverkey.pem'),
        }),
  };
  writeFileSync(
    join(folder, 'libvirtd.conf'),
    `${Object.entries(settings)
      .map(([name, value]) => `${name} = ${JSON.stringify(value)}\n`)
      .join('')}`,
  );
  // QEMU as root without a security driver: it runs a domain without a disk for a test.
  const qemu = [
    'user = "root"',
    'group = "root"',
    'security_driver = "none"',
    'namespaces = []',
    'remember_owner = 0',
    'stdio_handler = "file"',
  ];
  writeFileSync(join(folder, 'qemu.conf'), `${qemu.join('\n')}\n`);
  const socket = join(folder, 'run/libvirt-sock');
  let child: ChildProcess | undefined;
  let ended: Promise<void> = Promise.resolve();

  const start = async (): Promise<void> => {
    const started = spawn(
      'unshare',
      [
        '--mount',
        'sh',
        '-c',
        PRIVATE_START,
        'sh',
        folder,
        tlsPort === undefined && tcpPort === undefined ? '-v' : '-l',
      ],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
    let words = '';
    started.stderr.on('data', (chunk: Buffer) => {
      words += chunk.toString();
    });
    started.stdout.resume();
    ended = new Promise((resolve) => started.once('exit', () => resolve()));
    child = started;
    await eventually('libvirtd answers', START_DEADLINE_MS, async () => {
      if (started.exitCode !== null) throw new Error(`libvirtd ended: ${words}`);
      return (
        existsSync(socket) &&
        (await runProcess(['virsh', '-r', '-c', `test+unix:///default?socket=${socket}-ro`, 'list'])).exitCode === 0
      );
    });
  };

  const virsh: RunningLibvirt['virsh'] = async (connect, ...args) => {
    const uri = `${connect.replace('://', '+unix://')}?socket=${socket}`;
    return (await runChecked(['virsh', '-q', '-c', uri, ...args])).stdout;
  };

  const crash = async (): Promise<void> => {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const domains = await virsh('qemu:///system', 'list', '--uuid').catch(() => '');
    for (const uuid of domains.split('\n').filter((line) => line.trim() !== ''))
      await virsh('qemu:///system', 'destroy', uuid.trim());
    child.kill('SIGKILL');
    await ended;
    rmSync(join(folder, 'pid'), { force: true });
    rmSync(socket, { force: true });
  };

  await start();
  return {
    socket,
    readOnlySocket: `${socket}-ro`,
    folder,
    virsh,
    crash,
    restart: async () => {
      await crash();
      await start();
    },
    dispose: async () => {
      await crash();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** What libvirt finds as /etc/sasl2: its configuration, and the users' database beside it. */
async function makeSaslUsers(folder: string, { mechanisms, users }: SaslUsers): Promise<void> {
  mkdirSync(folder);
  const database = join(folder, 'users.db');
  const lines = [
    `mech_list: ${mechanisms}`,
    'pwcheck_method: auxprop',
    'auxprop_plugin: sasldb',
    'sasldb_path: /etc/sasl2/users.db',
  ];
  writeFileSync(join(folder, 'libvirt.conf'), `${lines.join('\n')}\n`);
  for (const [user, password] of Object.entries(users))
    await runChecked(['saslpasswd2', '-p', '-c', '-a', 'libvirt', '-f', database, user], { input: password });
}

/** An authority, a server's certificate for 127.0.0.1 and a client's, as libvirt names them. */
async function makePki(folder: string): Promise<void> {
  mkdirSync(folder);
  const openssl = (...args: readonly string[]) => runChecked(['openssl', ...args], { cwd: folder });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  await openssl(
    'req',
    '-x509',
    ...key,
    '-days',
    '2',
    '-subj',
    '/CN=berth tests',
    '-keyout',
    'cakey.pem',
    '-out',
    'cacert.pem',
  );
  for (const [name, extension] of [
    ['server', 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n'],
    ['client', 'extendedKeyUsage=clientAuth\n'],
  ] as const) {
    writeFileSync(join(folder, `${name}.ext`), extension);
    await openssl('req', ...key, '-subj', `/CN=${name}`, '-keyout', `${name}key.pem`, '-out', `${name}.csr`);
    const signed = [
      '-CA',
      'cacert.pem',
      '-CAkey',
      'cakey.pem',
      '-CAcreateserial',
      '-extfile',
      `${name}.ext`,
      '-out',
      `${name}cert.pem`,
    ];
    await openssl('x509', '-req', '-days', '2', '-in', `${name}.csr`, ...signed);
  }
}

/** A domain without a disk: the firmware finds nothing to boot and waits. */
export function domainXml(options: {
  readonly name: string;
  readonly type: 'test' | 'qemu';
  readonly uuid?: string;
}): string {
  const { name, type, uuid } = options;
  return `<domain type='${type}'><name>${name}</name>${uuid === undefined ? '' : `<uuid>${uuid}</uuid>`}
    <memory unit='MiB'>64</memory><vcpu>1</vcpu>
    <os><type arch='${type === 'test' ? 'i686' : 'x86_64'}'${type === 'qemu' ? " machine='pc'" : ''}>hvm</type></os>
    <devices>${type === 'qemu' ? "<emulator>/usr/bin/qemu-system-x86_64</emulator><memballoon model='virtio'/>" : ''}
      <interface type='user'><model type='virtio'/></interface>
    </devices></domain>`;
}

/** Writes a domain's XML where virsh reads it. */
export function writeDomain(libvirt: RunningLibvirt, options: Parameters<typeof domainXml>[0]): string {
  const path = join(libvirt.folder, `${options.name}.xml`);
  writeFileSync(path, domainXml(options));
  return path;
}

/** `virsh list` as a table of what is there: name and state by UUID. */
export async function listDomains(
  libvirt: RunningLibvirt,
  connect: 'test:///default' | 'qemu:///system',
): Promise<{ uuid: string; name: string; state: string }[]> {
  const uuids = (await libvirt.virsh(connect, 'list', '--all', '--uuid')).split('\n').map((line) => line.trim());
  return await Promise.all(
    uuids
      .filter((uuid) => uuid !== '')
      .map(async (uuid) => {
        const info = await libvirt.virsh(connect, 'dominfo', uuid);
        const field = (name: string): string => new RegExp(`^${name}: +(.*)$`, 'm').exec(info)?.[1]?.trim() ?? '';
        return { uuid, name: field('Name'), state: field('State') };
      }),
  );
}
