/** How long consumption is kept, as the daemon's variables say. Pure. */
import { BerthError } from '#base';
import type { Retention } from '#fleet';

/** Two years, and the month that is compared with: a bill of last year's month can be looked into. */
const USUAL_MONTHS = 25;
/** The month before is rated again as facts come in (decisions/0018). */
const LEAST_MONTHS = 2;
const MOST_MONTHS = 1_200;

const VARIABLES = { hoursMonths: 'BERTH_KEEP_HOURS_MONTHS', gapsMonths: 'BERTH_KEEP_GAPS_MONTHS' } as const;

/** @throws daemon.retention (invalid) with every problem: a slip must not take away what was meant to be kept. */
export function retentionFrom(env: Readonly<Record<string, string | undefined>>): Retention {
  const problems: string[] = [];
  const monthsOf = (name: string): number | undefined => {
    const wish = env[name] ?? '';
    if (wish === 'all') return undefined;
    if (wish === '') return USUAL_MONTHS;
    const months = /^[0-9]{1,4}$/.test(wish) ? Number(wish) : 0;
    if (months >= LEAST_MONTHS && months <= MOST_MONTHS) return months;
    problems.push(`${name} is "${wish.slice(0, 50)}"; "all" or ${LEAST_MONTHS} to ${MOST_MONTHS} months are expected`);
    return undefined;
  };
  const retention = { hoursMonths: monthsOf(VARIABLES.hoursMonths), gapsMonths: monthsOf(VARIABLES.gapsMonths) };
  if (problems.length === 0) return retention;
  throw new BerthError('invalid', 'daemon.retention', problems.join('; '), {
    hint: 'correct the variable, or leave it out',
  });
}
