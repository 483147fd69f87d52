/**
 * XAPI's events as changes.
 *
 *     event.from(classes, '')    ─▶ every record there is, and a token: known from now on
 *     event.from(classes, token) ─▶ waits; what was added, modified, deleted since, and the next token ─▶ seen, gone
 *                                └─ token lost ─▶ known anew, and `missed`
 *
 * Events bring whole records, so nothing is read after them and nothing can overtake them. A card's or a disk's event is its VM's.
 *
 * @source XenAPI reference: event.from; classes come in lower case
 */
import { BerthError } from '#base';
import { sleep } from '#platform';
import type { EventFacet, VmChange } from '../../driver.ts';
import { factsText, parseVmFacts, type VmFacts } from '../../facts.ts';
import { isLostEvents } from './failures.ts';
import { isVm, type PoolRecords, vmFacts } from './pool-facts.ts';
import type { SessionCall } from './pool-reader.ts';
import { CLASS_NAMES, type ClassName, type EventBatch, readEvents, readRecord, type VmRecord } from './records.ts';

/** How long one call may wait for something to happen. Not a whole number: the server wants a float. */
const WAIT_SECONDS = 30.5;
/** The first answer is the whole pool. */
const CALL_DEADLINE_MS = 90_000;
/** A pool under load has events all the time: they are taken together. */
const GATHER_MS = 50;

const NAME_OF = new Map(CLASS_NAMES.map((name) => [name.toLowerCase(), name]));

export interface EventParts {
  readonly call: SessionCall;
  /** The listening failed: so did the session. */
  readonly onFailed: (error: unknown) => void;
  /** What is known, for others to use; undefined when nobody listens any more. */
  readonly onKnown: (records: PoolRecords | undefined) => void;
}

export function eventFacet(parts: EventParts): EventFacet {
  return {
    watch: async (onChange) => {
      const watch = new PoolWatch(parts, onChange);
      await watch.begin();
      void watch.listen();
      return async () => watch.stop();
    },
  };
}

type MutableRecords = { readonly [Name in ClassName]: Map<string, unknown> };

interface Told {
  readonly uuid: string;
  readonly text: string;
}

class PoolWatch {
  readonly #parts: EventParts;
  readonly #onChange: (change: VmChange) => void;
  #records: MutableRecords = emptyRecords();
  /** Of every VM that was told, by reference: its UUID and its facts as text. */
  #told = new Map<string, Told>();
  #token = '';
  #isStopped = false;

  constructor(parts: EventParts, onChange: (change: VmChange) => void) {
    this.#parts = parts;
    this.#onChange = onChange;
  }

  /** Takes what is there now as known: changes come from now on. */
  async begin(): Promise<void> {
    const batch = await this.#ask('');
    this.#records = emptyRecords();
    this.#take(batch);
    this.#told.clear();
    for (const [ref, record] of this.#known.VM) this.#differing(ref, record);
    this.#parts.onKnown(this.#known);
  }

  async listen(): Promise<void> {
    while (!this.#isStopped) {
      try {
        const batch = await this.#ask(this.#token);
        if (this.#isStopped) return;
        const changed = this.#take(batch);
        if (batch.events.length === 0) continue;
        this.#tell(changed);
        await sleep(GATHER_MS);
      } catch (error) {
        if (this.#isStopped) return;
        if (!isLostEvents(error)) return this.#failed(error);
        await this.#beginAnew();
      }
    }
  }

  stop(): void {
    this.#isStopped = true;
    this.#parts.onKnown(undefined);
  }

  async #beginAnew(): Promise<void> {
    try {
      await this.begin();
      if (!this.#isStopped) this.#onChange({ kind: 'missed' });
    } catch (error) {
      this.#failed(error);
    }
  }

  #failed(error: unknown): void {
    if (this.#isStopped) return;
    this.stop();
    this.#parts.onFailed(error);
  }

  async #ask(token: string): Promise<EventBatch> {
    const classes = [...NAME_OF.values()];
    const batch = readEvents(await this.#parts.call('event.from', [classes, token, WAIT_SECONDS], CALL_DEADLINE_MS));
    if (batch !== undefined) return batch;
    throw new BerthError('unavailable', 'xapi.malformed', 'the answer to event.from is no batch of events');
  }

  /** @returns references of the records that are not as they were, as far as they are looked at. */
  #take(batch: EventBatch): ReadonlySet<string> {
    this.#token = batch.token;
    const changed = new Set<string>();
    for (const { class: lower, operation, ref, snapshot } of batch.events) {
      const name = NAME_OF.get(lower.toLowerCase());
      if (name === undefined) continue;
      const records = this.#records[name];
      const record = operation === 'del' ? undefined : readRecord(name, snapshot);
      // One that cannot be read keeps its last state: it is there.
      if (record === undefined && operation !== 'del') continue;
      if (JSON.stringify(records.get(ref)) === JSON.stringify(record)) continue;
      changed.add(ref);
      if (record === undefined) records.delete(ref);
      else records.set(ref, record);
    }
    return changed;
  }

  /** Told are differences of those VMs that the changed records belong to: reading all of them anew takes a large pool too long. */
  #tell(changed: ReadonlySet<string>): void {
    const records = this.#known;
    for (const [ref, { uuid }] of this.#told) {
      const record = records.VM.get(ref);
      if (record !== undefined && isVm(record)) continue;
      this.#told.delete(ref);
      this.#onChange({ kind: 'gone', nativeId: uuid });
    }
    for (const [ref, record] of records.VM) {
      if (!changed.has(ref) && !refersTo(record, records, changed)) continue;
      const vm = this.#differing(ref, record);
      if (vm !== undefined) this.#onChange({ kind: 'seen', vm });
    }
  }

  /** @returns its facts, when they are others than were told. Those that are none leave what was told as it is. */
  #differing(ref: string, record: VmRecord): VmFacts | undefined {
    const vm = isVm(record) ? tryFacts(record, this.#known) : undefined;
    if (vm === undefined) return undefined;
    const text = factsText(vm);
    if (this.#told.get(ref)?.text === text) return undefined;
    this.#told.set(ref, { uuid: vm.nativeId, text });
    return vm;
  }

  get #known(): PoolRecords {
    return this.#records as unknown as PoolRecords;
  }
}

/** Whether a VM's facts are made of one of the changed records. Pure. */
function refersTo(vm: VmRecord, records: PoolRecords, changed: ReadonlySet<string>): boolean {
  const has = (ref: string | null | undefined): boolean => ref !== null && ref !== undefined && changed.has(ref);
  const ofDisk = (ref: string): boolean => {
    const vdi = records.VBD.get(ref)?.VDI ?? null;
    return has(ref) || has(vdi) || (vdi !== null && has(records.VDI.get(vdi)?.SR));
  };
  return (
    has(vm.metrics) ||
    has(vm.guest_metrics) ||
    has(vm.resident_on) ||
    vm.VBDs.some(ofDisk) ||
    vm.VIFs.some((ref) => has(ref) || has(records.VIF.get(ref)?.network))
  );
}

/** @returns undefined when they are not what facts may be. */
export function tryFacts(...args: Parameters<typeof vmFacts>): VmFacts | undefined {
  try {
    return parseVmFacts(vmFacts(...args));
  } catch (error) {
    if (error instanceof BerthError && error.code === 'fleet.facts') return undefined;
    throw error;
  }
}

function emptyRecords(): MutableRecords {
  return Object.fromEntries(CLASS_NAMES.map((name) => [name, new Map()])) as unknown as MutableRecords;
}
