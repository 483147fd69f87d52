/** `exec`: another process in a running VM. */
import { BerthError, messageOf } from '#base';
import { files, isTerminal, terminalSize } from '#platform';
import { copyStreams, followSize } from '../attached.ts';
import { usageError } from '../command-line.ts';
import { parseEnvFile } from '../create-request.ts';
import type { Verb } from '../verb.ts';

interface ExecInspected {
  readonly ExitCode: number | null;
  readonly Running: boolean;
}

export const exec: Verb = {
  shape: {
    usage: '[OPTIONS] VM COMMAND [ARGUMENT...]',
    about: 'Runs another command in a running VM.',
    flags: [
      { flags: '-i, --interactive', about: 'give it standard input' },
      { flags: '-t, --tty', about: 'give it a terminal' },
      { flags: '-d, --detach', about: 'do not wait for it' },
      { flags: '-e, --env <NAME=VALUE>', about: 'set a variable', many: true },
      { flags: '--env-file <FILE>', about: 'read variables from a file', many: true },
      { flags: '-u, --user <USER>', about: 'user, or user:group' },
      { flags: '-w, --workdir <FOLDER>', about: 'working directory' },
      { flags: '--privileged', about: 'full rights inside the VM' },
      { flags: '--detach-keys <KEYS>', about: 'keys that leave it running: ctrl-p,ctrl-q' },
    ],
    optionsFirst: true,
    least: 2,
    examples: ['berth exec -it web sh', 'berth exec -u nobody -w /tmp web id'],
  },
  run: async ({ engine, env }, options, [name = '', ...command]) => {
    const [detach, tty] = [options.flag('detach'), options.flag('tty')];
    const stdin = options.flag('interactive') && !detach;
    if (stdin && tty && !isTerminal('stdin')) throw usageError('the input device is not a TTY');
    const variables: string[] = [];
    for (const path of options.list('env-file')) {
      const text = await files.readFile(path, 'utf8').catch((error: unknown) => {
        throw usageError(`cannot read ${path}: ${messageOf(error)}`);
      });
      variables.push(...parseEnvFile(text, env));
    }
    for (const word of options.list('env')) {
      if (word.includes('=')) variables.push(word);
      else if (env[word] !== undefined) variables.push(`${word}=${env[word]}`);
    }
    const size = tty ? terminalSize() : undefined;
    const consoleSize = size === undefined ? {} : { ConsoleSize: [size.rows, size.columns] };
    const { Id: id } = await engine.call<{ Id: string }>('POST', `/containers/${encodeURIComponent(name)}/exec`, {
      json: {
        AttachStdin: stdin,
        AttachStdout: !detach,
        AttachStderr: !detach,
        Tty: tty,
        Env: variables,
        Cmd: command,
        User: options.text('user') ?? '',
        WorkingDir: options.text('workdir') ?? '',
        Privileged: options.flag('privileged'),
        DetachKeys: options.text('detach-keys') ?? '',
        ...consoleSize,
      },
    });
    const path = `/exec/${id}`;
    if (detach) {
      await engine.call('POST', `${path}/start`, { json: { Detach: true, Tty: tty } });
      return 0;
    }
    const taken = await engine.upgrade(`${path}/start`, { json: { Detach: false, Tty: tty, ...consoleSize } });
    const stopSize = tty ? followSize({ engine, path }) : () => {};
    await copyStreams({ taken, tty, stdin }).finally(stopSize);
    try {
      const { ExitCode, Running } = await engine.call<ExecInspected>('GET', `${path}/json`);
      // Still running: the reader left it with the detach keys.
      return Running ? 0 : (ExitCode ?? 126);
    } catch (error) {
      // The VM is gone, and with it what it ran.
      if (error instanceof BerthError && error.kind === 'not_found') return 137;
      throw error;
    }
  },
};
