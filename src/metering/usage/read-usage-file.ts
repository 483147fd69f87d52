/** A usage file from disk, line by line. */
import { BerthError, errnoOf } from '#base';
import { files } from '#platform';
import type { UsageFacts } from './facts.ts';
import { UsageReader } from './usage-file.ts';

/** One fact is a few hundred bytes; tags may make it larger. */
const MOST_LINE_BYTES = 1024 * 1024;

/** @throws usage.unreadable (not_found), usage.line_too_long (exhausted), usage.invalid (invalid) */
export async function readUsageFile(path: string): Promise<UsageFacts> {
  const reader = new UsageReader(path);
  let rest = '';
  const decoder = new TextDecoder();
  try {
    for await (const chunk of files.createReadStream(path)) {
      const lines = (rest + decoder.decode(chunk as Buffer, { stream: true })).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) reader.add(line);
      if (rest.length > MOST_LINE_BYTES)
        throw new BerthError(
          'exhausted',
          'usage.line_too_long',
          `${path} has a line of more than ${MOST_LINE_BYTES} bytes`,
        );
    }
  } catch (error) {
    if (error instanceof BerthError) throw error;
    throw unreadable(path, error);
  }
  if (rest !== '') reader.add(rest);
  return reader.finish();
}

/** @throws card.unreadable (not_found) */
export async function readCardText(path: string): Promise<string> {
  try {
    return await files.readFile(path, 'utf8');
  } catch (error) {
    throw unreadable(path, error);
  }
}

function unreadable(path: string, error: unknown): BerthError {
  return new BerthError(
    'not_found',
    'usage.unreadable',
    `cannot read ${path}: ${errnoOf(error) ?? 'it cannot be opened'}`,
    {
      cause: error,
    },
  );
}
