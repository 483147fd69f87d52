/** One action for each of several names: the others still have their turn when one fails, and it shows in the exit code. */
import { FAILED } from '../exit-codes.ts';
import { noteError } from '../problems.ts';
import type { VerbContext } from '../verb.ts';

/** @param action - gives what is printed; undefined prints the name. */
export async function forEach(
  context: VerbContext,
  names: readonly string[],
  action: (name: string) => Promise<string | undefined>,
): Promise<number> {
  const results = await Promise.allSettled(names.map(action));
  let exitCode = 0;
  for (const [index, result] of results.entries()) {
    if (result.status === 'fulfilled') await context.out(`${result.value ?? names[index]}\n`);
    else {
      noteError(context.note, result.reason);
      exitCode = FAILED;
    }
  }
  return exitCode;
}
