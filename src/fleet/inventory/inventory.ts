/**
 * The inventory in its database: what sources show, the VMs behind it, and their intervals. One observation is one
 * transaction, so that a process that dies in the middle of one has not made it.
 */
import { BerthError } from '#base';
import { type Database, openDatabase } from '#store';
import { factsText, type HypervisorHost, type VmFacts } from '../facts.ts';
import type { Candidate } from './identity.ts';
import { type Last, type Moment, type Standing, step } from './intervals.ts';
import { LAYOUT } from './layout.ts';
import { giveLeaseBack, requireLease, takeLease } from './leases.ts';
import { evidenceOf, type Finding, type Observation, type Previous, reconcile } from './reconcile.ts';
import { VmClaims } from './vm-claims.ts';
import { differences, searchColumns } from './vm-row.ts';

/** A change of the power state so soon after a verb of ours is that verb's. */
const INTENT_MS = 60_000;

export interface Observed {
  readonly sourceId: number;
  readonly observation: Observation;
  /** Of a snapshot; absent with a single change. */
  readonly hosts?: readonly HypervisorHost[];
  readonly moment: Moment;
  /** The collector that saw it: refused when another one has taken the source over. */
  readonly holder?: string;
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
  readonly #claims: VmClaims;

  constructor(database: Database) {
    this.database = database;
    this.#claims = new VmClaims(database);
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
      if (observed.hosts !== undefined && observation.kind === 'snapshot')
        this.#takeHosts(sourceId, observed.hosts, { atMs: moment.atMs, isComplete: observation.isComplete });
      const findings = reconcile(this.#previousOf(sourceId), observation);
      // A first look finds what was there all along: that is no drift.
      const isFirstLook =
        this.database.get<{ ok_ms: number | null }>('SELECT ok_ms FROM source WHERE id = ?', sourceId)?.ok_ms === null;
      const touched = new Set<number>();
      for (const finding of findings) touched.add(this.#take(sourceId, finding, moment));
      for (const vmId of touched) this.#settle(vmId, moment, isFirstLook);
      if (observation.kind === 'snapshot' && observation.isComplete)
        this.database.run(
          'UPDATE source SET ok_ms = ?1, first_ok_ms = COALESCE(first_ok_ms, ?1) WHERE id = ?2',
          moment.observedMs,
          sourceId,
        );
      const count = (kind: Finding['kind']): number => findings.filter((finding) => finding.kind === kind).length;
      return { appeared: count('appeared') + count('joined'), changed: count('changed'), left: count('left') };
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
      for (const { vm_id } of shared) this.#settle(vm_id, moment, false);
    });
  }

  /** All sightings of a source that is removed end; VMs that no other source shows are gone, their history stays. */
  removeSource(sourceId: number, moment: Moment): void {
    this.database.transaction(() => {
      const ids = this.database.all<{ native_id: string; vm_id: number }>(
        'SELECT native_id, vm_id FROM sighting WHERE source_id = ? AND gone_ms IS NULL',
        sourceId,
      );
      for (const { native_id, vm_id } of ids) {
        this.#take(sourceId, { kind: 'left', vmId: vm_id, nativeId: native_id }, moment);
        this.#settle(vm_id, moment, true);
      }
      this.database.run('UPDATE host SET gone_ms = ? WHERE source_id = ? AND gone_ms IS NULL', moment.atMs, sourceId);
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

  #previousOf(sourceId: number): Previous {
    const { database } = this;
    const liveHere = 'FROM sighting WHERE source_id = ? AND gone_ms IS NULL';
    return {
      sighting: (nativeId) => {
        const row = database.get<{ vm_id: number; facts: string }>(
          `SELECT vm_id, facts ${liveHere} AND native_id = ?`,
          sourceId,
          nativeId,
        );
        return row === undefined ? undefined : { vmId: row.vm_id, text: row.facts };
      },
      nativeIds: () =>
        database.all<{ native_id: string }>(`SELECT native_id ${liveHere}`, sourceId).map((row) => row.native_id),
      shows: (vmId) => database.get(`SELECT 1 ${liveHere} AND vm_id = ?`, sourceId, vmId) !== undefined,
      withUuid: (uuid) => {
        const rows = database.all<{ vm_id: number; facts: string; gone_ms: number | null }>(
          `SELECT s.vm_id, s.facts, vm.gone_ms FROM sighting s JOIN vm ON vm.id = s.vm_id
           WHERE s.uuid = ? ORDER BY s.gone_ms IS NULL, s.id`,
          uuid,
        );
        // The newest sighting of each VM, a live one if there is any, says what it looks like.
        const newest = new Map<number, Candidate>();
        for (const row of rows) {
          const evidence = evidenceOf(JSON.parse(row.facts) as VmFacts);
          newest.set(row.vm_id, { ...evidence, vmId: row.vm_id, isGone: row.gone_ms !== null });
        }
        return [...newest.values()];
      },
    };
  }

  #takeHosts(sourceId: number, hosts: readonly HypervisorHost[], look: { atMs: number; isComplete: boolean }): void {
    for (const host of hosts) {
      this.database.run(
        `INSERT INTO host (source_id, native_id, key, name, facts, first_ms, last_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
         ON CONFLICT DO UPDATE SET key = ?3, name = ?4, facts = ?5, last_ms = ?6, gone_ms = NULL`,
        sourceId,
        host.nativeId,
        host.uuid ?? host.name.toLowerCase(),
        host.name,
        JSON.stringify(host),
        look.atMs,
      );
    }
    if (!look.isComplete) return;
    const present = new Set(hosts.map((host) => host.nativeId));
    const known = this.database.all<{ native_id: string }>(
      'SELECT native_id FROM host WHERE source_id = ? AND gone_ms IS NULL',
      sourceId,
    );
    for (const { native_id } of known) {
      if (!present.has(native_id))
        this.database.run(
          'UPDATE host SET gone_ms = ? WHERE source_id = ? AND native_id = ?',
          look.atMs,
          sourceId,
          native_id,
        );
    }
  }

  /** Writes a finding down as far as sightings go. @returns the VM it is about. */
  #take(sourceId: number, finding: Finding, moment: Moment): number {
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
        this.#addSighting(sourceId, { vmId: finding.vmId, facts: finding.facts, atMs });
        return finding.vmId;
      case 'appeared': {
        const { facts } = finding;
        const { lastId } = this.database.run(
          `INSERT INTO vm (name, uuid, source_id, power_state, facts, first_ms, changed_ms) VALUES (?, ?, ?, ?, '{}', ?, ?)`,
          facts.name,
          facts.uuid,
          sourceId,
          facts.powerState,
          atMs,
          atMs,
        );
        this.#addSighting(sourceId, { vmId: lastId, facts, atMs });
        return lastId;
      }
    }
  }

  #addSighting(sourceId: number, { vmId, facts, atMs }: { vmId: number; facts: VmFacts; atMs: number }): void {
    this.database.run(
      'INSERT INTO sighting (source_id, native_id, vm_id, uuid, facts, first_ms, changed_ms) VALUES (?, ?, ?, ?, ?, ?, ?)',
      sourceId,
      facts.nativeId,
      vmId,
      facts.uuid,
      factsText(facts),
      atMs,
      atMs,
    );
  }

  /** Brings a VM's row, its open interval, its tags and what search finds in line with its sightings. */
  #settle(vmId: number, moment: Moment, isQuiet: boolean): void {
    const lead = this.#claims.leading(vmId);
    const last = this.#lastInterval(vmId);
    const row = this.database.get<VmRow>('SELECT id, source_id, facts, host_name, gone_ms FROM vm WHERE id = ?', vmId);
    if (row === undefined) throw new BerthError('bug', 'fleet.no_vm', `VM ${vmId} has sightings and no row`);
    this.#moveInterval(vmId, last, { next: lead?.standing, moment });
    if (lead === undefined) {
      if (row.gone_ms !== null) return;
      this.database.run('UPDATE vm SET gone_ms = ?, changed_ms = ? WHERE id = ?', moment.atMs, moment.atMs, vmId);
      if (!isQuiet) this.#note(row, { moment, field: 'existence', before: 'present', after: 'gone' });
      return;
    }
    const { standing, facts } = lead;
    this.database.run(
      `UPDATE vm SET name = ?, uuid = ?, source_id = ?, power_state = ?, host_name = ?, vcpus = ?,
       memory_bytes = ?, disk_bytes = ?, owner = ?, facts = ?, changed_ms = ?, gone_ms = NULL WHERE id = ?`,
      facts.name,
      facts.uuid,
      standing.sourceId,
      facts.powerState,
      standing.hostName ?? '',
      facts.vcpus ?? -1,
      facts.memoryBytes ?? -1,
      standing.diskBytes ?? -1,
      standing.owner,
      factsText(facts),
      moment.atMs,
      vmId,
    );
    const before = row.facts === '{}' ? undefined : (JSON.parse(row.facts) as VmFacts);
    this.#index(vmId, { before, facts, hosts: { before: row.host_name, after: standing.hostName ?? '' } });
    if (isQuiet) return;
    if (before === undefined || row.gone_ms !== null)
      this.#note(row, { moment, field: 'existence', before: before === undefined ? null : 'gone', after: 'present' });
    if (before === undefined) return;
    const hosts = { before: row.host_name, after: standing.hostName ?? '' };
    for (const one of differences(before, facts, hosts))
      this.#note({ ...row, source_id: standing.sourceId }, { moment, ...one });
  }

  #lastInterval(vmId: number): Last {
    const row = this.database.get<Record<string, never>>(
      'SELECT * FROM interval WHERE vm_id = ? ORDER BY id DESC LIMIT 1',
      vmId,
    );
    if (row === undefined) return undefined;
    if (row['closed_ms'] !== null) return { endedMs: row['closed_ms'] ?? 0 };
    const standing: Standing = {
      sourceId: row['source_id'] ?? 0,
      hostKey: row['host_key'] ?? null,
      hostName: row['host_name'] ?? null,
      powerState: row['power_state'] ?? 'unknown',
      vcpus: row['vcpus'] ?? null,
      memoryBytes: row['memory_bytes'] ?? null,
      diskBytes: row['disk_bytes'] ?? null,
      addresses: row['addresses'] ?? null,
      owner: row['owner'] ?? null,
    };
    return { id: row['id'] ?? 0, standing, openedMs: row['opened_ms'] ?? 0 };
  }

  #moveInterval(vmId: number, last: Last, now: { next: Standing | undefined; moment: Moment }): void {
    const { learn, close, open: opened } = step(last, now.next, now.moment);
    if (learn !== undefined)
      this.database.run('UPDATE interval SET addresses = ? WHERE id = ?', learn.addresses, learn.id);
    if (close !== undefined) {
      const { atMs, observedMs, notBeforeMs, how } = close.moment;
      this.database.run(
        'UPDATE interval SET closed_ms = ?, closed_observed_ms = ?, closed_not_before_ms = ?, closed_how = ? WHERE id = ?',
        atMs,
        observedMs,
        notBeforeMs,
        how,
        close.id,
      );
    }
    if (opened === undefined) return;
    const { standing, moment, causes, movedFrom } = opened;
    this.database.run(
      `INSERT INTO interval (vm_id, source_id, host_key, host_name, power_state, vcpus, memory_bytes, disk_bytes,
       addresses, owner, causes, moved_from, opened_ms, opened_observed_ms, opened_not_before_ms, opened_how)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      vmId,
      standing.sourceId,
      standing.hostKey,
      standing.hostName,
      standing.powerState,
      standing.vcpus,
      standing.memoryBytes,
      standing.diskBytes,
      standing.addresses,
      standing.owner,
      causes.join(','),
      movedFrom,
      moment.atMs,
      moment.observedMs,
      moment.notBeforeMs,
      moment.how,
    );
  }

  /** What search finds is written anew only when it is other than before: disks that grow are not. */
  #index(
    vmId: number,
    now: { before: VmFacts | undefined; facts: VmFacts; hosts: { before: string; after: string } },
  ): void {
    const { before, facts, hosts } = now;
    const words = searchColumns(facts, hosts.after);
    if (before !== undefined) {
      if (JSON.stringify(searchColumns(before, hosts.before)) === JSON.stringify(words)) return;
      this.database.run('DELETE FROM tag WHERE vm_id = ?', vmId);
      this.database.run('DELETE FROM vm_search WHERE rowid = ?', vmId);
    }
    for (const tag of new Set(facts.tags)) this.database.run('INSERT INTO tag (vm_id, tag) VALUES (?, ?)', vmId, tag);
    this.database.run(
      'INSERT INTO vm_search (rowid, name, ids, addresses, tags, place) VALUES (?, ?, ?, ?, ?, ?)',
      vmId,
      ...words,
    );
  }

  #note(
    row: VmRow,
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
