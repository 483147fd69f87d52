/** Which of a VM's sightings has the word, out of the database. */
import type { Database } from '#store';
import { addressCountOf, diskBytesOf, type VmFacts } from '../facts.ts';
import { type Claim, leadingClaim, type Standing } from './intervals.ts';
import { ownerOf } from './vm-row.ts';

interface Row {
  readonly source_id: number;
  readonly facts: string;
  readonly first_ms: number;
  readonly state: string;
  readonly host_key: string | null;
  readonly host_name: string | null;
}

export interface VmClaim extends Claim {
  readonly facts: VmFacts;
}

export class VmClaims {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Undefined when no source shows the VM. */
  leading(vmId: number): VmClaim | undefined {
    const rows = this.#database.all<Row>(
      `SELECT s.source_id, s.facts, s.first_ms, source.state, host.key AS host_key, host.name AS host_name
       FROM sighting s JOIN source ON source.id = s.source_id
       LEFT JOIN host ON host.source_id = s.source_id AND host.native_id = s.facts ->> 'hostId'
       WHERE s.vm_id = ? AND s.gone_ms IS NULL`,
      vmId,
    );
    return leadingClaim(rows.map(claimOf));
  }

  /** How a VM stands in the words of one source. */
  standingOf(sourceId: number, facts: VmFacts): Standing {
    const host =
      facts.hostId === null
        ? undefined
        : this.#database.get<{ host_key: string; host_name: string }>(
            'SELECT key AS host_key, name AS host_name FROM host WHERE source_id = ? AND native_id = ?',
            sourceId,
            facts.hostId,
          );
    return standing(facts, {
      source_id: sourceId,
      host_key: host?.host_key ?? null,
      host_name: host?.host_name ?? null,
    });
  }
}

function claimOf(row: Row): VmClaim {
  const facts = JSON.parse(row.facts) as VmFacts;
  return {
    facts,
    isFresh: row.state !== 'down',
    firstSeenMs: row.first_ms,
    standing: standing(facts, row),
  };
}

function standing(facts: VmFacts, row: Pick<Row, 'source_id' | 'host_key' | 'host_name'>): Standing {
  return {
    sourceId: row.source_id,
    // A host the source has not described yet is known by its id alone.
    hostKey: row.host_key ?? facts.hostId,
    hostName: row.host_name ?? facts.hostId,
    powerState: facts.powerState,
    vcpus: facts.vcpus,
    memoryBytes: facts.memoryBytes,
    diskBytes: diskBytesOf(facts),
    addresses: addressCountOf(facts),
    owner: ownerOf(facts),
  };
}
