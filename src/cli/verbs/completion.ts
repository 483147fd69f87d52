import { completionScript } from '../completion-scripts.ts';
import type { Verb } from '../verb.ts';

export const completion: Verb = {
  shape: {
    usage: 'bash|zsh|fish',
    about: 'Prints a completion script for a shell.',
    flags: [],
    least: 1,
    most: 1,
    examples: ['source <(berth completion bash)', 'berth completion fish > ~/.config/fish/completions/berth.fish'],
  },
  run: async ({ out, verbs: all }, _options, [shell = '']) => {
    const verbs = await Promise.all(
      all.map(async ({ name, summary, load }) => ({ name, summary, flags: (await load()).shape.flags })),
    );
    await out(completionScript(shell, verbs));
    return 0;
  },
};
