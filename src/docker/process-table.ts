/**
 * `docker top`: the guest's processes in the columns that ps would print for the given arguments. There is no ps to
 * run, so the formats most people ask for are made here and others are refused by name.
 */
import { BerthError } from '#base';
import type { GuestTopEntry } from '#engine';

export interface ProcessTable {
  readonly Titles: readonly string[];
  readonly Processes: readonly (readonly string[])[];
}

interface Moment {
  readonly nowMs: number;
  readonly totalBytes: number;
}

interface Column {
  readonly title: string;
  readonly show: (entry: GuestTopEntry, moment: Moment) => string;
}

const two = (number: number): string => String(Math.floor(number)).padStart(2, '0');
const seconds = (ms: number): number => Math.floor(ms / 1000);
const kibibytes = (bytes: number): string => String(Math.floor(bytes / 1024));
const user = (entry: GuestTopEntry): string => entry.user ?? String(entry.uid);
const startTime = (entry: GuestTopEntry): string => new Date(entry.startedAtMs).toTimeString().slice(0, 5);
const command = (entry: GuestTopEntry): string => entry.command;
const shortName = (entry: GuestTopEntry): string =>
  (entry.command.split(' ')[0] ?? '').replace(/^.*\//, '').slice(0, 15);

/** `00:01:05`, as ps prints TIME. */
function clock(ms: number): string {
  return `${two(seconds(ms) / 3600)}:${two((seconds(ms) / 60) % 60)}:${two(seconds(ms) % 60)}`;
}

/** `[[DD-]HH:]MM:SS`, as ps prints ELAPSED. */
function elapsed(ms: number): string {
  const [days, hours] = [Math.floor(seconds(ms) / 86_400), Math.floor(seconds(ms) / 3600) % 24];
  const head = days > 0 ? `${days}-${two(hours)}:` : hours > 0 ? `${two(hours)}:` : '';
  return `${head}${two((seconds(ms) / 60) % 60)}:${two(seconds(ms) % 60)}`;
}

function cpuShare(entry: GuestTopEntry, { nowMs }: Moment): string {
  return ((100 * entry.cpuMs) / Math.max(1, nowMs - entry.startedAtMs)).toFixed(1);
}

function memoryShare(entry: GuestTopEntry, { totalBytes }: Moment): string {
  return ((100 * entry.residentBytes) / Math.max(1, totalBytes)).toFixed(1);
}

/** @source ps(1), STANDARD FORMAT SPECIFIERS */
const COLUMNS: Readonly<Record<string, Column>> = {
  pid: { title: 'PID', show: (entry) => String(entry.pid) },
  ppid: { title: 'PPID', show: (entry) => String(entry.ppid) },
  uid: { title: 'UID', show: (entry) => String(entry.uid) },
  user: { title: 'USER', show: user },
  c: { title: 'C', show: () => '0' },
  stime: { title: 'STIME', show: startTime },
  start: { title: 'START', show: startTime },
  tty: { title: 'TTY', show: (entry) => entry.tty },
  time: { title: 'TIME', show: (entry) => clock(entry.cpuMs) },
  etime: { title: 'ELAPSED', show: (entry, { nowMs }) => elapsed(nowMs - entry.startedAtMs) },
  etimes: { title: 'ELAPSED', show: (entry, { nowMs }) => String(seconds(nowMs - entry.startedAtMs)) },
  pcpu: { title: '%CPU', show: cpuShare },
  pmem: { title: '%MEM', show: memoryShare },
  vsz: { title: 'VSZ', show: (entry) => kibibytes(entry.virtualBytes) },
  rss: { title: 'RSS', show: (entry) => kibibytes(entry.residentBytes) },
  stat: { title: 'STAT', show: (entry) => entry.state },
  s: { title: 'S', show: (entry) => entry.state.slice(0, 1) },
  comm: { title: 'COMMAND', show: shortName },
  args: { title: 'COMMAND', show: command },
  cmd: { title: 'CMD', show: command },
};

const SAME_AS: Readonly<Record<string, string>> = {
  command: 'args',
  cputime: 'time',
  '%cpu': 'pcpu',
  '%mem': 'pmem',
  euid: 'uid',
  euser: 'user',
  uname: 'user',
  ruser: 'user',
  rssize: 'rss',
  rsz: 'rss',
  vsize: 'vsz',
  state: 's',
  tname: 'tty',
  tt: 'tty',
  ucmd: 'comm',
  ucomm: 'comm',
  start_time: 'stime',
  bsdstart: 'start',
};

const FULL = ['user', 'pid', 'ppid', 'c', 'stime', 'tty', 'time', 'cmd'];
const USAGE = ['user', 'pid', 'pcpu', 'pmem', 'vsz', 'rss', 'tty', 'stat', 'start', 'time', 'args'];
const SHORT = ['pid', 'tty', 'time', 'cmd'];
const BSD = ['pid', 'tty', 'stat', 'time', 'args'];

/**
 * @throws top.arguments (unsupported) for arguments that mean another format; top.format (invalid) for columns ps does
 *   not know, or without the PID that Docker's clients need.
 */
export function processTable(entries: readonly GuestTopEntry[], psArguments: string, moment: Moment): ProcessTable {
  const words = psArguments.trim().split(/\s+/);
  const isFull = isFullFormat(words);
  const columns = columnsOf(words, psArguments).map((name) => columnOf(name));
  // ps -f heads its column of users UID.
  const titles = columns.map((column, index) => (isFull && index === 0 ? 'UID' : column.title));
  return { Titles: titles, Processes: entries.map((entry) => columns.map((column) => column.show(entry, moment))) };
}

function isFullFormat(words: readonly string[]): boolean {
  return words.length === 1 && /^-[eAa]*f[eAa]*$/.test(words[0] ?? '');
}

function columnsOf(words: readonly string[], psArguments: string): readonly string[] {
  const chosen = formatOf(words);
  if (chosen !== undefined) return chosen;
  const [word = ''] = words;
  if (isFullFormat(words)) return FULL;
  if (words.length === 1 && /^-[eA]$/.test(word)) return SHORT;
  if (words.length === 1 && /^-?[ax]*u[ax]*$/.test(word)) return USAGE;
  if (words.length === 1 && /^-?[ax]*x[ax]*$/.test(word)) return BSD;
  const text = `top with the ps arguments ${JSON.stringify(psArguments)} is not supported`;
  throw new BerthError('unsupported', 'top.arguments', text, { hint: 'use -ef, aux, or -o with a list of columns' });
}

/** The columns of `-o pid,comm`, `-eo pid,comm`, `-opid -ocomm`, `--format=…`; undefined when none are given. */
function formatOf(words: readonly string[]): readonly string[] | undefined {
  const lists: string[] = [];
  for (let index = 0; index < words.length; index += 1) {
    const found = /^(?:-?[eAax]*o|--format)(?:=|$)?(.*)$/.exec(words[index] ?? '');
    if (found === null) {
      if (/^-?[eAax]+$/.test(words[index] ?? '')) continue;
      return undefined;
    }
    if (found[1]) lists.push(found[1]);
    else {
      index += 1;
      lists.push(words[index] ?? '');
    }
  }
  if (lists.length === 0) return undefined;
  const names = lists.join(',').split(',');
  if (!names.includes('pid')) {
    throw new BerthError('invalid', 'top.format', "Couldn't find PID field in ps output");
  }
  return names;
}

function columnOf(name: string): Column {
  const wanted = name.toLowerCase();
  const column = COLUMNS[SAME_AS[wanted] ?? wanted];
  if (column === undefined) {
    const text = `ps: error: unknown user-defined format specifier ${JSON.stringify(name)}`;
    throw new BerthError('invalid', 'top.format', text);
  }
  return column;
}
