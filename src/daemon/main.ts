/**
 * berthd: the daemon's process. Runs until SIGTERM or SIGINT; VMs run on without it.
 *
 *     main.ts [--state-dir DIR] [--run-dir DIR] [--socket PATH]
 */
import { parseArgs } from 'node:util';
import { BerthError, messageOf } from '#base';
import { thisInstallation } from '#setup';
import { startDaemon } from './daemon.ts';
import { removePidFile } from './pid-file.ts';
import { resolveSettings } from './settings.ts';

process.title = 'berthd';

function log(line: string): void {
  process.stdout.write(`${new Date().toISOString()} ${line}\n`);
}

process.on('unhandledRejection', (reason) =>
  log(`bug: unhandled rejection: ${reason instanceof Error ? reason.stack : String(reason)}`),
);

try {
  const { values } = parseArgs({
    options: { 'state-dir': { type: 'string' }, 'run-dir': { type: 'string' }, socket: { type: 'string' } },
  });
  const settings = resolveSettings({
    flags: { stateDir: values['state-dir'], runDir: values['run-dir'], socket: values.socket },
    env: process.env,
    uid: process.getuid?.() ?? 0,
    home: process.env['HOME'] ?? '/root',
  });
  const started = startDaemon(settings, thisInstallation(), log);
  const leave = (signal: string) => (): void => {
    log(`${signal}: leaving; VMs run on`);
    started
      .then(async (daemon) => {
        await removePidFile(settings.runFolder);
        await daemon.close();
      })
      .then(
        () => process.exit(0),
        (error: unknown) => {
          log(messageOf(error));
          process.exit(1);
        },
      );
  };
  // Before it serves: whoever sees it serve may end it at once, and expects it to leave nothing.
  process.once('SIGTERM', leave('SIGTERM'));
  process.once('SIGINT', leave('SIGINT'));
  await started;
} catch (error) {
  log(messageOf(error));
  if (error instanceof BerthError && error.hint !== undefined) log(error.hint);
  process.exit(1);
}
