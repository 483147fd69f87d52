/**
 * libvirt's events as changes.
 *
 * A lifecycle event says the power state itself, at once, so that a VM that ran for a moment has run. Everything else
 * about the VM is read afterwards; a reading that another event overtook is thrown away and made again, so facts from
 * before an event never follow it.
 */
import { BerthError } from '#base';
import type { EventFacet, VmChange } from '../../driver.ts';
import type { PowerState, VmFacts } from '../../facts.ts';
import type { LibvirtConnection } from './connection.ts';
import { type DomainRef, EVENTS, LIFECYCLE, PROCEDURE, readDomain } from './procedures.ts';
import { XdrWriter } from './xdr.ts';

const POWER_AFTER: Readonly<Record<number, PowerState>> = {
  [LIFECYCLE.started]: 'running',
  [LIFECYCLE.resumed]: 'running',
  [LIFECYCLE.suspended]: 'paused',
  [LIFECYCLE.stopped]: 'off',
  [LIFECYCLE.pmSuspended]: 'suspended',
  [LIFECYCLE.crashed]: 'crashed',
};

/** Every domain event berth knows: the two that matter most first. */
const WATCHED = Object.values(EVENTS);

export function eventFacet(
  connection: LibvirtConnection,
  read: (domain: DomainRef) => Promise<VmFacts | undefined>,
): EventFacet {
  return {
    watch: async (onChange) => {
      const rereading = new Rereading(connection, read, onChange);
      const callbacks: number[] = [];
      for (const { id, procedure } of WATCHED) {
        connection.listen(procedure, (body) => {
          body.int();
          const domain = readDomain(body);
          const power = procedure === EVENTS.lifecycle.procedure ? POWER_AFTER[body.int()] : undefined;
          if (power !== undefined) onChange({ kind: 'power', nativeId: idOf(domain), powerState: power });
          rereading.add(domain);
        });
        const args = new XdrWriter().int(id).optional<DomainRef>(undefined, () => {});
        // A hypervisor that lacks one kind of event may have the others.
        const reply = await connection.call(PROCEDURE.callbackRegister, args).catch((error: unknown) => {
          if (id !== EVENTS.lifecycle.id && error instanceof BerthError && error.kind !== 'unavailable')
            return undefined;
          throw error;
        });
        if (reply !== undefined) callbacks.push(reply.int());
      }
      return async () => {
        rereading.stop();
        for (const id of callbacks)
          await connection.call(PROCEDURE.callbackDeregister, new XdrWriter().int(id)).catch(() => {});
      };
    },
  };
}

function idOf(domain: DomainRef): string {
  return domain.uuid.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

/** Domains that have to be read again, each once however many events it had. */
class Rereading {
  readonly #connection: LibvirtConnection;
  readonly #read: (domain: DomainRef) => Promise<VmFacts | undefined>;
  readonly #onChange: (change: VmChange) => void;
  readonly #waiting = new Map<string, DomainRef>();
  #isRunning = false;
  #isStopped = false;

  constructor(
    connection: LibvirtConnection,
    read: (domain: DomainRef) => Promise<VmFacts | undefined>,
    onChange: (change: VmChange) => void,
  ) {
    this.#connection = connection;
    this.#read = read;
    this.#onChange = onChange;
  }

  add(domain: DomainRef): void {
    this.#waiting.set(idOf(domain), domain);
    if (!this.#isRunning) void this.#run();
  }

  stop(): void {
    this.#isStopped = true;
    this.#waiting.clear();
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    for (let next = first(this.#waiting); next !== undefined && !this.#isStopped; next = first(this.#waiting)) {
      const [id, domain] = next;
      this.#waiting.delete(id);
      const change = await this.#reread(id, domain);
      if (!this.#waiting.has(id) && !this.#isStopped) this.#onChange(change);
    }
    this.#isRunning = false;
  }

  async #reread(nativeId: string, domain: DomainRef): Promise<VmChange> {
    try {
      const found = await this.#connection.call(PROCEDURE.domainLookupByUuid, new XdrWriter().opaque(domain.uuid));
      const vm = await this.#read(readDomain(found));
      return vm === undefined ? { kind: 'gone', nativeId } : { kind: 'seen', vm };
    } catch (error) {
      if (error instanceof BerthError && error.kind === 'not_found') return { kind: 'gone', nativeId };
      // It could not be read: the next snapshot tells.
      return { kind: 'missed' };
    }
  }
}

function first<K, V>(map: ReadonlyMap<K, V>): [K, V] | undefined {
  for (const entry of map) return entry;
  return undefined;
}
