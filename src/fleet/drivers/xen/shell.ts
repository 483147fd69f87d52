/**
 * A shell on a Xen host, here or behind ssh, that runs one command after another on one connection.
 *
 *     we    { xl info; } </dev/null; s=$?; printf '\nMARK-7 %s\n' $s; printf '\nMARK-7\n' >&2
 *     it    host : xenlab …            and on stderr its complaints
 *           MARK-7 0                   and on stderr MARK-7
 *
 * MARK is random for each connection, so that no name of a domain can look like an end. Commands are constants of ours.
 * A command that says too much or takes too long ends the connection: what it would still say belongs to nobody.
 */
import { randomBytes } from 'node:crypto';
import { BerthError } from '#base';
import { type ChildStreams, startTimer, type Timer } from '#platform';
import { PREPARE } from './commands.ts';

/** A host under load answers within seconds; one that is stuck never does. */
const COMMAND_DEADLINE_MS = 30_000;
/** `xl list -l` says some 2 KiB for each domain. */
const MOST_OUTPUT_BYTES = 32 * 1024 * 1024;
const MOST_WORDS_BYTES = 64 * 1024;

export interface CommandResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ShellParts {
  readonly child: ChildStreams;
  /** For messages: `xl+ssh://root@rack1/`. */
  readonly where: string;
  /** What the child's end means, from its last words. */
  readonly explain: (words: string) => BerthError;
}

export class XenShell {
  /** Resolves once, with the reason when it was not `close`. */
  readonly ended: Promise<BerthError | undefined>;
  readonly #parts: ShellParts;
  readonly #mark = `berth-${randomBytes(16).toString('hex')}`;
  #turn: Promise<unknown> = Promise.resolve();
  #count = 0;
  #running: RunningCommand | undefined;
  #end: { readonly error: BerthError | undefined } | undefined;
  #settleEnded: (error: BerthError | undefined) => void = () => {};

  constructor(parts: ShellParts) {
    this.#parts = parts;
    this.ended = new Promise((resolve) => {
      this.#settleEnded = resolve;
    });
    parts.child.stdout.on('data', (chunk: Buffer) => this.#running?.stdout.take(chunk));
    parts.child.stderr.on('data', (chunk: Buffer) => this.#running?.stderr.take(chunk));
    void parts.child.ended.then(({ words }) => this.#finish(parts.explain(words)));
  }

  /** @throws xen.late (timeout), xen.too_much (invalid), what `explain` says, or xen.closed (unavailable). */
  run(command: string, deadlineMs = COMMAND_DEADLINE_MS): Promise<CommandResult> {
    const result = this.#turn.then(() => this.#runNow(command, deadlineMs));
    this.#turn = result.catch(() => {});
    return result;
  }

  /** As `run`. @throws also what the command's failure means: xen.denied, xen.failed (unavailable). */
  async output(command: string): Promise<string> {
    const { status, stdout, stderr } = await this.run(command);
    if (status === 0) return stdout;
    throw commandFailure({ command, status, words: stderr || stdout, where: this.#parts.where });
  }

  close(): void {
    this.#finish(undefined);
  }

  #runNow(command: string, deadlineMs: number): Promise<CommandResult> {
    const { child, where } = this.#parts;
    if (this.#end !== undefined) return Promise.reject(this.#end.error ?? this.#closed());
    this.#count += 1;
    const mark = `${this.#mark}-${this.#count}`;
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        if (!stdout.isDone || !stderr.isDone) return;
        running.timer.cancel();
        this.#running = undefined;
        resolve({ status: Number(stdout.tail), stdout: stdout.text, stderr: stderr.text });
      };
      const tooMuch = (): void => {
        const text = `${command} said more than ${MOST_OUTPUT_BYTES} bytes at ${where}`;
        this.#finish(new BerthError('invalid', 'xen.too_much', text));
      };
      const stdout = new MarkedOutput(mark, { mostBytes: MOST_OUTPUT_BYTES, onDone: settle, onTooMuch: tooMuch });
      const stderr = new MarkedOutput(mark, { mostBytes: MOST_WORDS_BYTES, onDone: settle, onTooMuch: tooMuch });
      const timer = startTimer(deadlineMs, () => {
        const text = `${command} did not end within ${deadlineMs} ms at ${where}`;
        const hint = 'is the host overloaded, or does another xl hold its lock?';
        this.#finish(new BerthError('timeout', 'xen.late', text, { hint }));
      });
      const running: RunningCommand = { stdout, stderr, reject, timer };
      this.#running = running;
      child.stdin.write(
        `{ ${command}\n} </dev/null; s=$?; printf '\\n${mark} %s\\n' $s; printf '\\n${mark} 0\\n' >&2\n`,
      );
    });
  }

  #finish(error: BerthError | undefined): void {
    if (this.#end !== undefined) return;
    this.#end = { error };
    this.#parts.child.end();
    this.#running?.timer.cancel();
    this.#running?.reject(error ?? this.#closed());
    this.#running = undefined;
    this.#settleEnded(error);
  }

  #closed(): BerthError {
    return new BerthError('unavailable', 'xen.closed', `the session with ${this.#parts.where} is closed`);
  }
}

interface RunningCommand {
  readonly stdout: MarkedOutput;
  readonly stderr: MarkedOutput;
  readonly reject: (error: BerthError) => void;
  readonly timer: Timer;
}

/** One stream of one command, until the mark. Pure but for what it calls. */
export class MarkedOutput {
  readonly #end: RegExp;
  readonly #options: { readonly mostBytes: number; readonly onDone: () => void; readonly onTooMuch: () => void };
  readonly #chunks: Buffer[] = [];
  #bytes = 0;
  #last = '';
  isDone = false;
  text = '';
  /** The word after the mark. */
  tail = '';

  constructor(
    mark: string,
    options: { readonly mostBytes: number; readonly onDone: () => void; readonly onTooMuch: () => void },
  ) {
    this.#end = new RegExp(`\\n${mark} ([0-9]+)\\n$`);
    this.#options = options;
  }

  take(chunk: Buffer): void {
    if (this.isDone) return;
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    if (this.#bytes > this.#options.mostBytes) {
      this.#options.onTooMuch();
      return;
    }
    // The mark may come in pieces; the next command is sent only after it, so nothing follows it.
    this.#last = (this.#last + chunk.toString('latin1')).slice(-256);
    const found = this.#end.exec(this.#last);
    if (found === null) return;
    this.isDone = true;
    this.tail = found[1] ?? '';
    this.text = Buffer.concat(this.#chunks)
      .subarray(0, this.#bytes - found[0].length)
      .toString('utf8');
    this.#options.onDone();
  }
}

/** The first command of a shell. @throws xen.no_xl (unsupported) */
export async function prepare(shell: XenShell, where: string): Promise<void> {
  if ((await shell.run(PREPARE)).status === 0) return;
  const hint = 'is it a Xen host, and dom0? Debian has xl in xen-utils; XCP-ng and XenServer are other sources';
  throw new BerthError('unsupported', 'xen.no_xl', `there is no xl at ${where}`, { hint });
}

/** What it means that a command failed at the far end. Pure. */
export function commandFailure(failure: {
  readonly command: string;
  readonly status: number;
  readonly words: string;
  readonly where: string;
}): BerthError {
  const { command, status, words, where } = failure;
  const told = words.trim().split('\n').slice(-3).join('; ').slice(0, 500) || 'it said nothing';
  const text = `${command} ended with ${status} at ${where}: ${told}`;
  const facts = { status };
  if (/permission denied|operation not permitted|could not obtain handle on privileged/i.test(words)) {
    const hint = 'xl needs root: log in as root, or as a user who may open /dev/xen/privcmd';
    return new BerthError('denied', 'xen.denied', text, { facts, hint });
  }
  if (/didn't acknowledge/.test(words)) {
    const hint = 'is its kernel up, and not paused? stop ends it at once';
    return new BerthError('conflict', 'xen.deaf', text, { facts, hint });
  }
  const hint = 'does the host run under Xen, with xenstored? xl info there says';
  return new BerthError('unavailable', 'xen.failed', text, { facts, hint });
}
