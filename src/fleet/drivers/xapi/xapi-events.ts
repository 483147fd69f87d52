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
import { CLASS_NAMES, type ClassName, type EventBatch, readEvents, readRecord } from './records.ts';

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

class PoolWatch {
  readonly #parts: EventParts;
  readonly #onChange: (change: VmChange) => void;
  #records: MutableRecords = emptyRecords();
  /** Of every VM that was told: its facts as text, by UUID. */
  #told = new Map<string, string>();
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
    this.#told = new Map([...this.#vms()].map(([uuid, vm]) => [uuid, factsText(vm)]));
    this.#parts.onKnown(this.#known);
  }

  async listen(): Promise<void> {
    while (!this.#isStopped) {
      try {
        const batch = await this.#ask(this.#token);
        if (this.#isStopped) return;
        this.#take(batch);
        if (batch.events.length === 0) continue;
        this.#tell();
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

  #take(batch: EventBatch): void {
    this.#token = batch.token;
    for (const { class: lower, operation, ref, snapshot } of batch.events) {
      const name = NAME_OF.get(lower.toLowerCase());
      if (name === undefined) continue;
      const record = operation === 'del' ? undefined : readRecord(name, snapshot);
      // One that cannot be read keeps its last state: it is there.
      if (record !== undefined) this.#records[name].set(ref, record);
      else if (operation === 'del') this.#records[name].delete(ref);
    }
  }

  /** Told are differences: an event may be about what berth does not look at. */
  #tell(): void {
    const now = this.#vms();
    const told = new Map<string, string>();
    for (const uuid of this.#told.keys()) if (!now.has(uuid)) this.#onChange({ kind: 'gone', nativeId: uuid });
    for (const [uuid, vm] of now) {
      const text = factsText(vm);
      told.set(uuid, text);
      if (this.#told.get(uuid) !== text) this.#onChange({ kind: 'seen', vm });
    }
    this.#told = told;
  }

  #vms(): Map<string, VmFacts> {
    const vms = new Map<string, VmFacts>();
    for (const record of this.#known.VM.values()) {
      if (!isVm(record)) continue;
      const vm = tryFacts(record, this.#known);
      if (vm !== undefined) vms.set(vm.nativeId, vm);
    }
    return vms;
  }

  get #known(): PoolRecords {
    return this.#records as unknown as PoolRecords;
  }
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
