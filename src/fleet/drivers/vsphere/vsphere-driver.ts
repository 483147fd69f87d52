/**
 * vCenter and ESXi over their SOAP API.
 *
 * A look lists what a container view holds and asks for named properties of 250 objects at a time: nothing grows with the
 * estate but the number of calls. Changes come by WaitForUpdatesEx on a collector of its own; what changed is then read
 * like in a look. Tags come from another API, by asking (tag-book.ts); custom attributes with the VM. Sessions that expire end, and the loop of the source signs in anew.
 */
import { BerthError, messageOf } from '#base';
import { nowMs, startTimer } from '#platform';
import type {
  DriverSession,
  EventFacet,
  FleetDriver,
  HistoryFacet,
  PastEvent,
  PeriodFacet,
  PeriodPage,
  PeriodsWanted,
  PowerFacet,
  SnapshotPage,
  SourceTarget,
  TagFacet,
} from '../../driver.ts';
import { parseHostFacts, parseVmFacts, type VmFacts } from '../../facts.ts';
import { textAt } from '../../xml.ts';
import { CustomAttributes } from './custom-attributes.ts';
import { element, type Moref, reference } from './soap.ts';
import { TagBook } from './tag-book.ts';
import { VapiClient } from './vapi-client.ts';
import { PAGE_OBJECTS, type ServiceContent, VsphereClient } from './vsphere-client.ts';
import { HOST_PROPERTIES, hostFacts, type ObjectContent, VM_PROPERTIES, vmFacts } from './vsphere-facts.ts';
import { pastEvents } from './vsphere-history.ts';
import { HostPeriodReader } from './vsphere-host-periods.ts';
import { type CounterKeys, counterKeys, periodSpec, periodsOf, wholePeriods } from './vsphere-periods.ts';
import { powerFacet } from './vsphere-power.ts';
import { TagReader, type TagsByVm } from './vsphere-tags.ts';
import { type OnChange, VsphereWatch, type WantedOfVms } from './vsphere-watch.ts';

/** While one is read and another is on its way, the server is at the next. */
const PAGES_AT_ONCE = 3;
/** VMs of one QueryPerf: an hour of one is 30 KB. */
const PERIOD_VMS = 50;
/** The way there and back is in the difference of the clocks: less than this is none. */
const SAME_CLOCK_MS = 5_000;
const LOGOUT_MS = 1_000;
/** vCenter tells of tags only when it is asked: a call for each 100 tags, and one more. */
const TAGS_EVERY_MS = 60_000;

const VSPHERE: Omit<FleetDriver, 'open'> = {
  name: 'vsphere',
  schemes: ['vsphere', 'esx'],
  problemsOf: (url) => [
    ...(url.hostname === '' ? ['the host is missing'] : []),
    ...(url.username === '' && url.password === ''
      ? []
      : ['user and password do not belong into the URL: use --credentials-file']),
    ...(/^\/?(sdk\/?)?$/.test(url.pathname) ? [] : [`the path ${url.pathname} is not /sdk`]),
    ...(url.search === '' ? [] : ['there are no parameters']),
  ],
};

export const vsphereDriver: FleetDriver = vsphereDriverWith({ tagsEveryMs: TAGS_EVERY_MS });

/** @param pace - `tagsEveryMs`: between two readings of tags. */
export function vsphereDriverWith(pace: { readonly tagsEveryMs: number }): FleetDriver {
  return { ...VSPHERE, open: (target, signal) => open(target, signal, pace.tagsEveryMs) };
}

async function open(target: SourceTarget, signal: AbortSignal, tagsEveryMs: number): Promise<DriverSession> {
  signal.throwIfAborted();
  const { credentials } = target;
  if (credentials === undefined) {
    throw new BerthError('unauthenticated', 'vsphere.no_credentials', `source ${target.name} has no credentials`, {
      hint: 'add it with --credentials-file, --credentials-env or --user',
    });
  }
  const client = new VsphereClient(target);
  const giveUp = (): void => client.close();
  signal.addEventListener('abort', giveUp, { once: true });
  try {
    const content = await client.serviceContent();
    await client.call('Login', [
      reference('_this', content.sessionManager),
      element('userName', credentials.user),
      element('password', credentials.password),
    ]);
    const vapi = new VapiClient(client, credentials);
    return new VsphereSession({ client, content, target, vapi, tagsEveryMs });
  } catch (error) {
    client.close();
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', giveUp);
  }
}

interface SessionParts {
  readonly client: VsphereClient;
  readonly content: ServiceContent;
  readonly target: SourceTarget;
  readonly vapi: VapiClient;
  readonly tagsEveryMs: number;
}

class VsphereSession implements DriverSession {
  readonly ended: Promise<BerthError | undefined>;
  readonly events: EventFacet;
  readonly power?: PowerFacet;
  readonly periods?: PeriodFacet;
  readonly history?: HistoryFacet;
  readonly tags: TagFacet;
  readonly #client: VsphereClient;
  readonly #content: ServiceContent;
  readonly #target: SourceTarget;
  #finish: (reason: BerthError | undefined) => void = () => {};
  #isOver = false;
  #hasLooked = false;
  /** Why it is over, unless it was closed. */
  #reason: BerthError | undefined;
  #counterKeys: CounterKeys | undefined;
  readonly #watch: VsphereWatch;
  readonly #wanted: WantedOfVms;
  readonly #vapi: VapiClient;
  readonly #tagBook: TagBook;
  readonly #attributes: CustomAttributes;
  /** Hears what changes, once somebody watches. */
  #onChange: OnChange | undefined;
  #leaving: Promise<void> | undefined;
  #hostPeriods: HostPeriodReader | undefined;

  constructor({ client, content, target, vapi, tagsEveryMs }: SessionParts) {
    this.#client = client;
    this.#vapi = vapi;
    const reader = new TagReader(vapi);
    const read = async (): Promise<TagsByVm> => (await reader.read()).byVm;
    this.#attributes = new CustomAttributes(client, content);
    const isAttribute = (name: string): boolean => this.#attributes.isOne(name);
    this.#tagBook = new TagBook({ read, lastTags: target.lastTags, isAttribute, everyMs: tagsEveryMs });
    this.tags = { count: () => countTags(new TagReader(vapi)) };
    this.#wanted = { properties: VM_PROPERTIES, read: (one) => this.#factsOf(one) };
    this.#content = content;
    this.#target = target;
    this.ended = new Promise((resolve) => {
      this.#finish = resolve;
    });
    const failed = (error: unknown): void => void this.#noticed(error);
    this.#watch = new VsphereWatch({ client, content, wanted: this.#wanted, isOver: () => this.#isOver, failed });
    this.events = { afterLook: true, watch: (onChange) => this.#watchWith(onChange) };
    const { perfManager, eventManager } = content;
    if (eventManager !== undefined) this.history = { since: (fromMs) => this.#past(eventManager, fromMs) };
    if (perfManager !== undefined) this.periods = { read: (wanted) => this.#periods(perfManager, wanted) };
    if (target.allowPower) this.power = powerFacet(client, content);
  }

  async fingerprint(): ReturnType<DriverSession['fingerprint']> {
    // Asked anew: a session that is over must not look alive.
    const { product, version } = await this.#client.serviceContent();
    const limits = ['counters are those of vSphere’s own periods of 20 s, kept for an hour'];
    return { product, version, endpoint: this.#target.url.host, limits };
  }

  async *snapshot(signal: AbortSignal): AsyncIterable<SnapshotPage> {
    const note = this.#watch.beforeIt();
    const read = (one: ObjectContent): VmFacts => {
      note?.(one);
      return this.#wanted.read(one);
    };
    const lookedAt = await this.#tagBook.look();
    try {
      const [hosts, vms] = await Promise.all([
        this.#client.view(this.#content, 'HostSystem'),
        this.#client.view(this.#content, 'VirtualMachine'),
        this.#attributes.learn(),
      ]);
      const host = { properties: HOST_PROPERTIES, read: (one: ObjectContent) => parseHostFacts(hostFacts(one)) };
      const pages = this.#pages(vms.members, { ...this.#wanted, read }, signal);
      // The server is at the first of them while it tells of hosts, whom VMs name.
      let next = pages.next();
      next.catch(() => {});
      for await (const page of this.#pages(hosts.members, host, signal)) yield { hosts: page, vms: [], unread: [] };
      for (let page = await next; page.done !== true; page = await next) {
        yield { hosts: [], vms: page.value, unread: [] };
        next = pages.next();
      }
      // Not waited for: a view that stays ends with its session.
      for (const { view } of [hosts, vms])
        this.#client.call('DestroyView', [reference('_this', view)]).catch((error: unknown) => this.#noticed(error));
      this.#hasLooked = true;
      this.#followTags();
    } catch (error) {
      throw this.#noticed(error);
    } finally {
      lookedAt();
    }
  }

  async #watchWith(onChange: OnChange): Promise<() => Promise<void>> {
    this.#onChange = onChange;
    const stop = await this.#watch.begin((change) => {
      if (change.kind === 'gone') this.#tagBook.forget(change.nativeId);
      onChange(change);
    });
    this.#followTags();
    return async () => {
      this.#tagBook.stop();
      await stop();
    };
  }

  /** Not before the first look, which has enough to do, nor before somebody listens; what the look wrote has no tags that are newer. */
  #followTags(): void {
    if (this.#hasLooked && this.#onChange !== undefined) this.#tagBook.follow(this.#onChange);
  }

  #factsOf(one: ObjectContent): VmFacts {
    const { tags, ...facts } = vmFacts(one);
    const own = [...tags, ...this.#attributes.tagsOf(one.properties.get('customValue'))];
    return parseVmFacts({ ...facts, tags: this.#tagBook.tagsOf(one.moref.id, own) });
  }

  async close(): Promise<void> {
    if (!this.#isOver) {
      this.#isOver = true;
      const logout = this.#client.call('Logout', [reference('_this', this.#content.sessionManager)]);
      this.#leaving = this.#leave([logout]);
      await this.#leaving;
      this.#finish(undefined);
    }
    await this.#leaving;
  }

  /** A server that does not answer is not waited for: sessions nobody uses expire. */
  async #leave(partings: readonly Promise<unknown>[]): Promise<void> {
    this.#tagBook.stop();
    const patience = startTimer(LOGOUT_MS, () => this.#client.close());
    await Promise.allSettled([...partings, this.#vapi.close()]);
    patience.cancel();
    this.#client.close();
  }

  /** Of all VMs that run. Times are turned from the server's clock into ours, unless both are as good as the same. */
  async *#periods(perfManager: Moref, wanted: PeriodsWanted): AsyncIterable<PeriodPage> {
    try {
      this.#counterKeys ??= await this.#readCounterKeys(perfManager);
      const keys = this.#counterKeys;
      const aheadMs = await this.#aheadMs();
      const shiftMs = clockShift(aheadMs);
      const untilMs = wholePeriods(nowMs() + aheadMs);
      const running = await this.#running();
      yield { running: running.map((vm) => vm.id), periods: [], hosts: [] };
      const asked = running.flatMap((vm) => {
        const sinceMs = wanted.vms(vm.id);
        return sinceMs === undefined ? [] : [{ vm, span: { sinceMs: wholePeriods(sinceMs + shiftMs), untilMs } }];
      });
      for (let from = 0; from < asked.length; from += PERIOD_VMS) {
        const specs = asked.slice(from, from + PERIOD_VMS).map(({ vm, span }) => periodSpec(vm, keys, span));
        const answer = await this.#client.call('QueryPerf', [reference('_this', perfManager), ...specs]);
        const periods = periodsOf(answer, keys).map((one) => ({
          ...one,
          startMs: one.startMs - shiftMs,
          endMs: one.endMs - shiftMs,
        }));
        yield { running: [], periods, hosts: [] };
      }
      this.#hostPeriods ??= new HostPeriodReader({ client: this.#client, content: this.#content, perfManager });
      for await (const hosts of this.#hostPeriods.read({ since: wanted.hosts, untilMs, shiftMs }))
        yield { running: [], periods: [], hosts };
    } catch (error) {
      throw this.#noticed(error);
    }
  }

  async *#past(eventManager: Moref, fromMs: number): AsyncIterable<readonly PastEvent[]> {
    try {
      yield* pastEvents(this.#client, eventManager, { fromMs, aheadMs: clockShift(await this.#aheadMs()) });
    } catch (error) {
      throw this.#noticed(error);
    }
  }

  /** By how much the server's clock is ahead of ours, the way there and back included. */
  async #aheadMs(): Promise<number> {
    const me = reference('_this', { type: 'ServiceInstance', id: 'ServiceInstance' });
    const serverMs = Date.parse(textAt(await this.#client.call('CurrentTime', [me]), 'returnval') ?? '');
    return Number.isFinite(serverMs) ? serverMs - nowMs() : 0;
  }

  async #readCounterKeys(perfManager: Moref): Promise<CounterKeys> {
    const [found] = await this.#client.retrieve(this.#content.propertyCollector, [perfManager], {
      properties: ['perfCounter'],
      read: ({ properties }) => properties.get('perfCounter'),
    });
    return counterKeys(found);
  }

  async #running(): Promise<Moref[]> {
    const { view, members } = await this.#client.view(this.#content, 'VirtualMachine');
    const running: Moref[] = [];
    const power = {
      properties: ['runtime.powerState'],
      read: ({ moref, properties }: ObjectContent) =>
        properties.get('runtime.powerState')?.text === 'poweredOn' ? [moref] : [],
    };
    for await (const page of this.#pages(members, power, new AbortController().signal)) running.push(...page.flat());
    await this.#client.call('DestroyView', [reference('_this', view)]);
    return running;
  }

  /** In their order; some are under way at once. */
  async *#pages<T>(
    members: readonly Moref[],
    wanted: { readonly properties: readonly string[]; readonly read: (one: ObjectContent) => T },
    signal: AbortSignal,
  ): AsyncGenerator<T[], void> {
    const { propertyCollector } = this.#content;
    let from = 0;
    const underWay: Promise<T[]>[] = [];
    const ask = (): void => {
      for (; from < members.length && underWay.length < PAGES_AT_ONCE; from += PAGE_OBJECTS) {
        const page = this.#client.retrieve(propertyCollector, members.slice(from, from + PAGE_OBJECTS), wanted);
        // Whoever stops before it is taken leaves a call behind: its failure is nobody's.
        page.catch(() => {});
        underWay.push(page);
      }
    };
    for (;;) {
      ask();
      signal.throwIfAborted();
      const next = underWay[0];
      if (next === undefined) return;
      const page = await next;
      underWay.shift();
      // Before somebody takes his time with this one.
      ask();
      yield page;
    }
  }

  /** What ends a session ends it for everybody: calls that were cut by it say why, not how. */
  #noticed(error: unknown): unknown {
    if (this.#reason !== undefined) return this.#reason;
    const isFatal = error instanceof BerthError && error.kind === 'unavailable';
    if (!isFatal && error instanceof BerthError) return error;
    const reason = error instanceof BerthError ? error : new BerthError('bug', 'vsphere.failed', messageOf(error));
    if (!this.#isOver) {
      this.#isOver = true;
      this.#reason = reason;
      // The other session may be alive when this one is over.
      this.#leaving = this.#leave([]);
      this.#finish(reason);
    }
    return reason;
  }
}

async function countTags(reader: TagReader): ReturnType<TagFacet['count']> {
  const { byVm, count } = await reader.read();
  return { tags: count, vms: byVm.size };
}

/** Whole seconds; clocks that are as good as the same are the same. */
function clockShift(aheadMs: number): number {
  return Math.abs(aheadMs) < SAME_CLOCK_MS ? 0 : Math.round(aheadMs / 1_000) * 1_000;
}
