import type { TarEntry } from './tar-entry.ts';
import { DEFAULT_TAR_LIMITS, type TarLimits, TarReader } from './tar-reader.ts';

export interface TarArchiveMember {
  readonly entry: TarEntry;
  /** Content; what is not read before the next member is skipped. */
  readonly body: AsyncGenerator<Buffer>;
}

type Event = { readonly entry: TarEntry } | { readonly bytes: Buffer } | 'end';

/** The members of an archive in order, for readers that take one at a time and may be slow. */
export async function* tarMembers(
  source: AsyncIterable<Buffer>,
  limits: TarLimits = DEFAULT_TAR_LIMITS,
): AsyncGenerator<TarArchiveMember> {
  const events: Event[] = [];
  const reader = new TarReader(
    {
      raw: () => {},
      entry: (entry) => events.push({ entry }),
      body: (bytes) => events.push({ bytes }),
      entryEnd: () => events.push('end'),
    },
    limits,
  );
  const chunks = source[Symbol.asyncIterator]();
  let isEnded = false;
  const next = async (): Promise<Event | undefined> => {
    while (events.length === 0 && !isEnded) {
      const chunk = await chunks.next();
      if (chunk.done === true) {
        isEnded = true;
        reader.end();
      } else reader.push(chunk.value);
    }
    return events.shift();
  };
  async function* body(): AsyncGenerator<Buffer> {
    for (let event = await next(); event !== undefined && event !== 'end'; event = await next()) {
      if ('bytes' in event) yield event.bytes;
    }
  }
  try {
    for (let event = await next(); event !== undefined; event = await next()) {
      if (event === 'end' || !('entry' in event)) continue;
      yield { entry: event.entry, body: body() };
      // A body that was left early is skipped here: its bytes and its end are events like others.
    }
  } finally {
    await chunks.return?.();
  }
}
