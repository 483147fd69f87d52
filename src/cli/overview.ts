import { VERBS } from './verb-table.ts';

/** `berth --help`. */
export function overview(): string {
  const width = Math.max(...VERBS.map((verb) => verb.name.length)) + 2;
  const groups = [...new Set(VERBS.map((verb) => verb.group))].map((group) => {
    const lines = VERBS.filter((verb) => verb.group === group).map(
      (verb) => `  ${verb.name.padEnd(width)}${verb.summary}\n`,
    );
    return `\n${group}:\n${lines.join('')}`;
  });
  return `berth gives real virtual machines Docker's manners.

Usage: berth [--state-dir DIR] [--run-dir DIR] [-H SOCKET] COMMAND [OPTIONS]

  berth run --rm berth/busybox echo hello
  berth run -d --name web -p 8080:80 nginx
${groups.join('')}
"berth COMMAND --help" says more about each. The daemon starts by itself when it is needed.
BERTH_STATE_DIR, BERTH_RUN_DIR and BERTH_SOCKET choose another one, as the flags do.
`;
}
