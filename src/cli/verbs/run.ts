/** `run` and `create`. */
import { BerthError, messageOf } from '#base';
import { files, isTerminal, terminalSize } from '#platform';
import { type AttachedRun, copyStreams, followSize, proxySignals } from '../attached.ts';
import { type Options, usageError } from '../command-line.ts';
import { CREATE_FLAGS, RUN_FLAGS } from '../create-flags.ts';
import { type Attachment, createBody } from '../create-request.ts';
import { exitCodeOfRun } from '../exit-codes.ts';
import { awaitExit, finishDetached, type WaitAnswer } from '../exit-wait.ts';
import { pullImage } from '../pull.ts';
import type { Verb, VerbContext } from '../verb.ts';

export const run: Verb = {
  shape: {
    usage: '[OPTIONS] IMAGE [COMMAND] [ARGUMENT...]',
    about: 'Makes a VM from an image and runs a command in it.',
    flags: RUN_FLAGS,
    optionsFirst: true,
    least: 1,
    examples: [
      'berth run --rm berth/busybox echo hello',
      'berth run -it --rm --memory 1g --cpus 2 debian:bookworm bash',
      'berth run -d --name web -p 8080:80 nginx',
    ],
  },
  exitCodeOf: exitCodeOfRun,
  run: async (context, options, args) => {
    const detach = options.flag('detach');
    const tty = options.flag('tty');
    const attached = detach ? nothing : attachmentOf(options);
    if (attached.stdin && tty && !isTerminal('stdin')) throw usageError('the input device is not a TTY');
    const id = await createVm(context, options, args, attached);
    if (detach) {
      await context.engine.call('POST', `/containers/${id}/start`);
      await context.out(`${id}\n`);
      return 0;
    }
    return await runAttached(context, { id, tty, attached, options });
  },
};

export const create: Verb = {
  shape: {
    usage: '[OPTIONS] IMAGE [COMMAND] [ARGUMENT...]',
    about: 'Makes a VM from an image without starting it.',
    flags: CREATE_FLAGS,
    optionsFirst: true,
    least: 1,
    examples: ['berth create --name db -m 1g postgres', 'berth start db'],
  },
  exitCodeOf: exitCodeOfRun,
  run: async (context, options, args) => {
    const attached = options.flag('interactive') ? attachmentOf(options) : { ...nothing, stdout: true, stderr: true };
    await context.out(`${await createVm(context, options, args, attached)}\n`);
    return 0;
  },
};

const nothing: Attachment = { stdin: false, stdout: false, stderr: false };

function attachmentOf(options: Options): Attachment {
  const named = options.list('attach').map((name) => name.toLowerCase());
  for (const name of named)
    if (!['stdin', 'stdout', 'stderr'].includes(name))
      throw usageError(`invalid argument "${name}" for -a: valid streams are stdin, stdout and stderr`);
  if (named.length > 0)
    return { stdin: named.includes('stdin'), stdout: named.includes('stdout'), stderr: named.includes('stderr') };
  return { stdin: options.flag('interactive'), stdout: true, stderr: true };
}

interface Created {
  readonly Id: string;
  readonly Warnings?: readonly string[] | null;
}

async function createVm(
  context: VerbContext,
  options: Options,
  args: readonly string[],
  attached: Attachment,
): Promise<string> {
  const [image = '', ...command] = args;
  const { engine } = context;
  const size = options.flag('tty') ? terminalSize() : undefined;
  const read = (names: readonly string[]): Promise<string[]> => Promise.all(names.map(readGiven));
  const body = createBody({
    options,
    image,
    command,
    envFiles: await read(options.list('env-file')),
    labelFiles: await read(options.list('label-file')),
    env: context.env,
    attached,
    consoleSize: size === undefined ? [0, 0] : [size.rows, size.columns],
  });
  const cidFile = options.text('cidfile');
  if (cidFile !== undefined && (await files.exists(cidFile))) {
    throw usageError(`container ID file found, make sure the other container isn't running or delete ${cidFile}`);
  }
  const policy = options.text('pull') ?? 'missing';
  if (!['always', 'missing', 'never'].includes(policy))
    throw usageError(`invalid pull option: '${policy}': must be one of "always", "missing" or "never"`);
  const platform = options.text('platform');
  const pull = (): Promise<void> =>
    pullImage(engine, { image, platform, quiet: options.flag('quiet'), env: context.env, stream: 'stderr' });
  const send = (): Promise<Created> =>
    engine.call<Created>('POST', '/containers/create', { query: { name: options.text('name'), platform }, json: body });
  if (policy === 'always') await pull();
  let created: Created;
  try {
    created = await send();
  } catch (error) {
    const isMissing = error instanceof BerthError && error.kind === 'not_found' && /no such image/i.test(error.message);
    if (!isMissing || policy !== 'missing') throw error;
    if (!options.flag('quiet')) context.note(`Unable to find image '${image}' locally`);
    await pull();
    created = await send();
  }
  for (const warning of created.Warnings ?? []) context.note(`WARNING: ${warning}`);
  if (cidFile !== undefined) await files.writeFileAtomic(cidFile, created.Id, 0o644);
  return created.Id;
}

async function readGiven(path: string): Promise<string> {
  try {
    return await files.readFile(path, 'utf8');
  } catch (error) {
    throw usageError(`cannot read ${path}: ${messageOf(error)}`);
  }
}

interface AttachedVm {
  readonly id: string;
  readonly tty: boolean;
  readonly attached: Attachment;
  readonly options: Options;
}

/** Attach, wait, start, in this order: nothing the process writes or how it ends is missed. */
async function runAttached(context: VerbContext, vm: AttachedVm): Promise<number> {
  const { engine } = context;
  const { id, tty, attached, options } = vm;
  const path = `/containers/${id}`;
  const proxy = options.flag('sig-proxy') ? proxySignals(engine, id, tty) : undefined;
  try {
    const { stdin, stdout, stderr } = attached;
    const taken = await engine.upgrade(`${path}/attach`, {
      query: { stream: true, stdin, stdout, stderr, detachKeys: options.text('detach-keys') },
    });
    const waiting = await awaitExit(engine, id, options.flag('rm') ? 'removed' : 'next-exit');
    const stream: AttachedRun = { taken, tty, stdin };
    try {
      await engine.call('POST', `${path}/start`);
    } catch (error) {
      taken.socket.destroy();
      waiting.abandon();
      throw error;
    }
    proxy?.started();
    const stopSize = tty ? followSize({ engine, path }) : () => {};
    try {
      await copyStreams(stream);
    } finally {
      stopSize();
    }
    return await endOf(engine, id, waiting.exit, tty && stdin);
  } finally {
    proxy?.stop();
  }
}

async function endOf(
  engine: VerbContext['engine'],
  id: string,
  exit: Promise<WaitAnswer>,
  mayDetach: boolean,
): Promise<number> {
  const ended = mayDetach ? await finishDetached(engine, id, exit) : await exit;
  return ended === 'detached' ? 0 : ended.StatusCode;
}
