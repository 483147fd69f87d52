/** `{ source: lab, host: [a, "b*"], tag: { env: prod } }` → a selector. Pure. */
import { EVERYTHING, SELECTOR_NAMES, type Selector, type SelectorName } from './selector.ts';
import type { Place, YamlReader } from './yaml-reader.ts';

export function readSelector(reader: YamlReader, place: Place): Selector {
  if (place === undefined) return EVERYTHING;
  const fields = reader.map(place, 'a selector', [...SELECTOR_NAMES, 'tag']);
  const names: Partial<Record<SelectorName, readonly string[]>> = {};
  for (const name of SELECTOR_NAMES) {
    const value = fields.get(name);
    if (value !== undefined) names[name] = reader.texts(value, name);
  }
  const tags: Record<string, readonly string[]> = {};
  const tagPlace = fields.get('tag');
  if (tagPlace !== undefined)
    for (const [key, { value }] of reader.openMap(tagPlace, 'tag').entries())
      tags[key] = reader.texts(value, `tag ${key}`);
  return { names, tags };
}
