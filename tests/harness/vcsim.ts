/**
 * vcsim, the simulator of VMware's own govmomi (Debian's package), behind TLS with a login; and govmomi's client in the same
 * program as the outside view. It is VMware's stand-in for a vCenter, not a vCenter.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { runChecked } from '#platform';

const CHECKOUT = new URL('../..', import.meta.url).pathname;
const BUILD_DEADLINE_MS = 5 * 60_000;

export const VCSIM_CREDENTIALS = { user: 'operator', password: 'secret' };

export interface VcsimVm {
  readonly id: string;
  readonly name: string;
  readonly power: string;
  readonly host: string;
  readonly uuid: string;
}

export interface RunningVcsim {
  /** `vsphere://127.0.0.1:PORT/` */
  readonly url: URL;
  /** SHA-256 of its certificate, which nobody signed. */
  readonly pin: string;
  readonly pid: number;
  /** One command of main.go. */
  ask(...words: readonly string[]): Promise<unknown>;
  list(): Promise<readonly VcsimVm[]>;
  /** SIGKILL. Safe to call twice. */
  kill(): Promise<void>;
}

/** @param hosts - or one ESXi host, without a vCenter. */
export async function startVcsim(hosts: number | 'esx', vmsPerHost: number): Promise<RunningVcsim> {
  const program = await buildVcsim();
  const child = spawn(program, [hosts === 'esx' ? '-' : String(hosts), String(vmsPerHost)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const nextAnswer = async (): Promise<unknown> => {
    const line = await lines.next();
    if (line.done === true) throw new Error('vcsim has ended');
    const answer = JSON.parse(line.value) as { error?: string };
    if (answer.error !== undefined) throw new Error(`vcsim: ${answer.error}`);
    return answer;
  };
  const { url, fingerprint } = (await nextAnswer()) as { url: string; fingerprint: string };
  let turn: Promise<unknown> = Promise.resolve();
  const ask = (...words: readonly string[]): Promise<unknown> => {
    const answer = turn.then(() => {
      child.stdin.write(`${words.join(' ')}\n`);
      return nextAnswer();
    });
    turn = answer.catch(() => {});
    return answer;
  };
  return {
    url: new URL(`vsphere://${url}/`),
    pin: fingerprint,
    pid: child.pid ?? -1,
    ask,
    list: async () => (await ask('list')) as VcsimVm[],
    kill: async () => {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

/** Compiled once for each state of its source, with what Debian's packages bring and nothing from the network. */
async function buildVcsim(): Promise<string> {
  const sources = ['main.go', 'tagging.go'].map((name) => join(CHECKOUT, 'tests/harness/vcsim', name));
  const folder = join(CHECKOUT, '.build/tests');
  const program = join(folder, 'vcsim');
  const isNewer = (source: string): boolean => statSync(program).mtimeMs > statSync(source).mtimeMs;
  if (existsSync(program) && sources.every(isNewer)) return program;
  mkdirSync(folder, { recursive: true });
  const env = {
    PATH: '/usr/bin:/bin',
    GO111MODULE: 'off',
    GOPATH: '/usr/share/gocode',
    GOCACHE: join(folder, 'go-cache'),
    GOFLAGS: '',
  };
  await runChecked(['go', 'build', '-o', program, ...sources], { env, deadlineMs: BUILD_DEADLINE_MS });
  return program;
}
