import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Options, parseCommand } from './command-line.ts';
import { RUN_FLAGS } from './create-flags.ts';
import { bytesOf, type CreateBody, createBody, parseEnvFile } from './create-request.ts';
import { parsePublished } from './ports.ts';

function body(
  words: string[],
  env: Record<string, string> = {},
  files: Partial<Record<'envFiles' | 'labelFiles', string[]>> = {},
): CreateBody {
  const parsed = parseCommand('run', { usage: '', about: '', flags: RUN_FLAGS, optionsFirst: true }, words);
  const { options, args } = parsed as { options: Options; args: readonly string[] };
  const [image = '', ...command] = args;
  const attached = { stdin: options.flag('interactive'), stdout: true, stderr: true };
  return createBody({
    options,
    image,
    command,
    env,
    envFiles: [],
    labelFiles: [],
    attached,
    consoleSize: [0, 0],
    ...files,
  });
}

test('a plain run asks for the image and nothing else', () => {
  const made = body(['busybox', 'echo', 'hi']);
  assert.deepEqual(
    [made.Image, made.Cmd, made.Entrypoint, made.Tty, made.OpenStdin],
    ['busybox', ['echo', 'hi'], null, false, false],
  );
  assert.deepEqual(
    [made.HostConfig.NetworkMode, made.HostConfig.AutoRemove, made.HostConfig.Memory],
    ['default', false, 0],
  );
  assert.equal(body(['busybox']).Cmd, null);
});

test('standard input is closed with the first client only when it is attached', () => {
  assert.deepEqual(
    [body(['-i', 'x']).OpenStdin, body(['-i', 'x']).StdinOnce, body(['-d', 'x']).StdinOnce],
    [true, true, false],
  );
});

test('variables: files first, then flags; a bare name takes its value from here', () => {
  const made = body(
    ['-e', 'B=2', '-e', 'HOME', '-e', 'GONE', 'x'],
    { HOME: '/h' },
    { envFiles: ['A=1\n# no\n\nHOME\n'] },
  );
  assert.deepEqual(made.Env, ['A=1', 'HOME=/h', 'B=2', 'HOME=/h', 'GONE']);
});

test('quantities and limits', () => {
  const { HostConfig } = body([
    '--cpus',
    '1.5',
    '-m',
    '512m',
    '--shm-size',
    '64k',
    '--ulimit',
    'nofile=1:2',
    '--storage-opt',
    'size=20g',
    '--sysctl',
    'a.b=1',
    'x',
  ]);
  assert.deepEqual(
    [
      HostConfig.NanoCpus,
      HostConfig.Memory,
      HostConfig.ShmSize,
      HostConfig.Ulimits,
      HostConfig.StorageOpt,
      HostConfig.Sysctls,
    ],
    [1_500_000_000, 536_870_912, 65_536, [{ Name: 'nofile', Soft: 1, Hard: 2 }], { size: '20g' }, { 'a.b': '1' }],
  );
  assert.equal(bytesOf('1.5g', ''), 1_610_612_736);
  assert.equal(bytesOf('7', ''), 7);
  assert.throws(() => body(['-m', 'lots', 'x']), { code: 'usage' });
});

test('labels, hosts and mounts', () => {
  const made = body(
    [
      '-l',
      'a=b=c',
      '-l',
      'd',
      '--add-host',
      'db:10.0.0.1',
      '--tmpfs',
      '/t:size=1m',
      '--mount',
      'type=tmpfs,target=/u,tmpfs-size=2m',
      'x',
    ],
    {},
    { labelFiles: ['f=1\n'] },
  );
  assert.deepEqual(made.Labels, { f: '1', a: 'b=c', d: '' });
  assert.deepEqual(made.HostConfig.ExtraHosts, ['db:10.0.0.1']);
  assert.deepEqual(made.HostConfig.Tmpfs, { '/t': 'size=1m' });
  assert.deepEqual(made.HostConfig.Mounts, [
    { Type: 'tmpfs', Target: '/u', Source: '', ReadOnly: false, TmpfsOptions: { SizeBytes: 2_097_152 } },
  ]);
});

test('an env file is taken as it is', () => {
  assert.deepEqual(parseEnvFile('\uFEFFA="x y"\r\n  B=1\n#C=2\nD\nE\n', { D: 'd' }), ['A="x y"', 'B=1', 'D=d']);
  assert.throws(() => parseEnvFile('A B=1\n', {}), /line 1.*whitespaces/);
  assert.throws(() => parseEnvFile('\n=1\n', {}), /line 2/);
});

test('published ports in every form', () => {
  const bindings = (...specs: string[]): unknown => parsePublished(specs).bindings;
  assert.deepEqual(bindings('80'), { '80/tcp': [{ HostIp: '', HostPort: '' }] });
  assert.deepEqual(bindings('8080:80'), { '80/tcp': [{ HostIp: '', HostPort: '8080' }] });
  assert.deepEqual(bindings('127.0.0.1:8080:80/udp'), { '80/udp': [{ HostIp: '127.0.0.1', HostPort: '8080' }] });
  assert.deepEqual(bindings('127.0.0.1::80'), { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: '' }] });
  assert.deepEqual(bindings('[::1]:8080:80'), { '80/tcp': [{ HostIp: '::1', HostPort: '8080' }] });
  assert.deepEqual(bindings('8000-8001:80-81'), {
    '80/tcp': [{ HostIp: '', HostPort: '8000' }],
    '81/tcp': [{ HostIp: '', HostPort: '8001' }],
  });
  assert.deepEqual(bindings('8000-8010:80'), { '80/tcp': [{ HostIp: '', HostPort: '8000-8010' }] });
  assert.deepEqual(bindings('1:80', '2:80'), {
    '80/tcp': [
      { HostIp: '', HostPort: '1' },
      { HostIp: '', HostPort: '2' },
    ],
  });
  for (const wrong of ['', 'x', '80:x', '0:80', '70000', '90-80', '1-3:1-2', '127.0.0.1:80'])
    assert.throws(() => bindings(wrong), { code: 'usage' }, wrong);
});
