/** Whose a VM is at a time: the card's dated rules first, then what its hypervisor says. Pure. */
import type { RateCard, Validity } from '../rate-card/card.ts';
import { matches, type Subject } from '../rate-card/selector.ts';
import type { AllocationInterval } from '../usage/facts.ts';
import type { ChargeSubject } from './charge.ts';

export function subjectOf(card: RateCard, interval: AllocationInterval, atMs: number): ChargeSubject {
  const { vm, name, source, host, tags } = interval;
  const asked: Subject = { source, host, vmName: name, tags };
  const rules = card.attribution.filter((rule) => holdsAt(rule.effective, atMs) && matches(rule.when, asked));
  const project = rules.find((rule) => rule.project !== undefined)?.project ?? interval.project;
  const owner = rules.find((rule) => rule.owner !== undefined)?.owner ?? interval.owner;
  return { vm, vmName: name, source, host, project, owner, tags };
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

/** Every moment at which a price or an owner may change: no charge spans one. Sorted. */
export function cutsOf(card: RateCard): readonly number[] {
  const all = [...card.versions, ...card.attribution].flatMap(({ effective: { fromMs, toMs } }) =>
    toMs === undefined ? [fromMs] : [fromMs, toMs],
  );
  return [...new Set(all)].sort((a, b) => a - b);
}
