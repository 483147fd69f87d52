import { runInForeground } from '#platform';
import { thisInstallation } from '#setup';
import type { Verb } from '../verb.ts';

export const setup: Verb = {
  shape: {
    usage: '[OPTIONS]',
    about: 'Installs what is missing and builds what is older than its sources. berth does so by itself, too.',
    flags: [{ flags: '--tests', about: 'what the tests need, too' }],
    most: 0,
  },
  run: (_context, options) => {
    const program = `${thisInstallation().root}/src/setup/main.ts`;
    return runInForeground([process.execPath, program, ...(options.flag('tests') ? ['--tests'] : [])]);
  },
};
