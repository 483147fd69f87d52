/** `checkpoint create|ls|rm|restore|export|import`. */
import { files } from '#platform';
import { type Options, usageError } from '../command-line.ts';
import type { Verb, VerbContext } from '../verb.ts';

const ACTIONS: Readonly<Record<string, { words: number; run: Action }>> = {
  create: { words: 2, run: create },
  ls: { words: 1, run: list },
  rm: { words: 2, run: remove },
  restore: { words: 2, run: restore },
  export: { words: 3, run: exportOne },
  import: { words: 1, run: importOne },
};

type Action = (context: VerbContext, options: Options, words: readonly string[]) => Promise<number>;

export const checkpoint: Verb = {
  shape: {
    usage: 'create|ls|rm|restore|export|import [OPTIONS] ...',
    about:
      'Memory and disk of a VM at one moment, to go on from later or on another host.\n\n' +
      '  create VM NAME        make one; the VM ends there unless it is left running\n' +
      '  ls VM                 list them\n' +
      '  rm VM NAME            remove one\n' +
      '  restore VM NAME       start an ended VM from one\n' +
      '  export VM NAME FILE   write one into a file\n' +
      '  import FILE           make a VM that has the checkpoint of a file',
    flags: [
      { flags: '--leave-running', about: 'create: the VM goes on' },
      { flags: '--stop', about: 'create: the VM ends, which is usual' },
      { flags: '--name <VM>', about: 'import: the name of the VM; otherwise the one it had' },
    ],
    least: 2,
    most: 4,
    examples: [
      'berth checkpoint create --leave-running db before-upgrade',
      'berth checkpoint restore db before-upgrade',
      'berth checkpoint export db before-upgrade db.checkpoint',
      'berth checkpoint import db.checkpoint --name db2',
    ],
  },
  run: (context, options, [action = '', ...words]) => {
    const chosen = ACTIONS[action];
    const help = 'see "berth checkpoint --help"';
    if (chosen === undefined) throw usageError(`unknown command: berth checkpoint ${action}`, help);
    if (chosen.words !== words.length)
      throw usageError(`berth checkpoint ${action} takes ${chosen.words} words, not ${words.length}`, help);
    return chosen.run(context, options, words);
  },
};

const pathOf = (vm: string, name?: string): string =>
  `/containers/${encodeURIComponent(vm)}/checkpoints${name === undefined ? '' : `/${encodeURIComponent(name)}`}`;

async function create({ engine, out }: VerbContext, options: Options, [vm = '', name = '']: readonly string[]) {
  if (options.flag('leave-running') && options.flag('stop'))
    throw usageError('--leave-running and --stop exclude one another');
  await engine.call('POST', pathOf(vm), { json: { CheckpointID: name, Exit: !options.flag('leave-running') } });
  await out(`${name}\n`);
  return 0;
}

async function list({ engine, out }: VerbContext, _options: Options, [vm = '']: readonly string[]) {
  for (const { Name } of await engine.call<{ Name: string }[]>('GET', pathOf(vm))) await out(`${Name}\n`);
  return 0;
}

async function remove({ engine, out }: VerbContext, _options: Options, [vm = '', name = '']: readonly string[]) {
  await engine.call('DELETE', pathOf(vm, name));
  await out(`${name}\n`);
  return 0;
}

async function restore({ engine, out }: VerbContext, _options: Options, [vm = '', name = '']: readonly string[]) {
  await engine.call('POST', `/containers/${encodeURIComponent(vm)}/start`, { query: { checkpoint: name } });
  await out(`${vm}\n`);
  return 0;
}

async function exportOne(
  { engine }: VerbContext,
  _options: Options,
  [vm = '', name = '', file = '']: readonly string[],
) {
  const path = `/berth/v1/vms/${encodeURIComponent(vm)}/checkpoints/${encodeURIComponent(name)}/export`;
  const { body } = await engine.stream('GET', path);
  const aside = files.asideName(file);
  try {
    const handle = await files.open(aside, 'wx', 0o600);
    try {
      for await (const chunk of body) await handle.write(chunk as Buffer);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await files.rename(aside, file);
  } catch (error) {
    await files.rm(aside, { force: true });
    throw error;
  }
  return 0;
}

async function importOne({ engine, out }: VerbContext, options: Options, [file = '']: readonly string[]) {
  await files.access(file);
  const body = files.createReadStream(file);
  const answer = await engine.call<{ name: string }>('POST', '/berth/v1/checkpoints/import', {
    query: { name: options.text('name') },
    headers: { 'Content-Type': 'application/x-tar' },
    body,
  });
  await out(`${answer.name}\n`);
  return 0;
}
