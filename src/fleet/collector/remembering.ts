/** Reads what a hypervisor remembers from before the first look, and has it written: once for each source. */
import { nowMs, sleep } from '#platform';
import type { HistoryFacet, PastEvent } from '../driver.ts';
import type { Telling, ToldTable } from '../inventory/told-table.ts';

/** vCenter keeps events for 30 days unless somebody says otherwise. */
const REMEMBERED_MS = 30 * 86_400_000;
/** Some tens of megabytes while they are sorted. Of more than that the newest count. */
const MOST_EVENTS = 200_000;
/** VMs in one transaction. */
const WRITTEN_AT_ONCE = 100;

/** @throws what the driver throws; fleet.lease_lost, store.full. What was written until then stays, and is not written again. */
export async function remember(
  history: HistoryFacet,
  told: ToldTable,
  who: Pick<Telling, 'sourceId' | 'holder'>,
): Promise<void> {
  const byVm = new Map<string, PastEvent[]>();
  let count = 0;
  for await (const events of history.since(nowMs() - REMEMBERED_MS)) {
    for (const event of events) {
      const known = byVm.get(event.nativeId);
      if (known === undefined) byVm.set(event.nativeId, [event]);
      else known.push(event);
    }
    count += events.length;
    if (count >= MOST_EVENTS) break;
  }
  const all = [...byVm];
  for (let from = 0; from < all.length; from += WRITTEN_AT_ONCE) {
    told.write({ ...who, nowMs: nowMs() }, new Map(all.slice(from, from + WRITTEN_AT_ONCE)));
    await sleep(0);
  }
  told.finish({ ...who, nowMs: nowMs() });
}
