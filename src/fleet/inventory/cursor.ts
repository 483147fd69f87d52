/** Where a page ended, as text for the next request: what the list is sorted by, and the row. Pure. */
import * as v from 'valibot';
import { BerthError } from '#base';

export interface Cursor {
  readonly value: string | number;
  readonly id: number;
}

const Schema = v.tuple([v.union([v.string(), v.number()]), v.pipe(v.number(), v.integer())]);

export function encodeCursor({ value, id }: Cursor): string {
  return Buffer.from(JSON.stringify([value, id])).toString('base64url');
}

/** @throws fleet.cursor (invalid) for what `encodeCursor` never made. */
export function decodeCursor(text: string): Cursor {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(text, 'base64url').toString('utf8'));
  } catch {
    value = undefined;
  }
  const parsed = v.safeParse(Schema, value);
  if (parsed.success) return { value: parsed.output[0], id: parsed.output[1] };
  throw new BerthError('invalid', 'fleet.cursor', `"${text.slice(0, 100)}" is no place in a list`, {
    hint: 'give what "next" said, to the same list with the same order',
  });
}
