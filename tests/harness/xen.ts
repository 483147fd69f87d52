/**
 * A real Xen 4.17 with a Debian kernel as dom0, in QEMU without hardware virtualization, reached by real ssh. Its guests are
 * real PV guests, and PVH guests by the SVM with nested paging that QEMU emulates. HVM guests would need a QEMU in dom0, which
 * is left out.
 *
 * `xl` is the outside view: what `run` types at dom0 is no part of berth.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { appendFileSync, copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { reservePort, runChecked } from '#platform';
import { packInitramfs } from '../../src/setup/initramfs.ts';
import { eventually } from './vm-client.ts';
import { xenImage } from './xen/image.ts';

const START_DEADLINE_MS = 90_000;

export interface GuestShape {
  readonly uuid?: string;
  /** /dev/ramN of dom0, 16 MiB. */
  readonly disk?: 0 | 1 | 2 | 3;
  readonly mac?: string;
  readonly vcpus?: number;
  /** PVH runs by the SVM that QEMU emulates, slowly. */
  readonly type?: 'pv' | 'pvh';
}

export interface RunningXen {
  readonly port: number;
  readonly folder: string;
  /** Private key that dom0 lets in. */
  readonly keyPath: string;
  /** dom0's host key, as its console said it. */
  readonly knownHostsPath: string;
  readonly pid: number;
  /** A command line for dom0's shell. @throws with its words when it fails. */
  run(command: string): Promise<string>;
  /** Writes a configuration for `xl create` into dom0; nothing runs. @returns its path there */
  define(name: string, shape?: GuestShape): Promise<string>;
  /** SIGKILL. Safe to call twice. */
  kill(): Promise<void>;
}

export async function startXen(): Promise<RunningXen> {
  const image = await xenImage();
  const folder = mkdtempSync(join(tmpdir(), 'berth-xen-'));
  const keyPath = join(folder, 'key');
  await runChecked(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', 'tests', '-f', keyPath]);
  const initramfs = join(folder, 'dom0.cpio');
  copyFileSync(image.dom0, initramfs);
  const keys = { path: 'root/.ssh/authorized_keys', mode: 0o100600, data: readFileSync(`${keyPath}.pub`) };
  appendFileSync(initramfs, packInitramfs([keys]));
  const reserved = await reservePort('tcp', '127.0.0.1', 0);
  const { port } = reserved;
  await reserved.release();
  const qemu = spawn('qemu-system-x86_64', qemuArguments({ ...image, initramfs, port }), {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = new Promise<void>((resolve) => qemu.once('exit', () => resolve()));
  const kill = async (): Promise<void> => {
    qemu.kill('SIGKILL');
    await ended;
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    const hostKey = await untilReady(qemu);
    const knownHostsPath = join(folder, 'known_hosts');
    writeFileSync(knownHostsPath, `[127.0.0.1]:${port} ${hostKey}\n`);
    const run = async (command: string): Promise<string> => {
      const options = ['BatchMode=yes', 'StrictHostKeyChecking=yes', `UserKnownHostsFile=${knownHostsPath}`];
      const flags = ['-F', 'none', '-i', keyPath, '-p', String(port), ...options.flatMap((one) => ['-o', one])];
      return (await runChecked(['ssh', ...flags, 'root@127.0.0.1', command])).stdout;
    };
    const pid = qemu.pid ?? -1;
    return { port, folder, keyPath, knownHostsPath, pid, run, define: (name, shape) => define(run, name, shape), kill };
  } catch (error) {
    await kill();
    throw error;
  }
}

function qemuArguments(parts: { xen: string; kernel: string; initramfs: string; port: number }): string[] {
  // -cpu max has features that this Xen hands on to dom0, which then dies of them.
  return [
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...['-machine', 'pc,accel=tcg', '-cpu', 'qemu64,+svm,+npt,+rdrand', '-smp', '2', '-m', '1536'],
    ...[
      '-kernel',
      parts.xen,
      '-append',
      'dom0_mem=640M,max:640M dom0_max_vcpus=1 console=com1 com1=115200,8n1 noreboot',
    ],
    ...[
      '-initrd',
      `${parts.kernel} console=hvc0 quiet panic=-1 cryptomgr.notests random.trust_cpu=on,${parts.initramfs}`,
    ],
    ...['-netdev', `user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:${parts.port}-10.0.2.15:22`],
    ...['-device', 'e1000,netdev=net', '-serial', 'stdio'],
  ];
}

/** @returns the host key that dom0 tells on its console. */
async function untilReady(qemu: ChildProcess): Promise<string> {
  let words = '';
  for (const stream of [qemu.stdout, qemu.stderr])
    stream?.on('data', (chunk: Buffer) => {
      words = (words + chunk.toString()).slice(-65_536);
    });
  return await eventually('dom0 is ready', START_DEADLINE_MS, async () => {
    const failed = /BERTH-FAILED .*/.exec(words)?.[0];
    if (failed !== undefined || qemu.exitCode !== null)
      throw new Error(`Xen did not come up: ${failed ?? `QEMU ended with ${qemu.exitCode}`}:\n${words.slice(-4_000)}`);
    if (!words.includes('BERTH-READY')) return undefined;
    return /BERTH-KEY (ssh-\S+ \S+)/.exec(words)?.[1];
  }).catch((error: unknown) => {
    throw new Error(`${String(error)}\n${words.slice(-4_000)}`);
  });
}

async function define(run: RunningXen['run'], name: string, shape: GuestShape = {}): Promise<string> {
  const path = `/root/${Buffer.from(name).toString('hex')}.cfg`;
  const { uuid, disk, mac, vcpus = 1, type = 'pv' } = shape;
  const lines = [
    `name = "${name.replace(/["\\]/g, '\\$&').replaceAll('\n', '\\n')}"`,
    `type = "${type}"`,
    'kernel = "/guest/kernel"',
    'ramdisk = "/guest/initramfs"',
    'extra = "console=hvc0 quiet panic=-1 cryptomgr.notests"',
    'memory = 96',
    `vcpus = ${vcpus}`,
    ...(uuid === undefined ? [] : [`uuid = "${uuid}"`]),
    ...(disk === undefined
      ? []
      : [`disk = [ "format=raw,vdev=xvda,access=rw,script=berth-block,target=/dev/ram${disk}" ]`]),
    ...(mac === undefined ? [] : [`vif = [ "mac=${mac},bridge=xenbr0,script=berth-vif" ]`]),
  ];
  const text = Buffer.from(`${lines.join('\n')}\n`).toString('base64');
  await run(`echo ${text} | base64 -d >${path}`);
  return path;
}
