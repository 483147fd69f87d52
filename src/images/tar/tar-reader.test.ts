import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { BerthError } from '#base';
import type { TarEntry } from './tar-entry.ts';
import { archiveOf, END_MARK, gnuLong, paxHeader, rawMember } from './tar-fixture.ts';
import { DEFAULT_TAR_LIMITS, type TarLimits, TarReader } from './tar-reader.ts';

interface Read {
  readonly entries: TarEntry[];
  readonly bodies: string[];
  readonly all: Buffer;
}

function read(archive: Buffer, options: { chunk?: number; limits?: TarLimits } = {}): Read {
  const entries: TarEntry[] = [];
  const bodies: string[] = [];
  const all: Buffer[] = [];
  const reader = new TarReader(
    {
      raw: (bytes) => all.push(Buffer.from(bytes)),
      entry: (entry) => {
        entries.push(entry);
        bodies.push('');
      },
      body: (bytes) => {
        all.push(Buffer.from(bytes));
        bodies.push(`${bodies.pop() ?? ''}${bytes.toString('latin1')}`);
      },
      entryEnd: () => {},
    },
    options.limits ?? DEFAULT_TAR_LIMITS,
  );
  const size = options.chunk ?? archive.length;
  for (let at = 0; at < archive.length; at += size) reader.push(archive.subarray(at, at + size));
  reader.end();
  return { entries, bodies, all: Buffer.concat(all) };
}

const refused = (archive: Buffer, code: string, limits?: TarLimits): void => {
  for (const chunk of [archive.length, 1, 513]) {
    assert.throws(
      () => read(archive, { chunk, ...(limits === undefined ? {} : { limits }) }),
      (error: BerthError) => {
        assert.equal(`${error.kind} ${error.code}`, `invalid tar.${code}`);
        return true;
      },
    );
  }
};

const file = (name: string, content = ''): Buffer => rawMember({ name, content });

describe('reading a tar archive', () => {
  test('chunks of any size give the same entries, and every byte comes out once and in order', () => {
    const archive = Buffer.concat([
      rawMember({ name: 'd/', type: '5', mode: 0o755 }),
      rawMember({ name: 'd/file', content: 'x'.repeat(700), mode: 0o4755, uid: 1000, mtime: 1234 }),
      rawMember({ name: 'd/empty' }),
      rawMember({ name: 'd/link', type: '2', link: '/etc/passwd' }),
      rawMember({ name: 'd/hard', type: '1', link: 'd/file', size: 700 }),
      rawMember({ name: 'null', type: '3', device: [1, 3] }),
      paxHeader({ path: 'päx', mtime: '5.25', 'SCHILY.xattr.security.capability': Buffer.from([1, 0, 10, 0]) }),
      rawMember({ name: 'short', content: 'pax body' }),
      gnuLong('L', 'n'.repeat(200)),
      rawMember({ name: 'n', magic: 'gnu', content: 'long' }),
      END_MARK,
      Buffer.from('bytes after the end mark belong to the layer too'),
    ]);
    const whole = read(archive);
    for (const chunk of [1, 7, 511, 512, 513, 4096]) {
      const cut = read(archive, { chunk });
      assert.deepEqual(cut.entries, whole.entries);
      assert.deepEqual(cut.bodies, whole.bodies);
      assert.ok(cut.all.equals(archive), `bytes differ with chunks of ${chunk}`);
    }
    const named = (path: string): TarEntry | undefined => whole.entries.find((entry) => entry.path === path);
    assert.equal(named('d')?.type, 'directory');
    assert.equal(named('d/file')?.mode, 0o4755);
    assert.equal(named('d/file')?.uid, 1000);
    assert.equal(named('d/link')?.linkTarget, '/etc/passwd');
    assert.equal(named('d/hard')?.sizeBytes, 0, 'a hard link has no content, whatever its header says');
    assert.deepEqual([named('null')?.deviceMajor, named('null')?.deviceMinor], [1, 3]);
    const pax = named(Buffer.from('päx').toString('latin1'));
    assert.deepEqual([pax?.mtimeSeconds, pax?.mtimeNanoseconds], [5, 250_000_000]);
    assert.deepEqual(pax?.xattrs.get('security.capability'), Buffer.from([1, 0, 10, 0]));
    assert.equal(named('n'.repeat(200))?.sizeBytes, 4);
  });

  test('leading slashes and dots are stripped, and the root may be an entry', () => {
    const names = read(archiveOf(rawMember({ name: './', type: '5' }), file('/etc/x'), file('.//a/./b'))).entries;
    assert.deepEqual(
      names.map(({ path }) => path),
      ['', 'etc/x', 'a/b'],
    );
  });

  test('a prefix, a base-256 size and a negative PAX time are read', () => {
    const size = Buffer.alloc(12);
    size[0] = 0x80;
    size[11] = 3;
    const archive = archiveOf(
      rawMember({ name: 'name', prefix: 'folder/sub' }),
      rawMember({ name: 'big', content: 'abc', size }),
      paxHeader({ mtime: '-1.5' }),
      file('old'),
    );
    const [prefixed, big, old] = read(archive).entries;
    assert.equal(prefixed?.path, 'folder/sub/name');
    assert.equal(big?.sizeBytes, 3);
    assert.deepEqual([old?.mtimeSeconds, old?.mtimeNanoseconds], [-2, 500_000_000]);
  });

  test('global PAX records hold until they are overruled', () => {
    const archive = archiveOf(paxHeader({ uid: '7' }, 'g'), file('a'), paxHeader({ uid: '8' }), file('b'), file('c'));
    assert.deepEqual(
      read(archive).entries.map(({ uid }) => uid),
      [7, 8, 7],
    );
  });

  test('an archive without an end mark is taken, as Go takes it', () => {
    assert.equal(read(file('a', 'x')).entries.length, 1);
    assert.equal(read(Buffer.concat([file('a'), Buffer.alloc(512)])).entries.length, 1);
    assert.equal(read(Buffer.alloc(0)).entries.length, 0);
  });

  test('names that leave the root are refused, in names, hard links and PAX paths', () => {
    refused(archiveOf(file('../x')), 'path_escapes');
    refused(archiveOf(file('a/../../x')), 'path_escapes');
    refused(archiveOf(file('a/..')), 'path_escapes');
    refused(archiveOf(rawMember({ name: 'l', type: '1', link: '../etc/passwd' })), 'path_escapes');
    refused(archiveOf(paxHeader({ path: '../../x' }), file('x')), 'path_escapes');
    refused(archiveOf(gnuLong('L', '../x'), file('x')), 'path_escapes');
  });

  test('names and their parts have the kernel’s lengths', () => {
    refused(archiveOf(paxHeader({ path: 'p'.repeat(256) }), file('x')), 'name_too_long');
    refused(archiveOf(paxHeader({ path: 'p/'.repeat(2100) }), file('x')), 'path_too_long');
    assert.equal(read(archiveOf(paxHeader({ path: 'p'.repeat(255) }), file('x'))).entries.length, 1);
  });

  test('NUL in a PAX path is refused, in an extended attribute it is data', () => {
    refused(archiveOf(paxHeader({ path: 'a\0b' }), file('x')), 'nul_in_pax');
    refused(archiveOf(paxHeader({ linkpath: 'a\0b' }), file('x')), 'nul_in_pax');
    const xattr = archiveOf(paxHeader({ 'SCHILY.xattr.user.a': 'x\0y' }), file('x'));
    assert.deepEqual(read(xattr).entries[0]?.xattrs.get('user.a'), Buffer.from('x\0y'));
  });

  test('PAX headers that are too large or not records are refused', () => {
    refused(archiveOf(rawMember({ name: 'x', type: 'x', size: 1024 * 1024 + 1 })), 'extension_too_large');
    refused(archiveOf(gnuLong('L', 'x'), rawMember({ name: 'x', type: 'L', size: 2 ** 30 })), 'extension_too_large');
    for (const content of ['x', '5 a=b\n', '99999 a=b\n', '6 a=bc\n', '3 =\n', '0 \n', '-5 a=b\n', '6 abcd\n']) {
      refused(archiveOf(rawMember({ name: 'x', type: 'x', content }), file('x')), 'bad_pax');
    }
  });

  test('negative sizes are refused in base 256 and in PAX: they would turn a reader in circles', () => {
    refused(archiveOf(rawMember({ name: 'x', size: Buffer.alloc(12, 0xff) })), 'negative_size');
    const farBelow = Buffer.alloc(12);
    farBelow[0] = 0xc0;
    refused(archiveOf(rawMember({ name: 'x', size: farBelow })), 'negative_size');
    refused(archiveOf(paxHeader({ size: '-1' }), file('x')), 'negative_size');
    const farAbove = Buffer.alloc(12, 0x7f);
    farAbove[0] = 0x80;
    refused(archiveOf(rawMember({ name: 'x', size: farAbove })), 'bad_number');
  });

  test('sparse files and unknown types are refused', () => {
    refused(archiveOf(rawMember({ name: 'x', type: 'S' })), 'sparse');
    refused(archiveOf(paxHeader({ 'GNU.sparse.major': '1' }), file('x')), 'sparse');
    refused(archiveOf(rawMember({ name: 'x', type: 'M' })), 'unsupported_type');
  });

  test('damaged and truncated archives are refused', () => {
    refused(archiveOf(rawMember({ name: 'x', wrongChecksum: true })), 'bad_checksum');
    refused(Buffer.concat([file('x'), Buffer.alloc(512), file('y')]), 'bad_checksum');
    refused(Buffer.from('this is text, not an archive'.padEnd(1024, '.')), 'bad_number');
    const whole = file('x', 'y'.repeat(600));
    refused(whole.subarray(0, 100), 'truncated');
    refused(whole.subarray(0, 700), 'truncated');
    refused(whole.subarray(0, whole.length - 1), 'truncated');
    refused(paxHeader({ path: 'a' }), 'truncated');
  });

  test('links without a target are refused', () => {
    refused(archiveOf(rawMember({ name: 'x', type: '2' })), 'bad_link');
    refused(archiveOf(rawMember({ name: 'x', type: '1', link: '/' })), 'bad_link');
    refused(archiveOf(file('.')), 'empty_name');
  });

  test('the numbers of entries and of bytes are limited', () => {
    const limits = { maxEntries: 2, maxContentBytes: 10 };
    refused(archiveOf(file('a'), file('b'), file('c')), 'too_many_entries', limits);
    refused(archiveOf(file('a', '123456'), file('b', '12345')), 'too_large', limits);
    refused(archiveOf(rawMember({ name: 'x', size: 8 ** 11 - 1 })), 'too_large', limits);
  });
});
