import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BerthError } from '#base';
import type { HostConfig } from './create-body.ts';
import { wantedVolumes } from './volume-requests.ts';

const binds = (...Binds: string[]) => wantedVolumes({ Binds });

test('-v names a volume, a place, and how', () => {
  const plain = { volume: 'data', path: '/srv', readOnly: false, fill: true };
  for (const [bind, change] of [
    ['data:/srv', {}],
    ['data:/srv/', {}],
    ['data:/srv/../srv//', {}],
    ['data:/srv:rw,z', {}],
    ['data:/srv:ro', { readOnly: true }],
    ['data:/srv:nocopy', { fill: false }],
    ['data:/srv:ro,nocopy', { readOnly: true, fill: false }],
  ] as const)
    assert.deepEqual(binds(bind).mounts, [{ ...plain, ...change }], bind);
});

test('--mount says the same, and what a new volume should be', () => {
  const host: Partial<HostConfig> = {
    Mounts: [
      {
        Type: 'volume',
        Source: 'data',
        Target: '/srv',
        ReadOnly: true,
        VolumeOptions: {
          NoCopy: true,
          Subpath: '',
          Labels: { a: 'b' },
          DriverConfig: { Name: 'local', Options: { size: '2g' } },
        },
      },
      { Type: 'tmpfs', Source: '', Target: '/t', ReadOnly: false },
      { Type: 'volume', Source: '', Target: '/nameless', ReadOnly: false },
    ],
  };
  const { mounts, requests, anonymous } = wantedVolumes(host);
  assert.deepEqual(mounts, [{ volume: 'data', path: '/srv', readOnly: true, fill: false }]);
  assert.deepEqual(requests, [{ name: 'data', labels: { a: 'b' }, sizeBytes: 2 * 2 ** 30, options: { size: '2g' } }]);
  assert.deepEqual(anonymous, ['/nameless']);
});

test('a folder comes before what lies in it, whatever the order on the command line', () => {
  const { mounts } = binds('one:/data/inner', 'two:/data', 'three:/data.old');
  assert.deepEqual(
    mounts.map(({ path }) => path),
    ['/data', '/data.old', '/data/inner'],
  );
});

test('what cannot be is refused', () => {
  for (const [words, list] of [
    [/host folder/, ['/etc:/etc']],
    [/host folder/, ['./here:/etc']],
    [/Duplicate mount point: \/a/, ['x1:/a', 'x2:/a/']],
    [/in two places/, ['x1:/a', 'x1:/b']],
    [/at most 4/, ['v1:/1', 'v2:/2', 'v3:/3', 'v4:/4', 'v5:/5']],
    [/must be absolute/, ['x1:a']],
    [/destination can't be/, ['x1:/..']],
    [/invalid mode: shared/, ['x1:/a:shared']],
    [/invalid volume specification/, ['x1:/a:ro:more']],
    [/invalid volume specification/, ['x1']],
    [/invalid characters/, ['x,1:/a']],
    [/invalid characters/, [`${'n'.repeat(201)}:/a`]],
  ] as const)
    assert.throws(
      () => binds(...list),
      (error) => error instanceof BerthError && words.test(error.message),
      String(words),
    );
});
