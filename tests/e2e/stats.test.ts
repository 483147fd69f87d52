/** What VMs take, by the real docker CLI, by berth's own, and for Prometheus: the figures have to be those of the machine. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { runProcess } from '#platform';
import { startTestDaemon, type TestDaemon } from '../harness/daemon.ts';
import { DockerCli } from '../harness/docker-cli.ts';
import { figuresOf, parseMetrics } from '../harness/metrics.ts';
import { untilTemplate } from '../harness/supply.ts';
import { createVm, eventually, execIn, inspectVm, startVm } from '../harness/vm-client.ts';

const MIB = 2 ** 20;
const BERTH = new URL('../../berth', import.meta.url).pathname;

interface Sample {
  readonly id: string;
  readonly read: string;
  readonly cpu_stats: { readonly cpu_usage: { readonly total_usage: number }; readonly system_cpu_usage: number };
  readonly precpu_stats: { readonly system_cpu_usage?: number };
  readonly pids_stats: { readonly current?: number };
  readonly memory_stats: { readonly usage: number; readonly limit: number; readonly stats: Record<string, number> };
  readonly networks?: { readonly eth0: { readonly rx_bytes: number; readonly tx_bytes: number } };
  readonly blkio_stats: { readonly io_service_bytes_recursive: { op: string; minor: number; value: number }[] };
}

interface Memory {
  readonly GuestUsedBytes: number;
  readonly HostResidentBytes: number;
  readonly HostUniqueBytes: number;
  readonly TemplateSharedBytes: number;
}

describe('stats', () => {
  let daemon: TestDaemon;
  let docker: DockerCli;

  before(async () => {
    daemon = await startTestDaemon({ env: { BERTH_POOL: 'off' } });
    docker = new DockerCli(daemon.socket);
    await untilTemplate(daemon);
    await createVm(daemon, 'quiet', 'exec sleep 600');
    await createVm(daemon, 'stopped', 'exec sleep 600');
    await startVm(daemon, 'quiet');
  });

  after(async () => assert.deepEqual(await daemon.dispose(), [], 'nothing is left behind'));

  const sample = async (name: string, query = 'stream=0&one-shot=1'): Promise<Sample> =>
    (await daemon.call('GET', `/containers/${name}/stats?${query}`)).body as Sample;
  // Inspecting does not wait for a guest that has no time to answer: then its figure is left out.
  const memoryOf = async (name: string): Promise<Memory> =>
    await eventually('the guest says what it uses', 15_000, async () => {
      const { body } = await daemon.call('GET', `/containers/${name}/json`);
      const memory = (body as { Berth: { Memory: Memory } }).Berth.Memory;
      return memory.GuestUsedBytes !== undefined && memory;
    });

  test('docker stats shows what runs, and under -a what does not', async () => {
    const line = (await docker.ok(['stats', '--no-stream', '--format', '{{json .}}', 'quiet'])) as string;
    const row = JSON.parse(line) as Record<string, string>;
    assert.equal(row['Name'], 'quiet');
    assert.match(row['CPUPerc'] ?? '', /^[0-9.]+%$/);
    assert.match(row['MemUsage'] ?? '', /^[0-9.]+MiB \/ 256MiB$/);
    assert.match(row['PIDs'] ?? '', /^[1-9][0-9]*$/);
    const table = await docker.ok(['stats', '--no-stream', '-a']);
    assert.equal(table.split('\n').length, 3, table);
    assert.match(table, /stopped +0\.00% +0B \/ 0B/);
  });

  test('docker stats goes on until the client leaves, a sample a second', async () => {
    const watching = docker.start(['stats', '--format', '{{.Name}} {{.MemUsage}}', 'quiet']);
    await watching.untilPrinted(/(quiet [0-9.]+MiB \/ 256MiB[^q]*){3}/);
    watching.signal('SIGKILL');
    await watching.finished();
    const samples = await stream(daemon, 'quiet', 3);
    assert.deepEqual(
      samples.map(({ precpu_stats }) => precpu_stats.system_cpu_usage !== undefined),
      [false, true, true],
    );
    const [first, , third] = samples.map(({ read }) => Date.parse(read));
    const apartMs = (third ?? 0) - (first ?? 0);
    assert.ok(apartMs > 1_900 && apartMs < 4_000, `${apartMs} ms`);
  });

  test('berth stats prints the same, and where the memory is', async () => {
    const flags = ['--socket', daemon.socket, 'stats', '--no-stream'];
    const table = await runProcess([BERTH, ...flags, 'quiet']);
    assert.equal(table.exitCode, 0, table.stderr);
    assert.match(
      table.stdout,
      /CONTAINER ID +NAME +CPU % +MEM USAGE \/ LIMIT +HOST +SHARED +NET I\/O +BLOCK I\/O +PIDS/,
    );
    assert.match(table.stdout, /quiet +[0-9.]+% +[0-9.]+MB \/ 268MB +[0-9.]+MB +[0-9.]+MB/);
    const json = await runProcess([BERTH, ...flags, '--json', '-a']);
    const rows = json.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, string>);
    assert.deepEqual(rows.map((row) => row['Name']).sort(), ['quiet', 'stopped']);
    assert.equal((await runProcess([BERTH, ...flags, 'nosuch'])).exitCode, 1);
  });

  test('processor time, network and disk figures follow what the guest does, seen from the guest', async () => {
    await createVm(daemon, 'busy', 'exec sleep 600', { Memory: 256 * MIB });
    await startVm(daemon, 'busy');
    const before = await sample('busy');
    const work =
      'dd if=/dev/zero of=/big bs=1M count=8 2>/dev/null; sync; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done';
    await execIn(daemon, 'busy', ['sh', '-c', work]);
    const gateway = (
      await execIn(daemon, 'busy', ['sh', '-c', "ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p'"])
    ).output.trim();
    await execIn(daemon, 'busy', ['ping', '-c', '3', '-i', '0.2', '-s', '10000', '-W', '2', gateway]);
    const after = await sample('busy');
    const cpuMs = (after.cpu_stats.cpu_usage.total_usage - before.cpu_stats.cpu_usage.total_usage) / 1e6;
    const hostMs = (after.cpu_stats.system_cpu_usage - before.cpu_stats.system_cpu_usage) / 1e6;
    assert.ok(cpuMs >= 100 && cpuMs <= hostMs, `${cpuMs} of ${hostMs} ms`);
    const written = (one: Sample): number =>
      one.blkio_stats.io_service_bytes_recursive.find(({ op, minor }) => op === 'write' && minor === 16)?.value ?? 0;
    assert.ok(written(after) - written(before) >= 8 * MIB, `${written(after) - written(before)} bytes written`);
    // The guest's counters and the tap's are the same ones, read from both ends.
    const { output } = await execIn(daemon, 'busy', [
      'sh',
      '-c',
      'cd /sys/class/net/eth0/statistics; cat rx_bytes tx_bytes',
    ]);
    const [received = 0, sent = 0] = output.trim().split('\n').map(Number);
    assert.ok(sent > 30_000, `${sent} bytes sent`);
    const eth0 = after.networks?.eth0;
    assert.ok(Math.abs((eth0?.rx_bytes ?? 0) - received) < 3_000, `${eth0?.rx_bytes} and ${received} received`);
    assert.ok(Math.abs((eth0?.tx_bytes ?? 0) - sent) < 3_000, `${eth0?.tx_bytes} and ${sent} sent`);
    await daemon.call('DELETE', '/containers/busy?force=1');
  });

  test('memory: a clone shares what it has not written, and what it writes is its own', async () => {
    const before = await memoryOf('quiet');
    const pid = (await inspectVm(daemon, 'quiet'))?.State.Pid;
    const kilobytes = Number(/^Rss: +([0-9]+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1]);
    assert.ok(Math.abs(before.HostResidentBytes - kilobytes * 1024) < 2 * MIB);
    assert.ok(before.TemplateSharedBytes > 4 * MIB, `${before.TemplateSharedBytes} bytes are the template's`);
    assert.ok(before.HostUniqueBytes + before.TemplateSharedBytes <= before.HostResidentBytes);
    const meminfo = (await execIn(daemon, 'quiet', ['cat', '/proc/meminfo'])).output;
    const field = (name: string): number => Number(new RegExp(`${name}: +([0-9]+) kB`).exec(meminfo)?.[1]) * 1024;
    const used = field('MemTotal') - field('MemAvailable');
    assert.ok(Math.abs(before.GuestUsedBytes - used) < 4 * MIB, `${before.GuestUsedBytes}, the guest says ${used}`);

    await execIn(daemon, 'quiet', [
      'sh',
      '-c',
      'mount -o remount,size=64m /dev/shm; head -c 40000000 /dev/urandom > /dev/shm/x',
    ]);
    // The guest is asked by inspect once in 5 s.
    const later = await eventually('inspect shows what the guest says now', 15_000, async () => {
      const now = await memoryOf('quiet');
      return now.GuestUsedBytes !== before.GuestUsedBytes && now;
    });
    const [grown, filled] = [
      later.HostUniqueBytes - before.HostUniqueBytes,
      later.GuestUsedBytes - before.GuestUsedBytes,
    ];
    assert.ok(grown >= 38e6 && grown < 60e6, `the host gave ${grown} bytes for 40 MB`);
    assert.ok(filled >= 38e6 && filled < 50e6, `the guest uses ${filled} bytes for 40 MB`);
    const { stats, usage, limit } = (await sample('quiet')).memory_stats;
    assert.deepEqual([limit, usage], [256 * MIB, stats['berth_guest_used']]);
    assert.ok(Math.abs((stats['berth_host_unique'] ?? 0) - later.HostUniqueBytes) < 4 * MIB);
    assert.ok(Math.abs((stats['berth_template_shared'] ?? 0) - later.TemplateSharedBytes) < 4 * MIB);
    assert.ok(Math.abs((stats['berth_host_resident'] ?? 0) - later.HostResidentBytes) < 4 * MIB);
  });

  test('a paused VM answers at once, one that does not run has no figures, one that is not there is 404', async () => {
    await daemon.call('POST', '/containers/quiet/pause');
    const began = performance.now();
    const paused = await sample('quiet');
    assert.ok(performance.now() - began < 1_500);
    assert.ok(paused.memory_stats.usage > 0 && paused.memory_stats.stats['berth_guest_used'] === undefined);
    await daemon.call('POST', '/containers/quiet/unpause');
    const stopped = await sample('stopped');
    assert.deepEqual([stopped.memory_stats, stopped.read], [{}, '0001-01-01T00:00:00Z']);
    assert.equal((await daemon.call('GET', '/containers/nosuch/stats?stream=0')).status, 404);
    const { body } = await daemon.call('GET', '/containers/stopped/json');
    assert.equal('Memory' in (body as { Berth: object }).Berth, false);
  });

  test('a VM that ends while one looks: the stream says so, and ends when the VM is removed', async () => {
    await createVm(daemon, 'brief', 'exec sleep 600');
    await startVm(daemon, 'brief');
    const looking = stream(daemon, 'brief', 100);
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    await daemon.call('POST', '/containers/brief/kill');
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    await daemon.call('DELETE', '/containers/brief?force=1');
    const samples = await looking;
    assert.ok(samples.length >= 2 && samples.length < 10);
    assert.deepEqual(samples.at(-1)?.memory_stats, {});
  });

  test('inspect shows how the start went, stage by stage', async () => {
    const { body } = await daemon.call('GET', '/containers/quiet/json');
    const { way, ...stages } = (body as { Berth: { BootMs: Record<string, number | string> } }).Berth.BootMs;
    assert.equal(way, 'clone');
    const names = ['queuedMs', 'spawnedMs', 'restoredMs', 'agentMs', 'rootfsMs', 'processMs'];
    const reached = names.map((name) => stages[name] as number);
    assert.deepEqual(Object.keys(stages).sort(), [...names].sort());
    assert.deepEqual(
      reached,
      [...reached].sort((a, b) => a - b),
      'one after the other',
    );
  });
});

test('a machine that booted its kernel shares nothing', async () => {
  const daemon = await startTestDaemon({ env: { BERTH_TEMPLATES: 'off' } });
  try {
    await createVm(daemon, 'alone', 'exec sleep 600');
    await startVm(daemon, 'alone');
    const Memory = await eventually('the guest says what it uses', 30_000, async () => {
      const { body } = await daemon.call('GET', '/containers/alone/json');
      const memory = (body as { Berth: { Memory: Memory } }).Berth.Memory;
      return memory.GuestUsedBytes !== undefined && memory;
    });
    assert.equal(Memory.TemplateSharedBytes, 0);
    assert.ok(Memory.HostUniqueBytes > Memory.GuestUsedBytes, JSON.stringify(Memory));
  } finally {
    assert.deepEqual(await daemon.dispose(), []);
  }
});

test('/metrics is what Prometheus reads, and its figures are right', async () => {
  const daemon = await startTestDaemon({ env: { BERTH_POOL: '1' } });
  try {
    for (const name of ['one', 'two']) {
      await createVm(daemon, name, 'exec sleep 600');
      await startVm(daemon, name);
    }
    await createVm(daemon, 'never', 'true');
    const { body } = await daemon.call('GET', '/metrics');
    const families = parseMetrics(String(body));
    for (const { name, help } of families) {
      assert.match(name, /^berth_[a-z_]+$/);
      assert.match(help, /^[A-Z].*\.$/);
    }
    const units = families.filter(({ type, name }) => type === 'histogram' && !name.endsWith('_seconds'));
    assert.deepEqual(units, [], 'times are in seconds');
    await eventually('a machine waits', 30_000, async () => (await figuresOf(daemon))('berth_pool_machines') === 1);
    const figures = await figuresOf(daemon);
    assert.equal(figures('berth_vms', { state: 'running' }), 2);
    assert.equal(figures('berth_vms', { state: 'created' }), 1);
    const ways = ['pool', 'clone', 'boot'].map((way) => figures('berth_starts_total', { way }));
    assert.equal(
      ways.reduce((sum, count) => sum + count),
      2,
    );
    const { way } = ((await daemon.call('GET', '/containers/one/json')).body as { Berth: { BootMs: { way: string } } })
      .Berth.BootMs;
    assert.ok(figures('berth_start_stage_seconds_count', { way, stage: 'process' }) >= 1);
    const resident =
      Number(/^VmRSS:\s+([0-9]+) kB/m.exec(readFileSync(`/proc/${daemon.pid}/status`, 'utf8'))?.[1]) * 1024;
    assert.ok(Math.abs(figures('berth_daemon_resident_bytes') - resident) < 16 * MIB);
    assert.ok(Math.abs(figures('berth_daemon_start_time_seconds') - Date.now() / 1_000) < 60);
    await daemon.call('DELETE', '/containers/one?force=1');
    assert.equal((await figuresOf(daemon))('berth_vms', { state: 'running' }), 1);
    const refused = [
      'x 1\n',
      '# TYPE x gauge\nx 1\n',
      '# HELP x X.\n# TYPE x gauge\nx 1\nx 2\n',
      '# HELP x X.\n# TYPE x counter\nx 1\n',
    ];
    for (const text of refused) assert.throws(() => parseMetrics(text), Error, text);
  } finally {
    assert.deepEqual(await daemon.dispose(), []);
  }
});

/** The first samples of a stream; fewer when it ends before. */
function stream(daemon: TestDaemon, name: string, count: number): Promise<Sample[]> {
  return new Promise((resolve, reject) => {
    const path = `/containers/${name}/stats`;
    const sent = request({ socketPath: daemon.socket, path, agent: false }, (response) => {
      let text = '';
      const samples = (): Sample[] =>
        text
          .split('\n')
          .slice(0, -1)
          .map((line) => JSON.parse(line) as Sample);
      response.on('data', (chunk: Buffer) => {
        text += chunk.toString();
        if (samples().length < count) return;
        sent.destroy();
        resolve(samples().slice(0, count));
      });
      response.on('end', () => resolve(samples()));
      response.on('error', () => resolve(samples()));
    });
    sent.on('error', reject);
    sent.end();
  });
}
