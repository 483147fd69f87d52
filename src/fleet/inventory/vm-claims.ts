/** Which of a VM's sightings has the word, out of the database. */
import type { Database } from '#store';
import { addressCountOf, diskBytesOf, type VmFacts } from '../facts.ts';
import { type Claim, leadingClaim, type Standing } from './intervals.ts';
import { ownerOf } from './vm-row.ts';

interface HostNames {
  readonly host_key: string;
  readonly host_name: string;
}

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

  /**
   * How VMs stand in the words of one source.
   *
   * @returns holds until the hosts of the source change: each of them is read once.
   */
  standingsIn(sourceId: number): (facts: VmFacts) => Standing {
    const hosts = new Map<string, HostNames | undefined>();
    const hostOf = (hostId: string): HostNames | undefined => {
      if (!hosts.has(hostId))
        hosts.set(
          hostId,
          this.#database.get<HostNames>(
            'SELECT key AS host_key, name AS host_name FROM host WHERE source_id = ? AND native_id = ?',
            sourceId,
            hostId,
          ),
        );
      return hosts.get(hostId);
    };
    return (facts) => {
      const host = facts.hostId === null ? undefined : hostOf(facts.hostId);
      return standing(facts, {
        source_id: sourceId,
        host_key: host?.host_key ?? null,
        host_name: host?.host_name ?? null,
      });
    };
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
