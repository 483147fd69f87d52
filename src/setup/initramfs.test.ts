import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { buildInitramfs, moduleDependencies, orderModules, packInitramfs, withoutSignature } from './initramfs.ts';

const module = (...depends: string[]) => Buffer.from(`ELF\0license=GPL\0depends=${depends.join(',')}\0name=x\0`);

function signed(bytes: Buffer): Buffer {
  const info = Buffer.alloc(12);
  info.writeUInt32BE(5, 8);
  return Buffer.concat([bytes, Buffer.from('12345'), info, Buffer.from('~Module signature appended~\n')]);
}

describe('the cpio archive', () => {
  test('is byte for byte what the kernel documents', () => {
    const archive = packInitramfs([
      { path: 'dev', mode: 0o040755 },
      { path: 'dev/console', mode: 0o020600, device: [5, 1] },
      { path: 'init', mode: 0o100755, data: Buffer.from('#!x\n1') },
    ]);
    const golden = [
      '07070100000001000041ed000000000000000000000002000000000000000000000000000000000000000000000000000000040000',
      '0000dev\0\0\0',
      '070701000000020000218000000000000000000000000100000000000000000000000000000000000000050000000100000',
      '00c00000000dev/console\0\0\0',
      '07070100000003000081ed00000000000000000000000100000000000000050000000000000000000000000000000000000005',
      '00000000init\0\0#!x\n1\0\0\0',
      '0707010000000400000000000000000000000000000001000000000000000000000000000000000000000000000000000000',
      '0b00000000TRAILER!!!\0\0\0\0',
    ].join('');
    assert.equal(archive.toString('latin1'), golden);
    assert.equal(archive.length % 4, 0);
  });
});

describe('kernel modules', () => {
  test('come after what they depend on, once, with the markers in place', () => {
    const known = new Map([
      ['a', module('b', 'c')],
      ['b', module('c')],
      ['c', module()],
      ['d', module('b', 'built_in')],
    ]);
    const { order } = orderModules(['a', 'd', 'absent', 'c'], (name) => known.get(name));
    assert.deepEqual(order, ['c', 'b', 'a', 'd']);
  });

  test('that depend in a circle are refused', () => {
    const known = new Map([
      ['a', module('b')],
      ['b', module('a')],
    ]);
    assert.throws(() => orderModules(['a'], (name) => known.get(name)), { code: 'modules.circle' });
  });

  test('name their dependencies themselves', () => {
    assert.deepEqual(moduleDependencies(module('x', 'y_z', 'a-b')), ['x', 'y_z', 'a_b']);
    assert.deepEqual(moduleDependencies(module()), []);
    assert.deepEqual(moduleDependencies(Buffer.from('no modinfo')), []);
  });

  test('lose their appended signature and nothing else', () => {
    const bytes = module('x');
    assert.ok(withoutSignature(signed(bytes)).equals(bytes));
    assert.ok(withoutSignature(bytes).equals(bytes));
    const lying = signed(Buffer.alloc(0));
    lying.writeUInt32BE(4_000_000, 5 + 8);
    assert.ok(withoutSignature(lying).equals(lying));
  });

  test('are packed with the guest program and their order', () => {
    const archive = buildInitramfs(Buffer.from('PROGRAM'), (name) => (name === 'erofs' ? module() : undefined));
    const text = archive.toString('latin1');
    assert.match(text, /init\0+PROGRAM/);
    assert.match(text, /modules\/order\0+erofs\n/);
  });
});
