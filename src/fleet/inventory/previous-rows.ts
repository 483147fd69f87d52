/** What is known of a source, out of the database, for deciding. */
import type { Database } from '#store';
import type { VmFacts } from '../facts.ts';
import type { Candidate } from './identity.ts';
import { evidenceOf, type KnownSighting, type Previous } from './reconcile.ts';

/**
 * @param about - VMs that will be asked about: they are read in two queries instead of four for each. What is returned then holds until
 *   the next change of the database.
 */
export function previousOf(database: Database, sourceId: number, about: readonly VmFacts[] = []): Previous {
  const liveHere = 'FROM sighting WHERE source_id = ? AND gone_ms IS NULL';
  const read = about.length === 0 ? undefined : readAhead(database, sourceId, about);
  return {
    sighting: (nativeId) => {
      if (read?.nativeIds.has(nativeId) === true) return read.sightings.get(nativeId);
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
    isKnownUuid: (uuid) =>
      read?.uuids.get(uuid) ?? database.get('SELECT 1 FROM sighting WHERE uuid = ? LIMIT 1', uuid) !== undefined,
    withUuid: (uuid) => {
      if (read?.uuids.get(uuid) === false) return [];
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

interface ReadAhead {
  readonly nativeIds: ReadonlySet<string>;
  readonly sightings: ReadonlyMap<string, KnownSighting>;
  /** Those asked about: whether any VM has or had it. */
  readonly uuids: ReadonlyMap<string, boolean>;
}

function readAhead(database: Database, sourceId: number, about: readonly VmFacts[]): ReadAhead {
  const nativeIds = new Set(about.map((facts) => facts.nativeId));
  const sightings = database.all<{ native_id: string; vm_id: number; facts: string }>(
    `SELECT native_id, vm_id, facts FROM json_each(?) CROSS JOIN sighting
     ON source_id = ? AND gone_ms IS NULL AND native_id = json_each.value`,
    JSON.stringify([...nativeIds]),
    sourceId,
  );
  const uuids = new Map<string, boolean>(about.flatMap(({ uuid }) => (uuid === null ? [] : [[uuid, false]])));
  const known = database.all<{ uuid: string }>(
    'SELECT value AS uuid FROM json_each(?) WHERE EXISTS (SELECT 1 FROM sighting WHERE sighting.uuid = value)',
    JSON.stringify([...uuids.keys()]),
  );
  for (const { uuid } of known) uuids.set(uuid, true);
  return {
    nativeIds,
    sightings: new Map(sightings.map((row) => [row.native_id, { vmId: row.vm_id, text: row.facts }])),
    uuids,
  };
}
