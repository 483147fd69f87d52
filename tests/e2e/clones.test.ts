/** All VMs start from one memory: no two may draw the same number, bear the same name, or have a clock of yesterday. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { runChecked } from '#platform';
import { startTestDaemon, type TestDaemon } from '../harness/daemon.ts';
import { DockerCli } from '../harness/docker-cli.ts';
import { figuresOf } from '../harness/metrics.ts';
import { smallImage } from '../harness/small-image.ts';
import { untilTemplate, wayOf } from '../harness/supply.ts';
import { execIn, logsOf, startVm } from '../harness/vm-client.ts';

const TOOLS = new URL('../harness/', import.meta.url).pathname;
/** As many as may start at once without the host swapping. */
const AT_ONCE = 8;
describe('clones', () => {
  const folder = mkdtempSync(join(tmpdir(), 'berth-clones-'));
  const step = join(folder, 'step');
  let daemon: TestDaemon;

  before(async () => {
    const [look, shim] = [join(folder, 'look'), join(folder, 'step-clock.so')];
    await runChecked(['musl-gcc', '-Os', '-static', '-o', look, join(TOOLS, 'guest-tools/look.c')]);
    await runChecked(['cc', '-O1', '-shared', '-fPIC', '-o', shim, join(TOOLS, 'host-tools/step-clock.c')]);
    writeFileSync(step, '0');
    daemon = await startTestDaemon({ env: { BERTH_POOL: '2', LD_PRELOAD: shim, BERTH_TEST_STEP: step } });
    const tar = await smallImage({
      programs: ['/usr/bin/openssl'],
      files: {
        'etc/machine-id': { content: '' },
        'bin/look': { content: readFileSync(look), mode: 0o755 },
      },
    });
    await new DockerCli(daemon.socket).ok(['import', '-', 'identity'], { input: tar });
  });

  after(async () => {
    assert.deepEqual(await daemon.dispose(), [], 'nothing is left behind');
    rmSync(folder, { recursive: true });
  });

  const create = async (name: string, args: readonly string[]): Promise<void> => {
    const made = await daemon.call('POST', `/containers/create?name=${name}`, {
      Image: 'identity',
      Cmd: args,
      HostConfig: { Memory: 256 * 2 ** 20 },
    });
    assert.equal(made.status, 201, JSON.stringify(made.body));
  };

  /** Runs `args` in that many VMs; what each printed, a line each, and how it was started. */
  const runMany = async (count: number, args: readonly string[]): Promise<{ lines: string[]; way: string }[]> => {
    const found: { lines: string[]; way: string }[] = [];
    let next = 0;
    const work = async (): Promise<void> => {
      for (let index = next++; index < count; index = next++) {
        const name = `c${index}`;
        await create(name, args);
        await startVm(daemon, name);
        await daemon.call('POST', `/containers/${name}/wait`);
        found.push({ lines: (await logsOf(daemon, name)).trim().split('\n'), way: await wayOf(daemon, name) });
        await daemon.call('DELETE', `/containers/${name}?force=1`);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    return found;
  };

  const assertDistinct = (found: readonly { lines: string[] }[], titles: readonly string[]): void => {
    for (const [index, title] of titles.entries()) {
      const values = found.map(({ lines }) => lines[index] ?? '');
      assert.ok(
        values.every((value) => value.length >= 10),
        `${title}: ${values[0]}`,
      );
      assert.equal(new Set(values).size, found.length, `two VMs have the same ${title}`);
    }
  };

  test('200 clones: no two random bytes, UUIDs, boot ids, machine ids or names are the same', async () => {
    await untilTemplate(daemon);
    const found = await runMany(200, ['look', 'identity']);
    const titles = ['random bytes', 'uuid', 'boot id', 'machine id', 'product uuid', 'host name'];
    assertDistinct(found, titles);
    const ways = new Set(found.map(({ way }) => way));
    assert.ok(ways.has('clone') && ways.has('pool') && !ways.has('boot'), [...ways].join(' '));
    assert.equal((await figuresOf(daemon))('berth_clone_failures_total'), 0);
  });

  test('VMs that run side by side have an address and a card of their own', async () => {
    const names = Array.from({ length: AT_ONCE }, (_, index) => `beside${index}`);
    await Promise.all(names.map((name) => create(name, ['sleep', '600'])));
    await Promise.all(names.map((name) => startVm(daemon, name)));
    const look = 'cat /sys/class/net/eth0/address; ip -o -4 address show dev eth0';
    const seen = await Promise.all(names.map(async (name) => (await execIn(daemon, name, ['sh', '-c', look])).output));
    const found = seen.map((output) => ({
      lines: [output.split('\n')[0] ?? '', /inet (\S+)/.exec(output)?.[1] ?? ''],
    }));
    assertDistinct(found, ['card', 'address']);
    await Promise.all(names.map((name) => daemon.call('DELETE', `/containers/${name}?force=1`)));
  });

  test('keys made in 20 clones have no prime and no point in common', async () => {
    const key =
      'openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -outform DER | od -An -v -tx1 | tr -d " \\n"; echo';
    const rsa = 'openssl genrsa -traditional 512 2>/dev/null | openssl rsa -noout -modulus';
    const found = await runMany(20, ['sh', '-c', `${key}; ${rsa}`]);
    assertDistinct(found, ['EC key', 'RSA modulus']);
    const moduli = found.map(({ lines }) => BigInt(`0x${lines[1]?.replace('Modulus=', '')}`));
    for (const [index, modulus] of moduli.entries())
      for (const other of moduli.slice(0, index)) assert.equal(commonDivisor(modulus, other), 1n, 'a prime is shared');
  });

  /** How far the guest's clock is ahead of ours, at most: what it says when it prints, less when that arrives. */
  const clockErrorMs = async (name: string): Promise<number> => {
    await create(name, ['look', 'clock']);
    const errors: number[] = [];
    const attached = attach(daemon, name, (line) => errors.push(Number(line) / 1e6 - preciseNowMs()));
    await attached.ready;
    await startVm(daemon, name);
    await attached.ended;
    await daemon.call('DELETE', `/containers/${name}?force=1`);
    assert.ok(errors.length >= 30, `${errors.length} stamps`);
    // What took longest on the way says least.
    return Math.max(...errors);
  };

  test("a clone's clock is right to 10 ms, however old its template is", async () => {
    for (const name of ['first', 'second', 'third']) {
      const error = await clockErrorMs(name);
      assert.ok(Math.abs(error) <= 10, `${name}: ${error.toFixed(2)} ms`);
    }
  });

  test("when the host's clock is stepped, the next clone has the new time", async () => {
    for (const seconds of [86_400, -3_600, 0]) {
      writeFileSync(step, String(seconds));
      const error = await clockErrorMs(`stepped${seconds}`);
      assert.ok(Math.abs(error - seconds * 1_000) <= 50, `${seconds} s: ${error.toFixed(2)} ms`);
    }
  });
});

function commonDivisor(a: bigint, b: bigint): bigint {
  return b === 0n ? a : commonDivisor(b, a % b);
}

/** The clock of the day with the fraction of a millisecond that Date lacks. */
function preciseNowMs(): number {
  return performance.timeOrigin + performance.now();
}

/** Lines of a VM's standard output, each told the moment it arrives. */
function attach(
  daemon: TestDaemon,
  name: string,
  onLine: (line: string) => void,
): { readonly ready: Promise<void>; readonly ended: Promise<void> } {
  const [ready, ended] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const path = `/containers/${name}/attach?stream=1&stdout=1`;
  const sent = request({ socketPath: daemon.socket, method: 'POST', path, agent: false }, (response) => {
    ready.resolve();
    let rest = Buffer.alloc(0);
    response.on('data', (chunk: Buffer) => {
      rest = Buffer.concat([rest, chunk]);
      for (let end = 0; rest.length >= 8 && rest.length >= 8 + rest.readUInt32BE(4); ) {
        end = 8 + rest.readUInt32BE(4);
        for (const line of rest.subarray(8, end).toString().trim().split('\n')) onLine(line);
        rest = rest.subarray(end);
      }
    });
    response.on('end', () => ended.resolve());
    response.on('error', ended.reject);
  });
  sent.on('error', ready.reject);
  sent.end();
  return { ready: ready.promise, ended: ended.promise };
}
