import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { GuestTopEntry } from '#engine';
import { processTable } from './process-table.ts';

const MOMENT = { nowMs: 1_000_000_000, totalBytes: 1_000_000 };
const SHELL: GuestTopEntry = {
  pid: 7,
  ppid: 1,
  uid: 33,
  user: 'www',
  cpuMs: 65_000,
  startedAtMs: MOMENT.nowMs - 93_784_000,
  tty: '?',
  command: '/bin/sh -c true',
  residentBytes: 100_000,
  virtualBytes: 2_048_000,
  state: 'Ss',
};
const { user: _, ...NAMELESS } = SHELL;

test('ps -ef and its spellings', () => {
  for (const text of ['-ef', '-fe', '-f', '-Af']) {
    const { Titles, Processes } = processTable([SHELL], text, MOMENT);
    assert.deepEqual(Titles, ['UID', 'PID', 'PPID', 'C', 'STIME', 'TTY', 'TIME', 'CMD'], text);
    const [row = []] = Processes;
    assert.deepEqual(
      [row[0], row[1], row[2], row[5], row[6], row[7]],
      ['www', '7', '1', '?', '00:01:05', '/bin/sh -c true'],
    );
  }
});

test('ps aux, and the short formats', () => {
  const titles = (text: string): string => processTable([], text, MOMENT).Titles.join(' ');
  for (const text of ['aux', '-aux', 'u', 'au'])
    assert.match(titles(text), /^USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND$/);
  assert.equal(titles('-e'), 'PID TTY TIME CMD');
  assert.equal(titles('x'), 'PID TTY STAT TIME COMMAND');
  const [row = []] = processTable([NAMELESS], 'aux', MOMENT).Processes;
  assert.deepEqual([row[0], row[3], row[4], row[5]], ['33', '10.0', '2000', '97']);
});

test('chosen columns, in every way ps takes them', () => {
  for (const text of [
    '-o pid,comm',
    '-eo pid,comm',
    '-opid,comm',
    '-o pid -o comm',
    '--format pid,comm',
    '--format=pid,comm',
    '-e -o pid,comm',
  ]) {
    assert.deepEqual(
      processTable([SHELL], text, MOMENT),
      { Titles: ['PID', 'COMMAND'], Processes: [['7', 'sh']] },
      text,
    );
  }
  assert.deepEqual(processTable([SHELL], '-o pid,etime,%mem,euser,s', MOMENT).Processes, [
    ['7', '1-02:03:04', '10.0', 'www', 'S'],
  ]);
});

test('what is not known is refused by name', () => {
  const refused = (text: string, code: string): void =>
    assert.throws(() => processTable([], text, MOMENT), { code }, text);
  refused('-o pid,bogus', 'top.format');
  refused('-o comm', 'top.format');
  refused('-l', 'top.arguments');
  refused('-ef --forest', 'top.arguments');
  refused('; rm -rf /', 'top.arguments');
});
