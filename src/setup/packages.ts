/** The Debian packages berth needs, each proved by a file it brings. */
import { BerthError } from '#base';
import { files, runChecked } from '#platform';

export interface DebianPackage {
  readonly name: string;
  /** Present when the package is installed. */
  readonly provides: string;
  readonly why: string;
}

export const debianPackages: readonly DebianPackage[] = [
  { name: 'qemu-system-x86', provides: '/usr/bin/qemu-system-x86_64', why: 'runs the VMs' },
  { name: 'qemu-system-data', provides: '/usr/share/qemu/qboot.rom', why: 'firmware' },
  { name: 'qemu-utils', provides: '/usr/bin/qemu-img', why: 'reads and writes disk images' },
  { name: 'e2fsprogs', provides: '/sbin/mkfs.ext4', why: 'formats writable disks' },
  { name: 'iproute2', provides: '/sbin/ip', why: 'sets up the bridge' },
  { name: 'nftables', provides: '/usr/sbin/nft', why: 'NAT and published ports' },
  { name: 'dnsmasq-base', provides: '/usr/sbin/dnsmasq', why: 'names for guests' },
  { name: 'musl-tools', provides: '/usr/bin/musl-gcc', why: 'compiles the guest program' },
  { name: 'linux-libc-dev', provides: '/usr/include/linux/if_tun.h', why: 'kernel headers for the guest program' },
  { name: 'lz4', provides: '/usr/bin/lz4', why: 'unpacks the guest kernel' },
  { name: 'busybox-static', provides: '/bin/busybox', why: 'the image berth/busybox' },
];

/** What the tests need beyond that. */
export const testPackages: readonly DebianPackage[] = [
  { name: 'docker-registry', provides: '/usr/bin/docker-registry', why: 'the registry the tests pull from' },
  { name: 'erofs-utils', provides: '/usr/bin/fsck.erofs', why: 'checks the EROFS images berth writes' },
  { name: 'gcc', provides: '/usr/bin/gcc', why: 'C unit tests under sanitizers' },
  { name: 'make', provides: '/usr/bin/make', why: 'C unit tests' },
  { name: 'bsdutils', provides: '/usr/bin/script', why: 'a terminal for the docker CLI' },
  { name: 'procps', provides: '/usr/bin/ps', why: 'looking at processes from outside' },
  {
    name: 'postgresql-15',
    provides: '/usr/lib/postgresql/15/bin/postgres',
    why: 'the ledger several collectors share',
  },
  { name: 'chromium', provides: '/usr/bin/chromium', why: 'looks at the reports' },
  { name: 'curl', provides: '/usr/bin/curl', why: 'an outside client of published ports' },
  { name: 'libvirt-daemon', provides: '/usr/sbin/libvirtd', why: 'the libvirt that discovery is tested against' },
  { name: 'libvirt-daemon-driver-qemu', provides: '/usr/bin/virt-qemu-run', why: 'libvirt with QEMU' },
  { name: 'sasl2-bin', provides: '/usr/sbin/saslpasswd2', why: 'users of a libvirt that asks for passwords' },
  {
    name: 'libsasl2-modules',
    provides: '/usr/share/doc/libsasl2-modules/copyright',
    why: 'the ways in which that libvirt asks for them',
  },
  { name: 'openssl', provides: '/usr/bin/openssl', why: 'certificates for tests of TLS' },
  { name: 'golang-go', provides: '/usr/bin/go', why: 'compiles the vSphere simulator' },
  {
    name: 'golang-github-vmware-govmomi-dev',
    provides: '/usr/share/gocode/src/github.com/vmware/govmomi/simulator/model.go',
    why: 'the vSphere simulator',
  },
  { name: 'openssh-client', provides: '/usr/bin/ssh', why: 'reaches Xen and libvirt of the tests' },
  { name: 'libvirt-clients', provides: '/usr/bin/virsh', why: "libvirt's own view, to compare with" },
];

export async function missingPackages(wanted: readonly DebianPackage[]): Promise<DebianPackage[]> {
  const present = await Promise.all(wanted.map((wanted_) => files.exists(wanted_.provides)));
  return wanted.filter((_, index) => !present[index]);
}

export interface HostIdentity {
  readonly root: boolean;
  /** Debian or a distribution that calls itself like it. */
  readonly debian: boolean;
  readonly distribution: string;
}

export async function identifyHost(): Promise<HostIdentity> {
  const text = (await files.readTextIfExists('/etc/os-release')) ?? '';
  const field = (name: string): string => new RegExp(`^${name}="?([^"\n]*)`, 'm').exec(text)?.[1] ?? '';
  return {
    root: process.getuid?.() === 0,
    debian: field('ID') === 'debian' || field('ID_LIKE').split(' ').includes('debian'),
    distribution: field('PRETTY_NAME') || 'an unknown distribution',
  };
}

/** The command a person would type. */
export function installCommand(packages: readonly DebianPackage[]): string {
  return `apt-get update && apt-get install --yes --no-install-recommends ${packages.map((one) => one.name).join(' ')}`;
}

/**
 * Installs what is missing, or says exactly what to type.
 *
 * @throws setup.needs_root (denied), setup.other_distribution (unsupported), process.failed (unavailable).
 */
export async function installPackages(
  missing: readonly DebianPackage[],
  host: HostIdentity,
  onOutput: (chunk: Buffer) => void,
): Promise<void> {
  const list = missing.map((one) => `${one.name} (${one.why})`).join(', ');
  if (!host.debian) {
    throw new BerthError(
      'unsupported',
      'setup.other_distribution',
      `this is ${host.distribution}; berth sets up Debian by itself`,
      {
        hint: `install what brings these files: ${missing.map((one) => `${one.provides} (${one.why})`).join(', ')}`,
      },
    );
  }
  if (!host.root) {
    throw new BerthError(
      'denied',
      'setup.needs_root',
      `these packages are missing and only root can install them: ${list}`,
      {
        hint: `run: sudo sh -c '${installCommand(missing)}'`,
      },
    );
  }
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C.UTF-8' };
  const deadlineMs = 15 * 60_000;
  await runChecked(['apt-get', 'update', '-q'], { env, deadlineMs, onOutput });
  const names = missing.map((one) => one.name);
  await runChecked(['apt-get', 'install', '-q', '--yes', '--no-install-recommends', ...names], {
    env,
    deadlineMs,
    onOutput,
  });
}
