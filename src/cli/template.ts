/**
 * The part of Go's templates that people write after `--format`: fields, `range`, `if`, `with`, `json`, `index` and
 * their kind. Pure: a text and a value give a text.
 *
 * @source pkg.go.dev/text/template; docs.docker.com "Format command and log output"
 */
import { usageError } from './command-line.ts';

type Expression =
  | {
      readonly kind: 'path';
      readonly base: Expression | undefined;
      readonly variable?: string;
      readonly fields: readonly string[];
    }
  | { readonly kind: 'value'; readonly value: unknown }
  | { readonly kind: 'call'; readonly name: string; readonly args: readonly Expression[] };

type Node =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'print'; readonly what: Expression }
  | { readonly kind: 'let'; readonly name: string; readonly what: Expression }
  | {
      readonly kind: 'if' | 'with';
      readonly what: Expression;
      readonly yes: readonly Node[];
      readonly no: readonly Node[];
    }
  | {
      readonly kind: 'range';
      readonly names: readonly string[];
      readonly what: Expression;
      readonly yes: readonly Node[];
      readonly no: readonly Node[];
    };

export type Template = (value: unknown) => string;

/** @throws usage (invalid) saying what is wrong with the template. */
export function compileTemplate(text: string): Template {
  const nodes = new TemplateParser(cut(text)).parse();
  return (value) => renderAll(nodes, value, new Map([['$', value]]));
}

interface Piece {
  readonly text: string;
  readonly isAction: boolean;
}

/** Texts and actions; `{{-` and `-}}` take the blanks beside them away. */
function cut(text: string): Piece[] {
  const pieces: Piece[] = [];
  let rest = text;
  let trimNext = false;
  for (;;) {
    const start = rest.indexOf('{{');
    const before = start < 0 ? rest : rest.slice(0, start);
    const end = start < 0 ? -1 : rest.indexOf('}}', start);
    if (start >= 0 && end < 0) throw templateError('unclosed action');
    let action = start < 0 ? '' : rest.slice(start + 2, end);
    const trimsBefore = /^-\s/.test(action);
    const trimsAfter = /\s-$/.test(action);
    action = action.replace(/^-\s/, '').replace(/\s-$/, '');
    const left = trimNext ? before.trimStart() : before;
    pieces.push({ text: trimsBefore ? left.trimEnd() : left, isAction: false });
    if (start < 0) return pieces.filter((piece) => piece.isAction || piece.text !== '');
    if (!/^\/\*.*\*\/$/s.test(action.trim())) pieces.push({ text: action.trim(), isAction: true });
    trimNext = trimsAfter;
    rest = rest.slice(end + 2);
  }
}

class TemplateParser {
  readonly #pieces: readonly Piece[];
  #at = 0;

  constructor(pieces: readonly Piece[]) {
    this.#pieces = pieces;
  }

  parse(): Node[] {
    const { nodes, end } = this.#block();
    if (end !== '') throw templateError(`unexpected {{${end}}}`);
    return nodes;
  }

  #block(): { nodes: Node[]; end: string } {
    const nodes: Node[] = [];
    for (; this.#at < this.#pieces.length; ) {
      const piece = this.#pieces[this.#at++] as Piece;
      if (!piece.isAction) {
        nodes.push({ kind: 'text', text: piece.text });
        continue;
      }
      if (piece.text === 'end' || /^else\b/.test(piece.text)) return { nodes, end: piece.text };
      nodes.push(this.#action(piece.text));
    }
    return { nodes, end: '' };
  }

  #action(text: string): Node {
    const [, keyword = '', rest = ''] = /^(if|with|range)\s+(.*)$/s.exec(text) ?? [];
    if (keyword === 'range') {
      const [, list, source] = /^((?:\$\w+)(?:\s*,\s*\$\w+)?)\s*:=\s*(.*)$/s.exec(rest) ?? [];
      const names = list?.split(',').map((name) => name.trim()) ?? [];
      return { kind: 'range', names, what: parseExpression(source ?? rest), ...this.#branches('range') };
    }
    if (keyword === 'if' || keyword === 'with') {
      return { kind: keyword, what: parseExpression(rest), ...this.#branches(keyword) };
    }
    const [, name, value] = /^(\$\w+)\s*:?=\s*(.*)$/s.exec(text) ?? [];
    if (name !== undefined) return { kind: 'let', name, what: parseExpression(value ?? '') };
    return { kind: 'print', what: parseExpression(text) };
  }

  #branches(keyword: string): { yes: Node[]; no: Node[] } {
    const { nodes: yes, end } = this.#block();
    if (end === 'end') return { yes, no: [] };
    if (end === 'else') {
      const other = this.#block();
      if (other.end !== 'end') throw templateError(`{{${keyword}}} without {{end}}`);
      return { yes, no: other.nodes };
    }
    // `else if ...` is an if inside the else; both end at the same {{end}}.
    if (end.startsWith('else ')) return { yes, no: [this.#action(end.slice('else '.length))] };
    throw templateError(`{{${keyword}}} without {{end}}`);
  }
}

const TOKEN =
  /\s*("(?:[^"\\]|\\.)*"|`[^`]*`|\||\(|\)|-?[0-9]+(?:\.[0-9]+)?|\$?[A-Za-z_][\w]*|\$|(?:\.[A-Za-z_][\w-]*)|\.)/y;

function parseExpression(text: string): Expression {
  const tokens: { text: string; spaced: boolean }[] = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.trimEnd().length) {
    const start = TOKEN.lastIndex;
    const found = TOKEN.exec(text);
    if (found === null) throw templateError(`cannot read "${text.slice(start)}"`);
    tokens.push({ text: found[1] ?? '', spaced: /^\s/.test(found[0]) || start === 0 });
  }
  let at = 0;
  const operand = (): Expression => {
    const token = tokens[at++];
    if (token === undefined) throw templateError(`missing value in "${text}"`);
    let base: Expression | undefined;
    let variable: string | undefined;
    const fields: string[] = [];
    const first = token.text;
    if (first === '(') {
      base = pipeline();
      if (tokens[at++]?.text !== ')') throw templateError(`unclosed parenthesis in "${text}"`);
    } else if (first.startsWith('"')) return { kind: 'value', value: JSON.parse(first) };
    else if (first.startsWith('`')) return { kind: 'value', value: first.slice(1, -1) };
    else if (/^-?[0-9]/.test(first)) return { kind: 'value', value: Number(first) };
    else if (first === 'true' || first === 'false') return { kind: 'value', value: first === 'true' };
    else if (first === 'nil') return { kind: 'value', value: null };
    else if (first.startsWith('$')) variable = first;
    else if (first.startsWith('.')) {
      if (first.length > 1) fields.push(first.slice(1));
    } else return { kind: 'call', name: first, args: [] };
    while (tokens[at] !== undefined && !tokens[at]?.spaced && /^\../.test(tokens[at]?.text ?? '')) {
      fields.push((tokens[at++]?.text ?? '').slice(1));
    }
    return { kind: 'path', base, fields, ...(variable === undefined ? {} : { variable }) };
  };
  const command = (): Expression => {
    const head = operand();
    const args: Expression[] = [];
    while (at < tokens.length && tokens[at]?.text !== '|' && tokens[at]?.text !== ')') args.push(operand());
    if (head.kind === 'call') return { ...head, args };
    if (args.length > 0) throw templateError(`"${text}" gives arguments to something that takes none`);
    return head;
  };
  const pipeline = (): Expression => {
    let value = command();
    while (tokens[at]?.text === '|') {
      at += 1;
      const next = command();
      if (next.kind !== 'call') throw templateError(`"${text}" pipes into something that is no function`);
      value = { ...next, args: [...next.args, value] };
    }
    return value;
  };
  const parsed = pipeline();
  if (at < tokens.length) throw templateError(`unexpected "${tokens[at]?.text}" in "${text}"`);
  return parsed;
}

function renderAll(nodes: readonly Node[], dot: unknown, scope: ReadonlyMap<string, unknown>): string {
  const own = new Map(scope);
  let text = '';
  for (const node of nodes) {
    switch (node.kind) {
      case 'text':
        text += node.text;
        break;
      case 'print':
        text += print(evaluate(node.what, dot, own));
        break;
      case 'let':
        own.set(node.name, evaluate(node.what, dot, own));
        break;
      case 'if':
        text += renderAll(isTrue(evaluate(node.what, dot, own)) ? node.yes : node.no, dot, own);
        break;
      case 'with': {
        const value = evaluate(node.what, dot, own);
        text += isTrue(value) ? renderAll(node.yes, value, own) : renderAll(node.no, dot, own);
        break;
      }
      case 'range': {
        const entries = entriesOf(evaluate(node.what, dot, own));
        if (entries.length === 0) text += renderAll(node.no, dot, own);
        for (const [key, value] of entries) {
          const inner = new Map(own);
          const [first, second] = node.names;
          if (second !== undefined && first !== undefined) inner.set(first, key).set(second, value);
          else if (first !== undefined) inner.set(first, value);
          text += renderAll(node.yes, value, inner);
        }
        break;
      }
    }
  }
  return text;
}

function entriesOf(value: unknown): [unknown, unknown][] {
  if (Array.isArray(value)) return value.map((one, index) => [index, one]);
  if (typeof value !== 'object' || value === null) return [];
  // Go walks maps in the order of their keys.
  return Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
}

function evaluate(what: Expression, dot: unknown, scope: ReadonlyMap<string, unknown>): unknown {
  switch (what.kind) {
    case 'value':
      return what.value;
    case 'path': {
      let value = what.base === undefined ? dot : evaluate(what.base, dot, scope);
      if (what.variable !== undefined) {
        if (!scope.has(what.variable)) throw templateError(`undefined variable "${what.variable}"`);
        value = scope.get(what.variable);
      }
      for (const field of what.fields) value = fieldOf(value, field);
      return value;
    }
    case 'call': {
      const run = FUNCTIONS[what.name];
      if (run === undefined) throw templateError(`function "${what.name}" not defined`);
      return run(what.args.map((argument) => evaluate(argument, dot, scope)));
    }
  }
}

/** A field; where there is none, its name in any case, since the API's names are sometimes in lower case. */
function fieldOf(value: unknown, field: string): unknown {
  if (typeof value !== 'object' || value === null) return undefined;
  if (Object.hasOwn(value, field)) return (value as Record<string, unknown>)[field];
  const key = Object.keys(value).find((name) => name.toLowerCase() === field.toLowerCase());
  return key === undefined ? undefined : (value as Record<string, unknown>)[key];
}

const text = (value: unknown): string => print(value);

const FUNCTIONS: Readonly<Record<string, (args: readonly unknown[]) => unknown>> = {
  json: ([value]) => JSON.stringify(value ?? null),
  upper: ([value]) => text(value).toUpperCase(),
  lower: ([value]) => text(value).toLowerCase(),
  title: ([value]) => text(value).replace(/\b\w/g, (letter) => letter.toUpperCase()),
  join: ([list, between]) => (Array.isArray(list) ? list.map(text).join(text(between)) : ''),
  split: ([value, between]) => text(value).split(text(between)),
  truncate: ([value, length]) => [...text(value)].slice(0, Number(length)).join(''),
  pad: ([value, left, right]) =>
    text(value) === '' ? '' : `${' '.repeat(Number(left))}${text(value)}${' '.repeat(Number(right))}`,
  table: () => '',
  len: ([value]) => (typeof value === 'string' ? value.length : entriesOf(value).length),
  index: ([value, ...keys]) => keys.reduce((inner: unknown, key) => at(inner, key), value),
  not: ([value]) => !isTrue(value),
  and: (args) => args.find((value) => !isTrue(value)) ?? args.at(-1),
  or: (args) => args.find(isTrue) ?? args.at(-1),
  eq: ([first, ...others]) => others.some((other) => first === other),
  ne: ([first, second]) => first !== second,
  lt: ([first, second]) => Number(first) < Number(second),
  le: ([first, second]) => Number(first) <= Number(second),
  gt: ([first, second]) => Number(first) > Number(second),
  ge: ([first, second]) => Number(first) >= Number(second),
  print: (args) => args.map(text).join(''),
  println: (args) => `${args.map(text).join(' ')}\n`,
  printf: ([format, ...args]) => {
    let next = 0;
    return text(format).replace(/%(-?[0-9]*)([%svdqt])/g, (_whole, width: string, verb: string) => {
      if (verb === '%') return '%';
      const value = args[next++];
      const words = verb === 'q' ? JSON.stringify(text(value)) : text(value);
      return width.startsWith('-') ? words.padEnd(Number(width.slice(1))) : words.padStart(Number(width || '0'));
    });
  },
};

function at(value: unknown, key: unknown): unknown {
  if (Array.isArray(value)) {
    const index = Number(key);
    if (!(index in value)) throw templateError(`index out of range: ${index}`);
    return value[index];
  }
  if (typeof value !== 'object' || value === null) throw templateError('index of untyped nil');
  return Object.hasOwn(value, String(key)) ? (value as Record<string, unknown>)[String(key)] : undefined;
}

function isTrue(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0;
  if (typeof value === 'object' && value !== null) return Object.keys(value).length > 0;
  return Boolean(value);
}

/** As Go prints a value: lists in brackets, maps with `map[...]`. */
function print(value: unknown): string {
  if (value === undefined) return '<no value>';
  if (value === null) return '<nil>';
  if (Array.isArray(value)) return `[${value.map(print).join(' ')}]`;
  if (typeof value === 'object') {
    return `map[${entriesOf(value)
      .map(([key, inner]) => `${String(key)}:${print(inner)}`)
      .join(' ')}]`;
  }
  return String(value);
}

function templateError(why: string): Error {
  return usageError(`template parsing error: ${why}`, 'for example --format "{{.ID}} {{.Names}}", or --format json');
}
