/** The real docker CLI against a test daemon: whole commands, commands that go on, and commands on a terminal. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { BerthError } from '#base';
import { monotonicMs, sleep } from '#platform';

/** A VM boots in 4 s on a machine that three test runs share; a command that takes this long hangs. */
const COMMAND_DEADLINE_MS = 40_000;
const CONDITION_DEADLINE_MS = 20_000;
const POLL_MS = 30;

export interface Finished {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  /** Written to standard input, which is then closed. Without it the input is /dev/null. */
  readonly input?: string | Buffer;
  readonly env?: Readonly<Record<string, string>>;
}

/** A command that still runs: what it has printed so far, and ways to talk to it. */
export class RunningCommand {
  stdout = '';
  stderr = '';
  readonly #child: ChildProcess;
  readonly #title: string;
  readonly #closed: Promise<Finished>;
  #isClosed = false;

  constructor(child: ChildProcess, title: string) {
    this.#child = child;
    this.#title = title;
    child.stdout?.on('data', (chunk: Buffer) => {
      this.stdout += chunk.toString();
    });
    child.stderr?.on('data', (chunk: Buffer) => {
      this.stderr += chunk.toString();
    });
    // The reader may be gone before everything is written.
    child.stdin?.on('error', () => {});
    this.#closed = once(child, 'close').then(([code]) => {
      this.#isClosed = true;
      return { code: (code as number | null) ?? -1, stdout: this.stdout, stderr: this.stderr };
    });
  }

  write(text: string): void {
    this.#child.stdin?.write(text);
  }

  endInput(): void {
    this.#child.stdin?.end();
  }

  /** The docker CLI is killed outright: it swallows SIGTERM. */
  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  /** Until standard output holds `text`. @throws test.deadline (timeout) */
  async untilPrinted(text: string | RegExp): Promise<void> {
    const isThere = (): boolean => (typeof text === 'string' ? this.stdout.includes(text) : text.test(this.stdout));
    await eventually(
      () => isThere() || (this.#isClosed && fail(`${this.#title} ended without ${text}: ${this.stdout}${this.stderr}`)),
      `${this.#title} prints ${text}`,
    );
  }

  /** @throws test.deadline (timeout), after killing it */
  async finished(deadlineMs: number = COMMAND_DEADLINE_MS): Promise<Finished> {
    const late = new AbortController();
    const outcome = await Promise.race([
      this.#closed,
      sleep(deadlineMs, late.signal).then(
        () => 'late' as const,
        () => 'late' as const,
      ),
    ]);
    late.abort();
    if (outcome !== 'late') return outcome;
    this.#child.kill('SIGKILL');
    return fail(`${this.#title} did not end within ${deadlineMs} ms: ${this.stdout}${this.stderr}`);
  }
}

export class DockerCli {
  readonly #socket: string;

  constructor(socket: string) {
    this.#socket = socket;
  }

  /** Runs to the end, whatever its exit code. */
  async run(args: readonly string[], options: CommandOptions = {}): Promise<Finished> {
    const command = this.start(args, options);
    if (options.input === undefined) command.endInput();
    return await command.finished();
  }

  /** Runs to the end and returns trimmed standard output. @throws test.command (unavailable) for another exit code than 0. */
  async ok(args: readonly string[], options: CommandOptions = {}): Promise<string> {
    const { code, stdout, stderr } = await this.run(args, options);
    if (code !== 0) {
      throw new BerthError('unavailable', 'test.command', `docker ${args.join(' ')} exited with ${code}: ${stderr}`);
    }
    return stdout.trim();
  }

  start(args: readonly string[], options: CommandOptions = {}): RunningCommand {
    const child = spawn('docker', ['-H', `unix://${this.#socket}`, ...args], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, ...options.env },
    });
    const command = new RunningCommand(child, `docker ${args.join(' ')}`);
    if (options.input !== undefined) child.stdin.end(options.input);
    return command;
  }

  /** On a terminal of its own, made by script(1). Its output comes as standard output. */
  onTerminal(args: readonly string[], size: { readonly rows: number; readonly columns: number }): RunningCommand {
    const words = ['docker', '-H', `unix://${this.#socket}`, ...args].map(quoted).join(' ');
    const line = `stty rows ${size.rows} cols ${size.columns}; exec ${words}`;
    const child = spawn('script', ['-qefc', line, '/dev/null'], { stdio: ['pipe', 'pipe', 'pipe'] });
    return new RunningCommand(child, `docker ${args.join(' ')} on a terminal`);
  }
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

function fail(message: string): never {
  throw new BerthError('timeout', 'test.deadline', message);
}

/** Asks until the answer is yes. @throws test.deadline (timeout) naming `what`. */
export async function eventually(
  condition: () => boolean | Promise<boolean>,
  what: string,
  deadlineMs: number = CONDITION_DEADLINE_MS,
): Promise<void> {
  const until = monotonicMs() + deadlineMs;
  while (!(await condition())) {
    if (monotonicMs() > until) fail(`not within ${deadlineMs} ms: ${what}`);
    await sleep(POLL_MS);
  }
}
