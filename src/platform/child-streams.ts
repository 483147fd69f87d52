/** A child whose three standard streams are kept apart: a shell that is spoken to line by line, here or behind ssh. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { BerthError } from '#base';

/** What a child that failed said last, for the error. */
const KEPT_WORDS_CHARACTERS = 1_000;
/** One that does not heed SIGTERM. */
const KILL_AFTER_MS = 2_000;

export interface ChildStreams {
  readonly pid: number;
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Resolves once when it has ended and its output has been read. `words`: the end of what it said on stderr. */
  readonly ended: Promise<{ readonly exitCode: number | null; readonly words: string }>;
  /** SIGTERM, and SIGKILL when that was not enough. Safe to call twice. */
  end(): void;
}

/**
 * Spawns without a shell, with PATH and the named variables of ours only.
 *
 * @throws process.not_found (unavailable)
 */
export async function spawnStreams(
  argv: readonly [string, ...string[]],
  inherit: readonly string[],
): Promise<ChildStreams> {
  const [command, ...args] = argv;
  const env: Record<string, string> = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' };
  for (const name of inherit) {
    const value = process.env[name];
    if (value !== undefined) env[name] = value;
  }
  const child: ChildProcessByStdio<Writable, Readable, Readable> = spawn(command, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    env,
    cwd: '/',
  });
  let words = '';
  child.stderr.on('data', (chunk: Buffer) => {
    words = (words + chunk.toString()).slice(-KEPT_WORDS_CHARACTERS);
  });
  // A child that has ended takes no more; its end is told by `ended`.
  child.stdin.on('error', () => {});
  const ended = new Promise<{ exitCode: number | null; words: string }>((resolve) => {
    child.once('close', (exitCode) => resolve({ exitCode, words }));
  });
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', (error) =>
      reject(new BerthError('unavailable', 'process.not_found', `cannot run ${command}`, { cause: error })),
    );
  });
  let isEnding = false;
  return {
    pid: child.pid ?? -1,
    stdin: child.stdin,
    stdout: child.stdout,
    stderr: child.stderr,
    ended,
    end: () => {
      if (isEnding) return;
      isEnding = true;
      child.stdin.destroy();
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), KILL_AFTER_MS);
      void ended.then(() => clearTimeout(timer));
    },
  };
}
