/** Pulling with progress, for `pull`, `run` and `create`. */
import { BerthError } from '#base';
import { parseReference, readDockerCredentials } from '#images';
import { isTerminal } from '#platform';
import { type EngineClient, jsonLines } from './engine-client.ts';
import { type ProgressLine, ProgressPrinter } from './progress.ts';

export interface PullOrder {
  readonly image: string;
  readonly platform: string | undefined;
  readonly quiet: boolean;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Where the progress goes: standard error during `run`. */
  readonly stream: 'stdout' | 'stderr';
}

/** @throws engine.refused (by the answer), pull.failed (unavailable) with the daemon's words. */
export async function pullImage(engine: EngineClient, order: PullOrder): Promise<void> {
  const { env } = order;
  const reference = parseReference(order.image);
  const folder = env['DOCKER_CONFIG'] || `${env['HOME'] ?? '/root'}/.docker`;
  const stored = await readDockerCredentials(reference.domain, folder);
  const auth = Buffer.from(
    JSON.stringify(
      stored === undefined
        ? {}
        : {
            username: stored.username,
            password: stored.password,
            identitytoken: stored.identityToken,
            registrytoken: stored.registryToken,
          },
    ),
  ).toString('base64url');
  const { name, tag } = splitImage(order.image);
  const { body } = await engine.stream('POST', '/images/create', {
    query: { fromImage: name, tag, platform: order.platform },
    headers: { 'X-Registry-Auth': auth },
  });
  await printProgress(jsonLines<ProgressLine>(body), order);
}

/** @throws pull.failed (unavailable) when the stream ends in an error. */
export async function printProgress(
  lines: AsyncIterable<ProgressLine>,
  order: { readonly quiet: boolean; readonly stream: 'stdout' | 'stderr' },
): Promise<void> {
  const printer = new ProgressPrinter(isTerminal(order.stream));
  for await (const line of lines) {
    if (line.error !== undefined) throw new BerthError('unavailable', 'pull.failed', line.error);
    if (!order.quiet) process[order.stream].write(printer.add(line));
  }
}

/** `name:tag`, `name@sha256:...`, `host:5000/name`; without a tag, `latest`. */
export function splitImage(image: string): { readonly name: string; readonly tag: string } {
  const at = image.indexOf('@');
  if (at >= 0) return { name: image.slice(0, at), tag: image.slice(at + 1) };
  const colon = image.indexOf(':', image.lastIndexOf('/') + 1);
  return colon < 0 ? { name: image, tag: 'latest' } : { name: image.slice(0, colon), tag: image.slice(colon + 1) };
}
