/** Tells webhooks and commands of due alerts, each alert of a month once. */
import * as v from 'valibot';
import { BerthError, messageOf } from '#base';
import { files, httpRequest, runChecked } from '#platform';
import type { MonthName } from '../usage/time-cuts.ts';
import { alertDocument, type DueAlert } from './budgets.ts';

const DEADLINE_MS = 30_000;
const state = v.object({ version: v.literal(1), delivered: v.array(v.string()) });

export interface Delivery {
  readonly delivered: readonly DueAlert[];
  /** Delivered by an earlier run. */
  readonly known: number;
  readonly failed: readonly { readonly alert: DueAlert; readonly reason: string }[];
}

/**
 * An alert is remembered in `statePath` after it was taken: a receiver that is killed in between may hear it twice,
 * never not at all. One that refuses is told again by the next run.
 *
 * @throws budget.state (data_loss) when the file holds something else.
 */
export async function deliverAlerts(due: readonly DueAlert[], period: MonthName, statePath: string): Promise<Delivery> {
  const delivered = new Set(await readState(statePath));
  const fresh = due.filter((alert) => !delivered.has(alert.id));
  const done: DueAlert[] = [];
  const failed: { alert: DueAlert; reason: string }[] = [];
  for (const alert of fresh) {
    try {
      await deliver(alert, period);
    } catch (error) {
      failed.push({ alert, reason: messageOf(error) });
      continue;
    }
    done.push(alert);
    delivered.add(alert.id);
    await files.writeFileAtomic(statePath, `${JSON.stringify({ version: 1, delivered: [...delivered] })}\n`);
  }
  return { delivered: done, known: due.length - fresh.length, failed };
}

/** The document goes to a command's standard input: its words are the card's, nothing is put into them. */
async function deliver(alert: DueAlert, period: MonthName): Promise<void> {
  const body = JSON.stringify(alertDocument(alert, period));
  const { notify } = alert;
  if (notify.kind === 'command') {
    const env = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C.UTF-8' };
    await runChecked(notify.argv, { input: `${body}\n`, deadlineMs: DEADLINE_MS, env });
    return;
  }
  const response = await httpRequest({
    url: new URL(notify.url),
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body,
    signal: AbortSignal.timeout(DEADLINE_MS),
  });
  response.body.destroy();
  if (response.status < 200 || response.status > 299)
    throw new BerthError('unavailable', 'budget.webhook', `the webhook answered ${response.status}`);
}

async function readState(path: string): Promise<readonly string[]> {
  const text = await files.readTextIfExists(path);
  if (text === undefined) return [];
  try {
    return v.parse(state, JSON.parse(text)).delivered;
  } catch (error) {
    throw new BerthError('data_loss', 'budget.state', `${path} is no record of delivered alerts`, {
      hint: 'move it away; alerts of this month are then told again',
      cause: error,
    });
  }
}
