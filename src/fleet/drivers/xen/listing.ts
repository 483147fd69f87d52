/**
 * Rows of `xl list -v`. Pure.
 *
 *     Name                     ID   Mem VCPUs	State	Time(s)   UUID                                  Reason-Code	Security Label
 *     web                       1    96     1     -b----       3.6 58852782-f792-4903-9a8d-6fa4c819ce9a        -                -
 *
 * A name is printed as it is, and it may hold line breaks: one that looks like a row must not become a domain. So the
 * rows are read with the names that `xl list -l` told, in quotes, and only what is left over is guessed line by line.
 *
 * @source xl 4.17, tools/xl/xl_list.c; flags: xl(1)
 */
import { BerthError } from '#base';
import { normalizeUuid, type PowerState } from '../../facts.ts';

export interface DomainRow {
  readonly domid: number;
  /** Null for dom0, and for a domain that was made without one. */
  readonly uuid: string | null;
  readonly memoryMib: number;
  readonly vcpus: number;
  readonly powerState: PowerState;
  /** Of all its virtual processors, in tenths of a second. Not what dom0 does for it. */
  readonly cpuTenths: number;
  /** The name was the one its configuration has: the row is its own beyond doubt. */
  readonly isNamed: boolean;
}

const COLUMNS =
  / +([0-9]+) +([0-9]+) +([0-9]+) +([r-][b-][p-][s-][c-][d-]) +([0-9]+)\.([0-9]) +([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}) +(-|[0-9a-f]+) [^\n]*\n/y;
const UNKNOWN_NAME = /[^\n]*?(?= +[0-9]+ +[0-9]+ +[0-9]+ +[r-][b-][p-][s-][c-][d-] +[0-9]+\.[0-9] +[0-9a-f]{8}-)/y;

/**
 * @param names - by domid, as `xl list -l` told them just before.
 * @throws xen.listing (invalid) with the line that is none.
 */
export function parseListing(text: string, names: ReadonlyMap<number, string>): DomainRow[] {
  const header = text.indexOf('\n') + 1;
  if (!/^Name +ID +Mem VCPUs\s+State\s+Time\(s\) +UUID/.test(text)) throw malformed(text.slice(0, header || 200));
  const rows = new Map<number, DomainRow>();
  const waiting = new Map(names);
  for (let at = header; at < text.length; ) {
    const found = namedRow(text, at, waiting) ?? unnamedRow(text, at);
    if (found === undefined) throw malformed(text.slice(at, at + 200));
    const { row, end } = found;
    if (rows.has(row.domid)) throw malformed(text.slice(at, end));
    rows.set(row.domid, row);
    waiting.delete(row.domid);
    at = end;
  }
  return [...rows.values()];
}

interface Found {
  readonly row: DomainRow;
  readonly end: number;
}

function namedRow(text: string, at: number, names: ReadonlyMap<number, string>): Found | undefined {
  for (const [domid, name] of names) {
    if (!text.startsWith(name, at)) continue;
    const found = columnsAt(text, at + name.length, true);
    if (found?.row.domid === domid) return found;
  }
  return undefined;
}

/** A domain that came between the two listings, or was renamed. */
function unnamedRow(text: string, at: number): Found | undefined {
  UNKNOWN_NAME.lastIndex = at;
  return UNKNOWN_NAME.test(text) ? columnsAt(text, UNKNOWN_NAME.lastIndex, false) : undefined;
}

function columnsAt(text: string, at: number, isNamed: boolean): Found | undefined {
  COLUMNS.lastIndex = at;
  const found = COLUMNS.exec(text);
  if (found === null) return undefined;
  const [, domid, memory, vcpus, flags = '', seconds, tenths, uuid = '', reason = '-'] = found;
  const row: DomainRow = {
    domid: Number(domid),
    uuid: normalizeUuid(uuid) ?? null,
    memoryMib: Number(memory),
    vcpus: Number(vcpus),
    powerState: powerOf(flags, reason),
    cpuTenths: Number(seconds) * 10 + Number(tenths),
    isNamed,
  };
  return { row, end: COLUMNS.lastIndex };
}

const REASON_REBOOT = '1';
const REASON_SUSPEND = '2';

/**
 * Flags stand in this order: running, blocked, paused, shut down, crashed, dying. None of the first two is a domain that
 * waits for a processor. One that is shut down and still there is being cleaned up, or was asked to be kept.
 *
 * @source xen/include/public/sched.h (SHUTDOWN_*)
 */
function powerOf(flags: string, reason: string): PowerState {
  if (flags[5] === 'd') return 'stopping';
  if (flags[4] === 'c') return 'crashed';
  if (flags[3] === 's') return reason === REASON_SUSPEND ? 'suspended' : reason === REASON_REBOOT ? 'stopping' : 'off';
  return flags[2] === 'p' ? 'paused' : 'running';
}

function malformed(line: string): BerthError {
  return new BerthError('invalid', 'xen.listing', `xl list -v says what is no row: ${JSON.stringify(line)}`);
}
