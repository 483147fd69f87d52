/** `berth ps` against `docker ps`, both on the same daemon with a few VMs: whole processes, interleaved, order alternating. */
import { spawnSync } from 'node:child_process';
import { startTestDaemon } from '../harness/daemon.ts';
import { createVm } from '../harness/vm-client.ts';
import { median, type Row } from './report.ts';

const BERTH = new URL('../../berth', import.meta.url).pathname;

export async function benchPs(pairs: number): Promise<Row[]> {
  const daemon = await startTestDaemon();
  try {
    for (const name of ['one', 'two', 'three']) await createVm(daemon, name, 'true');
    const sides = {
      berth: [BERTH, 'ps', '-a'],
      docker: ['docker', '-H', `unix://${daemon.socket}`, 'ps', '-a'],
    };
    const env = {
      ...process.env,
      BERTH_STATE_DIR: daemon.stateDir,
      BERTH_RUN_DIR: daemon.runDir,
      BERTH_SOCKET: daemon.socket,
    };
    const time = ([command = '', ...args]: readonly string[]): number => {
      const began = performance.now();
      const { status, stdout } = spawnSync(command, args, { encoding: 'utf8', env });
      const ms = performance.now() - began;
      if (status !== 0 || !['one', 'two', 'three'].every((name) => stdout.includes(name)))
        throw new Error(`${command} printed ${stdout}`);
      return ms;
    };
    const measured: { berthMs: number; dockerMs: number }[] = [];
    for (let pair = -2; pair < pairs; pair += 1) {
      const first = pair % 2 === 0 ? time(sides.berth) : time(sides.docker);
      const second = pair % 2 === 0 ? time(sides.docker) : time(sides.berth);
      if (pair >= 0)
        measured.push(pair % 2 === 0 ? { berthMs: first, dockerMs: second } : { berthMs: second, dockerMs: first });
    }
    const ratio = median(measured.map((one) => one.berthMs / one.dockerMs));
    return [
      {
        measure: `warm berth ps -a ÷ docker ps -a, median of ${pairs} pairs`,
        value: ratio.toFixed(2),
        limit: '≤ 1.5',
        holds: ratio <= 1.5,
      },
      { measure: 'berth ps, median', value: `${median(measured.map((one) => one.berthMs)).toFixed(1)} ms` },
      { measure: 'docker ps, median', value: `${median(measured.map((one) => one.dockerMs)).toFixed(1)} ms` },
    ];
  } finally {
    await daemon.dispose();
  }
}
