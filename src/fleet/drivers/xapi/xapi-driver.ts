/**
 * XCP-ng and XenServer over XAPI, one session at the pool's master.
 *
 * A look asks for all records of a class at a time; changes come by event.from with whole records; what VMs consumed is asked of
 * each host that runs some, since each measures its own. Sessions that expire end, and the loop of the source signs in anew.
 */
import * as v from 'valibot';
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
} from '../../driver.ts';
import { parseHostFacts } from '../../facts.ts';
import { hostFacts, isVm, type PoolRecords } from './pool-facts.ts';
import { readPeriods } from './pool-periods.ts';
import { readClass, readPool, type SessionCall } from './pool-reader.ts';
import type { HostRecord } from './records.ts';
import { eventFacet, tryFacts } from './xapi-events.ts';
import { pastEvents } from './xapi-history.ts';
import { type Login, problemsOf, signIn } from './xapi-login.ts';
import { powerFacet } from './xapi-power.ts';

/** VMs of one page: so many are written before others have their turn. */
const PAGE_VMS = 250;
const LOGOUT_MS = 1_000;

export const xapiDriver: FleetDriver = {
  name: 'xapi',
  schemes: ['xapi'],
  problemsOf,
  open: async (target, signal) => {
    signal.throwIfAborted();
    return new XapiSession(await signIn(target, signal), target);
  },
};

class XapiSession implements DriverSession {
  readonly ended: Promise<BerthError | undefined>;
  readonly events: EventFacet;
  readonly periods: PeriodFacet;
  readonly history: HistoryFacet;
  readonly power?: PowerFacet;
  readonly #login: Login;
  readonly #call: SessionCall;
  readonly #target: SourceTarget;
  #known: PoolRecords | undefined;
  /** Hosts whose figures could not be had, and why. */
  #unmeasured: readonly string[] = [];
  #finish: (reason: BerthError | undefined) => void = () => {};
  #isOver = false;

  constructor(login: Login, target: SourceTarget) {
    this.#login = login;
    this.#target = target;
    this.ended = new Promise((resolve) => {
      this.#finish = resolve;
    });
    this.#call = async (method, params = [], deadlineMs) => {
      try {
        return await login.client.call(method, [login.session, ...params], deadlineMs);
      } catch (error) {
        throw this.#noticed(error);
      }
    };
    this.events = eventFacet({
      call: this.#call,
      onFailed: (error) => this.#end(error),
      onKnown: (records) => {
        this.#known = records;
      },
    });
    this.periods = { read: (wanted) => this.#periods(wanted) };
    this.history = { since: (fromMs) => this.#past(fromMs) };
    if (target.allowPower) this.power = powerFacet(this.#call);
  }

  async fingerprint(): ReturnType<DriverSession['fingerprint']> {
    const { client, namedMember } = this.#login;
    const master = await this.#master();
    const version = master.software_version;
    const redirected =
      namedMember === undefined ? [] : [`${namedMember} is a member of the pool; its master is ${client.where}`];
    return {
      product: version['product_brand'] ?? 'XAPI',
      version: version['product_version_text'] ?? version['product_version'] ?? '0',
      endpoint: await this.#poolName(master),
      limits: [
        ...redirected,
        'a VM that does not run is on no host',
        'no counters: averages of one minute are read from each host, kept for two hours; a first minute counts as a whole',
        ...(this.#target.pin === undefined
          ? []
          : ['with a pin only hosts that show the pinned certificate are asked what they and their VMs consume']),
        ...this.#unmeasured,
      ],
    };
  }

  async *snapshot(signal: AbortSignal): AsyncIterable<SnapshotPage> {
    const { records, unreadable } = await readPool(this.#call, signal);
    const hosts = [...records.host.values()].map((host) => {
      const metrics = host.metrics === null ? undefined : records.host_metrics.get(host.metrics);
      return parseHostFacts(hostFacts(host, metrics, nowMs()));
    });
    const unread = unreadable.flatMap(({ uuid }) => uuid ?? []);
    if (unread.length < unreadable.length) {
      const text = 'a VM cannot be read, not even its UUID: who else is missing is not known';
      throw new BerthError('invalid', 'xapi.malformed', text);
    }
    const own = [...records.VM.values()].filter(isVm);
    const counts = new Map<string, number>();
    for (const { uuid } of own) counts.set(uuid, (counts.get(uuid) ?? 0) + 1);
    const facts = own.map((vm) => ({
      uuid: vm.uuid,
      // XAPI's database has each UUID once. Were it otherwise, neither would be the one that was known.
      facts: counts.get(vm.uuid) === 1 ? tryFacts(vm, records) : undefined,
    }));
    unread.push(...new Set(facts.flatMap((one) => (one.facts === undefined ? [one.uuid] : []))));
    const vms = facts.flatMap((one) => one.facts ?? []);
    yield { hosts, vms: vms.slice(0, PAGE_VMS), unread };
    for (let from = PAGE_VMS; from < vms.length; from += PAGE_VMS)
      yield { hosts: [], vms: vms.slice(from, from + PAGE_VMS), unread: [] };
  }

  async close(): Promise<void> {
    if (this.#isOver) return;
    this.#isOver = true;
    const { client, session } = this.#login;
    // A server that does not answer is not waited for: sessions nobody uses expire.
    const patience = startTimer(LOGOUT_MS, () => client.close());
    await client.call('session.logout', [session]).catch(() => {});
    patience.cancel();
    client.close();
    this.#finish(undefined);
  }

  async *#periods(wanted: PeriodsWanted): AsyncIterable<PeriodPage> {
    const [vms, hosts] =
      this.#known === undefined
        ? [(await readClass('VM', this.#call)).records, (await readClass('host', this.#call)).records]
        : [this.#known.VM, this.#known.host];
    yield* readPeriods({
      login: this.#login,
      call: this.#call,
      vms: [...vms.values()].filter(isVm),
      hosts,
      wanted,
      unmeasured: (problems) => {
        this.#unmeasured = problems;
      },
    });
  }

  async *#past(fromMs: number): AsyncIterable<readonly PastEvent[]> {
    yield await pastEvents(this.#call, fromMs);
  }

  async #master(): Promise<HostRecord> {
    const ref = String(await this.#call('session.get_this_host', [this.#login.session]));
    const { records } = await readClass('host', this.#call);
    const master = records.get(ref) ?? [...records.values()][0];
    if (master !== undefined) return master;
    throw new BerthError('invalid', 'xapi.malformed', 'the pool has no host that could be read');
  }

  /** Pools of one host have no name. */
  async #poolName(master: HostRecord): Promise<string> {
    const pools = v.safeParse(
      v.record(v.string(), v.object({ name_label: v.string() })),
      await this.#call('pool.get_all_records'),
    );
    const [pool] = pools.success ? Object.values(pools.output) : [];
    return pool?.name_label || master.name_label || this.#target.url.host;
  }

  /** What ends a session ends it for everybody. */
  #noticed(error: unknown): unknown {
    if (error instanceof BerthError && error.kind !== 'unavailable') return error;
    return this.#end(error);
  }

  #end(error: unknown): BerthError {
    const reason = error instanceof BerthError ? error : new BerthError('bug', 'xapi.failed', messageOf(error));
    if (!this.#isOver) {
      this.#isOver = true;
      this.#login.client.close();
      this.#finish(reason);
    }
    return reason;
  }
}
