/** A line typed on the terminal that is not shown. */
import { BerthError } from '#base';
import { enterRawMode, isTerminal, standardInput, writeTo } from '#platform';

const MOST_CHARACTERS = 4_096;

/** @throws usage (invalid) without a terminal; prompt.interrupted (cancelled) at ctrl-c or ctrl-d. */
export async function askHidden(question: string): Promise<string> {
  if (!isTerminal('stdin')) {
    throw new BerthError('invalid', 'usage', 'a password can only be asked for on a terminal', {
      hint: 'give --credentials-file FILE or --credentials-env NAME',
    });
  }
  const leaveRaw = enterRawMode();
  await writeTo('stderr', question);
  try {
    let typed: readonly string[] = [];
    for await (const chunk of standardInput()) {
      for (const key of (chunk as Buffer).toString('utf8')) {
        const next = afterKey(typed, key);
        if (next === 'done') return typed.join('');
        if (next === 'interrupted') throw new BerthError('cancelled', 'prompt.interrupted', 'nothing was entered');
        typed = next;
      }
    }
    return typed.join('');
  } finally {
    leaveRaw();
    standardInput().destroy();
    await writeTo('stderr', '\n');
  }
}

/** What is typed after one more key. Pure. */
export function afterKey(typed: readonly string[], key: string): readonly string[] | 'done' | 'interrupted' {
  if (key === '\r' || key === '\n') return 'done';
  if (key === '\u0003' || (key === '\u0004' && typed.length === 0)) return 'interrupted';
  if (key === '\u007f' || key === '\b') return typed.slice(0, -1);
  if (key === '\u0015') return [];
  return key < ' ' || typed.length >= MOST_CHARACTERS ? typed : [...typed, key];
}
