/** Pulling from a real registry, through a proxy that breaks things where a test says so. */
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { type BerthError, parseDigest } from '#base';
import { ImageService, type ProgressEvent } from '#images';
import { HOST_ARCHITECTURE, layerTar, OCI_INDEX, type PushedImage, pushImage } from '../harness/image-fixture.ts';
import {
  pushManifest,
  REGISTRY_PASSWORD,
  REGISTRY_USER,
  type RunningRegistry,
  startRegistry,
} from '../harness/registry.ts';
import { type FaultProxy, startFaultProxy } from '../harness/registry-fault-proxy.ts';

const run = promisify(execFile);

/** Bytes that do not compress, the same on every run. */
function noise(bytes: number, seed: string): Buffer {
  const blocks: Buffer[] = [];
  for (let at = 0; at * 32 < bytes; at += 1) blocks.push(createHash('sha256').update(`${seed} ${at}`).digest());
  return Buffer.concat(blocks).subarray(0, bytes);
}

const refusal = (kind: string, code: string) => (error: BerthError) => {
  assert.equal(`${error.kind} ${error.code}`, `${kind} ${code}`, error.message);
  return true;
};

describe('pulling from a registry', () => {
  let registry: RunningRegistry;
  let proxy: FaultProxy;
  let pushed: PushedImage;
  let big: PushedImage;
  const folders: string[] = [];
  const base = layerTar({ 'etc/motd': 'hello', 'etc/hostname': 'one' });
  const upper = layerTar({ 'etc/.wh.motd': '', 'bin/tool': noise(300_000, 'tool') });

  const emptyFolder = async (): Promise<string> => {
    const folder = await mkdtemp(join(tmpdir(), 'berth-images-test-'));
    folders.push(folder);
    return folder;
  };
  const openStore = async (): Promise<{ images: ImageService; root: string }> => {
    const root = await emptyFolder();
    return { images: await ImageService.open({ root }), root };
  };

  before(async () => {
    registry = await startRegistry();
    proxy = await startFaultProxy(registry.host);
    pushed = await pushImage({ host: registry.host, repository: 'team/app' }, 'v1', {
      layers: [{ tar: base }, { tar: upper, compression: 'zstd' }],
    });
    big = await pushImage({ host: registry.host, repository: 'team/big' }, 'latest', {
      layers: [{ tar: layerTar({ 'data/noise': noise(4_000_000, 'big') }) }, { tar: base, compression: 'none' }],
    });
  });

  after(async () => {
    await proxy.stop();
    await registry.stop();
    for (const folder of folders) await rm(folder, { recursive: true, force: true });
    const left = (await readdir(tmpdir())).filter((name) => /^berth-(images-test|registry)-/.test(name));
    assert.deepEqual(left, [], 'temporary folders are left behind');
  });

  const leftovers = async (root: string): Promise<string[]> => {
    const found: string[] = [];
    for (const folder of ['.', 'blobs/sha256', 'layers/sha256']) {
      found.push(...(await readdir(join(root, folder))).filter((name) => name.includes('.tmp')));
    }
    return found;
  };
  const layerFiles = async (root: string): Promise<string[]> => (await readdir(join(root, 'layers/sha256'))).sort();

  test('a pulled image has its config as id, layers that fsck.erofs accepts, and Docker’s progress', async () => {
    const { images, root } = await openStore();
    const events: ProgressEvent[] = [];
    const result = await images.pull(`${registry.host}/team/app:v1`, { onProgress: (event) => events.push(event) });
    assert.equal(result.id, pushed.id);
    assert.equal(result.digest, pushed.manifestDigest);
    assert.equal(result.isNew, true);
    const disk = await images.rootDiskOf(`${registry.host}/team/app:v1`);
    assert.deepEqual(
      disk.layers.map(({ diffId }) => diffId),
      pushed.diffIds,
    );
    for (const layer of disk.layers) {
      await run('fsck.erofs', [layer.path]);
      const facts = await stat(layer.path);
      assert.equal(facts.size, layer.sizeBytes);
      assert.equal(facts.size % 4096, 0);
      assert.equal(facts.mode & 0o777, 0o644);
    }
    const statuses = events.map(({ status }) => status);
    assert.equal(statuses[0], 'Pulling from team/app');
    for (const status of [
      'Pulling fs layer',
      'Verifying Checksum',
      'Download complete',
      'Extracting',
      'Pull complete',
    ]) {
      assert.ok(statuses.includes(status), `no event "${status}"`);
    }
    assert.equal(statuses.at(-2), `Digest: ${pushed.manifestDigest}`);
    assert.equal(statuses.at(-1), `Status: Downloaded newer image for ${registry.host}/team/app:v1`);
    const [summary] = await images.list();
    assert.deepEqual(summary?.tags, [`${registry.host}/team/app:v1`]);
    assert.deepEqual(summary?.repoDigests, [`${registry.host}/team/app@${pushed.manifestDigest}`]);
    assert.deepEqual(await leftovers(root), []);

    const again: ProgressEvent[] = [];
    const second = await images.pull(`${registry.host}/team/app:v1`, { onProgress: (event) => again.push(event) });
    assert.equal(second.isNew, false);
    assert.ok(again.some(({ status }) => status === 'Already exists'));
    assert.equal(again.at(-1)?.status, `Status: Image is up to date for ${registry.host}/team/app:v1`);
  });

  test('an image saved and loaded elsewhere has the same id, and its layers the same diffIDs', async () => {
    const { images } = await openStore();
    await images.pull(`${registry.host}/team/app:v1`);
    const other = await openStore();
    const loaded = await other.images.load(await images.save([`${registry.host}/team/app:v1`]));
    assert.deepEqual(loaded, [{ id: pushed.id, references: [`${registry.host}/team/app:v1`] }]);
    assert.deepEqual((await other.images.rootDiskOf(pushed.id)).layers.length, 2);
  });

  test('an index gives the host’s manifest, and a platform it does not offer is refused with Docker’s text', async () => {
    const { images } = await openStore();
    const manifests = [
      {
        mediaType: 'application/vnd.oci.image.manifest.v1+json',
        digest: pushed.manifestDigest,
        size: pushed.manifestBytes,
        platform: { os: 'linux', architecture: HOST_ARCHITECTURE },
      },
    ];
    const target = { host: registry.host, repository: 'team/app' };
    const indexDigest = await pushManifest(target, 'multi', {
      schemaVersion: 2,
      mediaType: OCI_INDEX,
      manifests,
    } as never);
    const result = await images.pull(`${registry.host}/team/app:multi`);
    assert.equal(result.id, pushed.id);
    assert.equal(result.digest, indexDigest);
    await assert.rejects(images.pull(`${registry.host}/team/app:multi`, { platform: 'linux/s390x' }), {
      message: 'no matching manifest for linux/s390x in the manifest list entries',
    });
    const byDigest = await images.pull(`${registry.host}/team/app@${indexDigest}`);
    assert.equal(byDigest.id, pushed.id);
  });

  test('a single manifest for another architecture is refused, naming both', async () => {
    await pushImage({ host: registry.host, repository: 'team/other' }, 'latest', {
      layers: [{ tar: base }],
      architecture: 's390x',
    });
    const { images } = await openStore();
    await assert.rejects(images.pull(`${registry.host}/team/other`), (error: BerthError) => {
      assert.match(error.message, /linux\/s390x.*linux\/(amd64|arm64)/);
      return true;
    });
  });

  test('an unknown tag says what Docker says', async () => {
    const { images } = await openStore();
    await assert.rejects(images.pull(`${registry.host}/team/app:nope`), (error: BerthError) => {
      assert.equal(error.kind, 'not_found');
      assert.match(error.message, /^manifest for .*\/team\/app:nope not found: manifest unknown/);
      return true;
    });
  });

  test('basic authentication is answered, and refused without credentials', async () => {
    const guarded = await startRegistry({ basicAuth: true });
    try {
      await pushImage({ host: guarded.host, repository: 'secret/app', isAuthenticated: true }, 'latest', {
        layers: [{ tar: base }],
      });
      const { images } = await openStore();
      await assert.rejects(
        images.pull(`${guarded.host}/secret/app`),
        refusal('unauthenticated', 'registry.unauthorized'),
      );
      const wrong = { username: REGISTRY_USER, password: 'wrong' };
      await assert.rejects(
        images.pull(`${guarded.host}/secret/app`, { credentials: wrong }),
        refusal('unauthenticated', 'registry.unauthorized'),
      );
      const credentials = { username: REGISTRY_USER, password: REGISTRY_PASSWORD };
      assert.ok((await images.pull(`${guarded.host}/secret/app`, { credentials })).isNew);
    } finally {
      await guarded.stop();
    }
  });

  test('a bearer token is fetched from the stand-in token server, and once for all layers', async () => {
    const standIn = await startFaultProxy(registry.host, { standInTokens: { username: 'u', password: 'p' } });
    try {
      const { images } = await openStore();
      await images.pull(`${standIn.host}/team/app:v1`, { credentials: { username: 'u', password: 'p' } });
      assert.equal(standIn.seen.filter(({ path }) => path.startsWith('/stand-in-token')).length, 1);
      await assert.rejects(
        images.pull(`${standIn.host}/team/app:v1`, { credentials: { username: 'u', password: 'bad' } }),
        refusal('unauthenticated', 'registry.unauthorized'),
      );
    } finally {
      await standIn.stop();
    }
  });

  const isBlob = (path: string, digest: string | undefined): boolean =>
    path.includes('/blobs/') && path.endsWith(digest ?? '?');
  const withFault = async (fault: FaultProxy['fault'], work: () => Promise<void>): Promise<void> => {
    proxy.fault = fault;
    proxy.seen.length = 0;
    try {
      await work();
    } finally {
      proxy.fault = () => undefined;
    }
  };

  test('a blob broken half-way is taken up where it broke', async () => {
    const { images } = await openStore();
    const blob = big.blobs[0]?.digest;
    await withFault(
      (path, count) => (isBlob(path, blob) && count < 2 ? { kind: 'cut', afterBytes: 1_000_000 } : undefined),
      async () => {
        assert.equal((await images.pull(`${proxy.host}/team/big`)).id, big.id);
        const ranges = proxy.seen.filter(({ path }) => isBlob(path, blob)).map(({ range }) => range);
        assert.equal(ranges.length, 3);
        assert.match(ranges[1] ?? '', /^bytes=[1-9][0-9]*-/);
      },
    );
  });

  test('a connection that always breaks is given up after five attempts, and nothing stays', async () => {
    const { images, root } = await openStore();
    const blob = big.blobs[0]?.digest;
    await withFault(
      (path) => (isBlob(path, blob) ? { kind: 'cut', afterBytes: 1000 } : undefined),
      async () => {
        await assert.rejects(images.pull(`${proxy.host}/team/big`), refusal('unavailable', 'http.unreachable'));
        assert.deepEqual(await leftovers(root), []);
        assert.deepEqual(await images.list(), []);
      },
    );
  });

  test('a blob with other content than its digest says is refused', async () => {
    const { images, root } = await openStore();
    const blob = big.blobs[1]?.digest;
    await withFault(
      (path) => (isBlob(path, blob) ? { kind: 'corrupt', atByte: 1024 + 100 } : undefined),
      async () => {
        await assert.rejects(images.pull(`${proxy.host}/team/big`), (error: BerthError) => {
          assert.ok(['layer.digest_mismatch', 'tar.bad_checksum'].includes(error.code), error.code);
          return true;
        });
        assert.deepEqual(await leftovers(root), []);
      },
    );
  });

  test('a blob larger than its manifest says is cut at once', async () => {
    const { images, root } = await openStore();
    const blob = big.blobs[0]?.digest;
    await withFault(
      (path) => (isBlob(path, blob) ? { kind: 'oversize', extraBytes: 100_000 } : undefined),
      async () => {
        await assert.rejects(images.pull(`${proxy.host}/team/big`), refusal('data_loss', 'layer.size_mismatch'));
        assert.deepEqual(await leftovers(root), []);
      },
    );
  });

  test('a config and a manifest with a wrong digest are refused', async () => {
    const { images } = await openStore();
    await withFault(
      (path) => (isBlob(path, big.id) ? { kind: 'corrupt', atByte: 5 } : undefined),
      () => assert.rejects(images.pull(`${proxy.host}/team/big`), refusal('data_loss', 'registry.digest_mismatch')),
    );
    await withFault(
      (path) => (path.includes('/manifests/sha256') ? { kind: 'corrupt', atByte: 5 } : undefined),
      () =>
        assert.rejects(
          images.pull(`${proxy.host}/team/big@${big.manifestDigest}`),
          refusal('data_loss', 'registry.digest_mismatch'),
        ),
    );
  });

  test('an overloaded registry is asked again after the pause it names; a refusal is not', async () => {
    const { images } = await openStore();
    const start = performance.now();
    await withFault(
      (path, count) =>
        path.includes('/manifests/') && count === 0
          ? { kind: 'status', status: 429, headers: { 'retry-after': '1' } }
          : undefined,
      async () => void (await images.pull(`${proxy.host}/team/app:v1`)),
    );
    assert.ok(performance.now() - start >= 1000);
    await withFault(
      (path) => (path.includes('/manifests/') ? { kind: 'status', status: 400 } : undefined),
      async () => {
        await assert.rejects(images.pull(`${proxy.host}/team/app:v1`), refusal('invalid', 'registry.failed'));
        assert.equal(proxy.seen.length, 1);
      },
    );
  });

  test('a redirect to another host does not carry the credentials along', async () => {
    const front = await startFaultProxy(registry.host);
    try {
      front.fault = (path) =>
        path.includes('/blobs/')
          ? { kind: 'status', status: 307, headers: { location: `http://${proxy.host}${path}` } }
          : undefined;
      proxy.seen.length = 0;
      const { images } = await openStore();
      await images.pull(`${front.host}/team/app:v1`, { credentials: { registryToken: 'secret' } });
      assert.ok(front.seen.every(({ authorization }) => authorization === 'Bearer secret'));
      assert.ok(proxy.seen.length > 0 && proxy.seen.every(({ authorization }) => authorization === undefined));
    } finally {
      await front.stop();
    }
  });

  test('two pulls of one layer at a time share its download', async () => {
    const { images } = await openStore();
    await withFault(
      () => undefined,
      async () => {
        await Promise.all([images.pull(`${proxy.host}/team/big`), images.pull(`${proxy.host}/team/big`)]);
        assert.equal(proxy.seen.filter(({ path }) => isBlob(path, big.blobs[0]?.digest)).length, 1);
      },
    );
  });

  test('a pull whose client is gone ends, and leaves nothing', async () => {
    const { images, root } = await openStore();
    const stop = new AbortController();
    await withFault(
      (path) => (isBlob(path, big.blobs[0]?.digest) ? { kind: 'stall', afterBytes: 500_000 } : undefined),
      async () => {
        const pulling = images.pull(`${proxy.host}/team/big`, {
          signal: stop.signal,
          onProgress: ({ status }) => status === 'Downloading' && setImmediate(() => stop.abort()),
        });
        await assert.rejects(pulling, (error: BerthError) => error.kind === 'cancelled');
        assert.deepEqual(await leftovers(root), []);
        await images.collectGarbage();
        assert.deepEqual(await layerFiles(root), []);
      },
    );
  });

  test('garbage collection leaves alone what a running pull has claimed', async () => {
    const { images, root } = await openStore();
    const isBig = (path: string): boolean => isBlob(path, big.blobs[0]?.digest);
    await withFault(
      // The large layer waits a second, in which the small one is done and named by nothing but the pull's lease.
      (path, count) =>
        isBig(path) && count === 0 ? { kind: 'status', status: 503, headers: { 'retry-after': '1' } } : undefined,
      async () => {
        const sweeps: Promise<number>[] = [];
        const sweep = async (): Promise<number> => {
          await images.collectGarbage({ all: true });
          return (await layerFiles(root)).filter((name) => name.endsWith('.erofs')).length;
        };
        await images.pull(`${proxy.host}/team/big`, {
          onProgress: ({ status }) => status === 'Pull complete' && sweeps.push(sweep()),
        });
        assert.deepEqual((await Promise.all(sweeps))[0], 1, 'the small layer was swept away');
      },
    );
    for (const layer of (await images.rootDiskOf(big.id)).layers) await stat(layer.path);
  });

  test('a daemon killed in the middle of a pull leaves a store that opens, without its leftovers', async () => {
    const { root } = await openStore();
    await withFault(
      (path) => (isBlob(path, big.blobs[0]?.digest) ? { kind: 'stall', afterBytes: 3_000_000 } : undefined),
      async () => {
        const door = new URL('../../src/images/index.ts', import.meta.url).href;
        const script = `
          const { ImageService } = await import(${JSON.stringify(door)});
          const images = await ImageService.open({ root: ${JSON.stringify(root)} });
          await images.pull('${proxy.host}/team/big', { onProgress: (event) => console.log(event.status) });`;
        const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
          stdio: ['ignore', 'pipe', 'inherit'],
        });
        for await (const line of child.stdout) if (String(line).includes('Pull complete')) break;
        child.kill('SIGKILL');
        if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
        assert.ok((await layerFiles(root)).some((name) => name.endsWith('.tmp')));
      },
    );
    const images = await ImageService.open({ root });
    assert.deepEqual(await leftovers(root), []);
    assert.deepEqual(await layerFiles(root), []);
    assert.equal((await images.pull(`${registry.host}/team/big`)).id, big.id);
  });

  test('a full disk is a clear refusal, and nothing stays on it', async () => {
    const root = await emptyFolder();
    await run('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'berth-test', root]);
    try {
      const images = await ImageService.open({ root });
      await assert.rejects(images.pull(`${registry.host}/team/big`), refusal('exhausted', 'images.disk_full'));
      await images.collectGarbage();
      assert.deepEqual(await leftovers(root), []);
      assert.deepEqual(await layerFiles(root), []);
      assert.deepEqual(await readdir(join(root, 'blobs/sha256')), []);
      assert.ok((await images.pull(`${registry.host}/team/app:v1`)).isNew, 'a small image still fits');
    } finally {
      await run('umount', [root]);
    }
  });

  test('what was pulled is there after a restart, and gone after its removal', async () => {
    const { images, root } = await openStore();
    await images.pull(`${registry.host}/team/app:v1`);
    await images.tag(pushed.id.slice(7, 19), 'mine');
    const reopened = await ImageService.open({ root });
    assert.deepEqual((await reopened.inspect('mine')).tags, ['mine:latest', `${registry.host}/team/app:v1`].sort());
    await assert.rejects(reopened.remove(pushed.id), refusal('conflict', 'images.many_references'));
    assert.deepEqual(await reopened.remove('mine'), [{ untagged: 'mine:latest' }]);
    const user = { id: 'c'.repeat(64), isRunning: true };
    await assert.rejects(
      reopened.remove(pushed.id, { force: true, inUseBy: () => [user] }),
      refusal('conflict', 'images.in_use'),
    );
    const removed = await reopened.remove(`${registry.host}/team/app:v1`);
    assert.ok(removed.some((item) => 'deleted' in item && item.deleted === parseDigest(pushed.id)));
    assert.deepEqual(await layerFiles(root), []);
    assert.deepEqual(await readdir(join(root, 'blobs/sha256')), []);
    assert.equal(JSON.parse(await readFile(join(root, 'index.json'), 'utf8')).images.length, 0);
  });
});
