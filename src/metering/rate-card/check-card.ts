/** What is wrong with parts of a rate card that are each right by themselves. Pure. */
import type { CardVersion, FixedItem, PriceItem } from './card.ts';
import { selectorKey, selectsEverything } from './selector.ts';
import type { Place, YamlReader } from './yaml-reader.ts';

export interface Placed<T> {
  readonly place: Place;
  readonly value: T;
}

/** Ids twice, items that can never be reached, selectors that say the same. */
export function checkVersion(
  reader: YamlReader,
  items: readonly Placed<PriceItem>[],
  fixed: readonly Placed<FixedItem>[],
): void {
  const idLines = new Map<string, number>();
  for (const { place, value } of [...items, ...fixed]) {
    const before = idLines.get(value.id);
    if (before !== undefined)
      reader.problem(place, `the id ${JSON.stringify(value.id)} is already used in line ${before}`);
    else idLines.set(value.id, reader.lineOf(place));
  }
  const open = new Map<string, number>();
  const selectors = new Map<string, number>();
  for (const { place, value } of items) {
    const all = open.get(value.resource);
    if (all !== undefined)
      reader.problem(place, `item ${value.id} is never reached: line ${all} already prices all ${value.resource}`);
    const key = `${value.resource} ${selectorKey(value.select)}`;
    const same = selectors.get(key);
    if (same !== undefined && all === undefined)
      reader.problem(
        place,
        `item ${value.id} overlaps line ${same}: both price ${value.resource} of the same selection`,
      );
    if (selectsEverything(value.select)) open.set(value.resource, open.get(value.resource) ?? reader.lineOf(place));
    selectors.set(key, selectors.get(key) ?? reader.lineOf(place));
  }
}

/** Versions that overlap, leave a gap, or share a name. */
export function checkValidities(reader: YamlReader, versions: readonly Placed<CardVersion>[]): void {
  const names = new Map<string, number>();
  for (const { place, value } of versions) {
    const before = names.get(value.version);
    if (before !== undefined) reader.problem(place, `version ${value.version} is already in line ${before}`);
    else names.set(value.version, reader.lineOf(place));
  }
  const ordered = [...versions].sort((a, b) => a.value.effective.fromMs - b.value.effective.fromMs);
  for (const [index, { place, value }] of ordered.entries()) {
    const before = ordered[index - 1];
    if (before === undefined) continue;
    const endMs = before.value.effective.toMs;
    const line = reader.lineOf(before.place);
    const { fromMs } = value.effective;
    if (endMs === undefined || endMs > fromMs)
      reader.problem(
        place,
        `version ${value.version} begins at ${timeText(fromMs)}, when version ${before.value.version} (line ${line}) ` +
          `still applies: it ${endMs === undefined ? 'has no end' : `ends at ${timeText(endMs)}`}`,
      );
    else if (endMs < fromMs)
      reader.problem(
        place,
        `there is no price from ${timeText(endMs)}, the end of version ${before.value.version} (line ${line}), ` +
          `to ${timeText(fromMs)}, the beginning of version ${value.version}`,
      );
  }
}

function timeText(ms: number): string {
  return new Date(ms).toISOString().replace('.000Z', 'Z');
}
