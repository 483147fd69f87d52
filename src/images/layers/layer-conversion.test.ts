import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmod, link, mkdir, mkdtemp, open, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { type BerthError, type Digest, parseDigest } from '#base';
import { S_IFCHR, S_IFDIR, S_IFMT, S_IFREG } from '../erofs/erofs-format.ts';
import { type ErofsInode, ErofsReader } from '../erofs/erofs-reader.ts';
import { archiveOf, paxHeader, rawMember } from '../tar/tar-fixture.ts';
import { tarFile } from '../tar/tar-writer.ts';
import { type ConvertedLayer, convertLayer, DEFAULT_LAYER_LIMITS, type LayerRequest } from './layer-conversion.ts';
import { replayRecipe } from './recipe.ts';

const run = promisify(execFile);

async function* pieces(bytes: Buffer, size = 10_000): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

const sha256 = (bytes: Buffer): Digest => parseDigest(`sha256:${createHash('sha256').update(bytes).digest('hex')}`);
const modeOf = (inode: ErofsInode | undefined): number => (inode?.mode ?? 0) & S_IFMT;

interface Opened {
  readonly layer: ConvertedLayer;
  readonly erofs: ErofsReader;
  readonly path: string;
  readonly tar: Buffer;
  text(path: string): Promise<string | undefined>;
}

describe('converting a layer', () => {
  let folder = '';
  let counter = 0;
  const handles: { close(): Promise<void> }[] = [];

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'berth-layer-test-'));
  });

  after(async () => {
    for (const handle of handles) await handle.close();
    assert.deepEqual(
      (await readdir(folder)).filter((name) => name.endsWith('.tmp')),
      [],
      'aside files are left behind',
    );
    await rm(folder, { recursive: true, force: true });
  });

  const convert = (blob: Buffer, request: Partial<LayerRequest> = {}): Promise<ConvertedLayer & { path: string }> => {
    counter += 1;
    const path = join(folder, `layer-${counter}`);
    const destination = {
      aside: { image: `${path}.erofs.tmp`, recipe: `${path}.recipe.tmp` },
      final: () => ({ image: `${path}.erofs`, recipe: `${path}.recipe` }),
    };
    return convertLayer({ source: pieces(blob), ...request }, destination).then((layer) => ({ ...layer, path }));
  };

  /** Converts, makes the tar again, checks both with the field's own tools, and opens the result. */
  const convertAndOpen = async (archive: Buffer): Promise<Opened> => {
    const { path, ...layer } = await convert(archive);
    assert.equal(layer.diffId, sha256(archive));
    const image = await open(`${path}.erofs`);
    const recipe = await open(`${path}.recipe`);
    handles.push(image, recipe);
    await run('fsck.erofs', [`${path}.erofs`]);
    const chunks: Buffer[] = [];
    const source = { image, imageBytes: layer.imageBytes, recipe, recipeBytes: layer.recipeBytes };
    for await (const chunk of replayRecipe(source)) chunks.push(chunk);
    const tar = Buffer.concat(chunks);
    assert.ok(tar.equals(archive), 'the tar made from the recipe differs');
    const erofs = await ErofsReader.open(image, layer.imageBytes);
    const text = async (name: string): Promise<string | undefined> => {
      const inode = await erofs.lookup(name);
      if (inode === undefined) return undefined;
      const parts: Buffer[] = [];
      for await (const chunk of erofs.read(inode)) parts.push(chunk);
      return Buffer.concat(parts).toString('utf8');
    };
    return { layer, erofs, path: `${path}.erofs`, tar, text };
  };

  test('a GNU tar with links, devices, attributes and a large folder survives the round trip', async () => {
    const source = join(folder, 'source');
    await mkdir(join(source, 'many'), { recursive: true });
    await writeFile(join(source, 'small'), 'small');
    await writeFile(join(source, 'edge'), 'e'.repeat(2048));
    await writeFile(join(source, 'block'), 'b'.repeat(4096));
    await writeFile(join(source, 'large'), Buffer.alloc(3_000_001, 'large '));
    await link(join(source, 'small'), join(source, 'hard'));
    await symlink('../small', join(source, 'many', 'link'));
    await chmod(join(source, 'small'), 0o4711);
    for (let index = 0; index < 500; index += 1)
      await writeFile(join(source, 'many', `${'n'.repeat(index % 80)}-${index}`), `${index}`);
    await run('mknod', [join(source, 'null'), 'c', '1', '3']);
    await run('mkfifo', [join(source, 'pipe')]);
    const python =
      "import os,sys;os.setxattr(sys.argv[1],'user.note',b'value\\0binary');os.setxattr(sys.argv[1],'trusted.t',b'1')";
    await run('python3', ['-c', python, join(source, 'large')]);
    const tar = join(folder, 'gnu.tar');
    for (const format of ['posix', 'gnu', 'ustar']) {
      await run('tar', [
        `--format=${format}`,
        ...(format === 'posix' ? ['--xattrs', '--xattrs-include=*'] : []),
        '-cf',
        tar,
        '-C',
        source,
        '.',
      ]);
      const { erofs, path, text } = await convertAndOpen(await readFile(tar));
      assert.equal(await text('small'), 'small');
      assert.equal(await text('edge'), 'e'.repeat(2048));
      assert.equal(await text('many/link'), '../small');
      assert.equal((await text('large'))?.length, 3_000_001);
      assert.equal((await erofs.lookup('hard'))?.nid, (await erofs.lookup('small'))?.nid);
      assert.equal((await erofs.lookup('small'))?.linkCount, 2);
      assert.equal((await erofs.lookup('small'))?.mode, S_IFREG | 0o4711);
      assert.equal((await erofs.lookup('null'))?.device, 0x103);
      const many = await erofs.lookup('many');
      assert.equal(many === undefined ? 0 : (await erofs.list(many)).length, 501);
      if (format === 'posix') {
        const xattrs = (await erofs.lookup('large'))?.xattrs;
        assert.deepEqual(xattrs?.get('user.note'), Buffer.from('value\0binary'));
        assert.deepEqual(xattrs?.get('trusted.t'), Buffer.from('1'));
      }
      const unpacked = join(folder, `unpacked-${format}`);
      await run('fsck.erofs', [`--extract=${unpacked}`, path]);
      await run('diff', ['-r', '--no-dereference', '-x', 'pipe', '-x', 'null', source, unpacked]);
    }
  });

  test('the same tar gives the same image', async () => {
    const archive = archiveOf(tarFile('b', 'x'.repeat(5000)), tarFile('a/c', 'y'));
    const [one, two] = [await convert(archive), await convert(archive)];
    assert.ok((await readFile(`${one.path}.erofs`)).equals(await readFile(`${two.path}.erofs`)));
  });

  test('the last of several entries with one name wins, whatever their types', async () => {
    const archive = archiveOf(
      tarFile('twice', 'first'),
      tarFile('twice', 'second'),
      rawMember({ name: 'was-file', content: 'x' }),
      tarFile('was-file/inside', 'now a folder'),
      tarFile('was-folder/inside', 'gone'),
      tarFile('was-folder', 'now a file'),
      rawMember({ name: 'd/', type: '5', mode: 0o700 }),
      tarFile('d/kept', 'kept'),
      rawMember({ name: 'd/', type: '5', mode: 0o711 }),
    );
    const { erofs, text } = await convertAndOpen(archive);
    assert.equal(await text('twice'), 'second');
    assert.equal(await text('was-file/inside'), 'now a folder');
    assert.equal(await text('was-folder'), 'now a file');
    assert.equal(await text('d/kept'), 'kept');
    assert.equal((await erofs.lookup('d'))?.mode, S_IFDIR | 0o711);
    assert.equal((await erofs.lookup('was-file'))?.mode, S_IFDIR | 0o755, 'a parent without an entry of its own');
  });

  test('whiteouts become devices 0/0 and opaque marks, also through links, and never above the root', async () => {
    const archive = archiveOf(
      tarFile('etc/.wh.gone', ''),
      tarFile('var/.wh..wh..opq', 'a mark may have content'),
      tarFile('.wh..wh.plnk', ''),
      rawMember({ name: 'up', type: '2', link: '../../..' }),
      tarFile('up/.wh.escaped', ''),
      tarFile('up/etc/motd', 'inside'),
      tarFile('.wh.replaced', ''),
      rawMember({ name: 'replaced/', type: '5' }),
      tarFile('own', 'stays'),
      tarFile('.wh.own', ''),
    );
    const { erofs, text } = await convertAndOpen(archive);
    const gone = await erofs.lookup('etc/gone');
    assert.equal(modeOf(gone), S_IFCHR);
    assert.equal(gone?.device, 0);
    assert.deepEqual((await erofs.lookup('var'))?.xattrs.get('trusted.overlay.opaque'), Buffer.from('y'));
    assert.equal(modeOf(await erofs.lookup('escaped')), S_IFCHR, 'the link leads to the root, not above it');
    assert.equal(await text('etc/motd'), 'inside');
    assert.equal((await erofs.lookup('replaced'))?.xattrs.get('trusted.overlay.opaque')?.toString(), 'y');
    assert.equal(await text('own'), 'stays');
    const root = await erofs.lookup('');
    assert.deepEqual(root === undefined ? [] : (await erofs.list(root)).map(({ name }) => name), [
      'escaped',
      'etc',
      'own',
      'replaced',
      'up',
      'var',
    ]);
  });

  test('an image cannot forge overlayfs’s own attributes', async () => {
    const records = {
      'SCHILY.xattr.trusted.overlay.redirect': '/etc',
      'SCHILY.xattr.user.mine': '1',
      'SCHILY.xattr.lustre.x': '1',
    };
    const { erofs } = await convertAndOpen(archiveOf(paxHeader(records), rawMember({ name: 'd/', type: '5' })));
    assert.deepEqual([...((await erofs.lookup('d'))?.xattrs.keys() ?? [])], ['user.mine']);
  });

  test('attributes larger than a block, many of them, and an ACL are kept', async () => {
    const acl = Buffer.from('0200000001000600ffffffff04000400ffffffff20000400ffffffff', 'hex');
    const records = { 'SCHILY.xattr.user.big': 'v'.repeat(9000), 'SCHILY.xattr.system.posix_acl_access': acl };
    const archive = archiveOf(
      paxHeader(records),
      tarFile('f', 'content'),
      paxHeader(records),
      rawMember({ name: 'd/', type: '5' }),
      tarFile('d/x', 'x'),
    );
    const { erofs, text } = await convertAndOpen(archive);
    for (const name of ['f', 'd']) {
      const xattrs = (await erofs.lookup(name))?.xattrs;
      assert.equal(xattrs?.get('user.big')?.length, 9000);
      assert.deepEqual(xattrs?.get('system.posix_acl_access'), acl);
    }
    assert.equal(await text('f'), 'content');
    assert.equal(await text('d/x'), 'x');
  });

  test('hard links to nothing and to folders, and loops of links, are refused', async () => {
    const code = (expected: string) => (error: BerthError) => error.kind === 'invalid' && error.code === expected;
    await assert.rejects(
      convert(archiveOf(rawMember({ name: 'l', type: '1', link: 'missing' }))),
      code('tar.link_missing_target'),
    );
    const toFolder = archiveOf(rawMember({ name: 'd/', type: '5' }), rawMember({ name: 'l', type: '1', link: 'd' }));
    await assert.rejects(convert(toFolder), code('tar.link_to_directory'));
    const loop = archiveOf(
      rawMember({ name: 'a', type: '2', link: 'b' }),
      rawMember({ name: 'b', type: '2', link: 'a' }),
      tarFile('a/x', ''),
    );
    await assert.rejects(convert(loop), code('tar.link_loop'));
    await assert.rejects(convert(archiveOf(tarFile('.wh...', ''))), code('tar.bad_whiteout'));
  });

  test('gzip, zstd and plain blobs give the same layer, byte by byte input included', async () => {
    const archive = archiveOf(tarFile('a', 'x'.repeat(100_000)));
    for (const blob of [archive, gzipSync(archive), zstdCompressSync(archive)]) {
      const layer = await convert(blob, {
        expected: { digest: sha256(blob), sizeBytes: blob.length },
        expectedDiffId: sha256(archive),
      });
      assert.equal(layer.diffId, sha256(archive));
      assert.equal(layer.blobDigest, sha256(blob));
    }
    const small = gzipSync(archiveOf(tarFile('a', 'x')));
    assert.equal((await convert(small, { source: pieces(small, 1) })).entryCount, 1);
  });

  test('wrong digests and sizes are refused', async () => {
    const archive = archiveOf(tarFile('a', 'x'));
    const other = sha256(Buffer.from('other'));
    const code = (expected: string) => (error: BerthError) => error.kind === 'data_loss' && error.code === expected;
    const right = { digest: sha256(archive), sizeBytes: archive.length };
    await assert.rejects(convert(archive, { expected: { ...right, digest: other } }), code('layer.digest_mismatch'));
    await assert.rejects(
      convert(archive, { expected: { ...right, sizeBytes: archive.length - 1 } }),
      code('layer.size_mismatch'),
    );
    await assert.rejects(
      convert(archive, { expected: { ...right, sizeBytes: archive.length + 1 } }),
      code('layer.size_mismatch'),
    );
    await assert.rejects(convert(archive, { expectedDiffId: other }), code('layer.diff_id_mismatch'));
  });

  test('truncated and damaged compression is refused', async () => {
    const archive = archiveOf(tarFile('a', createHash('sha512').update('x').digest('hex').repeat(500)));
    for (const blob of [gzipSync(archive), zstdCompressSync(archive)]) {
      await assert.rejects(
        convert(blob.subarray(0, blob.length - 10)),
        (error: BerthError) => error.kind === 'invalid',
      );
      const damaged = Buffer.from(blob);
      damaged.fill(0x55, 20, 60);
      await assert.rejects(convert(damaged), (error: BerthError) => error.kind === 'invalid');
    }
  });

  test('gzip and zstd bombs end at the limit, long before they have unfolded', async () => {
    const zeros = Buffer.alloc(200 * 1024 * 1024);
    const header = rawMember({ name: 'zeros', size: zeros.length });
    for (const blob of [gzipSync(Buffer.concat([header, zeros])), zstdCompressSync(Buffer.concat([header, zeros]))]) {
      const limits = { ...DEFAULT_LAYER_LIMITS, maxTarBytes: 10 * 1024 * 1024 };
      await assert.rejects(convert(blob, { limits }), (error: BerthError) => error.code === 'layer.bomb');
    }
    const dense = zstdCompressSync(Buffer.concat([header, zeros]));
    assert.ok(zeros.length / dense.length > 1024);
    await assert.rejects(convert(dense), (error: BerthError) => error.code === 'layer.bomb');
  });

  test('a cancelled conversion is cancelled, not damaged', async () => {
    const stop = new AbortController();
    const archive = archiveOf(tarFile('a', Buffer.alloc(2_000_000)));
    const onProgress = (bytes: number): void => {
      if (bytes > 500_000) stop.abort();
    };
    await assert.rejects(
      convert(archive, { signal: stop.signal, onProgress }),
      (error: BerthError) => error.kind === 'cancelled',
    );
  });

  test('a damaged image is refused by the reader, at any byte', async () => {
    const { path } = await convert(archiveOf(tarFile('d/a', 'x'.repeat(3000)), tarFile('d/b', 'y')));
    const good = await readFile(`${path}.erofs`);
    for (let at = 1024; at < good.length; at += 3) {
      const bad = Buffer.from(good);
      bad[at] = (bad[at] ?? 0) ^ 0xff;
      const file = {
        read: async (buffer: Uint8Array, offset: number, length: number, position: number) => ({
          bytesRead: bad.copy(buffer, offset, position, position + length),
        }),
      };
      try {
        const erofs = await ErofsReader.open(file, bad.length);
        for (const name of ['d', 'd/a', 'd/b']) {
          const inode = await erofs.lookup(name);
          if (inode === undefined) continue;
          for await (const chunk of erofs.read(inode)) assert.ok(chunk.length > 0);
        }
      } catch (error) {
        assert.equal((error as BerthError).name, 'BerthError', `byte ${at}: ${String(error)}`);
      }
    }
  });
});
