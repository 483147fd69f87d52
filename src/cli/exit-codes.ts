/** The one place where berth's kinds of error become exit codes. Docker's codes, so that scripts go on working. */
import { BerthError, type ErrorKind, messageOf } from '#base';

/** A command that did not do all it was asked to. */
export const FAILED = 1;
/** Docker's: the engine or the command line, not the program in the VM, is to blame. */
const ENGINE = 125;
const NOT_EXECUTABLE = 126;
const NOT_FOUND = 127;

const OF_KIND: Readonly<Record<ErrorKind, number>> = {
  invalid: FAILED,
  not_found: FAILED,
  conflict: FAILED,
  not_modified: 0,
  denied: FAILED,
  unauthenticated: FAILED,
  unsupported: FAILED,
  unavailable: FAILED,
  timeout: FAILED,
  // 128 + SIGINT: what a shell shows for a command that was interrupted.
  cancelled: 130,
  exhausted: FAILED,
  data_loss: FAILED,
  bug: FAILED,
};

export function exitCodeOf(error: unknown): number {
  if (!(error instanceof BerthError)) return FAILED;
  return error.code === 'usage' ? ENGINE : OF_KIND[error.kind];
}

/** For `run`, `create` and `start -a`: 126 and 127 are read out of the text, as Docker's command line does. */
export function exitCodeOfRun(error: unknown): number {
  if (error instanceof BerthError && error.kind === 'cancelled') return OF_KIND.cancelled;
  const text = messageOf(error);
  if (error instanceof BerthError && error.code === 'usage') return ENGINE;
  if (/executable file not found|no such file or directory/i.test(text)) return NOT_FOUND;
  if (/permission denied|is a directory/i.test(text)) return NOT_EXECUTABLE;
  return ENGINE;
}
