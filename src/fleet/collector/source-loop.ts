/**
 * One source, kept up with: connect, hear its events, look at all of it now and then, and begin again when it fails.
 *
 *     away ─open─▶ looking ─▶ listening ─(time, events missed)─▶ looking …
 *       ▲            └───── failed: marked down, its facts stay ─────┘
 *       └── waits longer after each failure in a row
 *
 * Events that come while a look is under way are written at once, and what the look says about the same VMs is left
 * out: it may be older. A look that breaks off has told of whom it showed, and takes nobody away.
 */
import { BerthError, messageOf } from '#base';
import { monotonicMs, nowMs, sleep } from '#platform';
import type { ConsumptionTable, Round } from '../consumption/consumption-table.ts';
import type { HostConsumptionTable } from '../consumption/host-consumption-table.ts';
import type { DriverSession, FleetDriver, PeriodFacet, SinceMs, SourceTarget, VmChange } from '../driver.ts';
import type { Moment } from '../inventory/intervals.ts';
import type { Inventory } from '../inventory/inventory.ts';
import type { Source, SourceTable } from '../inventory/sources.ts';
import { ToldTable } from '../inventory/told-table.ts';
import { indexRest, LookWriter } from './look-writer.ts';
import { Mailbox } from './mailbox.ts';
import { failuresAfter, waitAfterFailure } from './pace.ts';
import { remember } from './remembering.ts';

const OPEN_DEADLINE_MS = 30_000;
/** 10,000 VMs of a vCenter that is busy take a minute or two. */
const LOOK_DEADLINE_MS = 10 * 60_000;
/** Where events tell what changes, everything is looked at only to be sure. */
const SURE_EVERY_MS = 5 * 60_000;
/** A collector that died gives its sources up after this; a living one renews in each turn of its loop. */
export const LEASE_MS = 30_000;
const RENEW_MS = 10_000;
/** Written in one piece: some milliseconds in which nothing else is done. */
const SAMPLES_AT_ONCE = 200;
/** Longer than that no hypervisor keeps what it measured in short periods. */
const PERIODS_KEPT_MS = 3_600_000;

export interface LoopParts {
  readonly inventory: Inventory;
  readonly consumption: ConsumptionTable;
  readonly hostConsumption: HostConsumptionTable;
  readonly sources: SourceTable;
  readonly driver: FleetDriver;
  /** Read anew at each try: credentials may have been replaced. @throws what the vault throws. */
  readonly target: () => SourceTarget;
  /** This collector's name, the same after a restart. */
  readonly holder: string;
  readonly log: (line: string) => void;
}

export class SourceLoop {
  readonly source: Source;
  readonly #parts: LoopParts;
  readonly #stopping = new AbortController();
  #mailbox = new Mailbox();
  #session: DriverSession | undefined;
  #done: Promise<void> = Promise.resolve();
  /** Readings under way; never rejects. */
  #sampling: Promise<void> | undefined;
  /** Reading the past is under way, or was tried in this session; never rejects. */
  #remembering: Promise<void> | undefined;
  /** The search index is being completed; never rejects. */
  #indexing: Promise<void> | undefined;
  /** Which counters could not be read last time, and why: said once. */
  readonly #unread = new Map<string, string>();
  /** The look that is under way. */
  #look: LookWriter | undefined;

  constructor(source: Source, parts: LoopParts) {
    this.source = source;
    this.#parts = parts;
  }

  start(): void {
    this.#done = this.#run().catch((error: unknown) =>
      this.#parts.log(`bug: source ${this.source.name}: ${messageOf(error)}`),
    );
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new BerthError('cancelled', 'source.stopped', `source ${this.source.name} is left`));
    this.#mailbox.end();
    await this.#done;
  }

  /** The session of a source that is up. @throws source.down (unavailable) */
  session(): DriverSession {
    if (this.#session !== undefined) return this.#session;
    throw new BerthError('unavailable', 'source.down', `source ${this.source.name} is not reached just now`, {
      hint: `berth source test ${this.source.name} says why`,
    });
  }

  askForLook(): void {
    this.#mailbox.askForLook();
  }

  /** Read anew each time: it may be set while the loop runs. */
  get #pace(): Source {
    return this.#parts.sources.get(this.source.id);
  }

  get #isStopping(): boolean {
    return this.#stopping.signal.aborted;
  }

  async #run(): Promise<void> {
    let failures = 0;
    while (!this.#isStopping) {
      const began = monotonicMs();
      let waitMs: number;
      try {
        if (!this.#renewLease()) waitMs = RENEW_MS;
        else {
          await this.#attend();
          waitMs = 0;
        }
      } catch (error) {
        if (this.#isStopping) break;
        const failure = asBerthError(error);
        failures = failuresAfter(failures, monotonicMs() - began);
        this.#markDown(failure);
        waitMs = waitAfterFailure(failures, failure.kind, Math.random());
      }
      // A new one: the session's is over. Asked to look, it does not wait the whole time.
      this.#mailbox = new Mailbox();
      if (waitMs > 0 && !this.#isStopping) await this.#mailbox.next(waitMs);
    }
    this.#parts.inventory.giveLeaseBack(this.source.id, this.#parts.holder);
  }

  /** One session, from its beginning to its end. Returns only when it is told to stop. */
  async #attend(): Promise<void> {
    const { driver, sources } = this.#parts;
    const patience = AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(OPEN_DEADLINE_MS)]);
    const session = await withDeadline(driver.open(this.#parts.target(), patience), patience);
    const mailbox = this.#mailbox;
    let failure: BerthError | undefined;
    void session.ended.then((reason) => {
      failure = reason;
      mailbox.end();
    });
    try {
      await closingAt(
        AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(OPEN_DEADLINE_MS)]),
        session,
        async () => {
          sources.setFingerprint(this.source.id, await session.fingerprint());
          if (session.events?.afterLook !== true) await session.events?.watch((change) => this.#hear(change));
        },
      );
      this.#session = session;
      await this.#listen(session, mailbox);
      if (failure !== undefined && !this.#isStopping) throw failure;
    } finally {
      this.#session = undefined;
      await session.close();
      await this.#sampling;
      await this.#remembering;
      await this.#indexing;
      this.#remembering = undefined;
    }
  }

  async #listen(session: DriverSession, mailbox: Mailbox): Promise<void> {
    let nextLook = monotonicMs();
    let isWatching = session.events?.afterLook !== true;
    // After the first look: until then nobody knows whose counters they are.
    let nextSample = Number.POSITIVE_INFINITY;
    for (;;) {
      const dueMs = Math.min(nextLook, nextSample) - monotonicMs();
      const wake = nextLook <= monotonicMs() ? 'look' : await mailbox.next(Math.min(dueMs, RENEW_MS));
      if (wake === 'over' || this.#isStopping) return;
      if (!this.#renewLease())
        throw new BerthError('conflict', 'fleet.lease_lost', 'another collector has this source');
      if (wake === 'change') for (const change of mailbox.take()) this.#write(change);
      else if (wake === 'look') {
        await this.#lookAt(session);
        if (!isWatching) await this.#watch(session);
        isWatching = true;
        this.#remembering ??= this.#remember(session);
        const { everyMs } = this.#pace;
        nextLook = monotonicMs() + (session.events === undefined ? everyMs : Math.max(SURE_EVERY_MS, everyMs));
        nextSample = Math.min(nextSample, monotonicMs());
      }
      if (nextSample <= monotonicMs()) {
        // Not waited for: a host that is slow to count must not hold its events up.
        this.#sampling ??= this.#sample(session).finally(() => {
          this.#sampling = undefined;
        });
        nextSample = monotonicMs() + this.#pace.sampleEveryMs;
      }
    }
  }

  async #watch(session: DriverSession): Promise<void> {
    const patience = AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(LOOK_DEADLINE_MS)]);
    await closingAt(patience, session, async () => {
      const begun = session.events?.watch((change) => this.#hear(change)).then(() => true);
      // However long it takes: nobody else shall take the source for left alone.
      while (!(await Promise.race([begun, sleep(RENEW_MS, patience)]))) this.#renewLease();
    });
  }

  #hear(change: VmChange): void {
    this.#mailbox.add(change);
    if (this.#look === undefined) return;
    if (change.kind === 'seen') this.#look.overtake(change.vm.nativeId);
    else if (change.kind !== 'missed') this.#look.overtake(change.nativeId);
    // The look is waiting for an answer: there is time to write.
    for (const one of this.#mailbox.take()) this.#write(one);
  }

  #write(change: VmChange): void {
    const { inventory, holder } = this.#parts;
    inventory.apply({
      sourceId: this.source.id,
      observation: { kind: 'change', change },
      moment:
        change.kind === 'tags'
          ? this.#momentOfTags(change.notBeforeMs)
          : this.#moment('isCompared' in change ? 'poll' : 'event'),
      holder,
    });
  }

  /** They were found by looking, but not in a look. */
  #momentOfTags(notBeforeMs: number | null): Moment {
    const moment = { ...this.#moment('poll'), notBeforeMs: notBeforeMs ?? 0 };
    return notBeforeMs === null ? { ...moment, isFirstWord: true } : moment;
  }

  async #lookAt(session: DriverSession): Promise<void> {
    const { inventory, holder } = this.#parts;
    // What was heard until now is older than the look.
    for (const change of this.#mailbox.take()) this.#write(change);
    const patience = AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(LOOK_DEADLINE_MS)]);
    const moment = (): Moment => this.#moment('poll');
    const look = new LookWriter({ inventory, sourceId: this.source.id, holder, moment, signal: patience });
    this.#look = look;
    try {
      await closingAt(patience, session, async () => {
        let renewedMs = monotonicMs();
        for await (const page of session.snapshot(patience)) {
          if (monotonicMs() - renewedMs > RENEW_MS / 10) {
            this.#renewLease();
            renewedMs = monotonicMs();
          }
          await look.take(page);
        }
        await look.finish();
      });
    } finally {
      this.#look = undefined;
      look.end();
    }
    inventory.setSourceState(this.source.id, 'up', { moment: this.#moment('poll') });
    this.#indexing ??= indexRest(inventory, this.#stopping.signal)
      .catch((error: unknown) =>
        this.#parts.log(`source ${this.source.name}: its VMs could not be indexed: ${messageOf(error)}`),
      )
      .finally(() => {
        this.#indexing = undefined;
      });
  }

  /** What was before the first look, unless it is known. A source that cannot tell it is asked again in its next session. */
  async #remember(session: DriverSession): Promise<void> {
    const { inventory, holder, log } = this.#parts;
    if (session.history === undefined || this.#pace.toldMs !== null) return;
    try {
      await remember(session.history, new ToldTable(inventory.database), { sourceId: this.source.id, holder });
    } catch (error) {
      if (!this.#isStopping)
        log(`source ${this.source.name}: what it remembers could not be read: ${messageOf(error)}`);
    }
  }

  /**
   * Reads and keeps counters. What fails is a gap that the next reading finds. A host is kept after its VMs, and not without them:
   * what they used would be taken for its own.
   */
  async #sample(session: DriverSession): Promise<void> {
    const { consumption, hostConsumption } = this.#parts;
    const { samples, periods, hostSamples } = session;
    if (periods !== undefined) {
      await this.#reading(session, 'its counters', () => this.#samplePeriods(periods));
      return;
    }
    const hosts = await this.#reading(session, 'the counters of its hosts', async () => await hostSamples?.read());
    await this.#reading(session, 'its counters', async () => {
      const read = await samples?.read();
      if (read !== undefined) await inPieces(read, (piece) => consumption.take(this.#round(), piece));
      if (hosts !== undefined) hostConsumption.take(this.#round(), hosts);
      if (read !== undefined) consumption.finish(this.#round(), new Set(read.map((one) => one.nativeId)));
    });
  }

  async #samplePeriods(facet: PeriodFacet): Promise<void> {
    const { consumption, hostConsumption } = this.#parts;
    const { id } = this.source;
    const kept = (since: SinceMs): SinceMs => {
      return (nativeId) => {
        const sinceMs = since(nativeId);
        return sinceMs === undefined ? undefined : Math.max(sinceMs, nowMs() - PERIODS_KEPT_MS);
      };
    };
    const wanted = { vms: kept(consumption.periodsSince(id)), hosts: kept(hostConsumption.periodsSince(id)) };
    const running = new Set<string>();
    for await (const page of facet.read(wanted)) {
      for (const nativeId of page.running) running.add(nativeId);
      await inPieces(page.periods, (piece) => consumption.takePeriods(this.#round(), piece));
      await inPieces(page.hosts, (piece) => hostConsumption.takePeriods(this.#round(), piece));
    }
    consumption.finish(this.#round(), running);
  }

  #round(): Round {
    const { holder } = this.#parts;
    return { sourceId: this.source.id, holder, nowMs: nowMs(), everyMs: this.#pace.sampleEveryMs };
  }

  /** Undefined when it cannot be read: why is said once, and again when it is something else. */
  async #reading<T>(session: DriverSession, what: string, read: () => Promise<T>): Promise<T | undefined> {
    try {
      const result = await read();
      this.#unread.delete(what);
      return result;
    } catch (error) {
      const problem = messageOf(error);
      if (!this.#isStopping && this.#session === session && problem !== this.#unread.get(what))
        this.#parts.log(`source ${this.source.name}: ${what} could not be read: ${problem}`);
      this.#unread.set(what, problem);
      return undefined;
    }
  }

  #moment(how: Moment['how']): Moment {
    const atMs = nowMs();
    const { lookBeganMs, okMs } = this.#parts.sources.get(this.source.id);
    const lookedMs = lookBeganMs ?? okMs ?? atMs;
    return { how, atMs, observedMs: atMs, notBeforeMs: how === 'event' ? atMs : lookedMs };
  }

  #renewLease(): boolean {
    const now = nowMs();
    const time = { nowMs: now, untilMs: now + LEASE_MS };
    return this.#parts.inventory.takeLease(this.source.id, this.#parts.holder, time);
  }

  #markDown(failure: BerthError): void {
    const { kind, code, message, hint } = failure;
    const { inventory, log } = this.#parts;
    log(`source ${this.source.name}: ${message}`);
    inventory.setSourceState(this.source.id, 'down', {
      moment: this.#moment('poll'),
      problem: { kind, code, message, hint },
    });
  }
}

async function inPieces<T>(all: readonly T[], write: (piece: readonly T[]) => void): Promise<void> {
  for (let at = 0; at < all.length; at += SAMPLES_AT_ONCE) {
    write(all.slice(at, at + SAMPLES_AT_ONCE));
    await sleep(0);
  }
}

/** Does something with a session that is closed when the signal fires: calls under way fail then, and nothing hangs. */
async function closingAt(signal: AbortSignal, session: DriverSession, work: () => Promise<void>): Promise<void> {
  const close = (): void => {
    void session.close();
  };
  signal.addEventListener('abort', close, { once: true });
  try {
    signal.throwIfAborted();
    await work();
  } catch (error) {
    // The call that was cut says only that; the signal says why.
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', close);
  }
}

/** A driver that does not heed its signal is not waited for. */
async function withDeadline<T extends { close(): Promise<void> }>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const late = new Promise<never>((_resolve, reject) => {
    const refuse = (): void => reject(signal.reason);
    if (signal.aborted) refuse();
    else signal.addEventListener('abort', refuse, { once: true });
  });
  try {
    return await Promise.race([work, late]);
  } catch (error) {
    void work.then(
      (session) => session.close(),
      () => {},
    );
    throw error;
  }
}

export function asBerthError(error: unknown): BerthError {
  if (error instanceof BerthError) return error;
  const isLate = error instanceof DOMException && error.name === 'TimeoutError';
  if (isLate) return new BerthError('timeout', 'source.late', 'the source did not answer in time', { cause: error });
  return new BerthError('bug', 'source.failed', `the driver failed: ${messageOf(error)}`, { cause: error });
}
