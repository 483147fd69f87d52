/**
 * Xen's events as changes.
 *
 *     xenstore-watch ──a domain came, went or stopped──▶ read ─▶ seen, gone ─(not settled)─▶ read again soon
 *     every few seconds ─▶ rows only ─▶ (differ) ─▶ missed
 *
 * xenstore says that something happened, not what: the domains are read, and what differs from before is told. It says
 * nothing of pause, resume, a new name or memory: those are found by looking at the rows now and then, and told as
 * `missed`, so that history says honestly that they were found by looking.
 */
import { BerthError } from '#base';
import { type ChildStreams, startTimer, type Timer } from '#platform';
import type { EventFacet, VmChange } from '../../driver.ts';
import { factsText } from '../../facts.ts';
import { STATES } from './commands.ts';
import { type Estate, readEstate, shapeOf } from './estate.ts';
import type { XenShell } from './shell.ts';

/** A domain is paused while it is built and dying while it is taken apart, for a moment each, without a word about the end. */
const SETTLE_MS: readonly number[] = [250, 500, 1_000, 2_000];
/** One command that takes a few milliseconds of dom0. */
const ROWS_EVERY_MS = 5_000;
/** Words of the watch that are lines; anything longer is none of its. */
const MOST_LINE_BYTES = 4_096;

export interface EventParts {
  readonly shell: XenShell;
  readonly hostId: string;
  /** Starts `xenstore-watch` on a connection of its own. */
  readonly startWatch: () => Promise<ChildStreams>;
  /** The watch ended by itself: so does the session. */
  readonly onLost: (words: string) => void;
}

export function eventFacet(parts: EventParts): EventFacet {
  return {
    watch: async (onChange) => {
      const child = await parts.startWatch();
      const watch = new DomainWatch(parts, onChange);
      let isStopped = false;
      const stop = (): void => {
        if (isStopped) return;
        isStopped = true;
        watch.stop();
        child.end();
      };
      void child.ended.then(({ words }) => {
        if (isStopped) return;
        stop();
        parts.onLost(words);
      });
      void parts.shell.ended.then(stop);
      try {
        await watchIsSet(child, () => watch.rouse());
        await watch.begin();
      } catch (error) {
        stop();
        throw error;
      }
      return async () => stop();
    },
  };
}

/** Resolves when the watch is set: it says each of its two paths once then. @param onLine - called for every later line */
function watchIsSet(child: ChildStreams, onLine: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const missing = new Set(['@introduceDomain', '@releaseDomain']);
    let text = '';
    child.stdout.on('data', (chunk: Buffer) => {
      const lines = (text + chunk.toString('latin1')).split('\n');
      text = (lines.pop() ?? '').slice(-MOST_LINE_BYTES);
      for (const line of lines) {
        if (missing.size === 0) onLine();
        missing.delete(line);
        if (missing.size === 0) resolve();
      }
    });
    void child.ended.then(({ words }) =>
      reject(new BerthError('unavailable', 'xen.watch', `xenstore-watch ended: ${words.trim() || 'without a word'}`)),
    );
  });
}

class DomainWatch {
  readonly #parts: EventParts;
  readonly #onChange: (change: VmChange) => void;
  #known: ReadonlyMap<string, string> = new Map();
  #shape = '';
  #timer: Timer | undefined;
  #settling = 0;
  #isReading = false;
  #isRoused = false;
  #hasBegun = false;
  #isStopped = false;

  constructor(parts: EventParts, onChange: (change: VmChange) => void) {
    this.#parts = parts;
    this.#onChange = onChange;
  }

  /** Takes what is there now as known: changes come from now on. */
  async begin(): Promise<void> {
    const estate = await this.#read();
    this.#known = textsOf(estate);
    this.#shape = estate.shape;
    this.#hasBegun = true;
    if (this.#isRoused || !isSettled(estate)) this.rouse();
    else this.#later(ROWS_EVERY_MS, () => this.#lookAtRows());
  }

  /** Something happened. What happens while it is read is read again. */
  rouse(): void {
    this.#isRoused = true;
    this.#settling = 0;
    if (this.#hasBegun && !this.#isReading) void this.#attend();
  }

  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
  }

  async #attend(): Promise<void> {
    this.#timer?.cancel();
    this.#isReading = true;
    try {
      let estate: Estate | undefined;
      while (this.#isRoused && !this.#isStopped) {
        this.#isRoused = false;
        estate = await this.#read();
        this.#tell(estate);
      }
      const waitMs = estate === undefined || isSettled(estate) ? undefined : SETTLE_MS[this.#settling++];
      if (waitMs === undefined) this.#later(ROWS_EVERY_MS, () => this.#lookAtRows());
      else this.#later(waitMs, () => this.#readAgain());
    } catch {
      this.#couldNotRead();
    } finally {
      this.#isReading = false;
    }
  }

  async #readAgain(): Promise<void> {
    this.#isRoused = true;
    await this.#attend();
  }

  async #lookAtRows(): Promise<void> {
    this.#isReading = true;
    try {
      const shape = shapeOf(await this.#parts.shell.output(STATES));
      if (shape !== this.#shape && !this.#isStopped) this.#onChange({ kind: 'missed' });
      this.#shape = shape;
    } catch {
      this.#couldNotRead();
      return;
    } finally {
      this.#isReading = false;
    }
    if (this.#isRoused) await this.#attend();
    else this.#later(ROWS_EVERY_MS, () => this.#lookAtRows());
  }

  /** The next look tells; when it was the connection that broke, the session ends and stops this. */
  #couldNotRead(): void {
    if (this.#isStopped) return;
    this.#onChange({ kind: 'missed' });
    this.#later(ROWS_EVERY_MS, () => this.#lookAtRows());
  }

  #read(): Promise<Estate> {
    return readEstate(this.#parts.shell, this.#parts.hostId);
  }

  #tell(estate: Estate): void {
    if (this.#isStopped) return;
    const now = textsOf(estate);
    const there = new Set([...now.keys(), ...estate.unread]);
    for (const nativeId of this.#known.keys()) if (!there.has(nativeId)) this.#onChange({ kind: 'gone', nativeId });
    for (const vm of estate.vms)
      if (this.#known.get(vm.nativeId) !== now.get(vm.nativeId)) this.#onChange({ kind: 'seen', vm });
    const kept = [...this.#known].filter(([id]) => estate.unread.includes(id));
    this.#known = new Map([...kept, ...now]);
    this.#shape = estate.shape;
  }

  #later(ms: number, work: () => Promise<void>): void {
    this.#timer?.cancel();
    if (!this.#isStopped) this.#timer = startTimer(ms, () => void work());
  }
}

function textsOf(estate: Estate): Map<string, string> {
  return new Map(estate.vms.map((vm) => [vm.nativeId, factsText(vm)]));
}

function isSettled(estate: Estate): boolean {
  return estate.unread.length === 0 && estate.vms.every(({ powerState }) => powerState === 'running');
}
