/** What berth's daemon can beyond Docker's API. */
import { BerthError } from '#base';
import type { Answer, DockerApi } from './docker-api.ts';

export interface ForkedVm {
  readonly id: string;
  readonly name: string;
}

/** @throws bench.no_fork (unsupported); bench.engine (unavailable) with the daemon's words. */
export async function forkVm(api: DockerApi, id: string, count: number): Promise<readonly ForkedVm[]> {
  const answer = await api.send('POST', `/berth/v1/vms/${id}/fork?count=${count}`);
  return (JSON.parse(textOf(answer, 'fork')) as { vms: ForkedVm[] }).vms;
}

/** @throws bench.no_sleep (unsupported); bench.engine (unavailable) with the daemon's words. */
export async function putToSleep(api: DockerApi, id: string): Promise<void> {
  textOf(await api.send('POST', `/berth/v1/vms/${id}/sleep`), 'sleep');
}

/** For how many sizes machines can be had at once; 0 where there are none. */
export async function countMoulds(api: DockerApi): Promise<number> {
  const { text } = await api.send('GET', '/metrics');
  return Number(/^berth_pool_moulds ([0-9]+)$/m.exec(text)?.[1] ?? 0);
}

/** A 404 for a VM that has just been made, or a 501, says that the endpoint is not there. */
function textOf({ status, text }: Answer, what: 'fork' | 'sleep'): string {
  if (status < 400) return text;
  if (status === 404 || status === 501) {
    throw new BerthError('unsupported', `bench.no_${what}`, `this daemon has no ${what}`, {
      hint: 'measure a newer berth: without --socket it is the daemon of this checkout',
    });
  }
  throw new BerthError('unavailable', 'bench.engine', `${what} was answered with ${status}: ${text.trim()}`);
}
