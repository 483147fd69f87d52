/** The fleet's history as the daemon tells it to those who reckon with it. */
import type { Page, UsageFact } from '#fleet';
import type { VerbContext } from './verb.ts';

/** The most a page of the daemon's API holds. */
const PAGE = 1_000;

/** Calls `take` with each fact that touches the span, UTC milliseconds; page by page, so that none need be held. */
export async function eachUsageFact(
  { engine }: Pick<VerbContext, 'engine'>,
  span: { readonly fromMs?: number; readonly toMs?: number },
  take: (fact: UsageFact) => Promise<void>,
): Promise<void> {
  let after: string | undefined;
  do {
    const query = { from: inQuery(span.fromMs), to: inQuery(span.toMs), limit: PAGE, after };
    const page = await engine.call<Page<UsageFact>>('GET', '/berth/v1/fleet/usage', { query });
    for (const fact of page.items) await take(fact);
    after = page.next ?? undefined;
  } while (after !== undefined);
}

function inQuery(ms: number | undefined): string | undefined {
  return ms === undefined ? undefined : new Date(ms).toISOString();
}
