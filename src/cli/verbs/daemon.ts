/** `daemon start|stop|restart|status|logs|run|install`. */
import { BerthError, humanDuration } from '#base';
import { daemonLogPath, daemonStatus, startDaemonProcess, stopDaemonProcess } from '#daemon';
import { files, nowMs, runInForeground } from '#platform';
import { daemonCommand, thisInstallation } from '#setup';
import { type Options, usageError } from '../command-line.ts';
import { FAILED } from '../exit-codes.ts';
import { humanSize } from '../tables.ts';
import { unitText } from '../unit-file.ts';
import type { Verb, VerbContext } from '../verb.ts';

const UNIT_PATH = '/etc/systemd/system/berth.service';

export const daemon: Verb = {
  shape: {
    usage: 'start|stop|restart|status|logs|run|install [OPTIONS]',
    about:
      'The daemon of the chosen state folder. VMs run on while it is away.\n\n' +
      '  start     start it in the background; nothing happens when it runs\n' +
      '  stop      stop it; VMs run on\n' +
      '  restart   stop and start it\n' +
      '  status    pid, uptime, accelerator, VMs; exit code 1 when it does not run\n' +
      '  logs      what it wrote\n' +
      '  run       run it here, in the foreground\n' +
      '  install   write a systemd unit for it (root)',
    flags: [
      { flags: '--json', about: 'status as JSON' },
      { flags: '-f, --follow', about: 'logs: and go on showing' },
      { flags: '-n, --tail <LINES>', about: 'logs: the last lines only' },
    ],
    least: 1,
    most: 1,
    examples: ['berth daemon start', 'berth --state-dir /srv/vms daemon status --json', 'berth daemon logs -f'],
  },
  run: (context, options, [action = '']) => {
    const actions: Readonly<Record<string, (context: VerbContext, options: Options) => Promise<number>>> = {
      start,
      stop,
      restart,
      status,
      logs,
      run,
      install,
    };
    const chosen = actions[action];
    if (chosen === undefined) throw usageError(`unknown command: berth daemon ${action}`, 'see "berth daemon --help"');
    return chosen(context, options);
  },
};

async function start({ place, out }: VerbContext): Promise<number> {
  const { pid, alreadyRan } = await startDaemonProcess(place, thisInstallation());
  const who = pid === undefined ? '' : ` (pid ${pid})`;
  await out(alreadyRan ? `the daemon runs already${who}\n` : `the daemon runs${who} on ${place.socket}\n`);
  return 0;
}

async function stop({ place, out }: VerbContext): Promise<number> {
  const { vms } = await daemonStatus(place);
  const pid = await stopDaemonProcess(place);
  if (pid === undefined) {
    await out('no daemon runs\n');
    return 0;
  }
  const count = (vms?.running ?? 0) + (vms?.paused ?? 0);
  const rest = count === 0 ? '' : `; ${count} VM${count === 1 ? ' runs' : 's run'} on`;
  await out(`the daemon (pid ${pid}) has ended${rest}\n`);
  return 0;
}

async function restart(context: VerbContext): Promise<number> {
  await stop(context);
  return await start(context);
}

async function status({ place, out }: VerbContext, options: Options): Promise<number> {
  const found = await daemonStatus(place);
  if (options.flag('json')) await out(`${JSON.stringify(found)}\n`);
  else if (!found.running) await out(`no daemon serves ${found.socket}\n`);
  else {
    const lines: [string, string][] = [
      ['pid', found.pid === null ? 'unknown' : String(found.pid)],
      ['up', found.uptimeSeconds === null ? 'unknown' : humanDuration(found.uptimeSeconds)],
      ['memory', found.memoryBytes === null ? 'unknown' : humanSize(found.memoryBytes)],
      ['version', found.version ?? 'unknown'],
      [
        'accelerator',
        found.accelerator === 'tcg'
          ? 'tcg (software emulation: slow, no isolation of tenants)'
          : (found.accelerator ?? 'unknown'),
      ],
      ['VMs', `${found.vms?.total} (${found.vms?.running} running, ${found.vms?.paused} paused)`],
      ['socket', found.socket],
      ['state folder', found.stateFolder],
      ['log', found.log],
    ];
    await out(lines.map(([name, value]) => `${`${name}:`.padEnd(14)}${value}\n`).join(''));
  }
  return found.running ? 0 : FAILED;
}

async function logs({ place, out }: VerbContext, options: Options): Promise<number> {
  const path = daemonLogPath(place);
  const text = await files.readTextIfExists(path);
  if (text === undefined && !options.flag('follow')) {
    throw new BerthError('not_found', 'daemon.no_log', `there is no log ${path}`, {
      hint: 'a daemon that systemd or "daemon run" started writes elsewhere: journalctl -u berth',
    });
  }
  const lines = (text ?? '').split('\n');
  const tail = options.number('tail');
  await out(tail === undefined ? (text ?? '') : lines.slice(-tail - 1).join('\n'));
  if (options.flag('follow')) {
    for await (const chunk of files.followFile(path, Buffer.byteLength(text ?? ''))) await out(chunk);
  }
  return 0;
}

async function run({ place }: VerbContext): Promise<number> {
  const { stateFolder, runFolder, socket } = place;
  const folders = ['--state-dir', stateFolder, '--run-dir', runFolder, '--socket', socket];
  return await runInForeground(daemonCommand(thisInstallation(), folders));
}

async function install({ place, out }: VerbContext): Promise<number> {
  const installation = thisInstallation();
  const template = await files.readFile(`${installation.root}/packaging/berth.service`, 'utf8');
  const text = unitText(template, {
    NODE: process.execPath,
    DAEMON: installation.daemon,
    STATE: place.stateFolder,
    RUN: place.runFolder,
    SOCKET: place.socket,
  });
  if (!place.isRoot) {
    throw new BerthError('denied', 'install.root', `only root may write ${UNIT_PATH}`, {
      hint: 'run it again as root, for example with sudo',
    });
  }
  if (!(await files.exists('/run/systemd/system'))) {
    await out('systemd does not run here: the unit is written, and waits for it\n');
  }
  await files.mkdir('/etc/systemd/system', { recursive: true });
  await files.writeFileAtomic(UNIT_PATH, text, 0o644);
  await out(
    `wrote ${UNIT_PATH} (${new Date(nowMs()).toISOString()})\nnow: systemctl daemon-reload && systemctl enable --now berth\n`,
  );
  return 0;
}
