/** A child whose standard streams are one stream of bytes both ways: ssh with a helper at the far end, for example. */
import { spawn } from 'node:child_process';
import { Duplex } from 'node:stream';
import { BerthError } from '#base';

/** What a child that failed said last, for the error. */
const KEPT_WORDS_BYTES = 1_000;

export interface PipedOptions {
  /** Variables of ours it gets beside PATH. */
  readonly inherit: readonly string[];
  readonly signal?: AbortSignal;
}

/**
 * Destroying the stream ends the child. When the child ends by itself the stream fails with its last words.
 *
 * @throws process.not_found (unavailable)
 */
export async function spawnPiped(argv: readonly [string, ...string[]], options: PipedOptions): Promise<Duplex> {
  const [command, ...args] = argv;
  const env: Record<string, string> = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' };
  for (const name of options.inherit) {
    const value = process.env[name];
    if (value !== undefined) env[name] = value;
  }
  const child = spawn(command, args, { stdio: 'pipe', env, cwd: '/' });
  let words = '';
  child.stderr.on('data', (chunk: Buffer) => {
    words = (words + chunk.toString()).slice(-KEPT_WORDS_BYTES);
  });
  child.stdin.on('error', () => {});
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', (error) =>
      reject(new BerthError('unavailable', 'process.not_found', `cannot run ${command}`, { cause: error })),
    );
  });
  const stream = Duplex.from({ readable: child.stdout, writable: child.stdin });
  const end = (): void => {
    child.kill('SIGTERM');
  };
  child.once('exit', (code) => {
    options.signal?.removeEventListener('abort', end);
    if (code === 0 || stream.destroyed) return;
    const told = words.trim().split('\n').slice(-3).join('; ') || 'it said nothing';
    stream.destroy(
      new BerthError('unavailable', 'process.ended', `${command} ended with ${code ?? 'a signal'}: ${told}`),
    );
  });
  stream.once('close', end);
  options.signal?.addEventListener('abort', end, { once: true });
  return stream;
}
