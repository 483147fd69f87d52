/** Verbs that change a VM and print its name. */
import { BerthError } from '#base';
import { isTerminal } from '#platform';
import { copyStreams, followSize, proxySignals } from '../attached.ts';
import type { CommandShape, Options } from '../command-line.ts';
import { usageError } from '../command-line.ts';
import type { Query } from '../engine-client.ts';
import { exitCodeOfRun } from '../exit-codes.ts';
import { awaitExit, finishDetached, type WaitAnswer } from '../exit-wait.ts';
import type { Verb, VerbContext } from '../verb.ts';
import { forEach } from './each.ts';

const STOP_FLAGS: CommandShape['flags'] = [
  { flags: '-s, --signal <SIGNAL>', about: 'the signal to send first' },
  { flags: '-t, --time <SECONDS>', about: 'how long to wait before the VM is switched off' },
  { flags: '--timeout <SECONDS>', about: 'the same as --time' },
];

const stopQuery = (options: Options): Query => ({
  signal: options.text('signal'),
  t: options.number('time') ?? options.number('timeout'),
});

/** A verb that posts to `/containers/NAME/ACTION` for each name. */
function posting(
  action: string,
  about: string,
  more: {
    flags?: CommandShape['flags'];
    query?: (options: Options) => Query;
    examples?: readonly string[];
    /** `/containers` unless the action is berth's own. */
    root?: string;
  } = {},
): Verb {
  return {
    shape: {
      usage: '[OPTIONS] VM [VM...]',
      about,
      flags: more.flags ?? [],
      least: 1,
      ...(more.examples === undefined ? {} : { examples: more.examples }),
    },
    run: (context, options, names) =>
      forEach(context, names, async (name) => {
        await context.engine.call('POST', `${more.root ?? '/containers'}/${encodeURIComponent(name)}/${action}`, {
          query: more.query?.(options) ?? {},
        });
        return undefined;
      }),
  };
}

export const stop = posting('stop', 'Asks VMs to end, and switches off those that do not in time.', {
  flags: STOP_FLAGS,
  query: stopQuery,
  examples: ['berth stop web', 'berth stop -t 60 db'],
});
export const restart = posting('restart', 'Stops and starts VMs.', { flags: STOP_FLAGS, query: stopQuery });
export const kill = posting('kill', 'Sends a signal to the main process of VMs.', {
  flags: [{ flags: '-s, --signal <SIGNAL>', about: 'KILL is usual' }],
  query: (options) => ({ signal: options.text('signal') ?? 'KILL' }),
  examples: ['berth kill web', 'berth kill -s HUP web'],
});
export const sleep = posting('sleep', 'Writes running VMs out: asleep they cost no memory and no processor time.', {
  root: '/berth/v1/vms',
  examples: ['berth sleep web', 'berth run -d --sleep-after 30s -p 8080:80 nginx'],
});
export const wake = posting('wake', 'Lets VMs that sleep go on; a connection to a published port does the same.', {
  root: '/berth/v1/vms',
});
export const pause = posting('pause', 'Stops the processors of VMs; memory stays as it is.');
export const unpause = posting('unpause', 'Lets paused VMs go on.');

export const rm: Verb = {
  shape: {
    usage: '[OPTIONS] VM [VM...]',
    about: 'Removes VMs and their disks.',
    flags: [
      { flags: '-f, --force', about: 'running ones, too' },
      { flags: '-v, --volumes', about: 'their anonymous volumes, too' },
    ],
    least: 1,
    examples: ['berth rm web', 'berth rm -f $(berth ps -aq)'],
  },
  run: (context, options, names) =>
    forEach(context, names, async (name) => {
      const query = { force: options.flag('force'), v: options.flag('volumes') };
      try {
        await context.engine.call('DELETE', `/containers/${encodeURIComponent(name)}`, { query });
      } catch (error) {
        // As Docker: with --force a VM that is not there is as good as removed.
        if (!(error instanceof BerthError && error.kind === 'not_found' && query.force)) throw error;
        context.note(`berth: ${error.message}`);
      }
      return undefined;
    }),
};

export const rename: Verb = {
  shape: { usage: 'VM NAME', about: 'Gives a VM another name.', flags: [], least: 2, most: 2 },
  run: async ({ engine }, _options, [vm = '', name]) => {
    await engine.call('POST', `/containers/${encodeURIComponent(vm)}/rename`, { query: { name } });
    return 0;
  },
};

export const wait: Verb = {
  shape: { usage: 'VM [VM...]', about: 'Waits until VMs have ended and prints their exit codes.', flags: [], least: 1 },
  run: (context, _options, names) =>
    forEach(context, names, async (name) => {
      const path = `/containers/${encodeURIComponent(name)}/wait`;
      return String((await context.engine.call<WaitAnswer>('POST', path)).StatusCode);
    }),
};

interface Inspected {
  readonly Id: string;
  readonly Config: { readonly Tty: boolean; readonly OpenStdin: boolean };
  readonly State: { readonly Running: boolean; readonly Paused: boolean };
  readonly HostConfig: { readonly AutoRemove: boolean };
}

export const start: Verb = {
  shape: {
    usage: '[OPTIONS] VM [VM...]',
    about: 'Starts VMs that were made or have ended.',
    flags: [
      { flags: '-a, --attach', about: 'show its output, pass signals on, end with its exit code' },
      { flags: '-i, --interactive', about: 'give it standard input' },
      { flags: '--detach-keys <KEYS>', about: 'keys that leave it running: ctrl-p,ctrl-q' },
    ],
    least: 1,
    examples: ['berth start web', 'berth start -ai shell'],
  },
  exitCodeOf: exitCodeOfRun,
  run: async (context, options, names) => {
    if (options.flag('attach') || options.flag('interactive')) {
      const [name = '', ...others] = names;
      if (others.length > 0) throw usageError('you cannot start and attach multiple containers at once');
      return await startAttached(context, options, name);
    }
    return await forEach(context, names, async (name) => {
      await context.engine.call('POST', `/containers/${encodeURIComponent(name)}/start`);
      return undefined;
    });
  },
};

async function startAttached(context: VerbContext, options: Options, name: string): Promise<number> {
  const { engine } = context;
  const vm = await engine.call<Inspected>('GET', `/containers/${encodeURIComponent(name)}/json`);
  const stdin = options.flag('interactive') && vm.Config.OpenStdin;
  const tty = vm.Config.Tty;
  const proxy = proxySignals(engine, vm.Id, tty);
  try {
    const path = `/containers/${vm.Id}`;
    const query = { stream: true, stdin, stdout: true, stderr: true, detachKeys: options.text('detach-keys') };
    const taken = await engine.upgrade(`${path}/attach`, { query });
    const waiting = await awaitExit(engine, vm.Id, vm.HostConfig.AutoRemove ? 'removed' : 'next-exit');
    try {
      await engine.call('POST', `${path}/start`);
    } catch (error) {
      taken.socket.destroy();
      waiting.abandon();
      throw error;
    }
    proxy.started();
    const stopSize = tty ? followSize({ engine, path }) : () => {};
    await copyStreams({ taken, tty, stdin }).finally(stopSize);
    const ended = tty && stdin ? await finishDetached(engine, vm.Id, waiting.exit) : await waiting.exit;
    return ended === 'detached' ? 0 : ended.StatusCode;
  } finally {
    proxy.stop();
  }
}

export const attach: Verb = {
  shape: {
    usage: '[OPTIONS] VM',
    about: "Puts a running VM's process on this terminal.",
    flags: [
      { flags: '--no-stdin', about: 'leave standard input alone' },
      { flags: '--detach-keys <KEYS>', about: 'keys that leave it running: ctrl-p,ctrl-q' },
      { flags: '--sig-proxy', about: 'pass signals on; --sig-proxy=false does not', on: true },
    ],
    least: 1,
    most: 1,
  },
  run: async ({ engine }, options, [name = '']) => {
    const vm = await engine.call<Inspected>('GET', `/containers/${encodeURIComponent(name)}/json`);
    if (!vm.State.Running) throw usageError('You cannot attach to a stopped container, start it first');
    if (vm.State.Paused) throw usageError('You cannot attach to a paused container, unpause it first');
    const tty = vm.Config.Tty;
    const stdin = vm.Config.OpenStdin && !options.flag('no-stdin');
    if (tty && stdin && !isTerminal('stdin')) throw usageError('the input device is not a TTY');
    const path = `/containers/${vm.Id}`;
    const waiting = await awaitExit(engine, vm.Id, vm.HostConfig.AutoRemove ? 'removed' : 'not-running');
    const query = { stream: true, stdin, stdout: true, stderr: true, detachKeys: options.text('detach-keys') };
    const taken = await engine.upgrade(`${path}/attach`, { query });
    const proxy = options.flag('sig-proxy') ? proxySignals(engine, vm.Id, tty) : undefined;
    proxy?.started();
    const stopSize = tty ? followSize({ engine, path }) : () => {};
    try {
      await copyStreams({ taken, tty, stdin });
    } finally {
      stopSize();
      proxy?.stop();
    }
    const ended = tty && stdin ? await finishDetached(engine, vm.Id, waiting.exit) : await waiting.exit;
    waiting.abandon();
    return ended === 'detached' ? 0 : ended.StatusCode;
  },
};
