/**
 * A process that appends samples for ever, to be killed: poll N has, for each series, the value N × (series + 1). Prints
 * the number of each poll once it is durable. Usage: sample-writer.ts FOLDER FIRST-POLL
 */
import { openSampleStore } from '#metering';

export const WRITER_SERIES = 200;
export const POLL_MS = 10_000;
export const START_MS = Date.parse('2026-11-01T00:00:00Z');

export function pollOf(poll: number, numbers: readonly number[]) {
  return {
    series: Uint32Array.from(numbers),
    atMs: Float64Array.from(numbers, () => START_MS + poll * POLL_MS),
    value: BigUint64Array.from(numbers, (_, index) => BigInt(poll) * BigInt(index + 1)),
  };
}

const [folder, first] = process.argv.slice(2);
if (folder !== undefined && process.argv[1]?.endsWith('sample-writer.ts') === true) {
  const store = await openSampleStore(folder);
  const numbers = Array.from({ length: WRITER_SERIES }, (_, index) => store.series(`vm-${index}`));
  for (let poll = Number(first); ; poll += 1) {
    await store.append(pollOf(poll, numbers));
    process.stdout.write(`${poll}\n`);
  }
}
