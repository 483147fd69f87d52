/**
 * The fleet as the API and the daemon use it: sources are added, tried and removed here, each with a loop that keeps up
 * with it; questions go to `queries` and `past`.
 */
import { BerthError } from '#base';
import { nowMs } from '#platform';
import { OwnerKeeper } from './collector/owner-keeper.ts';
import { type Keeping, Pruner } from './collector/pruner.ts';
import { asBerthError, SourceLoop } from './collector/source-loop.ts';
import { ConsumptionTable } from './consumption/consumption-table.ts';
import { HostConsumptionTable } from './consumption/host-consumption-table.ts';
import { PruneTable } from './consumption/prune-table.ts';
import type { Credentials, DriverSession, FleetDriver, PowerVerb, SourceTarget, TagFacet } from './driver.ts';
import { HistoryQueries } from './inventory/history-queries.ts';
import { HostUseQueries } from './inventory/host-use.ts';
import { Inventory } from './inventory/inventory.ts';
import { type OwnerRules, TAGS_ONLY } from './inventory/owner-rules.ts';
import { FleetQueries, vmNumber } from './inventory/queries.ts';
import { type Source, SourceTable } from './inventory/sources.ts';
import { UsageFacts } from './inventory/usage-facts.ts';
import { type LiveFigures, liveFigures } from './live-figures.ts';
import { Vault } from './vault.ts';

/** Without events changes are found by looking this often. */
const DEFAULT_EVERY_MS = 30_000;
const LEAST_EVERY_MS = 1_000;
/** An hour has sixty readings: one that is missed is a minute that is not known. */
const DEFAULT_SAMPLE_EVERY_MS = 60_000;
const TEST_DEADLINE_MS = 60_000;

export interface FleetParts {
  /** Folder of `fleet.db` and `fleet.key`. */
  readonly folder: string;
  readonly drivers: readonly FleetDriver[];
  /** Names this daemon, the same after a restart. */
  readonly holder: string;
  /** Whose VMs are when; without them tags say it. */
  readonly owners?: OwnerRules | undefined;
  /** How long consumption is kept; all of it without this. */
  readonly keeping?: Keeping | undefined;
  readonly log: (line: string) => void;
}

export interface AddSource {
  readonly name: string;
  readonly url: string;
  readonly credentials?: Credentials | undefined;
  readonly pin?: string | undefined;
  readonly allowPower?: boolean | undefined;
  readonly everyMs?: number | undefined;
  readonly sampleEveryMs?: number | undefined;
}

export interface Check {
  readonly what: string;
  readonly verdict: 'ok' | 'refused' | 'absent';
  readonly told: string;
}

export class Fleet {
  readonly queries: FleetQueries;
  readonly past: HistoryQueries;
  readonly usage: UsageFacts;
  readonly hostUse: HostUseQueries;
  readonly #parts: FleetParts;
  readonly #inventory: Inventory;
  readonly #consumption: ConsumptionTable;
  readonly #hostConsumption: HostConsumptionTable;
  readonly #sources: SourceTable;
  readonly #vault: Vault;
  readonly #ownerKeeper: OwnerKeeper;
  readonly #pruner: Pruner | undefined;
  readonly #loops = new Map<number, SourceLoop>();

  private constructor(parts: FleetParts, inventory: Inventory, vault: Vault) {
    this.#parts = parts;
    this.#inventory = inventory;
    this.#vault = vault;
    this.#consumption = new ConsumptionTable(inventory.database);
    this.#hostConsumption = new HostConsumptionTable(inventory.database);
    this.#sources = new SourceTable(inventory.database);
    this.queries = new FleetQueries(inventory.database);
    this.past = new HistoryQueries(inventory.database, inventory.ownerBook);
    this.usage = new UsageFacts(inventory.database, inventory.ownerBook);
    this.hostUse = new HostUseQueries(inventory.database);
    const { keeping, log } = parts;
    this.#pruner =
      keeping === undefined ? undefined : new Pruner({ ...keeping, table: new PruneTable(inventory.database), log });
    this.#ownerKeeper = new OwnerKeeper({ book: inventory.ownerBook, owners: inventory.owners, log });
  }

  static async open(parts: FleetParts): Promise<Fleet> {
    const vault = await Vault.open(`${parts.folder}/fleet.key`);
    const fleet = new Fleet(parts, Inventory.open(`${parts.folder}/fleet.db`), vault);
    fleet.setOwnerRules(parts.owners);
    fleet.#pruner?.start();
    for (const source of fleet.sources()) fleet.#startLoop(source);
    return fleet;
  }

  async close(): Promise<void> {
    this.#ownerKeeper.stop();
    await this.#pruner?.stop();
    await Promise.all([...this.#loops.values()].map((loop) => loop.stop()));
    this.#loops.clear();
    await this.#inventory.database.settled();
    this.#inventory.close();
  }

  /** In force for every answer about the past at once, for lists within seconds. @param rules - undefined: tags say it. */
  setOwnerRules(rules: OwnerRules | undefined): void {
    this.#ownerKeeper.follow(rules ?? TAGS_ONLY);
  }

  sources(): Source[] {
    return this.#sources.list();
  }

  /** Stores the source and begins to look. @throws source.invalid (invalid) with every problem; source.exists (conflict) */
  addSource(given: AddSource): Source {
    const { driver, url } = this.#validated(given);
    const source = this.#sources.add(
      {
        name: given.name,
        url: url.href,
        driver: driver.name,
        sealedSecret:
          given.credentials === undefined ? null : this.#vault.seal(given.credentials, bindingOf(given.name, url.href)),
        pin: given.pin ?? null,
        allowPower: given.allowPower ?? false,
        everyMs: given.everyMs ?? DEFAULT_EVERY_MS,
        sampleEveryMs: given.sampleEveryMs ?? DEFAULT_SAMPLE_EVERY_MS,
      },
      nowMs(),
    );
    this.#startLoop(source);
    return source;
  }

  /** Adds a source that belongs here, unless it is there already. */
  ensureSource(given: AddSource): void {
    if (!this.sources().some((source) => source.name === given.name)) this.addSource(given);
  }

  /** Its VMs are gone unless another source shows them; their history stays. @throws source.not_found */
  async removeSource(name: string): Promise<void> {
    const source = this.#sources.named(name);
    if (source.driver === 'berth')
      throw new BerthError('conflict', 'source.own', `${name} is berth itself, which always knows its own VMs`);
    await this.#loops.get(source.id)?.stop();
    this.#loops.delete(source.id);
    const now = nowMs();
    this.#inventory.removeSource(source.id, {
      how: 'poll',
      atMs: now,
      observedMs: now,
      notBeforeMs: source.okMs ?? now,
    });
  }

  /** Looks at a source as soon as it can, whatever its turn is. */
  refresh(name: string): void {
    this.#loops.get(this.#sources.named(name).id)?.askForLook();
  }

  /** How often a source is looked at and its counters are read, from the next time on. @throws source.invalid, source.not_found */
  setPace(
    name: string,
    pace: { readonly everyMs?: number | undefined; readonly sampleEveryMs?: number | undefined },
  ): Source {
    const source = this.#sources.named(name);
    const problems = paceProblems(pace);
    if (problems.length > 0)
      throw new BerthError('invalid', 'source.invalid', `source ${name} cannot be paced so: ${problems.join('; ')}`);
    this.#sources.setPace(source.id, {
      everyMs: pace.everyMs ?? source.everyMs,
      sampleEveryMs: pace.sampleEveryMs ?? source.sampleEveryMs,
    });
    this.refresh(name);
    return this.#sources.named(name);
  }

  /** A session of its own, and what works in it. Never throws for what the source does. @throws source.not_found */
  async testSource(name: string): Promise<readonly Check[]> {
    const source = this.#sources.named(name);
    const checks: Check[] = [];
    const signal = AbortSignal.timeout(TEST_DEADLINE_MS);
    let session: DriverSession | undefined;
    try {
      session = await this.#driverNamed(source.driver).open(this.#targetOf(source), signal);
      checks.push({ what: 'reached and signed in', verdict: 'ok', told: new URL(source.url).protocol.slice(0, -1) });
      const fingerprint = await session.fingerprint();
      checks.push({
        what: 'product',
        verdict: 'ok',
        told: `${fingerprint.product} ${fingerprint.version} on ${fingerprint.endpoint}`,
      });
      let [hosts, vms, unread] = [0, 0, 0];
      for await (const page of session.snapshot(signal)) {
        hosts += page.hosts.length;
        vms += page.vms.length;
        unread += page.unread.length;
      }
      const rest = unread === 0 ? '' : `, ${unread} could not be read`;
      checks.push({
        what: 'inventory',
        verdict: unread === 0 ? 'ok' : 'refused',
        told: `${hosts} hosts, ${vms} VMs${rest}`,
      });
      const facets = {
        events: session.events,
        'power verbs': session.power,
        counters: session.samples ?? session.periods,
        'counters of hosts': session.hostSamples ?? session.periods,
        'past events': session.history,
      };
      for (const [what, facet] of Object.entries(facets))
        checks.push({
          what,
          verdict: facet === undefined ? 'absent' : 'ok',
          told: facet === undefined ? 'not offered' : 'offered',
        });
      if (session.tags !== undefined) checks.push(await checkOfTags(session.tags));
      for (const limit of fingerprint.limits) checks.push({ what: 'limit', verdict: 'absent', told: limit });
    } catch (error) {
      checks.push({ what: 'failed', verdict: 'refused', told: toldOf(error) });
    } finally {
      await session?.close();
    }
    return checks;
  }

  /** @throws vm.not_found, vm.ambiguous, fleet.read_only (denied), fleet.no_verb (unsupported), and the driver's errors. */
  async act(reference: string, verb: PowerVerb): Promise<void> {
    const vm = this.queries.find(reference);
    const id = vmNumber(vm.id);
    const sighting = this.queries
      .sightings(id)
      .find((one) => one.goneMs === null && this.#sources.named(one.source).allowPower);
    if (sighting === undefined) {
      throw new BerthError(
        'denied',
        'fleet.read_only',
        `${vm.name} is seen through ${vm.source}, which berth may only read`,
        {
          hint: `remove the source and add it with --allow-power to permit "${verb}"`,
        },
      );
    }
    const { power } = this.#loopOf(sighting.source).session();
    if (power === undefined || !power.verbs.includes(verb)) {
      throw new BerthError('unsupported', 'fleet.no_verb', `source ${sighting.source} has no verb ${verb}`, {
        hint: power === undefined ? 'it has no power verbs' : `it has: ${power.verbs.join(', ')}`,
      });
    }
    this.#inventory.noteIntent(id, verb, nowMs());
    await power.act(verb, sighting.nativeId);
  }

  /** Figures of every running VM whose source counts or measures, over an interval of looking twice, or what it measured last. */
  async live(intervalMs: number): Promise<readonly LiveFigures[]> {
    const figures = await Promise.all(
      [...this.#loops.values()].map((loop) =>
        liveFigures(() => loop.session(), {
          intervalMs,
          named: (nativeId) => this.queries.byNativeId(loop.source.id, nativeId),
        }),
      ),
    );
    return figures.flat();
  }

  #validated(given: AddSource): { driver: FleetDriver; url: URL } {
    const problems: string[] = [];
    if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$/.test(given.name))
      problems.push(
        `the name "${given.name}" must be 1 to 63 letters, digits and _.- and begin with a letter or digit`,
      );
    const url = URL.parse(given.url);
    const scheme = url?.protocol.slice(0, -1) ?? '';
    const driver = this.#parts.drivers.find((one) => one.schemes.includes(scheme));
    if (url === null) problems.push(`"${given.url}" is no URL`);
    else if (driver === undefined) {
      const known = this.#parts.drivers.flatMap((one) => one.schemes.slice(0, 4)).join(', ');
      problems.push(`no driver serves ${scheme}:// (there are: ${known} ...)`);
    } else problems.push(...driver.problemsOf(url));
    if (url !== null && url.password !== '')
      problems.push('a password does not belong into a URL: use --credentials-file');
    if (given.pin !== undefined && !/^[0-9a-f]{64}$/.test(given.pin))
      problems.push('the pin is not 64 hex digits of SHA-256');
    problems.push(...paceProblems(given));
    if (problems.length === 0 && url !== null && driver !== undefined) return { driver, url };
    throw new BerthError(
      'invalid',
      'source.invalid',
      `the source cannot be added: ${[...new Set(problems)].join('; ')}`,
    );
  }

  #startLoop(source: Source): void {
    const loop = new SourceLoop(source, {
      inventory: this.#inventory,
      consumption: this.#consumption,
      hostConsumption: this.#hostConsumption,
      sources: this.#sources,
      driver: this.#driverNamed(source.driver),
      target: () => this.#targetOf(source),
      holder: this.#parts.holder,
      log: this.#parts.log,
    });
    this.#loops.set(source.id, loop);
    loop.start();
  }

  #loopOf(sourceName: string): SourceLoop {
    const loop = this.#loops.get(this.#sources.named(sourceName).id);
    if (loop === undefined) throw new BerthError('bug', 'source.no_loop', `source ${sourceName} has no loop`);
    return loop;
  }

  #driverNamed(name: string): FleetDriver {
    const driver = this.#parts.drivers.find((one) => one.name === name);
    if (driver !== undefined) return driver;
    throw new BerthError('unsupported', 'source.no_driver', `this berth has no driver ${name}`, {
      hint: 'start the berth that added the source',
    });
  }

  #targetOf(source: Source): SourceTarget {
    const sealed = this.#sources.sealedSecret(source.id);
    return {
      name: source.name,
      url: new URL(source.url),
      allowPower: source.allowPower,
      pin: source.pin ?? undefined,
      lastTags: this.#sources.lastTags(source.id),
      credentials: sealed === undefined ? undefined : this.#vault.unseal(sealed, bindingOf(source.name, source.url)),
    };
  }
}

/** What is refused here leaves everything else as it is. */
async function checkOfTags(facet: TagFacet): Promise<Check> {
  try {
    const { tags, vms } = await facet.count();
    return { what: 'tags', verdict: 'ok', told: `${tags} on ${vms} VMs` };
  } catch (error) {
    const verdict = asBerthError(error).kind === 'unsupported' ? 'absent' : 'refused';
    return { what: 'tags', verdict, told: toldOf(error) };
  }
}

function toldOf(error: unknown): string {
  const { message, hint } = asBerthError(error);
  return hint === undefined ? message : `${message} (${hint})`;
}

function paceProblems(pace: Pick<AddSource, 'everyMs' | 'sampleEveryMs'>): string[] {
  const isFast = (ms: number | undefined): boolean => ms !== undefined && ms < LEAST_EVERY_MS;
  return [
    ...(isFast(pace.everyMs) ? [`looking more often than each ${LEAST_EVERY_MS} ms`] : []),
    ...(isFast(pace.sampleEveryMs) ? [`reading counters more often than each ${LEAST_EVERY_MS} ms`] : []),
  ];
}

function bindingOf(name: string, url: string): string {
  return `${name}\n${url}`;
}
