import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { BerthError, humanDuration } from '#base';
import { daemonCommand } from '#setup';
import { Options } from './command-line.ts';
import { type CompletedVerb, completionScript } from './completion-scripts.ts';
import { filtersOf, queryText } from './engine-client.ts';
import { exitCodeOf, exitCodeOfRun } from './exit-codes.ts';
import { FrameReader } from './frame-reader.ts';
import { renderListing } from './listing.ts';
import { ProgressPrinter } from './progress.ts';
import { splitImage } from './pull.ts';
import { ellipsis, humanSize, portsText, renderTable } from './tables.ts';
import { unitText } from './unit-file.ts';
import { VERBS } from './verb-table.ts';
import { rowOf } from './verbs/ps.ts';

test('a table pads to the widest cell and three, and at least to ten', () => {
  assert.equal(
    renderTable([
      ['A', 'BBBBBBBBBB', 'C'],
      ['é', 'x', 'y'],
    ]),
    'A         BBBBBBBBBB   C\né         x            y\n',
  );
});

test('times and sizes are said as Docker says them', () => {
  const told = [0.5, 1.5, 59, 60, 119, 120, 3600, 7200, 86_400 * 3, 86_400 * 21, 86_400 * 100, 86_400 * 800].map(
    humanDuration,
  );
  assert.deepEqual(told, [
    'Less than a second',
    '1 second',
    '59 seconds',
    'About a minute',
    'About a minute',
    '2 minutes',
    'About an hour',
    '2 hours',
    '3 days',
    '3 weeks',
    '3 months',
    '2 years',
  ]);
  assert.deepEqual([0, 999, 1536, 1_500_000, 2e9].map(humanSize), ['0B', '999B', '1.54kB', '1.5MB', '2GB']);
  assert.equal(ellipsis('a'.repeat(21), 20), `${'a'.repeat(19)}…`);
});

test('ports: published ones, ranges of neighbours, mappings last', () => {
  const ports = [
    { IP: '0.0.0.0', PrivatePort: 80, PublicPort: 8080, Type: 'tcp' },
    { PrivatePort: 443, Type: 'tcp' },
    { IP: '0.0.0.0', PrivatePort: 1901, PublicPort: 1901, Type: 'tcp' },
    { IP: '0.0.0.0', PrivatePort: 1900, PublicPort: 1900, Type: 'tcp' },
  ];
  assert.equal(portsText(ports), '443/tcp, 0.0.0.0:1900-1901->1900-1901/tcp, 0.0.0.0:8080->80/tcp');
});

test('a listing is a table, JSON, or what a template says', () => {
  const listing = {
    rows: [{ ID: 'a', Name: 'x' }],
    columns: [
      ['ID', 'IMAGE ID'],
      ['Name', 'NAME'],
    ] as const,
  };
  assert.equal(renderListing(listing, new Options({})), 'IMAGE ID   NAME\na          x\n');
  assert.equal(renderListing(listing, new Options({ json: true })), '{"ID":"a","Name":"x"}\n');
  assert.equal(renderListing(listing, new Options({ format: '{{.Name}}={{.ID}}' })), 'x=a\n');
  assert.equal(
    renderListing(listing, new Options({ format: 'table {{.ID}}\\t{{.Name}}' })),
    'IMAGE ID   NAME\na          x\n',
  );
});

test('one VM as a row', () => {
  const row = rowOf(
    {
      Id: 'f'.repeat(64),
      Names: ['/web'],
      Image: 'nginx',
      ImageID: '',
      Command: 'sh -c "sleep 1000 && true"',
      Created: 100,
      Ports: [],
      Labels: { a: 'b' },
      State: 'running',
      Status: 'Up',
      NetworkSettings: { Networks: { bridge: {} } },
    },
    false,
    160,
  );
  assert.deepEqual(
    [row['ID'], row['Command'], row['RunningFor'], row['Names'], row['Labels'], row['Networks']],
    ['ffffffffffff', '"sh -c \\"sleep 1000 &…"', 'About a minute ago', 'web', 'a=b', 'bridge'],
  );
});

test('frames may come in any pieces', () => {
  const bytes = Buffer.concat([
    Buffer.from([1, 0, 0, 0, 0, 0, 0, 2]),
    Buffer.from('ab'),
    Buffer.from([2, 0, 0, 0, 0, 0, 0, 3]),
    Buffer.from('xyz'),
  ]);
  for (const size of [1, 3, 8, 100]) {
    const reader = new FrameReader();
    const got = { stdout: '', stderr: '' };
    for (let at = 0; at < bytes.length; at += size)
      for (const { name, data } of reader.feed(bytes.subarray(at, at + size))) got[name] += data.toString();
    assert.deepEqual(got, { stdout: 'ab', stderr: 'xyz' });
  }
});

test('exit codes are those of Docker', () => {
  const refused = (kind: ConstructorParameters<typeof BerthError>[0], message: string): BerthError =>
    new BerthError(kind, 'engine.refused', message);
  assert.equal(exitCodeOfRun(refused('conflict', 'the name is taken')), 125);
  assert.equal(exitCodeOfRun(refused('invalid', 'exec: "x": executable file not found in $PATH')), 127);
  assert.equal(exitCodeOfRun(refused('invalid', 'exec: "/x": stat /x: no such file or directory')), 127);
  assert.equal(exitCodeOfRun(refused('invalid', 'exec: "/etc": permission denied')), 126);
  assert.equal(exitCodeOf(refused('not_found', 'No such container: x')), 1);
  assert.equal(exitCodeOf(new BerthError('invalid', 'usage', '')), 125);
  assert.equal(exitCodeOf(new Error('x')), 1);
});

test('queries and filters', () => {
  assert.equal(
    queryText({ all: true, size: false, limit: 3, none: undefined, names: ['a', 'b c'] }),
    '?all=1&limit=3&names=a&names=b%20c',
  );
  assert.equal(
    filtersOf(['label=a=b', 'label=c', 'status=exited']),
    '{"label":{"a=b":true,"c":true},"status":{"exited":true}}',
  );
  assert.throws(() => filtersOf(['nonsense']), { code: 'usage' });
});

test('image names come apart at the tag, not at the port', () => {
  assert.deepEqual(splitImage('localhost:5000/a'), { name: 'localhost:5000/a', tag: 'latest' });
  assert.deepEqual(splitImage('localhost:5000/a:1'), { name: 'localhost:5000/a', tag: '1' });
  assert.deepEqual(splitImage('a@sha256:00'), { name: 'a', tag: 'sha256:00' });
});

test('progress: a line for each new word without a terminal, bars that move on one', () => {
  const lines = [
    { id: 'x', status: 'Downloading', progressDetail: { current: 1, total: 10 } },
    { id: 'x', status: 'Downloading', progressDetail: { current: 5, total: 10 } },
    { id: 'x', status: 'Done' },
  ];
  const plain = new ProgressPrinter(false);
  assert.equal(lines.map((line) => plain.add(line)).join(''), 'x: Downloading\nx: Done\n');
  const moving = new ProgressPrinter(true);
  const [first, second] = lines.map((line) => moving.add(line));
  assert.match(first ?? '', /^x: Downloading \[===> {26}\] 1B\/10B\n$/);
  assert.match(second ?? '', /^\u001b\[1A\r\u001b\[2Kx: Downloading .*5B\/10B\u001b\[1B\r$/);
});

test('every verb loads and has help; completions name them all', async () => {
  const verbs: CompletedVerb[] = [];
  for (const { name, summary, load } of VERBS) {
    const { shape } = await load();
    assert.notEqual(shape.about, '');
    verbs.push({ name, summary, flags: shape.flags });
  }
  const bash = completionScript('bash', verbs);
  for (const { name } of VERBS) if (!name.includes(' ')) assert.match(bash, new RegExp(`\\b${name}\\b`));
  assert.match(bash, /run\) flags="[^"]*--publish[^"]*"/);
  assert.match(completionScript('fish', verbs), /-s p -l publish -r/);
  assert.match(completionScript('zsh', verbs), /^#compdef berth/);
  assert.throws(() => completionScript('tcsh', verbs), { code: 'usage' });
});

test('systemd runs the daemon with the words with which everybody else does', () => {
  const template = readFileSync(new URL('../../packaging/berth.service', import.meta.url), 'utf8');
  const values = { NODE: process.execPath, DAEMON: '/d.mjs', STATE: '/s', RUN: '/r', SOCKET: '/r/k' };
  const words = ['--state-dir', '/s', '--run-dir', '/r', '--socket', '/r/k'];
  const expected = `ExecStart=${daemonCommand({ daemon: '/d.mjs' }, words).join(' ')}`;
  assert.ok(unitText(template, values).split('\n').includes(expected), expected);
});

test('a unit is filled in, and odd paths are refused', () => {
  assert.equal(unitText('ExecStart=@NODE@ @DAEMON@', { NODE: '/n', DAEMON: '/d.ts' }), 'ExecStart=/n /d.ts');
  assert.throws(() => unitText('@NODE@', { NODE: '/a b' }), { code: 'unit.path' });
  assert.throws(() => unitText('@NODE@', { NODE: '/a%i' }), { code: 'unit.path' });
});
