/**
 * The program that reckons for the daemon: one request on standard input, one answer on standard output, and it is gone.
 *
 * A month of a large estate takes seconds of processor and a lot of memory: neither is the daemon's.
 */
import { text } from 'node:stream/consumers';
import * as v from 'valibot';
import { BerthError, messageOf } from '#base';
import { loadRateCard } from '#metering';
import { standardInput } from '#platform';
import { type FolderLock, lockFolder } from '#store';
import { charges, page, report } from './asking.ts';
import { type Asked, closeMonth, neededMonths, rateMonths } from './rating.ts';
import { type MoneyRequest, MoneyRequestSchema, type MoneyTask } from './request.ts';

/** Work that writes; one at a time, also beside what a daemon that was killed has left behind. */
const WRITES: ReadonlySet<string> = new Set(['rate', 'close']);

async function answer({ task, ...asked }: MoneyRequest): Promise<unknown> {
  const lock = WRITES.has(task.do) ? locked(asked.folder) : undefined;
  try {
    return await done(task, asked);
  } finally {
    lock?.release();
  }
}

async function done(task: MoneyTask, asked: Asked): Promise<object> {
  switch (task.do) {
    case 'check': {
      const card = loadRateCard(task.card, 'the rate card');
      const { name, currency, attribution } = card;
      return { name, currency, versions: card.versions.map((one) => one.version), attribution };
    }
    case 'rate':
      return await rateMonths(asked, task.months);
    case 'close':
      return await closeMonth(asked, task.month);
    case 'report':
      return await report(asked, task.question);
    case 'page':
      return await page(asked, task);
    case 'needed':
      return { needed: await neededMonths(asked, task.months) };
    case 'charges':
      return await charges(asked, task.months);
  }
}

function locked(folder: string): FolderLock {
  try {
    return lockFolder(folder);
  } catch (error) {
    throw new BerthError('conflict', 'cost.busy', 'another rating is under way', {
      hint: 'try again in a moment',
      cause: error,
    });
  }
}

function problemOf(error: unknown): Record<string, unknown> {
  if (!(error instanceof BerthError)) return { kind: 'bug', code: 'cost.failed', message: messageOf(error) };
  const { kind, code, message, hint } = error;
  return { kind, code, message, hint };
}

try {
  const request = v.parse(MoneyRequestSchema, JSON.parse(await text(standardInput())));
  process.stdout.write(JSON.stringify({ answer: await answer(request) }));
} catch (error) {
  process.stdout.write(JSON.stringify({ problem: problemOf(error) }));
}
