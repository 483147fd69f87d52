/** `bench start|burst|…|all`. */
import {
  type BenchVerb,
  type Report,
  renderReport,
  renderReportsSvg,
  runBench,
  SIDE_IDS,
  type SideId,
  VERBS,
  waitUntilCalm,
} from '#bench';
import { files, isTerminal } from '#platform';
import { thisInstallation } from '#setup';
import { type Options, usageError } from '../command-line.ts';
import type { Verb, VerbContext } from '../verb.ts';

export const bench: Verb = {
  shape: {
    usage: `${VERBS.join('|')}|all [OPTIONS]`,
    about:
      'Measures berth beside dockerd, podman and bare QEMU, in turn and on this machine.\n\n' +
      '  start     docker run --rm, and a start up to the first byte\n' +
      '  burst     many started at once, until the last has answered\n' +
      '  density   how many idle VMs of 128 MiB live at once, and what one costs\n' +
      '  idle      processor time of VMs in which nothing happens\n' +
      '  fork      a running VM forked, until the fork answers\n' +
      '  wake      a connection to a sleeping VM, until the first byte\n' +
      '  all       one after another',
    flags: [
      { flags: '--pairs <N>', about: 'how often each side is measured (start and fork 30, burst 4, wake 100)' },
      { flags: '--vms <N>', about: 'number of VMs (burst 100, density at most 300, idle 10)' },
      { flags: '--seconds <N>', about: 'how long idle looks (60)' },
      { flags: '--sides <LIST>', about: `only these, of ${SIDE_IDS.join(',')}` },
      { flags: '--socket <PATH>', about: 'measure the berth daemon that listens there, not one of its own' },
      { flags: '--json <FILE>', about: 'write all values' },
      { flags: '--svg <FILE>', about: 'draw all values' },
      { flags: '--force', about: 'measure on a busy machine, too' },
    ],
    least: 1,
    most: 1,
    examples: ['berth bench start --svg start.svg', 'berth bench burst --vms 20 --pairs 2 --sides berth,dockerd'],
  },
  run: async (context, options, args) => {
    const verbs = verbsOf(args[0] ?? '');
    const reports: Report[] = [];
    for (const verb of verbs) {
      if (reports.length > 0 && !options.flag('force')) await waitUntilCalm();
      const report = await measure(context, options, verb);
      reports.push(report);
      await context.out(renderReport(report));
    }
    await writeFiles(options, reports);
    return 0;
  },
};

function verbsOf(word: string): readonly BenchVerb[] {
  if (word === 'all') return VERBS;
  const verb = VERBS.find((one) => one === word);
  if (verb === undefined) throw usageError(`there is no benchmark "${word}"`, `there are ${VERBS.join(', ')} and all`);
  return [verb];
}

async function measure(context: VerbContext, options: Options, verb: BenchVerb): Promise<Report> {
  const isShown = isTerminal('stderr');
  const report = await runBench({
    verb,
    pairs: countOf(options, 'pairs'),
    vms: countOf(options, 'vms'),
    seconds: countOf(options, 'seconds'),
    sides: sidesOf(options.text('sides')),
    socket: options.text('socket'),
    force: options.flag('force'),
    env: context.env,
    isRoot: context.place.isRoot,
    installation: thisInstallation(),
    onProgress: (line) => {
      if (isShown) process.stderr.write(`\r\u001b[K${line}`);
      else if (line.endsWith('\n')) process.stderr.write(line);
    },
  });
  if (isShown) process.stderr.write('\r\u001b[K');
  return report;
}

/** @throws usage (invalid) */
function countOf(options: Options, name: string): number | undefined {
  const count = options.number(name);
  if (count !== undefined && count < 1) throw usageError(`invalid argument "${count}" for --${name}: at least 1`);
  return count;
}

/** `dockerd,berth` → sides, in the order of reports. @throws usage (invalid) */
export function sidesOf(text: string | undefined): readonly SideId[] | undefined {
  if (text === undefined) return undefined;
  const words = text.split(',').map((word) => word.trim());
  const unknown = words.find((word) => !SIDE_IDS.some((id) => id === word));
  if (unknown !== undefined) throw usageError(`there is no side "${unknown}"`, `there are ${SIDE_IDS.join(', ')}`);
  return SIDE_IDS.filter((id) => words.includes(id));
}

async function writeFiles(options: Options, reports: readonly Report[]): Promise<void> {
  const [json, svg] = [options.text('json'), options.text('svg')];
  if (json !== undefined) {
    const value = reports.length === 1 ? reports[0] : reports;
    await files.writeFileAtomic(json, `${JSON.stringify(value, undefined, 2)}\n`, 0o644);
  }
  const [first, ...rest] = reports;
  if (svg !== undefined && first !== undefined)
    await files.writeFileAtomic(svg, renderReportsSvg([first, ...rest]), 0o644);
}
