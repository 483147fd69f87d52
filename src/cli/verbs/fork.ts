/** `berth fork`: more VMs that go on from where one is. */
import { FAILED } from '../exit-codes.ts';
import type { Verb } from '../verb.ts';

interface Forked {
  readonly vms: readonly { readonly id: string; readonly name: string }[];
  readonly failures?: readonly string[];
}

export const fork: Verb = {
  shape: {
    usage: '[OPTIONS] VM',
    about:
      'Makes running VMs that go on from where a running one is, with an identity of their own; prints their names.',
    flags: [
      { flags: '-n, --count <N>', about: 'how many; 1 is usual' },
      { flags: '--name <NAME>', about: 'the name of the fork; of several: what their names begin with' },
    ],
    least: 1,
    most: 1,
    examples: ['berth fork web', 'berth fork --count 4 --name worker warm'],
  },
  run: async (context, options, [vm = '']) => {
    const path = `/berth/v1/vms/${encodeURIComponent(vm)}/fork`;
    const query = { count: options.number('count'), name: options.text('name') };
    const { vms, failures = [] } = await context.engine.call<Forked>('POST', path, { query });
    for (const { name } of vms) await context.out(`${name}\n`);
    for (const failure of failures) context.note(`berth: ${failure}`);
    return failures.length === 0 ? 0 : FAILED;
  },
};
