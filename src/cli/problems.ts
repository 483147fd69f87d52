import { BerthError, messageOf } from '#base';

/** A failure as two lines at most: what it is, and what to do. */
export function noteError(note: (line: string) => void, error: unknown): void {
  note(`berth: ${messageOf(error)}`);
  if (error instanceof BerthError && error.hint !== undefined) note(`berth: hint: ${error.hint}`);
  if (!(error instanceof BerthError) && error instanceof Error && error.stack !== undefined) note(error.stack);
}
