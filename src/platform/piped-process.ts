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
  /** What it means that the child ended by itself, from its last words. */
  readonly explain?: (words: string) => BerthError;
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
  const stream = new Duplex({
    read: () => void child.stdout.resume(),
    // A child that has ended takes no more; its end is told below.
    write: (chunk, _encoding, done) => void child.stdin.write(chunk, () => done()),
    final: (done) => void child.stdin.end(() => done()),
  });
  child.stdout.on('data', (chunk: Buffer) => {
    if (!stream.push(chunk)) child.stdout.pause();
  });
  const end = (): void => {
    child.kill('SIGTERM');
  };
  // Not the end of its output: only the child's own end says why.
  child.once('close', (code) => {
    options.signal?.removeEventListener('abort', end);
    if (stream.destroyed) return;
    if (code === 0) stream.push(null);
    else stream.destroy(options.explain?.(words) ?? endedWith(command, code, words));
  });
  stream.once('close', end);
  options.signal?.addEventListener('abort', end, { once: true });
  return stream;
}

function endedWith(command: string, code: number | null, words: string): BerthError {
  const told = words.trim().split('\n').slice(-3).join('; ') || 'it said nothing';
  return new BerthError('unavailable', 'process.ended', `${command} ended with ${code ?? 'a signal'}: ${told}`);
}
