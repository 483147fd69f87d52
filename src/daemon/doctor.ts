/**
 * What this machine can do for VMs, proved rather than assumed: a guest is booted, a bridge is made, a rule is loaded,
 * and all of it is taken away again. Needs no daemon.
 */
import { BerthError, formatDecimalBytes, GIB, MIB, messageOf } from '#base';
import { type AcceleratorVerdict, judgeAccelerators, probeAccelerators, verdictKey } from '#engine';
import { files, hostFacts, nowMs, runChecked, runProcess } from '#platform';
import { debianPackages, type Installation, installCommand, missingPackages } from '#setup';
import { publishBootFiles } from './boot-files.ts';
import { probePlan } from './qemu.ts';
import type { DaemonSettings } from './settings.ts';

export interface Finding {
  readonly name: string;
  readonly verdict: 'ok' | 'warning' | 'failed';
  /** What was found, and why it matters. */
  readonly found: string;
  readonly remedy?: string;
}

export interface Diagnosis {
  readonly canRunVms: boolean;
  readonly accelerator: string | null;
  readonly findings: readonly Finding[];
}

const QEMU = '/usr/bin/qemu-system-x86_64';
const TCG_MEANING =
  'software emulation: slow, and no isolation between tenants, since QEMU does not hold emulated guests to be a security boundary';
/** Below this an image of a gigabyte and a few disks do not fit. */
const LITTLE_DISK_BYTES = 5 * GIB;
/** A handful of VMs of 256 MiB. */
const LITTLE_MEMORY_BYTES = 1 * GIB;
/** The year berth was first released in: a clock before it is wrong, and TLS to registries fails. */
const FIRST_YEAR = 2026;

/** @param fresh - probes accelerators again, whatever was found before. */
export async function diagnose(
  settings: DaemonSettings,
  installation: Installation,
  fresh: boolean,
): Promise<Diagnosis> {
  const early = [await userFinding(settings), await packageFinding(), await bootFinding(installation)];
  const qemu = await qemuFinding();
  const machine = await acceleratorFindings(settings, installation, fresh);
  const network = settings.isRoot
    ? await networkFindings()
    : [
        {
          name: 'network',
          verdict: 'warning' as const,
          found: 'QEMU’s own user-mode stack: VMs reach out and publish ports, but not one another',
          remedy: 'run the daemon as root for a bridge',
        },
      ];
  const findings = [
    ...early,
    qemu,
    ...machine.findings,
    await channelFinding(),
    ...network,
    await diskFinding(settings.stateFolder),
    await memoryFinding(),
    clockFinding(),
  ];
  const needed = ['guest kernel', 'qemu', 'packages'];
  const isReady = findings.every((one) => one.verdict !== 'failed' || !needed.includes(one.name));
  return { canRunVms: isReady && machine.chosen !== undefined, accelerator: machine.chosen ?? null, findings };
}

async function userFinding(settings: DaemonSettings): Promise<Finding> {
  if (settings.isRoot)
    return { name: 'user', verdict: 'ok', found: 'root: each VM gets a user of its own and a network' };
  const device = await files.access('/dev/kvm', files.fsConstants.R_OK | files.fsConstants.W_OK).then(
    () => 'may open /dev/kvm',
    () => 'may not open /dev/kvm, or there is none',
  );
  return {
    name: 'user',
    verdict: 'warning',
    found: `uid ${process.getuid?.() ?? '?'}, ${device}: VMs run under this user, with QEMU’s own network`,
    remedy: 'run berth as root, or add the user to the group that owns /dev/kvm',
  };
}

async function packageFinding(): Promise<Finding> {
  const missing = await missingPackages(debianPackages);
  if (missing.length === 0) return { name: 'packages', verdict: 'ok', found: `all ${debianPackages.length} are there` };
  const names = missing.map((one) => `${one.name} (${one.why})`).join(', ');
  return { name: 'packages', verdict: 'failed', found: `missing: ${names}`, remedy: installCommand(missing) };
}

async function bootFinding(installation: Installation): Promise<Finding> {
  const name = 'guest kernel';
  for (const path of [installation.kernel, installation.initramfs]) {
    if (!(await files.exists(path)))
      return { name, verdict: 'failed', found: `${path} is not there`, remedy: 'run "berth setup"' };
  }
  const release = ((await files.readTextIfExists(installation.kernelRelease)) ?? 'unknown').trim();
  const { size } = await files.stat(installation.initramfs);
  return { name, verdict: 'ok', found: `Linux ${release}, initramfs of ${formatDecimalBytes(size)}` };
}

async function qemuFinding(): Promise<Finding> {
  try {
    const { stdout } = await runChecked([QEMU, '--version']);
    const version = /version ([0-9.]+)/.exec(stdout)?.[1] ?? 'unknown';
    return { name: 'qemu', verdict: 'ok', found: `${QEMU} ${version}` };
  } catch (error) {
    return { name: 'qemu', verdict: 'failed', found: messageOf(error), remedy: 'apt-get install qemu-system-x86' };
  }
}

async function acceleratorFindings(
  settings: DaemonSettings,
  installation: Installation,
  fresh: boolean,
): Promise<{ readonly chosen: string | undefined; readonly findings: Finding[] }> {
  let verdict: AcceleratorVerdict;
  try {
    await files.mkdir(settings.stateFolder, { recursive: true, mode: 0o711 });
    const boot = await publishBootFiles(installation, settings.stateFolder);
    const plan = await probePlan(settings, installation, boot);
    verdict = fresh
      ? await probeAccelerators(plan, await verdictKey(plan))
      : await judgeAccelerators(plan, `${settings.stateFolder}/accelerators.json`);
  } catch (error) {
    const remedy = error instanceof BerthError ? error.hint : undefined;
    const finding: Finding = { name: 'accelerator', verdict: 'failed', found: messageOf(error) };
    return {
      chosen: undefined,
      findings: [remedy === undefined || /doctor/.test(remedy) ? finding : { ...finding, remedy }],
    };
  }
  const when = new Date(verdict.probedAtMs).toISOString();
  const findings = verdict.probes.map((probe): Finding => {
    const name = `accelerator ${probe.accelerator}`;
    const chosen = probe.accelerator === verdict.chosen ? 'chosen; ' : '';
    if (!probe.works) {
      const remedy = /permission denied/i.test(probe.why)
        ? 'VMs run as users of their own: let a group open the device (chgrp kvm /dev/kvm; chmod 660 /dev/kvm), as Debian does'
        : probe.ms === 0
          ? 'enable virtualization in the firmware, or nested virtualization on the hypervisor below, and load kvm_intel or kvm_amd'
          : 'the device is there but no guest runs: nested virtualization of the hypervisor below is broken or incomplete';
      return { name, verdict: 'warning', found: `refused: ${probe.why}`, remedy };
    }
    if (probe.accelerator === 'tcg') {
      const isChosen = chosen !== '';
      return {
        name,
        verdict: isChosen ? 'warning' : 'ok',
        found: `${chosen}${probe.why}; ${TCG_MEANING}`,
        ...(isChosen ? { remedy: 'run VMs of one owner only, or use a host where KVM works' } : {}),
      };
    }
    return { name, verdict: 'ok', found: `${chosen}${probe.why}` };
  });
  findings.push({
    name: 'accelerator',
    verdict: 'ok',
    found: `${verdict.chosen}, proved by a guest that ran at ${when}${fresh ? '' : ' (--fresh proves it again)'}`,
  });
  return { chosen: verdict.chosen, findings };
}

async function channelFinding(): Promise<Finding> {
  const vsock = (await files.exists('/dev/vhost-vsock')) ? '/dev/vhost-vsock exists' : 'there is no /dev/vhost-vsock';
  return {
    name: 'agent channel',
    verdict: 'ok',
    found: `virtio-serial; ${vsock}, and it is not used: Node has no AF_VSOCK sockets`,
  };
}

/** Each ability is tried with a name nobody else has, and taken back. */
async function networkFindings(): Promise<Finding[]> {
  const name = `bdoc${process.pid % 100_000}`;
  const findings: Finding[] = [];
  const attempt = async (title: string, what: string, remedy: string, action: () => Promise<string>): Promise<void> => {
    try {
      findings.push({ name: title, verdict: 'ok', found: await action() });
    } catch (error) {
      findings.push({ name: title, verdict: 'failed', found: `${what}: ${messageOf(error)}`, remedy });
    }
  };
  await attempt('CAP_NET_ADMIN', 'no network can be made', 'give the container or service CAP_NET_ADMIN', async () => {
    const status = await files.readFile('/proc/self/status', 'utf8');
    const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0'}`);
    // Capability 12. @source linux/capability.h
    if (((effective >> 12n) & 1n) === 0n) throw new Error('this process does not have the capability');
    return 'this process has it';
  });
  await attempt('bridge', 'no bridge can be made', 'load the module: modprobe bridge', async () => {
    await runChecked(['ip', 'link', 'add', name, 'type', 'bridge']);
    await runChecked(['ip', 'link', 'delete', name]);
    return `made and removed one (${name})`;
  });
  await attempt('tap', 'VMs get no network card', 'load the module: modprobe tun', async () => {
    await runChecked(['ip', 'tuntap', 'add', 'dev', name, 'mode', 'tap']);
    await runChecked(['ip', 'tuntap', 'del', 'dev', name, 'mode', 'tap']);
    return '/dev/net/tun gave a tap and took it back';
  });
  await attempt(
    'nftables',
    'no NAT and no published ports',
    'apt-get install nftables; load nf_tables and nft_chain_nat',
    async () => {
      const table = `berth_doctor_${process.pid}`;
      const rules = `table ip ${table} {
  chain c {
    type nat hook postrouting priority srcnat
    ip saddr 192.0.2.0/24 masquerade
  }
}
`;
      await runChecked(['nft', '-f', '-'], { input: rules });
      await runChecked(['nft', 'delete', 'table', 'ip', table]);
      return 'loaded a NAT table and removed it';
    },
  );
  await attempt('names', 'VMs do not find each other by name', 'apt-get install dnsmasq-base', async () => {
    const { stdout } = await runChecked(['dnsmasq', '--version']);
    return `dnsmasq ${/version ([0-9.]+)/.exec(stdout)?.[1] ?? 'of an unknown version'}`;
  });
  // What an attempt that broke off half-way left.
  await runProcess(['ip', 'link', 'delete', name]).catch(() => {});
  return findings;
}

async function diskFinding(folder: string): Promise<Finding> {
  const { bavail, bsize } = await files.statfs(folder);
  const free = bavail * bsize;
  const found = `${formatDecimalBytes(free)} free for ${folder}`;
  if (free >= LITTLE_DISK_BYTES) return { name: 'disk', verdict: 'ok', found };
  return { name: 'disk', verdict: 'warning', found, remedy: 'make room, or choose another disk with --state-dir' };
}

async function memoryFinding(): Promise<Finding> {
  const text = await files.readFile('/proc/meminfo', 'utf8');
  const available = Number(/^MemAvailable:\s+([0-9]+) kB/m.exec(text)?.[1] ?? 0) * 1024;
  const { memoryBytes, cpus } = hostFacts();
  const count = Math.floor(available / (256 * MIB));
  const found = `${formatDecimalBytes(available)} of ${formatDecimalBytes(memoryBytes)} available: ${count} VMs of the usual 256 MiB at least; ${cpus} processors`;
  if (available >= LITTLE_MEMORY_BYTES) return { name: 'memory', verdict: 'ok', found };
  return { name: 'memory', verdict: 'warning', found, remedy: 'give VMs less with --memory, or stop something' };
}

function clockFinding(): Finding {
  const now = new Date(nowMs());
  const found = now.toISOString();
  if (now.getUTCFullYear() >= FIRST_YEAR) return { name: 'clock', verdict: 'ok', found };
  return {
    name: 'clock',
    verdict: 'warning',
    found: `${found}: in the past`,
    remedy: 'set the clock: registries and logs depend on it',
  };
}
