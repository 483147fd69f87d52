/** Why a guest went down by itself: read from its console, which QEMU keeps until it is ended (-no-shutdown). */
import { messageOf } from '#base';
import { nowMs } from '#platform';
import type { ExitFacts } from './model.ts';
import type { QmpClient } from './qmp.ts';

/** Of a guest whose kernel or first program crashed; a guest that was powered off from inside ends with 0. */
const CRASHED = 255;

export async function exitOfGuestShutdown(qmp: QmpClient, log: (line: string) => void): Promise<ExitFacts> {
  let text: unknown = '';
  try {
    text = await qmp.execute('ringbuf-read', { device: 'console', size: 65_536, format: 'utf8' });
  } catch (error) {
    log(`its console is unreadable: ${messageOf(error)}`);
  }
  const error = crashReport(typeof text === 'string' ? text : '');
  return { exitCode: error === '' ? 0 : CRASHED, oomKilled: false, error, atMs: nowMs() };
}

/** A sentence with the console's words from the panic on, or nothing when there was none. Pure. */
export function crashReport(console: string): string {
  const lines = console.split('\n').map((line) => line.trim());
  const at = lines.findIndex((line) => /Kernel panic|berth: fatal/.test(line));
  return at < 0 ? '' : `the guest crashed; last words on its console: ${lines.slice(at, at + 3).join('; ')}`;
}
