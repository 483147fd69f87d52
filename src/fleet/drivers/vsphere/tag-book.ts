/**
 * What tags VMs have, kept up with: the property collector does not tell of them, so all are read now and then and what is other
 * than was told is told.
 *
 *     look ends ─▶ read ─▶ tell what differs ─▶ wait ─▶ read …
 *
 * Until they are read for the first time, and whenever they cannot be read, VMs have the tags they were last seen with: that somebody
 * refuses to tell them takes none away. Looks and tellings do not overlap, so that a look never shows tags older than those told.
 */
import { BerthError } from '#base';
import { monotonicMs, nowMs, sleep } from '#platform';
import type { VmChange } from '../../driver.ts';
import type { TagsByVm } from './vsphere-tags.ts';

/** Between, whoever hears of them writes them. */
const TOLD_AT_ONCE = 100;
/** Facts hold no more. */
const MOST_TOLD = 512;
/** Logins that are refused lock accounts when they are tried often. */
const REFUSED_MS = 10 * 60_000;

export interface TagBookParts {
  readonly read: () => Promise<TagsByVm>;
  readonly lastTags: ((nativeId: string) => readonly string[] | undefined) | undefined;
  /** Whether custom attributes are called so: what is told of those comes with the VM. */
  readonly isAttribute: (name: string) => boolean;
  /** Between two readings. */
  readonly everyMs: number;
}

interface Told {
  /** Those that are no tag of vCenter's. */
  readonly own: readonly string[];
  readonly tags: readonly string[];
  /** Since when, of `monotonicMs`, it is shown without anybody having read its tags; null when they are known. */
  readonly unreadSinceMs: number | null;
}

type OnChange = (change: VmChange) => void;

export class TagBook {
  readonly #parts: TagBookParts;
  readonly #stopping = new AbortController();
  readonly #told = new Map<string, Told>();
  #found: TagsByVm | undefined;
  /** Our clock at the beginning of the last reading; 0 before the first. */
  #readMs = 0;
  #looks = 0;
  #noLook: () => void = () => {};
  #telling: Promise<void> = Promise.resolve();
  #following: Promise<void> | undefined;

  constructor(parts: TagBookParts) {
    this.#parts = parts;
  }

  /** All tags of a VM that is about to be told. @param own - those that are no tag of vCenter's. */
  tagsOf(nativeId: string, own: readonly string[]): string[] {
    const before = this.#told.get(nativeId) ?? this.#last(nativeId);
    const tags = this.#found === undefined ? before.tags : (this.#found.get(nativeId) ?? []);
    this.#told.set(nativeId, { own, tags, unreadSinceMs: before.unreadSinceMs });
    return together(own, tags);
  }

  #last(nativeId: string): Omit<Told, 'own'> {
    // All of vCenter's have a category; what has none is the VM's own, as custom attributes are.
    const { lastTags, isAttribute } = this.#parts;
    const tags = lastTags?.(nativeId)?.filter((tag) => tag.includes('=') && !isAttribute(nameOf(tag)));
    return tags === undefined ? { tags: [], unreadSinceMs: monotonicMs() } : { tags, unreadSinceMs: null };
  }

  forget(nativeId: string): void {
    this.#told.delete(nativeId);
  }

  /** A look begins. @returns what ends it. */
  async look(): Promise<() => void> {
    await this.#telling;
    this.#looks += 1;
    return () => {
      this.#looks -= 1;
      if (this.#looks === 0) this.#noLook();
    };
  }

  /** From now on, until it is closed. Safe to call twice. */
  follow(onChange: OnChange): void {
    this.#following ??= this.#run(onChange).catch(() => {});
  }

  /** Nothing is told any more. */
  stop(): void {
    this.#stopping.abort(new BerthError('cancelled', 'vsphere.closed', 'the session with vSphere is closed'));
    this.#noLook();
  }

  async #run(onChange: OnChange): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const waitMs = await this.#turn(onChange).then(
        () => this.#parts.everyMs,
        // What it is `source test` says, which asks itself.
        (error: unknown) => (isHopeless(error) ? Math.max(REFUSED_MS, this.#parts.everyMs) : this.#parts.everyMs),
      );
      await sleep(waitMs, signal);
    }
  }

  async #turn(onChange: OnChange): Promise<void> {
    const began = { monotonicMs: monotonicMs(), nowMs: nowMs() };
    const found = await this.#parts.read();
    while (this.#looks > 0 && !this.#stopping.signal.aborted)
      await new Promise<void>((resolve) => {
        this.#noLook = resolve;
      });
    const notBeforeMs = this.#readMs;
    this.#found = found;
    this.#readMs = began.nowMs;
    const changes = [...this.#told].flatMap(([nativeId, told]) => this.#taken(nativeId, told, { began, notBeforeMs }));
    this.#telling = this.#tell(changes, onChange);
    await this.#telling;
  }

  /** Takes over what was found of a VM. @returns what is to be told of it */
  #taken(
    nativeId: string,
    told: Told,
    { began, notBeforeMs }: { readonly began: { readonly monotonicMs: number }; readonly notBeforeMs: number },
  ): VmChange[] {
    const tags = this.#found?.get(nativeId) ?? [];
    const { own, unreadSinceMs } = told;
    // One that came while tags were read may be missing there: the next reading has the first word.
    const isStillUnread = unreadSinceMs !== null && unreadSinceMs > began.monotonicMs;
    this.#told.set(nativeId, { own, tags, unreadSinceMs: isStillUnread ? unreadSinceMs : null });
    const [before, now] = [together(own, told.tags), together(own, tags)];
    if (JSON.stringify(before) === JSON.stringify(now)) return [];
    const since = unreadSinceMs === null ? notBeforeMs : null;
    return [{ kind: 'tags', nativeId, tags: now, notBeforeMs: since }];
  }

  async #tell(changes: readonly VmChange[], onChange: OnChange): Promise<void> {
    for (let from = 0; from < changes.length && !this.#stopping.signal.aborted; from += TOLD_AT_ONCE) {
      for (const change of changes.slice(from, from + TOLD_AT_ONCE)) onChange(change);
      await sleep(0);
    }
  }
}

/** Names have one value each: a tag goes before a custom attribute that is called as its category is. */
function together(own: readonly string[], tags: readonly string[]): string[] {
  if (tags.length === 0) return [...own];
  const names = new Set(tags.map(nameOf));
  return [...own.filter((tag) => !tag.includes('=') || !names.has(nameOf(tag))), ...tags].slice(0, MOST_TOLD);
}

function nameOf(tag: string): string {
  return tag.slice(0, tag.indexOf('='));
}

function isHopeless(error: unknown): boolean {
  return error instanceof BerthError && /^(denied|unauthenticated|unsupported)$/.test(error.kind);
}
