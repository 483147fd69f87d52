/**
 * Custom attributes of VMs, told as tags `name=value`. A VM has values by key; what keys are called one object knows, which is asked
 * at the beginning of each look: an attribute that was made since then is told with the next one.
 *
 * @source vSphere Web Services API reference: CustomFieldsManager.field, ManagedEntity.customValue (names are facts)
 */
import { BerthError } from '#base';
import { childrenNamed, textAt, type XmlElement } from '../../xml.ts';
import type { ServiceContent, VsphereClient } from './vsphere-client.ts';

const MOST_OF_A_VM = 200;
const MOST_CHARACTERS = 1_000;

export class CustomAttributes {
  readonly #client: Pick<VsphereClient, 'retrieve'>;
  readonly #content: ServiceContent;
  #names: ReadonlyMap<string, string> = new Map();

  constructor(client: Pick<VsphereClient, 'retrieve'>, content: ServiceContent) {
    this.#client = client;
    this.#content = content;
  }

  /** What they are called now; an ESXi host has none, and who may not know it sees none. @throws what VsphereClient throws */
  async learn(): Promise<void> {
    const { customFieldsManager, propertyCollector } = this.#content;
    if (customFieldsManager === undefined) return;
    try {
      const [found] = await this.#client.retrieve(propertyCollector, [customFieldsManager], {
        properties: ['field'],
        read: ({ properties }) => namesOf(properties.get('field')),
      });
      this.#names = found ?? new Map();
    } catch (error) {
      if (!(error instanceof BerthError) || (error.kind !== 'denied' && error.kind !== 'not_found')) throw error;
      this.#names = new Map();
    }
  }

  /** @param name - as tags have it. */
  isOne(name: string): boolean {
    return [...this.#names.values()].some((one) => written(one) === name);
  }

  /** @param values - `customValue` of a VM. */
  tagsOf(values: XmlElement | undefined): string[] {
    return values === undefined ? [] : attributeTags(values, this.#names);
  }
}

/** Of all kinds of objects: keys are the same for all. Pure. */
export function namesOf(fields: XmlElement | undefined): Map<string, string> {
  return new Map(
    childrenNamed(fields, 'CustomFieldDef').flatMap((field) => {
      const [key, name] = [textAt(field, 'key'), textAt(field, 'name')];
      return key === undefined || name === undefined || name === '' ? [] : [[key, name] as const];
    }),
  );
}

/** Sorted. One without a value is not set, of one that is told twice the later word counts; `=` in a name is written `%3D`. Pure. */
export function attributeTags(values: XmlElement, names: ReadonlyMap<string, string>): string[] {
  const told = new Map<string, string>();
  for (const one of childrenNamed(values, 'CustomFieldValue')) {
    const name = names.get(textAt(one, 'key') ?? '');
    if (name !== undefined) told.set(name, textAt(one, 'value') ?? '');
  }
  return [...told]
    .flatMap(([name, value]) => (value === '' ? [] : [`${written(name)}=${value}`.slice(0, MOST_CHARACTERS)]))
    .sort()
    .slice(0, MOST_OF_A_VM);
}

function written(name: string): string {
  return name.replaceAll('=', '%3D');
}
