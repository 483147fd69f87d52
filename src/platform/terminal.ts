/** The only door to the terminal and the standard streams of a command. */
import type { Readable, Writable } from 'node:stream';

export interface TerminalSize {
  readonly rows: number;
  readonly columns: number;
}

export function standardInput(): Readable {
  return process.stdin;
}

export function isTerminal(stream: 'stdin' | 'stdout' | 'stderr'): boolean {
  return process[stream].isTTY === true;
}

/** The terminal's size, or undefined when standard output is none. */
export function terminalSize(): TerminalSize | undefined {
  const { isTTY, rows, columns } = process.stdout;
  return isTTY && rows > 0 && columns > 0 ? { rows, columns } : undefined;
}

/** Keys go through unread by the terminal. Returns what restores it; safe to call twice. */
export function enterRawMode(): () => void {
  const { stdin } = process;
  if (!stdin.isTTY || stdin.isRaw) return () => {};
  stdin.setRawMode(true);
  const restore = (): void => {
    if (stdin.isRaw) stdin.setRawMode(false);
  };
  process.once('exit', restore);
  return () => {
    process.off('exit', restore);
    restore();
  };
}

/** Returns what stops the watching. */
export function onTerminalResize(listener: () => void): () => void {
  process.stdout.on('resize', listener);
  return () => process.stdout.off('resize', listener);
}

/** Returns what stops the watching: the signal then has its usual effect again. */
export function onSignals(names: readonly NodeJS.Signals[], listener: (name: NodeJS.Signals) => void): () => void {
  for (const name of names) process.on(name, listener);
  return () => {
    for (const name of names) process.off(name, listener);
  };
}

/** Resolves when the stream takes more. A reader that is gone is no error: it asked for no more. */
export function writeTo(stream: 'stdout' | 'stderr', data: string | Uint8Array): Promise<void> {
  const output: Writable = process[stream];
  if (output.destroyed) return Promise.resolve();
  if (output.write(data)) return Promise.resolve();
  return new Promise((resolve) => {
    const done = (): void => {
      output.off('drain', done);
      output.off('close', done);
      output.off('error', done);
      resolve();
    };
    output.on('drain', done);
    output.on('close', done);
    output.on('error', done);
  });
}

/** `head` and the like leave early: then the command ends quietly, as one killed by SIGPIPE. */
export function endQuietlyWithoutReaders(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      process.exit(error.code === 'EPIPE' ? 141 : 1);
    });
  }
}
