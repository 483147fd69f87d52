/**
 * From words to options, as Docker's command line reads them: `-it`, `-p8080:80`, `--rm=false`, options of `run` end
 * at the image. Commander does the work; what Docker's flags allow beyond it is rewritten before.
 */
import { Command, CommanderError, Option } from 'commander';
import { BerthError } from '#base';

export interface Flag {
  /** In commander's words: `-e, --env <NAME=VALUE>`. Without `<...>` it is a switch. */
  readonly flags: string;
  readonly about: string;
  /** A switch that is on unless `=false` is said. */
  readonly on?: true;
  /** May be given again: all values are kept, in order. */
  readonly many?: true;
}

export interface CommandShape {
  /** What follows the name in the usage line. */
  readonly usage: string;
  readonly about: string;
  readonly flags: readonly Flag[];
  /** Options end at the first argument: what follows belongs to the program in the VM. */
  readonly optionsFirst?: true;
  /** Number of arguments, `most` absent for any. */
  readonly least?: number;
  readonly most?: number;
  readonly examples?: readonly string[];
}

/** Parsed options by their long name. */
export class Options {
  readonly #values: Readonly<Record<string, unknown>>;

  constructor(values: Readonly<Record<string, unknown>>) {
    this.#values = values;
  }

  flag(name: string): boolean {
    return this.#values[name] === true;
  }

  text(name: string): string | undefined {
    const value = this.#values[name];
    return typeof value === 'string' ? value : undefined;
  }

  list(name: string): readonly string[] {
    const value = this.#values[name];
    return Array.isArray(value) ? (value as string[]) : [];
  }

  /** @throws usage (invalid) when it is no whole number. */
  number(name: string): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    if (!/^-?[0-9]+$/.test(text)) throw usageError(`invalid argument "${text}" for --${name}: not a whole number`);
    return Number(text);
  }
}

export type Parsed =
  | { readonly kind: 'help'; readonly text: string }
  | { readonly kind: 'run'; readonly options: Options; readonly args: readonly string[] };

/** A mistake on the command line. Its exit code is 125, as Docker's. */
export function usageError(message: string, hint?: string): BerthError {
  return new BerthError('invalid', 'usage', message, hint === undefined ? {} : { hint });
}

/** @throws usage (invalid) naming the word that is wrong. */
export function parseCommand(name: string, shape: CommandShape, words: readonly string[]): Parsed {
  let help = '';
  const command = new Command(`berth ${name}`)
    .usage(shape.usage)
    .description(shape.about)
    .helpOption('--help', 'show this help')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => {
        help += text;
      },
      writeErr: () => {},
    })
    .argument('[words...]')
    .allowExcessArguments(true);
  command.configureHelp({ visibleArguments: () => [] });
  if (shape.optionsFirst) command.passThroughOptions();
  if (shape.examples)
    command.addHelpText('after', `\nExamples:\n${shape.examples.map((line) => `  ${line}\n`).join('')}`);
  const values: Record<string, unknown> = Object.fromEntries(
    shape.flags.filter((flag) => flag.on).map((flag) => [longName(flag.flags), true]),
  );
  const { words: rewritten, off } = rewrite(shape, words);
  for (const { flags, about, many } of shape.flags) {
    const option = new Option(flags, about);
    // Commander reads `--no-x` as "x is off"; in Docker's names it is a switch of its own.
    option.negate = false;
    const key = longName(flags);
    option.attributeName = () => key;
    if (many) option.argParser((value: string, before: unknown) => [...(Array.isArray(before) ? before : []), value]);
    command.addOption(option);
  }
  try {
    command.parse(rewritten, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.code === 'commander.helpDisplayed' || error.code === 'commander.help')
      return { kind: 'help', text: help };
    throw usageError(error.message.replace(/^error: /, ''), `see "berth ${name} --help"`);
  }
  Object.assign(values, command.opts());
  for (const name of off) values[name] = false;
  const { args } = command;
  const least = shape.least ?? 0;
  if (args.length < least) {
    const wanted = shape.most === least ? `exactly ${least}` : `at least ${least}`;
    throw usageError(
      `"berth ${name}" requires ${wanted} argument${least === 1 ? '' : 's'}`,
      `see "berth ${name} --help"`,
    );
  }
  if (shape.most !== undefined && args.length > shape.most) {
    const wanted =
      shape.most === 0
        ? 'accepts no arguments'
        : `requires at most ${shape.most} argument${shape.most === 1 ? '' : 's'}`;
    throw usageError(`"berth ${name}" ${wanted}`, `see "berth ${name} --help"`);
  }
  return { kind: 'run', options: new Options(values), args };
}

function longName(flags: string): string {
  return /--([a-z][a-z0-9-]*)/.exec(flags)?.[1] ?? '';
}

/** Switches with a value (`--rm=false`, `-t=true`) and `-e=X`, which Docker's parser takes and commander does not. */
function rewrite(shape: CommandShape, words: readonly string[]): { words: string[]; off: string[] } {
  const off: string[] = [];
  const takesValue = new Map<string, boolean>();
  const longOf = new Map<string, string>();
  for (const { flags } of shape.flags) {
    const hasValue = flags.includes('<');
    takesValue.set(`--${longName(flags)}`, hasValue);
    longOf.set(`--${longName(flags)}`, longName(flags));
    const short = /^-([a-zA-Z])\b/.exec(flags)?.[1];
    if (short === undefined) continue;
    takesValue.set(`-${short}`, hasValue);
    longOf.set(`-${short}`, longName(flags));
  }
  const rewritten: string[] = [];
  for (let index = 0; index < words.length; index += 1) {
    const word = words[index] ?? '';
    if (word === '--' || (shape.optionsFirst && !word.startsWith('-')))
      return { words: [...rewritten, ...words.slice(index)], off };
    const [, name = '', value = ''] = /^(--[a-z][a-z0-9-]*|-[a-zA-Z])=(.*)$/s.exec(word) ?? [];
    const known = name === '' ? undefined : takesValue.get(name);
    if (known === false) {
      if (!/^(true|false|1|0|t|f)$/i.test(value))
        throw usageError(`invalid argument "${value}" for ${name}: not a truth value`);
      if (/^(true|1|t)$/i.test(value)) rewritten.push(name);
      else off.push(longOf.get(name) ?? '');
      continue;
    }
    if (known === true && !name.startsWith('--')) {
      rewritten.push(name, value);
      continue;
    }
    rewritten.push(word);
    // The next word is this one's value, whatever it looks like.
    const last = /^-[a-zA-Z]+$/.test(word) ? `-${word.at(-1)}` : word;
    const before = /^-[a-zA-Z]+$/.test(word) ? [...word.slice(1, -1)] : [];
    const valueEarlier = before.some((letter) => takesValue.get(`-${letter}`) === true);
    if (takesValue.get(last) === true && !valueEarlier && index + 1 < words.length) {
      index += 1;
      rewritten.push(words[index] ?? '');
    }
  }
  return { words: rewritten, off };
}
