/** Whose a VM is at a time: the card's dated rules first, then what its hypervisor says. Pure. */
import type { AttributionRule, CardVersion, RateCard, Validity } from '../rate-card/card.ts';
import { matches, type Subject } from '../rate-card/selector.ts';
import type { AllocationInterval } from '../usage/facts.ts';
import type { HostRecord } from '../usage/usage-records.ts';
import { type ChargeSubject, NOBODY } from './charge.ts';

export function subjectOf(card: RateCard, interval: AllocationInterval, atMs: number): ChargeSubject {
  const { vm, name, source, host, tags } = interval;
  const ruled = attributed(card.attribution, { source, host, vmName: name, tags }, atMs);
  const { project = interval.project, owner = interval.owner } = ruled;
  return { vm, vmName: name, source, host, project, owner, tags };
}

/** A machine under each of its names, first as it is described. */
export function hostSubjects({ source, host, also }: Pick<HostRecord, 'source' | 'host' | 'also'>): ChargeSubject[] {
  return [{ source, host }, ...also].map((name) => ({ ...NOBODY, ...name }));
}

/** Of the rules that hold and match, the first that gives a project decides on that, the first that gives an owner on that. */
export function attributed(
  rules: readonly AttributionRule[],
  subject: Subject,
  atMs: number,
): Pick<AttributionRule, 'project' | 'owner'> {
  const found = rules.filter((rule) => holdsAt(rule.effective, atMs) && matches(rule.when, subject));
  return {
    project: found.find((rule) => rule.project !== undefined)?.project,
    owner: found.find((rule) => rule.owner !== undefined)?.owner,
  };
}

/** A charge's subject as selectors look at it. */
export function selectable(subject: ChargeSubject): Subject {
  const { source = '', host = '', vmName, project, owner, tags } = subject;
  return {
    source,
    host,
    tags,
    ...(vmName === undefined ? {} : { vmName }),
    ...(project === undefined ? {} : { project }),
    ...(owner === undefined ? {} : { owner }),
  };
}

export function holdsAt({ fromMs, toMs }: Validity, atMs: number): boolean {
  return fromMs <= atMs && (toMs === undefined || atMs < toMs);
}

export function versionAt(card: RateCard, atMs: number): CardVersion | undefined {
  return card.versions.find((version) => holdsAt(version.effective, atMs));
}

/** Every moment at which a price or an owner may change: no charge spans one. Sorted. */
export function cutsOf(card: RateCard): readonly number[] {
  return endsOf([...card.versions, ...card.attribution]);
}

/** When any of them begins or ends. Sorted. */
export function endsOf(dated: readonly { readonly effective: Validity }[]): readonly number[] {
  const all = dated.flatMap(({ effective: { fromMs, toMs } }) => (toMs === undefined ? [fromMs] : [fromMs, toMs]));
  return [...new Set(all)].sort((a, b) => a - b);
}
