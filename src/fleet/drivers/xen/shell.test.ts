import assert from 'node:assert/strict';
import { test } from 'node:test';
import { problemsOf, shellArguments } from './address.ts';
import { domainCommand } from './commands.ts';
import { commandFailure, MarkedOutput } from './shell.ts';

function output(mostBytes = 1_000) {
  const calls: string[] = [];
  const marked = new MarkedOutput('mark-1', {
    mostBytes,
    onDone: () => calls.push('done'),
    onTooMuch: () => calls.push('too much'),
  });
  return { marked, calls };
}

test('what a command says is what stands before its mark, byte by byte', () => {
  const { marked, calls } = output();
  for (const byte of Buffer.from('zürich\n\nmark-1 7\n')) marked.take(Buffer.from([byte]));
  assert.deepEqual([calls, marked.text, marked.tail], [['done'], 'zürich\n', '7']);
});

test("another command's mark, or one in the middle, is no end", () => {
  const { marked, calls } = output();
  marked.take(Buffer.from('\nmark-2 0\n\nmark-1 0 and more\n xmark-1 0\n'));
  assert.deepEqual(calls, []);
  marked.take(Buffer.from('\nmark-1 0\n'));
  assert.deepEqual(calls, ['done']);
  assert.ok(marked.text.endsWith('xmark-1 0\n'));
});

test('a command that says too much is stopped, with or without a mark', () => {
  const { marked, calls } = output(10);
  marked.take(Buffer.from('0123456789a'));
  assert.deepEqual(calls, ['too much']);
});

test('failures are told by what they are', () => {
  const of = (words: string) => commandFailure({ command: 'xl list', status: 1, words, where: 'rack1' }).kind;
  assert.equal(
    of('xencall: error: Could not obtain handle on privileged command interface: Permission denied'),
    'denied',
  );
  assert.equal(of("libxl: error: pvcontrol_cb: guest didn't acknowledge control request: -9"), 'conflict');
  assert.equal(of("ERROR: Can't find hypervisor information in sysfs!"), 'unavailable');
  assert.match(
    commandFailure({ command: 'xl list', status: 1, words: '', where: 'rack1' }).message,
    /rack1.*said nothing/,
  );
});

test('only digits become part of a command', () => {
  assert.equal(domainCommand('resume', 12), 'xl unpause 12');
  for (const bad of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) assert.throws(() => domainCommand('stop', bad));
});

test('URLs: ssh with everything strict, or a shell here; all problems at once', () => {
  const argv = shellArguments(new URL('xl+ssh://root@rack1:2222/?keyfile=/k&known_hosts=/h'));
  assert.deepEqual([argv[0], argv.slice(-3)], ['ssh', ['--', 'rack1', 'sh']]);
  for (const option of [
    'BatchMode=yes',
    'StrictHostKeyChecking=yes',
    'ForwardAgent=no',
    'IdentityFile=/k',
    'UserKnownHostsFile=/h',
  ])
    assert.equal(argv[argv.indexOf(option) - 1], '-o', option);
  assert.deepEqual(argv.slice(argv.indexOf('-p'), argv.indexOf('--')), ['-p', '2222', '-l', 'root']);
  assert.deepEqual(shellArguments(new URL('xl:///')), ['sh']);
  const cases: readonly [url: string, problems: number][] = [
    ['xl:///', 0],
    ['xl+ssh://h', 0],
    ['xl+ssh://[fe80::1]/', 0],
    ['xl://host/', 1],
    ['xl:///?keyfile=/k', 1],
    ['xl+ssh:///', 1],
    ['xl+ssh://-oProxyCommand=x/', 1],
    ['xl+ssh://-l@h/', 1],
    ['xl+ssh://a%20b:pw@h/system?keyfile=k&known_hosts=/a%25b&x=1', 6],
    ['xl+ssh://%zz@h/', 1],
  ];
  for (const [url, count] of cases)
    assert.equal(problemsOf(new URL(url)).length, count, `${url}: ${problemsOf(new URL(url)).join('; ')}`);
  assert.throws(() => shellArguments(new URL('xl+ssh://a%24b@h/')), { code: 'source.url' });
});
