/** `wake`: a VM sleeps; somebody connects to its published port. From the connection to the first byte of the answer. */
import { BerthError } from '#base';
import { connectTcp, monotonicMs, sleep } from '#platform';
import type { BenchRun } from './bench-run.ts';
import { putToSleep } from './berth-extras.ts';
import { answers } from './burst.ts';
import { interleave } from './interleave.ts';
import { VM_CHECK } from './kernel-check.ts';
import type { Measure } from './report.ts';
import type { EngineSide } from './sides/engine-side.ts';

const GUEST_PORT = 80;
const ANSWER_DEADLINE_MS = 30_000;
const SERVER_DEADLINE_MS = 60_000;
const POLL_MS = 100;
const UNTIL_LISTENING = ['sh', '-c', `until netstat -ltn | grep -q ":${GUEST_PORT} "; do usleep 10000; done`];

/** What listens in the VM. Both answer a request with the word; `$WORD` and `$PORT` are put in. */
const SERVERS = [
  {
    id: 'wake',
    title: 'connection to a sleeping VM → first byte',
    // One process waits for one connection, as a server that does not fork does for all; the next takes its place.
    script: 'echo $WORD >/tmp/answer; while true; do nc -l -p $PORT </tmp/answer; done',
  },
  {
    id: 'wake-fork',
    title: 'the same, of a server that forks for each connection',
    script: 'echo $WORD >/tmp/index.html; exec httpd -f -p $PORT -h /tmp',
  },
] as const;

export interface WakePlan {
  readonly berth: EngineSide;
  readonly pairs: number;
}

/** @throws bench.no_sleep (unsupported), bench.check (data_loss), bench.engine (unavailable). */
export async function benchWake(run: BenchRun, plan: WakePlan): Promise<Measure[]> {
  const measures: Measure[] = [];
  for (const server of SERVERS) measures.push(await benchServer(run, plan, server));
  return measures;
}

async function benchServer(
  run: BenchRun,
  { berth, pairs }: WakePlan,
  server: (typeof SERVERS)[number],
): Promise<Measure> {
  const { api, image, title } = berth;
  const word = `${run.prefix}-awake`;
  const script = server.script.replace('$WORD', word).replace('$PORT', String(GUEST_PORT));
  const id = await api.create({
    name: `${run.prefix}-${server.id}`,
    image,
    args: ['sh', '-c', script],
    ports: [GUEST_PORT],
  });
  try {
    await api.start(id);
    await answers(run, berth, { id, token: word });
    const port = await api.publishedPort(id, GUEST_PORT);
    await untilServed(run, port, word);
    const once = async (): Promise<number> => {
      await api.exec(id, UNTIL_LISTENING);
      await putToSleep(api, id);
      return await firstByteMs(run, port, word);
    };
    const values = await interleave([{ side: title, once }], {
      rounds: pairs,
      warmUps: 1,
      signal: run.signal,
      onProgress: (line) => run.onProgress(`${server.id}: ${line}`),
    });
    const check = `the answer is the guest’s own; ${VM_CHECK}`;
    const series = [{ side: title, values: values.get(title) ?? [], check }];
    return { id: server.id, title: server.title, unit: 'ms', series };
  } finally {
    await api.withoutSignal().remove(id);
  }
}

async function untilServed(run: BenchRun, port: number, word: string): Promise<void> {
  const until = monotonicMs() + SERVER_DEADLINE_MS;
  for (;;) {
    try {
      await firstByteMs(run, port, word);
      return;
    } catch (error) {
      run.signal.throwIfAborted();
      if (monotonicMs() > until) throw error;
    }
    await sleep(POLL_MS, run.signal);
  }
}

/** Asks, and hears `word`. @throws bench.check (data_loss) when it hears something else. */
async function firstByteMs(run: BenchRun, port: number, word: string): Promise<number> {
  const began = monotonicMs();
  const socket = await connectTcp('127.0.0.1', port, ANSWER_DEADLINE_MS);
  const deadline = AbortSignal.any([run.signal, AbortSignal.timeout(ANSWER_DEADLINE_MS)]);
  const onAbort = (): void => {
    socket.destroy(new Error('no answer came in time'));
  };
  deadline.addEventListener('abort', onAbort, { once: true });
  try {
    socket.write('GET /index.html HTTP/1.0\r\n\r\n');
    let [page, firstAt] = ['', 0];
    for await (const chunk of socket) {
      if (firstAt === 0) firstAt = monotonicMs();
      page += String(chunk);
      if (page.includes(word)) break;
    }
    if (page.includes(word)) return firstAt - began;
    throw new BerthError(
      'data_loss',
      'bench.check',
      `port ${port} answered ${JSON.stringify(page.slice(0, 200))}; expected ${word}`,
    );
  } finally {
    deadline.removeEventListener('abort', onAbort);
    socket.destroy();
  }
}
