/** `berth cost ingest`: counters of a usage file into a sample store. */
import { addSamples, openSampleStore, readUsageFile } from '#metering';
import type { Options } from '../../command-line.ts';
import type { VerbContext } from '../../verb.ts';
import { wanted } from './input.ts';

export async function ingestSamples({ out }: VerbContext, options: Options): Promise<number> {
  const { samples } = await readUsageFile(wanted(options, 'usage'));
  const store = await openSampleStore(wanted(options, 'samples'));
  try {
    await addSamples(store, samples);
    await out(`${samples.length} readings, ${store.repeated} counters known before\n`);
    return 0;
  } finally {
    await store.close();
  }
}
