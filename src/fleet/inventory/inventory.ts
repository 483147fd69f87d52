/**
 * The inventory in its database: what sources show, the VMs behind it, and their intervals. One observation is one
 * transaction, so that a process that dies in the middle of one has not made it.
 */
import { BerthError } from '#base';
import { type Database, openDatabase } from '#store';
import { factsText, type HypervisorHost, type VmFacts } from '../facts.ts';
import { HostTable } from './host-table.ts';
import { IntervalTable } from './interval-table.ts';
import type { Moment, Standing } from './intervals.ts';
import { LAYOUT } from './layout.ts';
import { giveLeaseBack, requireLease, takeLease } from './leases.ts';
import { OwnerBook } from './owner-rules.ts';
import { previousOf } from './previous-rows.ts';
import { type Finding, type Observation, type Previous, reconcile } from './reconcile.ts';
import { dueAtMost, indexDue, indexedUpTo, indexVm, retireVms, reviveVms } from './search-table.ts';
import { VmClaims } from './vm-claims.ts';
import { VmOwners } from './vm-owners.ts';
import { differences, searchColumns } from './vm-row.ts';

/** A change of the power state so soon after a verb of ours is that verb's. */
const INTENT_MS = 60_000;

export interface Observed {
  readonly sourceId: number;
  readonly observation: Observation;
  /** As far as this observation tells of them; of a complete snapshot: all. */
  readonly hosts?: readonly HypervisorHost[];
  readonly moment: Moment;
  /** The collector that saw it: refused when another one has taken the source over. */
  readonly holder?: string;
  /** What is known just now, where that was read already. */
  readonly previous?: Previous;
  /** New VMs get their row in the search index by `indexDue`: a search reads them one by one until then. */
  readonly indexLater?: boolean;
}

export interface Outcome {
  readonly appeared: number;
  readonly changed: number;
  readonly left: number;
}

interface VmRow {
  readonly id: number;
  readonly source_id: number;
  readonly facts: string;
  readonly host_name: string;
  readonly gone_ms: number | null;
}

export class Inventory {
  readonly database: Database;
  readonly ownerBook = new OwnerBook();
  readonly owners: VmOwners;
  readonly #claims: VmClaims;
  readonly #hosts: HostTable;
  readonly #intervals: IntervalTable;

  constructor(database: Database) {
    this.database = database;
    this.owners = new VmOwners(database, this.ownerBook);
    this.#claims = new VmClaims(database);
    this.#hosts = new HostTable(database);
    this.#intervals = new IntervalTable(database);
  }

  static open(path: string): Inventory {
    return new Inventory(openDatabase(path, LAYOUT));
  }

  close(): void {
    this.database.close();
  }

  /** @throws fleet.lease_lost (conflict): nothing is changed then. */
  apply(observed: Observed): Outcome {
    const { sourceId, observation, moment } = observed;
    return this.database.transaction(() => {
      if (observed.holder !== undefined)
        requireLease(this.database, sourceId, { holder: observed.holder, nowMs: moment.observedMs });
      if (observed.hosts !== undefined) this.#hosts.take(sourceId, observed.hosts, moment.atMs);
      const findings = reconcile(observed.previous ?? this.previous(sourceId), observation);
      // A first look finds what was there all along: that is no drift.
      const isQuiet = moment.isFirstWord === true || this.#isFirstLook(sourceId);
      const touched = new Set<number>();
      for (const finding of findings)
        if (finding.kind !== 'appeared') touched.add(this.#take(sourceId, finding, moment));
      this.#settleAll(touched, moment, isQuiet);
      const standingOf = this.#claims.standingsIn(sourceId);
      for (const finding of findings)
        if (finding.kind === 'appeared')
          this.#appear(finding.facts, { standing: standingOf(finding.facts), moment, isQuiet });
      if (observation.kind === 'snapshot' && observation.isComplete)
        this.#complete(sourceId, { hostIds: observed.hosts?.map((host) => host.nativeId) ?? [], moment });
      if (observed.indexLater !== true) indexDue(this.database, findings.length);
      const count = (kind: Finding['kind']): number => findings.filter((finding) => finding.kind === kind).length;
      return { appeared: count('appeared') + count('joined'), changed: count('changed'), left: count('left') };
    });
  }

  /** How many VMs at most have no row in the search index yet. */
  get dueAtMost(): number {
    return dueAtMost(this.database);
  }

  /** Some of them get it. @returns how many */
  indexDue(atMost: number): number {
    return this.database.transaction(() => indexDue(this.database, atMost));
  }

  /** Whether any VM is known of this source. */
  showsAny(sourceId: number): boolean {
    return (
      this.database.get('SELECT 1 FROM sighting WHERE source_id = ? AND gone_ms IS NULL LIMIT 1', sourceId) !==
      undefined
    );
  }

  /** What is known of a source, for deciding what an observation of it means. @param about - see previousOf. */
  previous(sourceId: number, about?: readonly VmFacts[]): Previous {
    return previousOf(this.database, sourceId, about);
  }

  /**
   * A look that was taken in parts is over, and nothing of it is missing.
   *
   * @param look - `hostIds`: all hosts that it showed; `beganMs`: our clock before its first question.
   * @throws fleet.lease_lost (conflict)
   */
  completeLook(
    sourceId: number,
    look: {
      readonly hostIds: readonly string[];
      readonly moment: Moment;
      readonly beganMs: number;
      readonly holder: string;
    },
  ): void {
    this.database.transaction(() => {
      requireLease(this.database, sourceId, { holder: look.holder, nowMs: look.moment.observedMs });
      this.#complete(sourceId, look);
      this.database.run('UPDATE source SET look_began_ms = ? WHERE id = ?', look.beganMs, sourceId);
    });
  }

  /** Sources that answer go before those that do not: VMs with several sightings may have another one leading now. */
  setSourceState(
    sourceId: number,
    state: 'up' | 'down',
    told: { readonly moment: Moment; readonly problem?: unknown },
  ): void {
    this.database.transaction(() => {
      const before = this.database.get<{ state: string }>('SELECT state FROM source WHERE id = ?', sourceId)?.state;
      const { moment, problem } = told;
      if (before !== state)
        this.database.run('UPDATE source SET state = ?, since_ms = ? WHERE id = ?', state, moment.observedMs, sourceId);
      this.database.run(
        'UPDATE source SET problem = ? WHERE id = ?',
        problem === undefined ? null : JSON.stringify(problem),
        sourceId,
      );
      if (before === state) return;
      const shared = this.database.all<{ vm_id: number }>(
        `SELECT a.vm_id FROM sighting a JOIN sighting b ON b.vm_id = a.vm_id AND b.source_id <> a.source_id
         WHERE a.source_id = ? AND a.gone_ms IS NULL AND b.gone_ms IS NULL GROUP BY a.vm_id`,
        sourceId,
      );
      this.#settleAll(
        shared.map((row) => row.vm_id),
        moment,
        false,
      );
    });
  }

  /** All sightings of a source that is removed end; VMs that no other source shows are gone, their history stays. */
  removeSource(sourceId: number, moment: Moment): void {
    this.database.transaction(() => {
      const ids = this.database.all<{ native_id: string; vm_id: number }>(
        'SELECT native_id, vm_id FROM sighting WHERE source_id = ? AND gone_ms IS NULL',
        sourceId,
      );
      for (const { native_id, vm_id } of ids)
        this.#take(sourceId, { kind: 'left', vmId: vm_id, nativeId: native_id }, moment);
      this.#settleAll(
        ids.map((row) => row.vm_id),
        moment,
        true,
      );
      for (const vmId of this.#intervals.restingOn(sourceId)) {
        const lead = this.#claims.leading(vmId);
        if (lead !== undefined) this.#intervals.handOver(vmId, lead.standing, moment);
      }
      this.#hosts.allGone(sourceId, moment.atMs);
      this.database.run(
        "UPDATE source SET removed_ms = ?, secret = NULL, state = 'down', since_ms = ? WHERE id = ?",
        moment.observedMs,
        moment.observedMs,
        sourceId,
      );
    });
  }

  /** See leases.ts. @returns false while another holder's has not run out. */
  takeLease(sourceId: number, holder: string, time: { readonly nowMs: number; readonly untilMs: number }): boolean {
    return takeLease(this.database, sourceId, { holder, ...time });
  }

  giveLeaseBack(sourceId: number, holder: string): void {
    giveLeaseBack(this.database, sourceId, holder);
  }

  /** A verb of ours is about to change this VM. */
  noteIntent(vmId: number, verb: string, nowMs: number): void {
    this.database.run('DELETE FROM intent WHERE at_ms < ?', nowMs - INTENT_MS);
    this.database.run('INSERT INTO intent (vm_id, verb, at_ms) VALUES (?, ?, ?)', vmId, verb, nowMs);
  }

  #isFirstLook(sourceId: number): boolean {
    const row = this.database.get<{ ok_ms: number | null }>('SELECT ok_ms FROM source WHERE id = ?', sourceId);
    return row?.ok_ms === null;
  }

  #complete(sourceId: number, { hostIds, moment }: { readonly hostIds: readonly string[]; readonly moment: Moment }) {
    this.#hosts.keepOnly(sourceId, new Set(hostIds), moment.atMs);
    this.database.run(
      'UPDATE source SET ok_ms = ?1, first_ok_ms = COALESCE(first_ok_ms, ?1) WHERE id = ?2',
      moment.observedMs,
      sourceId,
    );
  }

  /** Writes a finding down as far as sightings go. @returns the VM it is about. */
  #take(sourceId: number, finding: Exclude<Finding, { kind: 'appeared' }>, moment: Moment): number {
    const { atMs } = moment;
    switch (finding.kind) {
      case 'left':
        this.database.run(
          'UPDATE sighting SET gone_ms = MAX(?, first_ms) WHERE source_id = ? AND native_id = ? AND gone_ms IS NULL',
          atMs,
          sourceId,
          finding.nativeId,
        );
        return finding.vmId;
      case 'changed':
        this.database.run(
          'UPDATE sighting SET facts = ?, uuid = ?, changed_ms = ? WHERE source_id = ? AND native_id = ? AND gone_ms IS NULL',
          factsText(finding.facts),
          finding.facts.uuid,
          atMs,
          sourceId,
          finding.facts.nativeId,
        );
        return finding.vmId;
      case 'joined':
        this.#addSighting(sourceId, {
          vmId: finding.vmId,
          facts: finding.facts,
          text: factsText(finding.facts),
          atMs,
        });
        return finding.vmId;
    }
  }

  /** A VM nobody knew: all of it is written once, its one sighting has the word. */
  #appear(facts: VmFacts, here: { readonly standing: Standing; readonly moment: Moment; readonly isQuiet: boolean }) {
    const { standing, moment, isQuiet } = here;
    const { sourceId } = standing;
    const text = factsText(facts);
    const hostName = standing.hostName ?? '';
    const owned = this.owners.of(facts, { ...standing, atMs: moment.observedMs });
    const { lastId: id } = this.database.run(
      `INSERT INTO vm (name, uuid, source_id, power_state, host_name, vcpus, memory_bytes, disk_bytes, owner, project, facts,
       first_ms, changed_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      facts.name,
      facts.uuid,
      sourceId,
      facts.powerState,
      hostName,
      facts.vcpus ?? -1,
      facts.memoryBytes ?? -1,
      standing.diskBytes ?? -1,
      owned.owner ?? '',
      owned.project,
      text,
      moment.atMs,
      moment.atMs,
    );
    this.#addSighting(sourceId, { vmId: id, facts, text, atMs: moment.atMs });
    this.#intervals.move(id, undefined, { next: standing, moment });
    this.#index(id, { before: undefined, facts, hosts: { before: '', after: hostName } });
    if (!isQuiet)
      this.#note({ id, source_id: sourceId }, { moment, field: 'existence', before: null, after: 'present' });
  }

  #addSighting(
    sourceId: number,
    { vmId, facts, text, atMs }: { vmId: number; facts: VmFacts; text: string; atMs: number },
  ): void {
    this.database.run(
      'INSERT INTO sighting (source_id, native_id, vm_id, uuid, facts, first_ms, changed_ms) VALUES (?, ?, ?, ?, ?, ?, ?)',
      sourceId,
      facts.nativeId,
      vmId,
      facts.uuid,
      text,
      atMs,
      atMs,
    );
  }

  #settleAll(vmIds: Iterable<number>, moment: Moment, isQuiet: boolean): void {
    const ids = [...vmIds];
    const revived = reviveVms(this.database, ids);
    const gone = ids.filter((id) => this.#settle(id, moment, { isQuiet, isUnindexed: revived.has(id) }) === 'gone');
    retireVms(this.database, gone);
  }

  /**
   * Brings a VM's row, its open interval, its tags and what search finds in line with its sightings.
   *
   * @returns `gone` when it was there until now: only its row in the search index is left to do.
   */
  #settle(
    vmId: number,
    moment: Moment,
    { isQuiet, isUnindexed }: { readonly isQuiet: boolean; readonly isUnindexed: boolean },
  ): 'gone' | 'settled' {
    const lead = this.#claims.leading(vmId);
    const row = this.database.get<VmRow>('SELECT id, source_id, facts, host_name, gone_ms FROM vm WHERE id = ?', vmId);
    if (row === undefined) throw new BerthError('bug', 'fleet.no_vm', `VM ${vmId} has sightings and no row`);
    this.#intervals.move(vmId, this.#intervals.last(vmId), { next: lead?.standing, moment });
    if (lead === undefined) {
      if (row.gone_ms !== null) return 'settled';
      this.database.run('UPDATE vm SET gone_ms = ?, changed_ms = ? WHERE id = ?', moment.atMs, moment.atMs, vmId);
      if (!isQuiet) this.#note(row, { moment, field: 'existence', before: 'present', after: 'gone' });
      return 'gone';
    }
    const { standing, facts } = lead;
    const owned = this.owners.of(facts, { ...standing, atMs: moment.observedMs });
    this.database.run(
      `UPDATE vm SET name = ?, uuid = ?, source_id = ?, power_state = ?, host_name = ?, vcpus = ?,
       memory_bytes = ?, disk_bytes = ?, owner = ?, project = ?, facts = ?, changed_ms = ?, gone_ms = NULL WHERE id = ?`,
      facts.name,
      facts.uuid,
      standing.sourceId,
      facts.powerState,
      standing.hostName ?? '',
      facts.vcpus ?? -1,
      facts.memoryBytes ?? -1,
      standing.diskBytes ?? -1,
      owned.owner ?? '',
      owned.project,
      factsText(facts),
      moment.atMs,
      vmId,
    );
    const before = JSON.parse(row.facts) as VmFacts;
    const hosts = { before: row.host_name, after: standing.hostName ?? '' };
    if (isUnindexed) indexVm(this.database, vmId, searchColumns(before, row.host_name));
    this.#index(vmId, { before, facts, hosts });
    if (isQuiet) return 'settled';
    if (row.gone_ms !== null) this.#note(row, { moment, field: 'existence', before: 'gone', after: 'present' });
    for (const one of differences(before, facts, hosts))
      this.#note({ ...row, source_id: standing.sourceId }, { moment, ...one });
    return 'settled';
  }

  /** What search finds is written anew only when it is other than before: disks that grow are not. */
  #index(
    vmId: number,
    now: { before: VmFacts | undefined; facts: VmFacts; hosts: { before: string; after: string } },
  ): void {
    const { before, facts, hosts } = now;
    const tell = (): void => {
      for (const tag of new Set(facts.tags)) this.database.run('INSERT INTO tag (vm_id, tag) VALUES (?, ?)', vmId, tag);
    };
    // Above the mark there is no row, and the one to come is of what is known then.
    if (before === undefined) {
      tell();
      return;
    }
    const words = searchColumns(facts, hosts.after);
    if (JSON.stringify(searchColumns(before, hosts.before)) === JSON.stringify(words)) return;
    this.database.run('DELETE FROM tag WHERE vm_id = ?', vmId);
    tell();
    if (vmId > indexedUpTo(this.database)) return;
    this.database.run('DELETE FROM vm_search WHERE rowid = ?', vmId);
    indexVm(this.database, vmId, words);
  }

  #note(
    row: Pick<VmRow, 'id' | 'source_id'>,
    change: {
      readonly moment: Moment;
      readonly field: string;
      readonly before: string | null;
      readonly after: string | null;
    },
  ): void {
    const { moment, field, before, after } = change;
    const byBerth =
      field === 'powerState' &&
      this.database.get(
        'SELECT 1 FROM intent WHERE vm_id = ? AND at_ms >= ?',
        row.id,
        moment.observedMs - INTENT_MS,
      ) !== undefined;
    this.database.run(
      'INSERT INTO change (vm_id, source_id, at_ms, observed_ms, how, field, before, after, by_berth) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)',
      row.id,
      row.source_id,
      moment.atMs,
      moment.observedMs,
      moment.how,
      field,
      before,
      after,
      byBerth ? 1 : 0,
    );
  }
}
