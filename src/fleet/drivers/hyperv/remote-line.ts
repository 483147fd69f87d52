/**
 * One powershell.exe at a Hyper-V host behind ssh, asked one thing after another: see script.ts for what goes to and fro.
 *
 * An answer that is too large or comes too late ends the connection: what it would still say belongs to nobody.
 */
import { randomBytes } from 'node:crypto';
import * as v from 'valibot';
import { BerthError, type ErrorKind } from '#base';
import { type ChildStreams, startTimer, type Timer } from '#platform';
import { SCRIPT_LINE } from './script.ts';

/** A VM is told in some 8 KB; a host has 1,024 that run at most. */
const MOST_ANSWER_BYTES = 64 * 1024 * 1024;
const NEWLINE = 0x0a;

const AnswerSchema = v.union([
  v.object({ result: v.record(v.string(), v.unknown()) }),
  v.object({ error: v.object({ message: v.fallback(v.string(), ''), code: v.fallback(v.string(), '') }) }),
]);

export interface LineParts {
  readonly child: ChildStreams;
  readonly where: string;
  /** What the child's end means, from its last words. */
  readonly explain: (words: string) => BerthError;
}

interface Asked {
  readonly mark: string;
  readonly resolve: (answer: string) => void;
  readonly reject: (error: BerthError) => void;
  readonly timer: Timer;
}

export class RemoteLine {
  /** Resolves once, with the reason when it was not `close`. */
  readonly ended: Promise<BerthError | undefined>;
  readonly #parts: LineParts;
  readonly #mark = `berth-${randomBytes(16).toString('hex')}`;
  #turn: Promise<unknown> = Promise.resolve();
  #count = 0;
  #asked: Asked | undefined;
  #chunks: Buffer[] = [];
  #bytes = 0;
  #end: { readonly error: BerthError | undefined } | undefined;
  #settleEnded: (error: BerthError | undefined) => void = () => {};

  constructor(parts: LineParts) {
    this.#parts = parts;
    this.ended = new Promise((resolve) => {
      this.#settleEnded = resolve;
    });
    parts.child.stdout.on('data', (chunk: Buffer) => this.#take(chunk));
    // Read, so that it does not stand still; its last words are told with the child's end.
    parts.child.stderr.on('data', () => {});
    void parts.child.ended.then(({ words }) => this.#finish(parts.explain(words)));
    parts.child.stdin.write(SCRIPT_LINE);
  }

  /**
   * @param words - a verb of the script, and what belongs to it: no blanks, no line breaks.
   * @throws hyperv.late (timeout), hyperv.too_much, hyperv.malformed (invalid), what a failure there means, what `explain` says,
   *   or hyperv.closed (unavailable).
   */
  async ask(words: readonly string[], deadlineMs: number): Promise<Readonly<Record<string, unknown>>> {
    const answer = this.#turn.then(() => this.#askNow(words, deadlineMs));
    this.#turn = answer.catch(() => {});
    const parsed = v.safeParse(AnswerSchema, parsedJson(await answer));
    const { where } = this.#parts;
    const what = words[0] ?? '';
    if (!parsed.success)
      throw new BerthError(
        'invalid',
        'hyperv.malformed',
        `${where} answered ${what} with something else than was asked`,
      );
    if ('result' in parsed.output) return parsed.output.result;
    throw failureOf(parsed.output.error, where);
  }

  close(): void {
    this.#finish(undefined);
  }

  #askNow(words: readonly string[], deadlineMs: number): Promise<string> {
    const { child, where } = this.#parts;
    if (this.#end !== undefined) return Promise.reject(this.#end.error ?? this.#closed());
    if (words.some((word) => !/^[A-Za-z0-9-]+$/.test(word))) throw new RangeError(`${words.join(' ')} is no request`);
    this.#count += 1;
    const mark = `${this.#mark}-${this.#count}`;
    return new Promise((resolve, reject) => {
      const timer = startTimer(deadlineMs, () => {
        const text = `${where} did not answer ${words[0]} within ${deadlineMs} ms`;
        const hint = 'is the host overloaded, or its WMI service stuck?';
        this.#finish(new BerthError('timeout', 'hyperv.late', text, { hint }));
      });
      this.#asked = { mark, resolve, reject, timer };
      child.stdin.write(`${[mark, ...words].join(' ')}\n`);
    });
  }

  #take(chunk: Buffer): void {
    let rest = chunk;
    while (this.#end === undefined) {
      const end = rest.indexOf(NEWLINE);
      const part = end < 0 ? rest : rest.subarray(0, end);
      this.#bytes += part.length;
      if (this.#bytes > MOST_ANSWER_BYTES) {
        const text = `${this.#parts.where} said more than ${MOST_ANSWER_BYTES} bytes in one line`;
        this.#finish(new BerthError('invalid', 'hyperv.too_much', text));
        return;
      }
      this.#chunks.push(part);
      if (end < 0) return;
      const line = Buffer.concat(this.#chunks).toString('utf8');
      this.#chunks = [];
      this.#bytes = 0;
      this.#hear(line);
      rest = rest.subarray(end + 1);
    }
  }

  /** Lines without the mark are a banner, or a profile that talks. */
  #hear(line: string): void {
    const asked = this.#asked;
    if (asked === undefined || !line.startsWith(`${asked.mark} `)) return;
    this.#asked = undefined;
    asked.timer.cancel();
    asked.resolve(line.slice(asked.mark.length + 1));
  }

  #finish(error: BerthError | undefined): void {
    if (this.#end !== undefined) return;
    this.#end = { error };
    this.#chunks = [];
    this.#parts.child.end();
    this.#asked?.timer.cancel();
    this.#asked?.reject(error ?? this.#closed());
    this.#asked = undefined;
    this.#settleEnded(error);
  }

  #closed(): BerthError {
    return new BerthError('unavailable', 'hyperv.closed', `the session with ${this.#parts.where} is closed`);
  }
}

/** WMI's HRESULTs as PowerShell names them in FullyQualifiedErrorId. @source Microsoft, WMI Error Constants */
const FAILURES: readonly (readonly [RegExp, ErrorKind, string, string])[] = [
  [
    /0x8004100e/i,
    'unsupported',
    'hyperv.no_hyperv',
    'is the role Hyper-V installed there, on Windows Server 2016 or later?',
  ],
  [/0x80041010/i, 'unsupported', 'hyperv.no_class', 'Windows Server 2016 or later is needed'],
  [
    /0x80041003|0x80070005/i,
    'denied',
    'hyperv.denied',
    'the user has to be a Hyper-V Administrator and an Administrator there',
  ],
];

/** What it means that a query failed at the far end. Pure. */
export function failureOf(told: { readonly message: string; readonly code: string }, where: string): BerthError {
  const text = `${where} could not answer: ${told.message.slice(0, 300).trim()} (${told.code.slice(0, 100)})`;
  for (const [pattern, kind, code, hint] of FAILURES)
    if (pattern.test(told.code)) return new BerthError(kind, code, text, { hint });
  return new BerthError('unavailable', 'hyperv.failed', text);
}

function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
