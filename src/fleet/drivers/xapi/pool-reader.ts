/** Everything that a pool knows of its VMs: read in one call for each class, or kept by event.from. */
import { BerthError } from '#base';
import { isTorn, isVm, type PoolRecords } from './pool-facts.ts';
import { CLASS_NAMES, type ClassName, type RecordOf, readAllRecords, type Unreadable } from './records.ts';

/** A call within the session. */
export type SessionCall = (method: string, params?: readonly unknown[], deadlineMs?: number) => Promise<unknown>;

export interface PoolReading {
  readonly records: PoolRecords;
  /** VMs that are there and could not be read; references of other classes are left out. */
  readonly unreadable: readonly Unreadable[];
}

/**
 * VMs come first among what refers to others, in one answer each. A VM that changed devices or hosts between two answers
 * refers to what is not there: then all is read once more. What still dangles does so in XAPI's own database.
 */
export async function readPool(call: SessionCall, signal: AbortSignal): Promise<PoolReading> {
  const first = await readOnce(call, signal);
  const isWhole = [...first.records.VM.values()].every((vm) => !isVm(vm) || !isTorn(vm, first.records));
  return isWhole ? first : await readOnce(call, signal);
}

async function readOnce(call: SessionCall, signal: AbortSignal): Promise<PoolReading> {
  const records: Partial<Record<ClassName, ReadonlyMap<string, RecordOf<ClassName>>>> = {};
  let unreadable: readonly Unreadable[] = [];
  for (const name of CLASS_NAMES) {
    signal.throwIfAborted();
    const read = await readClass(name, call);
    records[name] = read.records;
    if (name === 'VM') unreadable = read.unreadable;
  }
  return { records: records as unknown as PoolRecords, unreadable };
}

/** @throws xapi.malformed (invalid) */
export async function readClass<Name extends ClassName>(
  name: Name,
  call: SessionCall,
): Promise<{ readonly records: ReadonlyMap<string, RecordOf<Name>>; readonly unreadable: readonly Unreadable[] }> {
  const read = readAllRecords(name, await call(`${name}.get_all_records`));
  if (read !== undefined) return read;
  throw new BerthError('invalid', 'xapi.malformed', `the answer to ${name}.get_all_records is no map of records`);
}
