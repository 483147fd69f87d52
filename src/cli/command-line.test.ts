import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type CommandShape, type Options, parseCommand } from './command-line.ts';
import { RUN_FLAGS } from './create-flags.ts';
import { globalFlags } from './program.ts';

const shape: CommandShape = { usage: '', about: '', flags: RUN_FLAGS, optionsFirst: true, least: 1 };

function parse(...words: string[]): { options: Options; args: readonly string[] } {
  const parsed = parseCommand('run', shape, words);
  assert.equal(parsed.kind, 'run');
  return parsed as { options: Options; args: readonly string[] };
}

test('switches may be joined, and options end at the image', () => {
  const { options, args } = parse('-it', '--rm', 'busybox', 'ls', '-la', '--rm=false');
  assert.deepEqual(
    ['interactive', 'tty', 'rm', 'detach'].map((name) => options.flag(name)),
    [true, true, true, false],
  );
  assert.deepEqual(args, ['busybox', 'ls', '-la', '--rm=false']);
});

test('a switch takes a truth value after =', () => {
  assert.equal(parse('--rm=true', 'x').options.flag('rm'), true);
  assert.equal(parse('--rm=false', 'x').options.flag('rm'), false);
  assert.equal(parse('-d=1', 'x').options.flag('detach'), true);
  assert.throws(() => parse('--rm=perhaps', 'x'), { code: 'usage' });
});

test('signals are passed on unless told otherwise', () => {
  assert.equal(parse('x').options.flag('sig-proxy'), true);
  assert.equal(parse('--sig-proxy=false', 'x').options.flag('sig-proxy'), false);
});

test('values come after a blank, after =, or at once; repeated ones keep their order', () => {
  const { options } = parse('-e', 'A=1', '--env=B=2', '-eC=3', '-e=D=4', '-p8080:80', '-m', '1g', 'x');
  assert.deepEqual(options.list('env'), ['A=1', 'B=2', 'C=3', 'D=4']);
  assert.deepEqual(options.list('publish'), ['8080:80']);
  assert.equal(options.text('memory'), '1g');
});

test('a value may look like an option', () => {
  const { options, args } = parse('--name', '-x', '-itu', '--root', 'image', '-v');
  assert.deepEqual([options.text('name'), options.text('user'), args], ['-x', '--root', ['image', '-v']]);
});

test('-h is the host name, as in Docker', () => {
  assert.equal(parse('-h', 'web', 'x').options.text('hostname'), 'web');
});

test('mistakes name the word and the way out', () => {
  assert.throws(
    () => parse('--nonsense', 'x'),
    (error: Error & { code?: string; hint?: string }) => {
      assert.match(error.message, /--nonsense/);
      assert.match(error.hint ?? '', /berth run --help/);
      return error.code === 'usage';
    },
  );
  assert.throws(() => parse('--rm'), /requires at least 1 argument/);
});

test('--help is text, not a run', () => {
  const parsed = parseCommand('run', { ...shape, examples: ['berth run x'] }, ['--help']);
  assert.equal(parsed.kind, 'help');
  assert.match(parsed.kind === 'help' ? parsed.text : '', /--publish[\s\S]*Examples:\n {2}berth run x/);
});

test('--no-trunc is a switch of its own', () => {
  const listing: CommandShape = { usage: '', about: '', flags: [{ flags: '--no-trunc', about: '' }] };
  const given = (words: string[]): boolean => {
    const parsed = parseCommand('ps', listing, words);
    return parsed.kind === 'run' && parsed.options.flag('no-trunc');
  };
  assert.deepEqual([given([]), given(['--no-trunc']), given(['--no-trunc=false'])], [false, true, false]);
});

test('flags before the verb choose the daemon', () => {
  assert.deepEqual(globalFlags(['-H', 'unix:///x.sock', '--state-dir=/s', 'ps', '-a']), {
    flags: { socket: '/x.sock', stateDir: '/s' },
    rest: ['ps', '-a'],
  });
  assert.throws(() => globalFlags(['-H', 'tcp://host:2375', 'ps']), { code: 'usage' });
});
