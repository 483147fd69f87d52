/** A guest's memory kept outside of every machine, by a small process of its own (memory/memory.c). */
import { BerthError } from '#base';
import {
  isAlive,
  killAndWait,
  processInfo,
  runChecked,
  runProcess,
  spawnTalking,
  type TalkingProcess,
} from '#platform';

/** A copy of some GiB takes a second or two. */
const COPY_DEADLINE_MS = 120_000;
/** A disk that writes 10 MB/s takes so long for 6 GB. */
const DISK_DEADLINE_MS = 600_000;
const TALK_DEADLINE_MS = 10_000;
/** Two million extents; every other page of a memory of 16 GiB. */
const MAX_EXTENTS_TEXT_BYTES = 64 * 1024 * 1024;
/** @source memory/memory.c, MEMORY_DESCRIPTOR */
const HELD_DESCRIPTOR = 3;

/** Names the holder for ever; what is stored of it. */
export interface HolderIdentity {
  readonly pid: number;
  readonly startTicks: number;
}

/** Where a process maps the memory of its guest: hexadecimal addresses as /proc shows them. */
export interface MemoryRange {
  readonly start: string;
  readonly end: string;
}

export class MemoryHolder {
  readonly identity: HolderIdentity;
  readonly #talk: TalkingProcess | undefined;

  private constructor(identity: HolderIdentity, talk: TalkingProcess | undefined) {
    this.identity = identity;
    this.#talk = talk;
  }

  /** An empty memory of `bytes`, to be written and then sealed. @throws process.* (unavailable, timeout) */
  static hold(program: string, bytes: number, name: string): Promise<MemoryHolder> {
    return MemoryHolder.#start([program, 'hold', String(bytes), name], TALK_DEADLINE_MS);
  }

  /** A sealed copy of what a stopped machine has in its memory. @throws process.* (unavailable, timeout) */
  static copy(program: string, pid: number, { start, end }: MemoryRange, name: string): Promise<MemoryHolder> {
    return MemoryHolder.#start([program, 'copy', String(pid), start, end, name], COPY_DEADLINE_MS);
  }

  /** One that an earlier daemon left. */
  static adopt(identity: HolderIdentity): MemoryHolder {
    return new MemoryHolder(identity, undefined);
  }

  static async #start(argv: readonly [string, ...string[]], deadlineMs: number): Promise<MemoryHolder> {
    const talk = await spawnTalking(argv);
    const info = await processInfo(talk.pid);
    const holder = new MemoryHolder({ pid: talk.pid, startTicks: info?.startTicks ?? 0 }, talk);
    try {
      await holder.#expect('held', deadlineMs);
      return holder;
    } catch (error) {
      await holder.end();
      throw error;
    }
  }

  /** For whoever may look into the holder: its user, and root. */
  get path(): string {
    return `/proc/${this.identity.pid}/fd/${HELD_DESCRIPTOR}`;
  }

  /** From now on nobody can change it. Every machine that wrote it must be gone. */
  async seal(): Promise<void> {
    this.#talk?.say('seal');
    await this.#expect('sealed', TALK_DEADLINE_MS);
  }

  /** Takes what a stopped machine has in its memory; sealed from then on. The holder ends with this daemon. @throws process.* */
  async fill(pid: number, { start, end }: MemoryRange): Promise<void> {
    this.#talk?.say(`fill ${pid} ${start} ${end}`);
    await this.#expect('filled', COPY_DEADLINE_MS);
  }

  alive(): Promise<boolean> {
    return isAlive(this.identity);
  }

  /** Gives the memory back once the last machine that maps it has ended. */
  async end(): Promise<void> {
    this.#talk?.hangUp();
    await killAndWait(this.identity);
  }

  async #expect(word: string, deadlineMs: number): Promise<void> {
    const line = await this.#talk?.nextLine(deadlineMs);
    if (line !== word)
      throw new BerthError('bug', 'memory.word', `berth-memory said "${line}" where "${word}" was due`);
  }
}

/** Copies a disk into files that are there and empty, without its holes. @throws disk.copy (unavailable) */
export async function copySparse(program: string, from: string, to: readonly string[]): Promise<void> {
  const { exitCode, stderr } = await runProcess([program, 'copy-file', from, ...to], { deadlineMs: DISK_DEADLINE_MS });
  if (exitCode !== 0) throw new BerthError('unavailable', 'disk.copy', `${from} could not be copied: ${stderr.trim()}`);
}

/** Where a sparse file holds data: byte offsets, ascending. @throws process.failed (unavailable) */
export async function dataExtents(program: string, path: string): Promise<{ begin: number; end: number }[]> {
  const { stdout } = await runChecked([program, 'extents', path], { maxOutputBytes: MAX_EXTENTS_TEXT_BYTES });
  return stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => {
      const [begin = 0, end = 0] = line.split(' ').map(Number);
      return { begin, end };
    });
}

/** Writes a stopped machine's memory to a new file, sparse. @throws memory.save (unavailable) */
export async function saveMemory(program: string, pid: number, range: MemoryRange, path: string): Promise<void> {
  const argv = [program, 'save', String(pid), range.start, range.end, path] as const;
  const { exitCode, stderr } = await runProcess([...argv], { deadlineMs: DISK_DEADLINE_MS });
  if (exitCode !== 0)
    throw new BerthError('unavailable', 'memory.save', `the memory could not be written to ${path}: ${stderr.trim()}`);
}
