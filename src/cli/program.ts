/** From words to an exit code: finds the verb, loads it, runs it, and says what went wrong. */
import { resolveSettings } from '#base';
import { endQuietlyWithoutReaders, writeTo } from '#platform';
import { parseCommand, usageError } from './command-line.ts';
import { EngineClient } from './engine-client.ts';
import { exitCodeOf } from './exit-codes.ts';
import { overview } from './overview.ts';
import { noteError } from './problems.ts';
import type { VerbContext } from './verb.ts';
import { findVerb, VERBS } from './verb-table.ts';

export interface Invocation {
  readonly words: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly uid: number;
}

export async function runProgram(invocation: Invocation): Promise<number> {
  const note = (line: string): void => {
    process.stderr.write(`${line}\n`);
  };
  endQuietlyWithoutReaders();
  let failureCode = exitCodeOf;
  try {
    const { flags, rest } = globalFlags(invocation.words);
    const [first] = rest;
    if (first === undefined || first === '--help' || first === 'help') {
      const topic = rest.slice(1);
      if (topic.length > 0) return await runProgram({ ...invocation, words: [...topic, '--help'] });
      await writeTo('stdout', overview());
      return first === undefined ? 1 : 0;
    }
    const found = findVerb(first === '--version' || first === '-v' ? ['version'] : rest);
    if (found === undefined)
      throw usageError(`unknown command: berth ${rest.slice(0, 2).join(' ')}`, 'see "berth --help"');
    const verb = await found.verb.load();
    failureCode = verb.exitCodeOf ?? exitCodeOf;
    const parsed = parseCommand(found.verb.name, verb.shape, rest.slice(found.taken));
    if (parsed.kind === 'help') {
      await writeTo('stdout', parsed.text);
      return 0;
    }
    const place = resolveSettings({
      flags,
      env: invocation.env,
      uid: invocation.uid,
      home: invocation.env['HOME'] ?? '/root',
    });
    const context: VerbContext = {
      engine: new EngineClient(place.socket, async () => {
        const { startOnDemand } = await import('./daemon-on-demand.ts');
        await startOnDemand(place, note);
      }),
      place,
      verbs: VERBS,
      env: invocation.env,
      out: (text) => writeTo('stdout', text),
      note,
    };
    return await verb.run(context, parsed.options, parsed.args);
  } catch (error) {
    noteError(note, error);
    return failureCode(error);
  }
}

interface GlobalFlags {
  readonly stateDir?: string;
  readonly runDir?: string;
  readonly socket?: string;
}

/** The flags before the verb: which daemon is meant. @throws usage (invalid) */
export function globalFlags(words: readonly string[]): {
  readonly flags: GlobalFlags;
  readonly rest: readonly string[];
} {
  const names: Readonly<Record<string, keyof GlobalFlags>> = {
    '--state-dir': 'stateDir',
    '--run-dir': 'runDir',
    '--socket': 'socket',
    '--host': 'socket',
    '-H': 'socket',
  };
  const flags: Record<string, string> = {};
  let index = 0;
  for (; index < words.length; index += 1) {
    const word = words[index] ?? '';
    const equals = word.startsWith('--') ? word.indexOf('=') : -1;
    const name = names[equals < 0 ? word : word.slice(0, equals)];
    if (name === undefined) break;
    if (equals < 0) index += 1;
    const value = equals < 0 ? words[index] : word.slice(equals + 1);
    if (value === undefined || value === '') throw usageError(`flag needs an argument: ${word}`);
    flags[name] = name === 'socket' ? value.replace(/^unix:\/\//, '') : value;
    if (name === 'socket' && /^[a-z]+:\/\//.test(flags[name] ?? ''))
      throw usageError(`${value} is no unix socket`, 'berth talks to daemons of this host only');
  }
  return { flags, rest: words.slice(index) };
}
