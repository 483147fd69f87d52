/** The right to collect one source: with one holder at a time, two collectors never write the same twice. */
import { BerthError } from '#base';
import type { Database } from '#store';

/**
 * Takes the right until `untilMs` of our clock. Taken again by whoever has it.
 *
 * @returns false while another holder's has not run out.
 */
export function takeLease(
  database: Database,
  sourceId: number,
  lease: { readonly holder: string; readonly nowMs: number; readonly untilMs: number },
): boolean {
  const { changes } = database.run(
    `INSERT INTO lease (name, holder, until_ms) VALUES (?1, ?2, ?4)
     ON CONFLICT (name) DO UPDATE SET holder = ?2, until_ms = ?4 WHERE holder = ?2 OR until_ms <= ?3`,
    leaseName(sourceId),
    lease.holder,
    lease.nowMs,
    lease.untilMs,
  );
  return changes === 1;
}

export function giveLeaseBack(database: Database, sourceId: number, holder: string): void {
  database.run('DELETE FROM lease WHERE name = ? AND holder = ?', leaseName(sourceId), holder);
}

/** @throws fleet.lease_lost (conflict) */
export function requireLease(
  database: Database,
  sourceId: number,
  { holder, nowMs }: { readonly holder: string; readonly nowMs: number },
): void {
  const lease = database.get<{ holder: string; until_ms: number }>(
    'SELECT holder, until_ms FROM lease WHERE name = ?',
    leaseName(sourceId),
  );
  if (lease !== undefined && lease.holder === holder && lease.until_ms > nowMs) return;
  throw new BerthError('conflict', 'fleet.lease_lost', `another collector has taken source ${sourceId} over`, {
    facts: { holder: lease?.holder ?? 'nobody' },
  });
}

function leaseName(sourceId: number): string {
  return `collect:${sourceId}`;
}
