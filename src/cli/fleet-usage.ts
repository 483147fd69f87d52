/** The fleet's history as the daemon tells it to those who reckon with it. */
import type { Page, UsageFact } from '#fleet';
import type { VerbContext } from './verb.ts';

/** The most a page of the daemon's API holds. */
const PAGE = 1_000;

interface UsagePage extends Page<UsageFact> {
  readonly pruned: readonly string[];
}

/**
 * Calls `take` with each fact that touches the span, UTC milliseconds; page by page, so that none need be held. Says which months
 * have no consumption any more.
 */
export async function eachUsageFact(
  { engine, note }: Pick<VerbContext, 'engine' | 'note'>,
  span: { readonly fromMs?: number; readonly toMs?: number },
  take: (fact: UsageFact) => Promise<void>,
): Promise<void> {
  let after: string | undefined;
  let pruned: readonly string[] = [];
  do {
    const query = { from: inQuery(span.fromMs), to: inQuery(span.toMs), limit: PAGE, after };
    const page = await engine.call<UsagePage>('GET', '/berth/v1/fleet/usage', { query });
    for (const fact of page.items) await take(fact);
    after = page.next ?? undefined;
    pruned = page.pruned;
  } while (after !== undefined);
  if (pruned.length > 0)
    note(`berth: of ${pruned.join(', ')} only what was allocated is known: the consumption is not kept any more`);
}

function inQuery(ms: number | undefined): string | undefined {
  return ms === undefined ? undefined : new Date(ms).toISOString();
}
