/**
 * vCenter's own events, newest first, as what they mean for a VM. An ESXi host alone keeps some too.
 *
 * @source vSphere Web Services API reference: EventManager, EventHistoryCollector, EventFilterSpec, and the events (names are facts)
 */
import type { PastEvent } from '../../driver.ts';
import { childAt, childrenNamed, textAt, type XmlElement } from '../../xml.ts';
import { element, type Moref, morefOf, reference } from './soap.ts';
import type { VsphereClient } from './vsphere-client.ts';

/** The most that vCenter gives at once. @source EventHistoryCollector.SetCollectorPageSize */
const PAGE_EVENTS = 1_000;

type Meaning = Pick<PastEvent, 'powerState' | 'existence'>;

/** The host in an event is where the VM is after it. */
const MEANING_OF: Readonly<Record<string, Meaning>> = {
  VmCreatedEvent: { existence: 'began', powerState: 'off' },
  VmRegisteredEvent: { existence: 'began', powerState: 'off' },
  VmClonedEvent: { existence: 'began', powerState: 'off' },
  VmDeployedEvent: { existence: 'began', powerState: 'off' },
  VmRemovedEvent: { existence: 'ended', powerState: 'off' },
  VmPoweredOnEvent: { powerState: 'running' },
  DrsVmPoweredOnEvent: { powerState: 'running' },
  VmRestartedOnAlternateHostEvent: { powerState: 'running' },
  VmPoweredOffEvent: { powerState: 'off' },
  VmSuspendedEvent: { powerState: 'suspended' },
  VmMigratedEvent: {},
  DrsVmMigratedEvent: {},
  VmRelocatedEvent: {},
};

/** @param aheadMs - by how much the server's clock is ahead of ours. */
export async function* pastEvents(
  client: VsphereClient,
  eventManager: Moref,
  { fromMs, aheadMs }: { readonly fromMs: number; readonly aheadMs: number },
): AsyncIterable<readonly PastEvent[]> {
  const filter = element(
    'filter',
    element('time', element('beginTime', new Date(fromMs + aheadMs).toISOString())),
    ...Object.keys(MEANING_OF).map((type) => element('eventTypeId', type)),
  );
  const made = await client.call('CreateCollectorForEvents', [reference('_this', eventManager), filter]);
  const collector = morefOf(childAt(made, 'returnval'));
  if (collector === undefined) return;
  const me = reference('_this', collector);
  try {
    await client.call('SetCollectorPageSize', [me, element('maxCount', PAGE_EVENTS)]);
    await client.call('ResetCollector', [me]);
    const seen = new Set<string>();
    for (;;) {
      const page = childrenNamed(
        await client.call('ReadPreviousEvents', [me, element('maxCount', PAGE_EVENTS)]),
        'returnval',
      );
      const fresh = page.filter((event) => !seen.has(textAt(event, 'key') ?? ''));
      if (fresh.length === 0) return;
      for (const event of fresh) seen.add(textAt(event, 'key') ?? '');
      const events = fresh.flatMap((event) => meaningOfEvent(event, aheadMs));
      // Not every server heeds the filter's time.
      yield events.filter((event) => event.atMs >= fromMs);
    }
  } finally {
    await client.call('DestroyCollector', [me]).catch(() => {});
  }
}

export function meaningOfEvent(event: XmlElement, aheadMs: number): PastEvent[] {
  const meaning = MEANING_OF[(event.attributes['type'] ?? '').replace(/^.*:/, '')];
  const vm = morefOf(childAt(event, 'vm', 'vm'));
  const host = morefOf(childAt(event, 'host', 'host'));
  const atMs = Date.parse(textAt(event, 'createdTime') ?? '') - aheadMs;
  const sequence = Number(textAt(event, 'key'));
  if (meaning === undefined || vm === undefined || !Number.isFinite(atMs) || !Number.isSafeInteger(sequence)) return [];
  return [{ nativeId: vm.id, atMs, sequence, ...meaning, ...(host === undefined ? {} : { hostId: host.id }) }];
}
