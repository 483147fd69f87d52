/**
 * The QEMU command line of an OCI guest: a value, built from values, golden-tested, spawned by someone else.
 */
import { MIB } from '#base';
import type { PortBinding } from './model.ts';

export interface QemuBuild {
  readonly binary: string;
  readonly accelerator: 'kvm' | 'tcg';
  /** -bios value: qboot skips what SeaBIOS probes for and a direct kernel boot never uses (about 120 ms under TCG). */
  readonly firmware: string | undefined;
  readonly kernel: string;
  readonly initramfs: string;
}

export type QemuNetwork =
  | { readonly kind: 'bridge'; readonly tapDescriptor: number; readonly mac: string }
  | { readonly kind: 'user'; readonly mac: string; readonly address: string; readonly ports: readonly PortBinding[] };

export interface QemuRun {
  /** Shown by ps and `info name`; holds the VM's id. */
  readonly name: string;
  readonly vcpus: number;
  readonly memoryBytes: number;
  readonly qmpSocket: string;
  readonly agentSocket: string;
  /** VMDK descriptor; absent for an image without layers. */
  readonly rootDescriptor: string | undefined;
  readonly dataDisk: string;
  readonly network: QemuNetwork | undefined;
}

/**
 * Why each word is there (measured under TCG, 2026-11-21, decisions/0001): `cryptomgr.notests`, `no_timer_check`,
 * `8250.nr_uarts=1` and `rcupdate.rcu_expedited=1` take about 300 ms off a cold boot; `mitigations=off` is safe for the
 * host, since it concerns only the guest against its own processes, and only under TCG, which does not speculate.
 *
 * The rest is idle time (decisions/0008): `tsc=reliable` holds under TCG alone, where QEMU gives all processors one
 * counter that never goes back; `psi=0` ends a wake-up every 2 s.
 */
export function kernelArguments(accelerator: 'kvm' | 'tcg'): string[] {
  return [
    'console=ttyS0',
    'quiet',
    'panic=-1',
    'reboot=t',
    'rdinit=/init',
    'cryptomgr.notests',
    'random.trust_cpu=on',
    '8250.nr_uarts=1',
    'no_timer_check',
    'audit=0',
    'rcupdate.rcu_expedited=1',
    ...(accelerator === 'tcg' ? ['mitigations=off', 'tsc=reliable', 'psi=0'] : []),
  ];
}

/**
 * How many MiB of translated code TCG keeps (decisions/0008). QEMU's own choice is 1 GiB, and every VM fills what it is
 * given: a guest that only started has used 24 to 28 MiB, and 16 serve a shell as well. A sixteenth of the guest's memory,
 * since bigger guests run bigger programs; a region of 2 MiB and some to spare for each processor.
 */
function translationMib(vcpus: number, memoryBytes: number): number {
  return Math.min(256, Math.max(16, 8 * vcpus, Math.floor(memoryBytes / MIB / 16)));
}

/** The machine itself, without kernel arguments and devices: what a probe and a VM have in common. */
export function machineArguments(build: QemuBuild, vcpus: number, memoryBytes: number): string[] {
  const machine = `q35,smm=off,i8042=off,vmport=off,sata=off,usb=off,graphics=off`;
  const accelerator = build.accelerator === 'kvm' ? 'kvm' : `tcg,tb-size=${translationMib(vcpus, memoryBytes)}`;
  // 5-level page tables make every walk of TCG's software MMU longer and serve no guest of this size.
  const cpu = build.accelerator === 'kvm' ? 'host' : 'max,la57=off';
  return [
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    ...['-machine', machine, '-accel', accelerator, '-cpu', cpu],
    ...['-smp', String(vcpus), '-m', `${Math.ceil(memoryBytes / MIB)}M`],
    ...(build.firmware === undefined ? [] : ['-bios', build.firmware]),
    ...['-kernel', build.kernel, '-initrd', build.initramfs],
  ];
}

export function qemuArguments(build: QemuBuild, run: QemuRun): string[] {
  const disk = (options: Record<string, unknown>): string[] => ['-blockdev', JSON.stringify(options)];
  return [
    ...['-name', `${run.name},debug-threads=on`],
    ...machineArguments(build, run.vcpus, run.memoryBytes),
    // A guest that powers off or crashes leaves QEMU waiting, so that its console can still be read.
    '-no-shutdown',
    ...['-append', kernelArguments(build.accelerator).join(' ')],
    ...['-chardev', `socket,id=qmp,path=${run.qmpSocket},server=on,wait=off`, '-mon', 'chardev=qmp,mode=control'],
    // A ring, so that a guest that floods its console fills 64 KiB of memory and no disk.
    ...['-chardev', 'ringbuf,id=console,size=65536', '-serial', 'chardev:console'],
    ...['-device', 'virtio-serial-pci,id=serial'],
    ...['-chardev', `socket,id=agent,path=${run.agentSocket},server=on,wait=off`],
    ...['-device', 'virtserialport,bus=serial.0,chardev=agent,name=berth.agent'],
    ...(run.rootDescriptor === undefined
      ? []
      : [
          ...disk({
            driver: 'vmdk',
            'node-name': 'root',
            'read-only': true,
            file: { driver: 'file', filename: run.rootDescriptor, 'read-only': true },
          }),
          ...['-device', 'virtio-blk-pci,drive=root,serial=root'],
        ]),
    ...disk({
      driver: 'raw',
      'node-name': 'data',
      discard: 'unmap',
      'detect-zeroes': 'unmap',
      file: { driver: 'file', filename: run.dataDisk, discard: 'unmap' },
    }),
    // A full host disk stops the VM instead of breaking its file system; it goes on after `unpause`.
    ...['-device', 'virtio-blk-pci,drive=data,serial=data,discard=on,werror=enospc,rerror=report'],
    ...(run.network === undefined
      ? []
      : [
          ...['-netdev', netdevOf(run.network)],
          ...['-device', `virtio-net-pci,netdev=net0,mac=${run.network.mac},romfile=`],
        ]),
  ];
}

function netdevOf(network: QemuNetwork): string {
  if (network.kind === 'bridge') return `tap,id=net0,fd=${network.tapDescriptor}`;
  const forwards = network.ports.map(
    (port) => `hostfwd=${port.protocol}:${port.hostIp}:${port.hostPort}-${network.address}:${port.guestPort}`,
  );
  return ['user,id=net0,ipv6=off', ...forwards].join(',');
}
