/** The dated rules of the rate card as the fleet asks them: whose VM is it at that time. Parsed by the program that reckons. */
import { createHash } from 'node:crypto';
import * as v from 'valibot';
import type { OwnerRules } from '#fleet';
import { type AttributionRule, attributed, endsOf } from '#metering';
import { files } from '#platform';
import type { MoneyPlaces } from './places.ts';

const names = v.pipe(v.optional(v.array(v.string())), v.readonly());

export const AttributionSchema = v.array(
  v.object({
    project: v.optional(v.string()),
    owner: v.optional(v.string()),
    effective: v.object({ fromMs: v.number(), toMs: v.optional(v.number()) }),
    when: v.object({
      names: v.object({ source: names, host: names, name: names, project: names, owner: names }),
      tags: v.record(v.string(), v.array(v.string())),
    }),
  }),
);
export type Attribution = v.InferOutput<typeof AttributionSchema>;

/** Beside the card: what its rules are, so that a daemon that starts need not have it parsed first. */
const KeptSchema = v.pipe(
  v.string(),
  v.parseJson(),
  v.object({ version: v.literal(1), card: v.string(), attribution: AttributionSchema }),
);

export interface KnownRules {
  readonly cardDigest: string;
  /** Undefined for a card without rules. */
  readonly rules: OwnerRules | undefined;
}

export function digestOf(card: string): string {
  return createHash('sha256').update(card).digest('hex');
}

/** Undefined when there is no card, or none whose rules are kept. */
export async function readOwnerRules(places: MoneyPlaces): Promise<KnownRules | undefined> {
  const [card, text] = await Promise.all([places.card, places.owners].map((path) => files.readTextIfExists(path)));
  const kept = v.safeParse(KeptSchema, text ?? '');
  if (card === undefined || !kept.success || kept.output.card !== digestOf(card)) return undefined;
  return { cardDigest: kept.output.card, rules: ownerRules(kept.output.attribution) };
}

export async function keepOwnerRules(
  places: MoneyPlaces,
  cardDigest: string,
  attribution: Attribution,
): Promise<KnownRules> {
  const kept = { version: 1, card: cardDigest, attribution };
  await files.writeFileAtomic(places.owners, `${JSON.stringify(kept)}\n`, 0o600);
  return { cardDigest, rules: ownerRules(attribution) };
}

export function ownerRules(attribution: Attribution): OwnerRules | undefined {
  if (attribution.length === 0) return undefined;
  const rules: readonly AttributionRule[] = attribution.map(({ project, owner, effective, when }) => ({
    project,
    owner,
    effective: { fromMs: effective.fromMs, toMs: effective.toMs },
    when: {
      names: Object.fromEntries(Object.entries(when.names).filter(([, patterns]) => patterns !== undefined)),
      tags: when.tags,
    },
  }));
  return {
    fingerprint: createHash('sha256').update(JSON.stringify(attribution)).digest('hex').slice(0, 32),
    cutsMs: endsOf(rules),
    at: ({ source, host, name, tags, told }, atMs) => {
      const { owner, project } = attributed(rules, { source, host, vmName: name, tags }, atMs);
      return { owner: owner ?? told.owner, project: project ?? told.project };
    },
  };
}
