import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { constants } from 'node:os';
import type { Readable } from 'node:stream';
import { BerthError } from '#base';

export interface RunOptions {
  /** Bytes or a stream for the program's standard input; nothing when absent. */
  readonly input?: string | Uint8Array | Readable;
  /** Milliseconds until the program is killed with SIGKILL. Default 60,000. */
  readonly deadlineMs?: number;
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Bytes of each output stream that are kept; the rest is read and dropped. Default 1 MiB. */
  readonly maxOutputBytes?: number;
  readonly signal?: AbortSignal;
  /** Called with each chunk of standard output and standard error as it arrives, for live progress. */
  readonly onOutput?: (chunk: Buffer) => void;
}

export interface RunResult {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a program to its end and returns what it printed. No shell: `argv` reaches the program as it is.
 *
 * @throws process.not_found (unavailable) when the program is not installed; process.deadline (timeout) when it was
 *   killed for outliving `deadlineMs`; process.cancelled (cancelled) when `signal` fired.
 */
export async function runProcess(argv: readonly [string, ...string[]], options: RunOptions = {}): Promise<RunResult> {
  const [command, ...args] = argv;
  const deadlineMs = options.deadlineMs ?? 60_000;
  const limit = options.maxOutputBytes ?? 1024 * 1024;
  const spawnOptions: SpawnOptions = { stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'] };
  if (options.cwd !== undefined) spawnOptions.cwd = options.cwd;
  if (options.env !== undefined) spawnOptions.env = { ...options.env };
  const child = spawn(command, args, spawnOptions);
  let stopped: 'deadline' | 'cancelled' | undefined;
  const stop = (why: 'deadline' | 'cancelled') => () => {
    stopped ??= why;
    child.kill('SIGKILL');
  };
  const timer = setTimeout(stop('deadline'), deadlineMs);
  const onAbort = stop('cancelled');
  options.signal?.addEventListener('abort', onAbort, { once: true });
  if (options.signal?.aborted) onAbort();
  try {
    const [stdout, stderr, end] = await Promise.all([
      collect(child.stdout, limit, options.onOutput),
      collect(child.stderr, limit, options.onOutput),
      ended(child, command),
      feed(child, options.input),
    ]);
    if (stopped === 'deadline') {
      throw new BerthError(
        'timeout',
        'process.deadline',
        `${command} did not finish within ${deadlineMs} ms and was killed`,
      );
    }
    if (stopped === 'cancelled') throw new BerthError('cancelled', 'process.cancelled', `${command} was cancelled`);
    return { exitCode: end.exitCode, signal: end.signal, stdout, stderr };
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener('abort', onAbort);
  }
}

/**
 * As `runProcess`, and an exit code other than 0 is an error that carries the program's own last words.
 *
 * @throws process.failed (unavailable), and what `runProcess` throws.
 */
export async function runChecked(argv: readonly [string, ...string[]], options: RunOptions = {}): Promise<RunResult> {
  const result = await runProcess(argv, options);
  if (result.exitCode !== 0) {
    const words = (result.stderr.trim() || result.stdout.trim()).split('\n').slice(-5).join('; ');
    const how = result.signal === null ? `exit status ${result.exitCode}` : `signal ${result.signal}`;
    throw new BerthError(
      'unavailable',
      'process.failed',
      `${argv[0]} ended with ${how}: ${words || 'it printed nothing'}`,
      {
        facts: { program: argv[0], exitCode: result.exitCode ?? -1 },
      },
    );
  }
  return result;
}

/**
 * Runs a program on this process's own terminal and streams, with SIGINT and SIGTERM left to it.
 *
 * @returns its exit code, 128 + the signal's number when it was killed. @throws process.not_found (unavailable).
 */
export async function runInForeground(argv: readonly [string, ...string[]]): Promise<number> {
  const [command, ...args] = argv;
  const child = spawn(command, args, { stdio: 'inherit' });
  const pass = (name: NodeJS.Signals): void => {
    child.kill(name);
  };
  // A terminal's SIGINT reaches the program by itself.
  const ignore = (): void => {};
  process.on('SIGTERM', pass).on('SIGINT', ignore);
  try {
    const { exitCode, signal } = await ended(child, command);
    return exitCode ?? 128 + (signal === null ? 0 : constants.signals[signal]);
  } finally {
    process.off('SIGTERM', pass).off('SIGINT', ignore);
  }
}

async function collect(stream: Readable | null, limit: number, onOutput: RunOptions['onOutput']): Promise<string> {
  if (stream === null) return '';
  const chunks: Buffer[] = [];
  let kept = 0;
  for await (const chunk of stream) {
    const bytes = chunk as Buffer;
    onOutput?.(bytes);
    if (kept < limit) chunks.push(bytes.subarray(0, limit - kept));
    kept += bytes.length;
  }
  return Buffer.concat(chunks).toString('utf8');
}

function ended(
  child: ChildProcess,
  command: string,
): Promise<{ exitCode: number | null; signal: NodeJS.Signals | null }> {
  return new Promise((resolve, reject) => {
    child.once('error', (error) =>
      reject(
        new BerthError('unavailable', 'process.not_found', `cannot run ${command}`, {
          hint: `install the package that provides ${command}, or run "berth setup"`,
          cause: error,
        }),
      ),
    );
    child.once('close', (exitCode, signal) => resolve({ exitCode, signal }));
  });
}

async function feed(child: ChildProcess, input: RunOptions['input']): Promise<void> {
  const { stdin } = child;
  if (stdin === null || input === undefined) return;
  // A program that ends without reading all of its input breaks the pipe; its exit status says whether that matters.
  stdin.on('error', () => {});
  if (typeof input === 'string' || input instanceof Uint8Array) {
    stdin.end(input);
    return;
  }
  for await (const chunk of input) {
    if (!stdin.writable) break;
    if (!stdin.write(chunk)) {
      await new Promise<void>((resolve) => {
        const done = () => {
          stdin.off('drain', done);
          stdin.off('close', done);
          resolve();
        };
        stdin.once('drain', done);
        stdin.once('close', done);
      });
    }
  }
  stdin.end();
}
