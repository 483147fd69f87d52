/**
 * Cold start: from `POST create` to the first byte of the process, against bare QEMU that boots the same kernel,
 * initramfs and devices to the same byte. Pairs are interleaved and their order alternates (ABBA).
 *
 * The bare side does what cannot be left out: it spawns QEMU with the very same arguments (a tap included), speaks the
 * guest channel, and stops the clock at the first byte. It has no store, no API, no log, no lease, no jail.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { request } from 'node:http';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GuestChannel, type QemuBuild, qemuArguments } from '#engine';
import { connectUnix, runChecked } from '#platform';
import { installationAt } from '#setup';
import { layOutRootDisk } from '../../src/engine/root-disk.ts';
import { startTestDaemon, type TestDaemon } from '../harness/daemon.ts';
import { createVm, startVm } from '../harness/vm-client.ts';
import { median, quantile, type Row } from './report.ts';

const GREETING = 'first byte';
const MEMORY_BYTES = 256 * 1024 * 1024;

export interface StartBenchOptions {
  readonly pairs: number;
  readonly vms: number;
  readonly stopped: number;
}

export async function benchStart(options: StartBenchOptions): Promise<Row[]> {
  // Both sides boot their kernel: what a template saves is measured by `start`.
  const daemon = await startTestDaemon({ env: { BERTH_TEMPLATES: 'off' } });
  const bare = await prepareBare(daemon);
  let rows: Row[];
  try {
    // The accelerator's verdict and the disk template are made once per daemon; one uncounted pair warms both sides.
    const pairs: { berthMs: number; bareMs: number }[] = [];
    for (let pair = -1; pair < options.pairs; pair += 1) {
      const berthFirst = pair % 2 === 0;
      const early = berthFirst ? await berthStart(daemon, pair) : await bare.start();
      const late = berthFirst ? await bare.start() : await berthStart(daemon, pair);
      const [berthMs, bareMs] = berthFirst ? [early, late] : [late, early];
      if (pair >= 0) pairs.push({ berthMs, bareMs });
      process.stderr.write(
        `\rcold start: pair ${pair + 1}/${options.pairs}: berth ${berthMs.toFixed(0)} ms, bare ${bareMs.toFixed(0)} ms   `,
      );
    }
    process.stderr.write('\n');
    const ratio = median(pairs.map((pair) => pair.berthMs / pair.bareMs));
    const berth = pairs.map((pair) => pair.berthMs);
    rows = [
      {
        measure: `cold create + start → first byte ÷ bare QEMU, median of ${pairs.length} pairs`,
        value: ratio.toFixed(3),
        limit: '≤ 1.10',
        holds: ratio <= 1.1,
      },
      { measure: 'berth, median / p99', value: `${median(berth).toFixed(0)} / ${quantile(berth, 0.99).toFixed(0)} ms` },
      { measure: 'bare QEMU, median', value: `${median(pairs.map((pair) => pair.bareMs)).toFixed(0)} ms` },
    ];
    rows.push(...(await memoryOfManyVms(daemon, options.vms)));
    rows.push(...(await listOfManyVms(daemon, options.stopped)));
    rows.push(...sizes());
  } catch (error) {
    bare.close();
    await daemon.dispose();
    throw error;
  }
  bare.close();
  const leaks = await daemon.dispose();
  if (leaks.length > 0) throw new Error(`the benchmark left behind: ${leaks.join(', ')}`);
  return rows;
}

/** Milliseconds from `POST create` to the first byte on an attached connection; the byte is checked. */
async function berthStart(daemon: TestDaemon, pair: number): Promise<number> {
  const name = `bench${pair + 1}`;
  const began = performance.now();
  const made = await daemon.call('POST', `/containers/create?name=${name}`, {
    Image: 'berth/busybox',
    Cmd: ['echo', GREETING],
  });
  if (made.status !== 201) throw new Error(JSON.stringify(made.body));
  const first = await attach(daemon.socket, name);
  const [bytes] = await Promise.all([first.firstBytes, startVm(daemon, name)]);
  const ms = first.at() - began;
  if (!bytes.includes(GREETING)) throw new Error(`the guest said ${JSON.stringify(bytes)}`);
  await daemon.call('POST', `/containers/${name}/wait`);
  await daemon.call('DELETE', `/containers/${name}?force=1`);
  return ms;
}

function attach(socketPath: string, name: string): Promise<{ firstBytes: Promise<string>; at: () => number }> {
  return new Promise((resolve, reject) => {
    const sent = request({
      socketPath,
      method: 'POST',
      path: `/containers/${name}/attach?stream=1&stdout=1`,
      headers: { Connection: 'Upgrade', Upgrade: 'tcp' },
    });
    sent.on('error', reject);
    sent.on('upgrade', (_response, socket: Socket, head: Buffer) => {
      let at = 0;
      const firstBytes = new Promise<string>((settle) => {
        const take = (chunk: Buffer): void => {
          if (at !== 0 || chunk.length === 0) return;
          at = performance.now();
          settle(chunk.toString());
          socket.on('error', () => {});
        };
        take(head);
        socket.on('data', take);
      });
      resolve({ firstBytes, at: () => at });
    });
    sent.end();
  });
}

interface BareSide {
  start(): Promise<number>;
  close(): void;
}

async function prepareBare(daemon: TestDaemon): Promise<BareSide> {
  const folder = mkdtempSync(join(tmpdir(), 'berth-bare-'));
  chmodSync(folder, 0o711);
  const installation = installationAt(new URL('../..', import.meta.url).pathname.replace(/\/$/, ''));
  const layers = readdirSync(`${daemon.stateDir}/images/layers/sha256`, { recursive: true })
    .map((name) => `${daemon.stateDir}/images/layers/sha256/${String(name)}`)
    .filter((path) => path.endsWith('.erofs'))
    .map((path) => ({ path, sizeBytes: statSync(path).size }));
  const root = layOutRootDisk(layers);
  writeFileSync(join(folder, 'root.vmdk'), root.descriptor);
  const emptyDisk = join(folder, 'empty.img');
  writeFileSync(emptyDisk, '');
  truncateSync(emptyDisk, 10 * 2 ** 30);
  await runChecked([
    '/sbin/mkfs.ext4',
    '-q',
    '-F',
    '-b',
    '4096',
    '-J',
    'size=8',
    '-O',
    '^64bit,^metadata_csum,uninit_bg',
    '-E',
    'lazy_itable_init=1,lazy_journal_init=1',
    emptyDisk,
  ]);
  const bridge = readdirSync(join(daemon.runDir, 'dns'))
    .find((name) => name.endsWith('.hosts'))
    ?.slice(0, -'.hosts'.length);
  if (bridge === undefined) throw new Error('the test daemon has no bridge');
  const build: QemuBuild = {
    binary: '/usr/bin/qemu-system-x86_64',
    accelerator: 'tcg',
    firmware: '/usr/share/qemu/qboot.rom',
    kernel: installation.kernel,
    initramfs: installation.initramfs,
  };
  const tap = `btbare${process.pid % 10_000}`;
  await runChecked(['ip', 'tuntap', 'add', 'dev', tap, 'mode', 'tap']);
  await runChecked(['ip', 'link', 'set', tap, 'master', bridge, 'up']);
  const start = async (): Promise<number> => {
    const dataDisk = join(folder, `data-${randomBytes(4).toString('hex')}.img`);
    await runChecked(['cp', '--sparse=always', emptyDisk, dataDisk]);
    const [qmpSocket, agentSocket] = [join(folder, 'qmp'), join(folder, 'agent')];
    for (const path of [qmpSocket, agentSocket]) rmSync(path, { force: true });
    const network = { kind: 'tap' as const, descriptor: 3 };
    const args = qemuArguments(build, {
      name: 'bare',
      vcpus: 1,
      memoryBytes: MEMORY_BYTES,
      memory: 'own',
      qmpSocket,
      agentSocket,
      rootDescriptor: join(folder, 'root.vmdk'),
      dataDisk,
      network,
    });
    const netdev = args.indexOf('tap,id=net0,fd=3');
    args[netdev] = `tap,id=net0,ifname=${tap},script=no,downscript=no`;
    const began = performance.now();
    const qemu = spawn(build.binary, args, { stdio: 'ignore' });
    try {
      return (await firstByteOf(agentSocket, root.extents)) - began;
    } finally {
      await ended(qemu);
      rmSync(dataDisk);
    }
  };
  return {
    start,
    close: () => {
      rmSync(folder, { recursive: true, force: true });
      void runChecked(['ip', 'link', 'delete', tap]);
    },
  };
}

async function firstByteOf(
  agentSocket: string,
  layers: readonly { firstSector: number; sectors: number }[],
): Promise<number> {
  const stream = await connectUnix(agentSocket, 30_000);
  let settle: (at: number) => void = () => {};
  const first = new Promise<number>((resolve) => {
    settle = resolve;
  });
  const channel = new GuestChannel(stream, {
    onOutput: ({ data }) => {
      const at = performance.now();
      if (!data.includes(GREETING)) throw new Error(`the guest said ${data.toString()}`);
      settle(at);
    },
    onExited: () => {},
    onLog: () => {},
    onSynced: () => {},
    onClosed: () => {},
  });
  await channel.hello({ rejoin: false, deadlineMs: 60_000 });
  const network = {
    mac: '02:42:ac:1e:03:fe',
    address: '172.30.3.254',
    prefixLength: 22,
    gateway: '172.30.0.1',
    mtu: 1500,
  };
  await channel.configure({
    hostname: 'bare',
    hosts: '',
    resolvConf: '',
    layers,
    network,
    epochNs: BigInt(Date.now()) * 1_000_000n,
    entropy: randomBytes(64),
    shmBytes: 64 * 2 ** 20,
  });
  await channel.start(0, { args: ['echo', GREETING], env: ['PATH=/bin'], stdin: false });
  const at = await first;
  channel.close();
  return at;
}

function ended(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    child.once('exit', () => resolve());
    child.kill('SIGKILL');
  });
}

/** Resident memory of berthd while VMs run; each proves that it lives by its own kernel. */
async function memoryOfManyVms(daemon: TestDaemon, count: number): Promise<Row[]> {
  const names = Array.from({ length: count }, (_, index) => `many${index}`);
  for (let at = 0; at < names.length; at += 2) {
    await Promise.all(
      names.slice(at, at + 2).map(async (name) => {
        await createVm(daemon, name, 'sleep 100000');
        await startVm(daemon, name);
      }),
    );
    process.stderr.write(`\r${Math.min(at + 2, count)} of ${count} VMs run   `);
  }
  process.stderr.write('\n');
  const { body } = await daemon.call('GET', '/containers/json');
  const running = (body as unknown[]).length;
  const rss = Number(/VmRSS:\s+([0-9]+)/.exec(readFileSync(`/proc/${daemon.pid}/status`, 'utf8'))?.[1]) / 1024;
  for (const name of names) await daemon.call('DELETE', `/containers/${name}?force=1`);
  return [
    {
      measure: `berthd's resident memory with ${running} running VMs`,
      value: `${rss.toFixed(0)} MB`,
      limit: '≤ 150 MB (20 VMs)',
      holds: rss <= 150 && running >= Math.min(20, count),
    },
  ];
}

async function listOfManyVms(daemon: TestDaemon, count: number): Promise<Row[]> {
  for (let index = 0; index < count; index += 1) await createVm(daemon, `stopped${index}`, 'true');
  const times: number[] = [];
  let listed = 0;
  for (let round = 0; round < 60; round += 1) {
    const began = performance.now();
    const { body } = await daemon.call('GET', '/containers/json?all=1');
    times.push(performance.now() - began);
    listed = (body as unknown[]).length;
  }
  const ms = median(times.slice(10));
  for (let index = 0; index < count; index += 1) await daemon.call('DELETE', `/containers/stopped${index}`);
  return [
    {
      measure: `GET /containers/json?all=1 with ${listed} stopped VMs, client's parsing included, median`,
      value: `${ms.toFixed(1)} ms`,
      limit: '≤ 20 ms (1,000 VMs)',
      holds: ms <= 20 && listed >= count,
    },
  ];
}

function sizes(): Row[] {
  const { guestProgram, initramfs } = installationAt(new URL('../..', import.meta.url).pathname.replace(/\/$/, ''));
  const [program, archive] = [statSync(guestProgram).size, statSync(initramfs).size];
  return [
    {
      measure: 'guest program',
      value: `${(program / 1024).toFixed(0)} KiB`,
      limit: '≤ 200 KB',
      holds: program <= 200_000,
    },
    {
      measure: 'initramfs',
      value: `${(archive / 1024 / 1024).toFixed(1)} MiB`,
      limit: '≤ 6 MB',
      holds: archive <= 6_000_000,
    },
  ];
}
