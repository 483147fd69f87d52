/** What is known of a source, out of the database, for deciding. */
import type { Database } from '#store';
import type { VmFacts } from '../facts.ts';
import type { Candidate } from './identity.ts';
import { evidenceOf, type Previous } from './reconcile.ts';

export function previousOf(database: Database, sourceId: number): Previous {
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
    isKnownUuid: (uuid) => database.get('SELECT 1 FROM sighting WHERE uuid = ? LIMIT 1', uuid) !== undefined,
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
