/** Waiting for the end of a VM's process, and telling an end from a reader who left. */
import { sleep } from '#platform';
import { type EngineClient, readText } from './engine-client.ts';

export interface WaitAnswer {
  readonly StatusCode: number;
  readonly Error?: { readonly Message?: string } | null;
}

export interface Waiting {
  readonly exit: Promise<WaitAnswer>;
  abandon(): void;
}

/** Resolves as soon as the daemon has heard: an end that comes after that is not missed. */
export async function awaitExit(
  engine: EngineClient,
  id: string,
  condition: 'next-exit' | 'removed' | 'not-running',
): Promise<Waiting> {
  const { body } = await engine.stream('POST', `/containers/${id}/wait`, { query: { condition } });
  const exit = readText(body).then((text) => JSON.parse(text) as WaitAnswer);
  exit.catch(() => {});
  return { exit, abandon: () => body.destroy() };
}

/** The daemon ends a reader's stream for the detach keys, too: then the VM runs on. Half a second tells the two apart. */
export async function finishDetached(
  engine: EngineClient,
  id: string,
  exit: Promise<WaitAnswer>,
): Promise<WaitAnswer | 'detached'> {
  const late = new AbortController();
  const soon = sleep(500, late.signal).then(
    () => 'late' as const,
    () => 'late' as const,
  );
  const first = await Promise.race([exit, soon]);
  late.abort();
  if (first !== 'late') return first;
  const seen = await engine
    .call<{ State: { Running: boolean }; Berth?: { State?: string } }>('GET', `/containers/${id}/json`)
    .catch(() => undefined);
  const isRunning = seen?.State.Running === true && seen.Berth?.State !== 'ending';
  return isRunning ? 'detached' : await exit;
}
