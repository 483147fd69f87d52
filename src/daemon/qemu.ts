/** The one QEMU of this installation: where it is, what it boots, who it runs as. For the daemon and the doctor alike. */
import type { ProbePlan, QemuBuild, QemuIdentity } from '#engine';
import { files } from '#platform';
import type { Installation } from '#setup';
import type { BootFiles } from './boot-files.ts';
import type { DaemonSettings } from './settings.ts';

/** systemd and other users of high uids stay below; berth's VMs have 100,000 from here, probe and templates those before. */
export const FIRST_UID = 1_600_000_000;
export const TEMPLATE_UID = FIRST_UID - 2;
const QBOOT = '/usr/share/qemu/qboot.rom';

/** BERTH_QEMU names another QEMU, for trying a newer one. */
export async function qemuBuild(boot: BootFiles): Promise<Omit<QemuBuild, 'accelerator'>> {
  return {
    binary: process.env['BERTH_QEMU'] || '/usr/bin/qemu-system-x86_64',
    firmware: (await files.exists(QBOOT)) ? QBOOT : undefined,
    kernel: boot.kernel,
    initramfs: boot.initramfs,
  };
}

/** Probes run as VMs do: a device that only root may open is of no use to them. */
export async function probePlan(
  settings: DaemonSettings,
  installation: Installation,
  boot: BootFiles,
): Promise<ProbePlan> {
  const identity: QemuIdentity | undefined = settings.isRoot
    ? { uid: FIRST_UID - 1, group: await kvmGroup() }
    : undefined;
  return { build: await qemuBuild(boot), launcher: installation.launcher, identity };
}

/** The group that may read and write /dev/kvm; undefined when there is none, or when everybody may. */
export async function kvmGroup(): Promise<number | undefined> {
  try {
    const { mode, gid } = await files.stat('/dev/kvm');
    return (mode & 0o060) === 0o060 && (mode & 0o006) !== 0o006 ? gid : undefined;
  } catch {
    return undefined;
  }
}
