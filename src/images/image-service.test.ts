import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import type { BerthError } from '#base';
import { busyboxImage } from './busybox-image.ts';
import { ImageService } from './image-service.ts';
import { archiveOf } from './tar/tar-fixture.ts';
import { tarMembers } from './tar/tar-members.ts';
import { tarFile, tarHeader } from './tar/tar-writer.ts';

const run = promisify(execFile);

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}

async function collect(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const code = (kind: string, name: string) => (error: BerthError) => {
  assert.equal(`${error.kind} ${error.code}`, `${kind} ${name}`, error.message);
  return true;
};

describe('the image service', () => {
  let folder = '';
  let images: ImageService;
  const fresh = (name: string): Promise<ImageService> => ImageService.open({ root: join(folder, name) });
  const rootFs = archiveOf(tarHeader({ path: 'etc', type: 'directory' }), tarFile('etc/motd', 'hello'));

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'berth-service-test-'));
    images = await fresh('one');
  });

  afterEach(async () => {
    for (const store of await readdir(folder)) {
      for (const name of await readdir(join(folder, store), { recursive: true }).catch(() => []))
        assert.ok(!name.endsWith('.tmp'), name);
    }
    await rm(folder, { recursive: true, force: true });
  });

  test('an import becomes an image with its changes, its message and its name', async () => {
    const id = await images.import(once(gzipSync(rootFs)), {
      reference: 'mine:1',
      changes: ['CMD ["sh"]', 'ENV A=b'],
      message: 'by hand',
    });
    const details = await images.inspect('mine:1');
    assert.equal(details.id, id);
    assert.deepEqual(details.config.config.Cmd, ['sh']);
    assert.equal(`sha256:${sha256(details.rawConfig)}`, id);
    assert.equal(details.config.diffIds[0], `sha256:${sha256(rootFs)}`);
    const [newest] = await images.history('mine:1');
    assert.deepEqual([newest?.id, newest?.comment, newest?.sizeBytes, newest?.tags], [id, 'by hand', 5, ['mine:1']]);
    assert.equal((await images.inspect(id.slice(7, 15))).id, id);
    const usage = await images.diskUsage();
    assert.equal(usage.layersBytes, 5);
    assert.ok(usage.diskBytes >= 4096);
  });

  test('saved archives verify, load elsewhere under the same id, and load compressed', async () => {
    const id = await images.import(once(rootFs), { reference: 'mine:1' });
    await images.tag('mine:1', 'localhost:5000/other:2');
    const archive = await collect(await images.save(['mine:1', 'localhost:5000/other:2', id]));
    for await (const { entry, body } of tarMembers(once(archive))) {
      const hex = /^blobs\/sha256\/(.*)$/.exec(entry.path)?.[1];
      const chunks: Buffer[] = [];
      for await (const chunk of body) chunks.push(chunk);
      if (hex !== undefined) assert.equal(sha256(Buffer.concat(chunks)), hex, 'a blob does not have its digest');
    }
    for (const [at, bytes] of [archive, gzipSync(archive), zstdCompressSync(archive)].entries()) {
      const other = await fresh(`load-${at}`);
      const loaded = await other.load(once(bytes));
      assert.deepEqual(loaded, [{ id, references: ['mine:1', 'localhost:5000/other:2'] }]);
    }
  });

  test('an image is held while it is saved, and let go when the client leaves before the first byte', async () => {
    await images.import(once(rootFs), { reference: 'mine:1' });
    const [stream, unread] = [await images.save(['mine:1']), await images.save(['mine:1'])];
    await images.remove('mine:1');
    unread.destroy();
    const other = await fresh('held');
    assert.equal((await other.load(stream)).length, 1);
    await images.collectGarbage();
    assert.deepEqual(await readdir(join(folder, 'one/layers/sha256')), []);
  });

  test('an archive in the OCI layout alone loads, and names nothing by a bare tag', async () => {
    await images.import(once(rootFs), { reference: 'mine:1' });
    const saved = await collect(await images.save(['mine:1']));
    const kept: Buffer[] = [];
    for await (const { entry, body } of tarMembers(once(saved))) {
      const chunks: Buffer[] = [];
      for await (const chunk of body) chunks.push(chunk);
      if (entry.type === 'file' && entry.path !== 'manifest.json')
        kept.push(tarFile(entry.path, Buffer.concat(chunks)));
    }
    const other = await fresh('oci');
    assert.deepEqual((await other.load(once(archiveOf(...kept))))[0]?.references, ['mine:1']);
  });

  test('an archive in Docker’s old layout, with links between layers, loads', async () => {
    const config = Buffer.from(
      JSON.stringify({
        architecture: 'amd64',
        os: 'linux',
        rootfs: { type: 'layers', diff_ids: [`sha256:${sha256(rootFs)}`, `sha256:${sha256(rootFs)}`] },
      }),
    );
    const name = `${sha256(config)}.json`;
    const archive = archiveOf(
      tarFile('aaa/layer.tar', rootFs),
      tarFile('aaa/VERSION', '1.0'),
      tarHeader({ path: 'bbb/layer.tar', type: 'symlink', linkTarget: '../aaa/layer.tar' }),
      tarFile(name, config),
      tarFile(
        'manifest.json',
        JSON.stringify([{ Config: name, RepoTags: ['old:1'], Layers: ['aaa/layer.tar', 'bbb/layer.tar'] }]),
      ),
    );
    assert.deepEqual(await images.load(once(archive)), [{ id: `sha256:${sha256(config)}`, references: ['old:1'] }]);
    assert.equal((await images.rootDiskOf('old:1')).layers.length, 2);
  });

  test('archives that are no image, lack a part or lie about one are refused, and leave nothing', async () => {
    await assert.rejects(images.load(once(rootFs)), code('invalid', 'load.no_manifest'));
    const config = Buffer.from(JSON.stringify({ rootfs: { type: 'layers', diff_ids: [`sha256:${'0'.repeat(64)}`] } }));
    const manifest = (layers: string[]): Buffer =>
      tarFile('manifest.json', JSON.stringify([{ Config: 'c.json', RepoTags: null, Layers: layers }]));
    const parts = [tarFile('l/layer.tar', rootFs), tarFile('c.json', config)];
    await assert.rejects(
      images.load(once(archiveOf(...parts, manifest(['l/layer.tar'])))),
      code('data_loss', 'layer.diff_id_mismatch'),
    );
    await assert.rejects(
      images.load(once(archiveOf(...parts, manifest(['../../etc/passwd'])))),
      code('invalid', 'load.missing_member'),
    );
    const forged = tarFile(`blobs/sha256/${'1'.repeat(64)}`, rootFs);
    await assert.rejects(images.load(once(archiveOf(forged))), code('data_loss', 'layer.digest_mismatch'));
    const loop = [
      tarHeader({ path: 'l/layer.tar', type: 'symlink', linkTarget: 'layer.tar' }),
      tarFile('c.json', config),
    ];
    await assert.rejects(
      images.load(once(archiveOf(...loop, manifest(['l/layer.tar'])))),
      code('invalid', 'load.missing_member'),
    );
    assert.deepEqual(await readdir(join(folder, 'one/layers/sha256')), []);
    assert.deepEqual(await readdir(join(folder, 'one/blobs/sha256')), []);
  });

  test('names are refused and found as Docker does', async () => {
    await assert.rejects(images.inspect('nothing'), { kind: 'not_found', message: 'No such image: nothing:latest' });
    const id = await images.import(once(rootFs));
    assert.deepEqual((await images.list())[0]?.tags, []);
    await images.tag(id, 'me/app');
    assert.equal((await images.inspect('docker.io/me/app:latest')).id, id);
    await assert.rejects(images.tag('nothing', 'x'), code('not_found', 'images.not_found'));
    await assert.rejects(images.tag(id, `x@${id}`), code('invalid', 'reference.invalid'));
  });

  test('removal keeps to Docker’s rules for used and shared images', async () => {
    const id = await images.import(once(rootFs), { reference: 'a:1' });
    const stopped = { id: 'd'.repeat(64), isRunning: false };
    await assert.rejects(images.remove('a:1', { inUseBy: () => [stopped] }), (error: BerthError) => {
      assert.match(
        error.message,
        /^conflict: unable to remove repository reference "a:1" \(must force\) - container d{12} is using/,
      );
      return error.kind === 'conflict';
    });
    assert.deepEqual(await images.remove('a:1', { inUseBy: () => [stopped], force: true }), [{ untagged: 'a:1' }]);
    assert.equal((await images.rootDiskOf(id)).layers.length, 1, 'the VM can still start');
    assert.deepEqual((await images.collectGarbage({ inUse: () => [id] })).removed, []);
    const { removed, freedBytes } = await images.collectGarbage();
    assert.ok(removed.some((item) => 'deleted' in item && item.deleted === id));
    assert.ok(freedBytes > 0);
    assert.deepEqual(await images.list(), []);
  });

  test('a layer that another image uses stays when one of them goes', async () => {
    await images.import(once(rootFs), { reference: 'a:1', message: 'one' });
    await images.import(once(rootFs), { reference: 'b:1', message: 'two' });
    await images.remove('a:1');
    assert.equal((await images.rootDiskOf('b:1')).layers.length, 1);
    assert.equal(
      (await images.collectGarbage({ all: true, mayRemove: ({ tags }) => !tags.includes('b:1') })).removed.length,
      0,
    );
    await images.remove('b:1');
    assert.deepEqual(await readdir(join(folder, 'one/layers/sha256')), []);
  });

  test('leftovers go when the store opens, and a damaged index is said to be one', async () => {
    const id = await images.import(once(rootFs), { reference: 'a:1' });
    const layers = join(folder, 'one/layers/sha256');
    await writeFile(join(layers, 'layer.0123456789ab.tmp'), 'half a layer');
    await writeFile(join(layers, `${'0'.repeat(64)}.erofs`), 'a layer of a pull that was killed');
    await writeFile(join(folder, 'one/index.json.0123456789ab.tmp'), '{');
    const reopened = await fresh('one');
    assert.equal((await reopened.rootDiskOf('a:1')).imageId, id);
    assert.equal((await readdir(layers)).length, 2);
    await writeFile(join(folder, 'one/index.json'), '{"version":1,');
    await assert.rejects(fresh('one'), code('data_loss', 'images.index_damaged'));
  });

  test('the built-in busybox is the same every time, and its applets are links to one file', async () => {
    const ids: string[] = [];
    for (const name of ['one', 'two']) {
      const store = await fresh(name);
      const content = await busyboxImage({ busyboxPath: '/bin/busybox' });
      ids.push(await store.createFromTar({ ...content, reference: 'berth/busybox:latest' }));
      const [layer] = (await store.rootDiskOf('berth/busybox')).layers;
      await run('fsck.erofs', [layer?.path ?? '']);
      const listing = await run('dump.erofs', ['--path=/bin/sh', '-s', layer?.path ?? '']);
      assert.match(listing.stdout, /Links: [1-9][0-9]{2}/);
    }
    assert.equal(ids[0], ids[1]);
  });
});
