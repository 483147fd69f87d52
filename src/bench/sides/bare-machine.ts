/**
 * What both bare sides have in common: the same kernel, initramfs, devices and layers as a VM of berth, a tap on the
 * same bridge, a writable disk from the same kind of empty file system. No engine: no store, API, log, lease or jail.
 */
import { BerthError, MIB, UndoStack } from '#base';
import { GuestChannel, layOutRootDisk, type QemuBuild, qemuArguments } from '#engine';
import { connectUnix, files, killAndWait, monotonicMs, nowMs, processInfo, runChecked, spawnDaemon } from '#platform';
import type { BenchRun } from '../bench-run.ts';
import type { PrivateBerth } from './berth.ts';

/** As a VM of berth has when nothing is said. */
export const MEMORY_BYTES = 256 * MIB;
const DISK_BYTES = 10 * 1024 * MIB;
const BOOT_DEADLINE_MS = 60_000;
const SECTOR_BYTES = 512;
const MAC = '02:42:ac:1e:03:fe';
/** The last address of berth's default subnet: berth gives them out from the first on. */
const NETWORK = { mac: MAC, address: '172.30.3.254', prefixLength: 22, gateway: '172.30.0.1', mtu: 1500 };
const QBOOT = '/usr/share/qemu/qboot.rom';

export interface BareMachine {
  readonly folder: string;
  /** The root disk as one plain file, for what a VMDK descriptor cannot do. */
  readonly rawRoot: string;
  readonly qemuVersion: string;
  /** Spawns QEMU. `argv` may change the arguments a VM of berth has. */
  spawn(argv: (args: readonly [string, ...string[]]) => readonly [string, ...string[]]): Promise<BareQemu>;
  close(): Promise<void>;
}

export interface BareQemu {
  readonly pid: number;
  /** Monotonic milliseconds right before the spawn: copying the disk came before. */
  readonly spawnedAtMs: number;
  readonly qmpSocket: string;
  readonly agentSocket: string;
  /** A channel on which the guest has said hello; lines of its first process go to `onOutput`. */
  greet(options: { readonly rejoin: boolean; readonly onOutput: (text: string) => void }): Promise<GuestChannel>;
  /** Configures the guest and starts its first process. */
  begin(channel: GuestChannel, args: readonly string[]): Promise<void>;
  end(): Promise<void>;
}

/** @throws bench.bare (unavailable) when berth's daemon has not what is copied. */
export async function openBareMachine(run: BenchRun, berth: PrivateBerth): Promise<BareMachine> {
  const undo = new UndoStack();
  const folder = await files.makeTemporaryFolder('berth-bench-bare-');
  undo.push(() => files.rm(folder, { recursive: true, force: true }));
  const close = () => undo.unwind(() => {});
  try {
    const layers = await layersOf(berth.stateFolder);
    const root = layOutRootDisk(layers);
    await files.writeFileAtomic(`${folder}/root.vmdk`, root.descriptor);
    await concatenate(`${folder}/root.raw`, layers, root.extents);
    await makeEmptyDisk(`${folder}/empty.img`);
    const tap = `btbare${process.pid % 100_000}`;
    await runChecked(['ip', 'tuntap', 'add', 'dev', tap, 'mode', 'tap']);
    undo.push(async () => {
      await runChecked(['ip', 'link', 'delete', tap]);
    });
    await runChecked(['ip', 'link', 'set', tap, 'master', await bridgeOf(berth), 'up']);
    const build = await buildOf(run, berth);
    const { stdout } = await runChecked([build.binary, '--version']);
    let count = 0;
    return {
      folder,
      rawRoot: `${folder}/root.raw`,
      qemuVersion: /version (\S+)/.exec(stdout)?.[1] ?? 'unknown',
      close,
      spawn: async (argv) => {
        count += 1;
        const [qmpSocket, agentSocket] = [`${folder}/qmp${count}`, `${folder}/agent${count}`];
        const dataDisk = `${folder}/data${count}.img`;
        await runChecked(['cp', '--sparse=always', `${folder}/empty.img`, dataDisk]);
        const args = qemuArguments(build, {
          ...{ name: 'bare', vcpus: 1, memoryBytes: MEMORY_BYTES, qmpSocket, agentSocket, dataDisk },
          memory: 'own',
          rootDescriptor: `${folder}/root.vmdk`,
          network: { kind: 'tap', descriptor: 3 },
        }).map((word) => (word === 'tap,id=net0,fd=3' ? `tap,id=net0,ifname=${tap},script=no,downscript=no` : word));
        const spawnedAtMs = monotonicMs();
        const { pid } = await spawnDaemon(argv([build.binary, ...args]), { outputPath: `${folder}/qemu.log` });
        const named = { pid, startTicks: (await processInfo(pid))?.startTicks ?? -1 };
        return {
          pid,
          spawnedAtMs,
          qmpSocket,
          agentSocket,
          greet: (options) => greet(agentSocket, options),
          begin: (channel, command) => begin(channel, root.extents, command),
          end: async () => {
            await killAndWait(named);
            for (const path of [dataDisk, qmpSocket, agentSocket]) await files.rm(path, { force: true });
          },
        };
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/**
 * Starts `uname -r` as the guest's first process.
 *
 * @returns what it printed, and when its first byte came (monotonic milliseconds).
 */
export async function firstLineOf(
  qemu: BareQemu,
  options: { readonly rejoin: boolean },
): Promise<{ readonly line: string; readonly atMs: number }> {
  let settle: (first: { line: string; atMs: number }) => void = () => {};
  const first = new Promise<{ line: string; atMs: number }>((resolve) => {
    settle = resolve;
  });
  const channel = await qemu.greet({
    ...options,
    onOutput: (text) => settle({ line: text.trimEnd(), atMs: monotonicMs() }),
  });
  try {
    await qemu.begin(channel, ['uname', '-r']);
    return await first;
  } finally {
    channel.close();
  }
}

async function greet(
  agentSocket: string,
  options: { readonly rejoin: boolean; readonly onOutput: (text: string) => void },
): Promise<GuestChannel> {
  const stream = await connectUnix(agentSocket, BOOT_DEADLINE_MS);
  const channel = new GuestChannel(stream, {
    onOutput: ({ data }) => options.onOutput(data.toString()),
    onExited: () => {},
    onLog: () => {},
    onSynced: () => {},
    onClosed: () => {},
  });
  await channel.hello({ rejoin: options.rejoin, deadlineMs: BOOT_DEADLINE_MS });
  return channel;
}

async function begin(
  channel: GuestChannel,
  layers: readonly { readonly firstSector: number; readonly sectors: number }[],
  args: readonly string[],
): Promise<void> {
  await channel.configure({
    ...{ hostname: 'bare', hosts: '', resolvConf: '', layers, network: NETWORK, shmBytes: 64 * MIB },
    epochNs: BigInt(nowMs()) * 1_000_000n,
    entropy: crypto.getRandomValues(Buffer.alloc(64)),
  });
  await channel.start(0, { args, env: ['PATH=/bin'], stdin: false });
}

async function layersOf(stateFolder: string): Promise<{ path: string; sizeBytes: number }[]> {
  const store = `${stateFolder}/images/layers/sha256`;
  const found: { path: string; sizeBytes: number }[] = [];
  for (const name of await files.readdir(store, { recursive: true })) {
    const path = `${store}/${name}`;
    if (name.endsWith('.erofs')) found.push({ path, sizeBytes: (await files.stat(path)).size });
  }
  return found;
}

/** Each layer at its place on one plain disk. */
async function concatenate(
  path: string,
  layers: readonly { readonly path: string }[],
  extents: readonly { readonly firstSector: number }[],
): Promise<void> {
  const handle = await files.open(path, 'w');
  try {
    for (const [index, { firstSector }] of extents.entries()) {
      const bytes = await files.readFile(layers[index]?.path ?? '');
      await handle.write(bytes, 0, bytes.length, firstSector * SECTOR_BYTES);
    }
  } finally {
    await handle.close();
  }
}

/** As berth's own writable disk, which a bare side has to mount just as well. */
async function makeEmptyDisk(path: string): Promise<void> {
  const handle = await files.open(path, 'w');
  await handle.truncate(DISK_BYTES);
  await handle.close();
  await runChecked([
    ...(['/sbin/mkfs.ext4', '-q', '-F', '-b', '4096', '-J', 'size=8'] as const),
    ...['-O', '^64bit,^metadata_csum,uninit_bg', '-E', 'lazy_itable_init=1,lazy_journal_init=1', path],
  ]);
}

async function bridgeOf(berth: PrivateBerth): Promise<string> {
  const name = (await files.readdir(`${berth.runFolder}/dns`)).find((one) => one.endsWith('.hosts'));
  if (name !== undefined) return name.slice(0, -'.hosts'.length);
  throw new BerthError('unavailable', 'bench.bare', 'the benchmark’s own berth daemon has no bridge', {
    hint: 'bare QEMU is compared with VMs that have a tap: run as root',
  });
}

/** The accelerator is the one berth's daemon has chosen: the sides differ in nothing but the engine. */
async function buildOf(run: BenchRun, berth: PrivateBerth): Promise<QemuBuild> {
  const info = await berth.api.call<{ DriverStatus: [string, string][] }>('GET', '/info');
  const chosen = info.DriverStatus.find(([name]) => name === 'Accelerator')?.[1];
  return {
    binary: '/usr/bin/qemu-system-x86_64',
    accelerator: chosen === 'kvm' ? 'kvm' : 'tcg',
    firmware: (await files.exists(QBOOT)) ? QBOOT : undefined,
    kernel: run.installation.kernel,
    initramfs: run.installation.initramfs,
  };
}
