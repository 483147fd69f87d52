/**
 * The one error type that crosses a door in berth.
 *
 * `kind` is a closed set: exactly one file turns kinds into HTTP statuses (docker/) and one into exit codes (cli/).
 * `code` is an open, dotted, stable name ("vm.not_running") for programs. `message` is a sentence that names the
 * object, the expected and the actual. `hint` is something the reader can do. A message never repeats its cause.
 */
export type ErrorKind =
  | 'invalid'
  | 'not_found'
  | 'conflict'
  | 'not_modified'
  | 'denied'
  | 'unauthenticated'
  | 'unsupported'
  | 'unavailable'
  | 'timeout'
  | 'cancelled'
  | 'exhausted'
  | 'data_loss'
  | 'bug';

export interface BerthErrorOptions {
  readonly hint?: string;
  readonly facts?: Readonly<Record<string, string | number | boolean>>;
  readonly cause?: unknown;
}

const BRAND = Symbol.for('berth.error');

export class BerthError extends Error {
  /** A verb that is bundled by itself has a class of its own: errors of either are errors of berth. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    return typeof value === 'object' && value !== null && BRAND in value;
  }
  override readonly name = 'BerthError';
  readonly kind: ErrorKind;
  readonly code: string;
  readonly hint: string | undefined;
  readonly facts: Readonly<Record<string, string | number | boolean>>;

  constructor(kind: ErrorKind, code: string, message: string, options: BerthErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.kind = kind;
    this.code = code;
    this.hint = options.hint;
    this.facts = options.facts ?? {};
  }

  get [BRAND](): true {
    return true;
  }
}

/** The message of anything thrown, for a log line or a wrapped message. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The errno name ("ENOENT") of a thrown system error, or undefined. */
export function errnoOf(error: unknown): string | undefined {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
  return undefined;
}

/** For the default branch of an exhaustive switch: a value the types say cannot be there. */
export function unreachable(value: never, what: string): never {
  throw new BerthError('bug', 'bug.unreachable', `${what} has the unexpected value ${JSON.stringify(value)}`);
}
