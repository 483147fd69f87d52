import { type Diagnosis, diagnose } from '#daemon';
import { thisInstallation } from '#setup';
import { FAILED } from '../exit-codes.ts';
import type { Verb } from '../verb.ts';

export const doctor: Verb = {
  shape: {
    usage: '[OPTIONS]',
    about: 'Proves what this machine can do for VMs. Needs no daemon. Exit code 0 when VMs can run.',
    flags: [
      { flags: '--fresh', about: 'boot a guest on each accelerator again, whatever was found before' },
      { flags: '--json', about: 'as JSON' },
    ],
    most: 0,
  },
  run: async ({ place, out }, options) => {
    const diagnosis = await diagnose(place, thisInstallation(), options.flag('fresh'));
    await out(options.flag('json') ? `${JSON.stringify(diagnosis)}\n` : wordsOf(diagnosis));
    return diagnosis.canRunVms ? 0 : FAILED;
  },
};

/** One line for each finding, and what to do below it. Pure. */
export function wordsOf(diagnosis: Diagnosis): string {
  const width = Math.max(...diagnosis.findings.map((one) => one.name.length)) + 2;
  const lines = diagnosis.findings.map(({ name, verdict, found, remedy }) => {
    const todo = remedy === undefined ? '' : `${' '.repeat(width + 9)}→ ${remedy}\n`;
    return `${verdict.padEnd(9)}${name.padEnd(width)}${found}\n${todo}`;
  });
  const end = diagnosis.canRunVms ? `VMs can run here, under ${diagnosis.accelerator}.` : 'VMs cannot run here.';
  return `${lines.join('')}\n${end}\n`;
}
