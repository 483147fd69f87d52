import type { Appended, LogRecord, ProcessLog } from './process-log.ts';

/** Bytes a follower keeps in memory before it goes back to reading the file; a slow client costs no more than this. */
const MAX_PENDING_BYTES = 256 * 1024;

/**
 * The records of `log` from byte `position` on, then each new one, until the process has ended or `signal` fires.
 *
 * The file is the one truth: a follower that keeps up is handed records as they are written; one that falls behind
 * reads them back. So each client goes at its own pace, loses nothing, and never slows the process or fills memory.
 *
 * @param from - `position`, a byte of the log; `nextEnd`: the end of an earlier run does not count, the follower came
 *   before the start of the one it wants.
 */
export async function* followLog(
  log: ProcessLog,
  from: { readonly position: number; readonly nextEnd?: boolean },
  signal: AbortSignal,
): AsyncGenerator<LogRecord> {
  let at = from.position;
  let pending: Appended[] = [];
  let pendingBytes = 0;
  let ended = log.closed && from.nextEnd !== true;
  let wake: (() => void) | undefined;
  const rouse = (): void => {
    wake?.();
    wake = undefined;
  };
  const unsubscribe = log.subscribe(
    (appended) => {
      if (pendingBytes > MAX_PENDING_BYTES) {
        pending = [];
        pendingBytes = 0;
      } else {
        pending.push(appended);
        pendingBytes += appended.record.data.length;
      }
      rouse();
    },
    () => {
      ended = true;
      rouse();
    },
  );
  signal.addEventListener('abort', rouse, { once: true });
  try {
    while (!signal.aborted) {
      const next = pending[0];
      if (next !== undefined && next.start <= at) {
        pending.shift();
        pendingBytes -= next.record.data.length;
        if (next.start < at) continue;
        at = next.end;
        yield next.record;
      } else if (at < log.size) {
        for await (const { record, end } of log.read(at)) {
          at = end;
          yield record;
          if (signal.aborted) return;
        }
      } else if (ended) {
        return;
      } else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
  } finally {
    unsubscribe();
    signal.removeEventListener('abort', rouse);
  }
}
