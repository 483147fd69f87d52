/** Completion scripts. Pure: made of the verb table, so that they never lag behind it. */
import { type Flag, usageError } from './command-line.ts';

export interface CompletedVerb {
  readonly name: string;
  readonly summary: string;
  readonly flags: readonly Flag[];
}

/** Verbs whose arguments are VMs, running or all; and images. */
const RUNNING = ['exec', 'stop', 'kill', 'pause', 'attach', 'top', 'port', 'wait', 'restart'];
const ALL = ['start', 'rm', 'rename', 'logs', 'inspect', 'unpause'];
const IMAGES = ['run', 'create', 'rmi', 'save', 'tag', 'history'];

/** @throws usage (invalid) for a shell berth has no script for. */
export function completionScript(shell: string, verbs: readonly CompletedVerb[]): string {
  if (shell === 'bash') return bash(verbs);
  if (shell === 'zsh') return `#compdef berth\nautoload -U +X bashcompinit && bashcompinit\n${bash(verbs)}`;
  if (shell === 'fish') return fish(verbs);
  throw usageError(`there are no completions for ${shell}`, 'bash, zsh and fish have some');
}

function wordsOf(flags: readonly Flag[]): string {
  return flags.flatMap(({ flags: text }) => text.match(/(?<![\w-])--?[a-zA-Z][a-z0-9-]*/g) ?? []).join(' ');
}

function bash(verbs: readonly CompletedVerb[]): string {
  const first = [...new Set(verbs.map((verb) => verb.name.split(' ')[0] ?? ''))].join(' ');
  const cases = verbs
    .filter((verb) => !verb.name.includes(' '))
    .map((verb) => `      ${verb.name}) flags="${wordsOf(verb.flags)} --help" ;;`)
    .join('\n');
  return `_berth() {
  local current=\${COMP_WORDS[COMP_CWORD]} verb=\${COMP_WORDS[1]} flags=
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "${first} --help" -- "$current"))
    return
  fi
  if [ "\${current#-}" != "$current" ]; then
    case $verb in
${cases}
    esac
    COMPREPLY=($(compgen -W "$flags" -- "$current"))
    return
  fi
  case $verb in
    ${RUNNING.join('|')}) COMPREPLY=($(compgen -W "$(berth ps --format '{{.Names}}' 2>/dev/null)" -- "$current")) ;;
    ${ALL.join('|')}) COMPREPLY=($(compgen -W "$(berth ps -a --format '{{.Names}}' 2>/dev/null)" -- "$current")) ;;
    ${IMAGES.join('|')}) COMPREPLY=($(compgen -W "$(berth images --format '{{.Repository}}:{{.Tag}}' 2>/dev/null)" -- "$current")) ;;
    daemon) COMPREPLY=($(compgen -W "start stop restart status logs run install" -- "$current")) ;;
    completion) COMPREPLY=($(compgen -W "bash zsh fish" -- "$current")) ;;
    system) COMPREPLY=($(compgen -W "df info events" -- "$current")) ;;
    image) COMPREPLY=($(compgen -W "ls rm pull load save import tag history inspect prune" -- "$current")) ;;
  esac
}
complete -o default -F _berth berth
`;
}

function fish(verbs: readonly CompletedVerb[]): string {
  const quote = (text: string): string => `'${text.replace(/(['\\])/g, '\\$1')}'`;
  const lines = ['complete -c berth -f'];
  for (const { name, summary, flags } of verbs) {
    if (name.includes(' ')) continue;
    lines.push(`complete -c berth -n __fish_use_subcommand -a ${name} -d ${quote(summary)}`);
    for (const flag of flags) {
      const long = /--([a-z][a-z0-9-]*)/.exec(flag.flags)?.[1];
      const short = /^-([a-zA-Z])\b/.exec(flag.flags)?.[1];
      const takes = flag.flags.includes('<') ? ' -r' : '';
      const names = `${short === undefined ? '' : ` -s ${short}`}${long === undefined ? '' : ` -l ${long}`}`;
      lines.push(`complete -c berth -n '__fish_seen_subcommand_from ${name}'${names}${takes} -d ${quote(flag.about)}`);
    }
  }
  const list = (names: readonly string[], command: string): void => {
    lines.push(`complete -c berth -n '__fish_seen_subcommand_from ${names.join(' ')}' -a '(${command})'`);
  };
  list(RUNNING, 'berth ps --format "{{.Names}}" 2>/dev/null');
  list(ALL, 'berth ps -a --format "{{.Names}}" 2>/dev/null');
  list(IMAGES, 'berth images --format "{{.Repository}}:{{.Tag}}" 2>/dev/null');
  list(['daemon'], 'echo start stop restart status logs run install | string split " "');
  return `${lines.join('\n')}\n`;
}
