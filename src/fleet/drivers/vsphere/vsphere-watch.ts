/**
 * What changes among VMs, by WaitForUpdatesEx on a collector of its own. A few properties are watched; of a VM in which one changes
 * all is read.
 *
 * The server's first answer is how everything stands, and takes it as long as a fifth of a look: the first look does not wait for it.
 * What that look saw is compared with the answer, and whoever is otherwise is read once more, so that no change falls between the two.
 */
import { BerthError } from '#base';
import type { VmChange } from '../../driver.ts';
import type { VmFacts } from '../../facts.ts';
import { childAt, childrenNamed, textAt, type XmlElement } from '../../xml.ts';
import type { XmlWish } from '../../xml-scan.ts';
import { element, type Moref, morefOf, reference, typedElement, type Xml } from './soap.ts';
import { PAGE_OBJECTS, type ServiceContent, type VsphereClient } from './vsphere-client.ts';
import { type ObjectContent, powerOf, propertiesOf, type VM_PROPERTIES } from './vsphere-facts.ts';

/** How long one WaitForUpdatesEx may wait; the session stays alive by it. */
const WAIT_SECONDS = 50;
const WATCHED = [
  'name',
  'runtime.powerState',
  'runtime.host',
  'summary.config.numCpu',
  'summary.config.memorySizeMB',
] as const satisfies readonly (typeof VM_PROPERTIES)[number][];

/** What is read of a VM, and what is made of it. */
export interface WantedOfVms {
  readonly properties: typeof VM_PROPERTIES;
  readonly read: (one: ObjectContent) => VmFacts;
}

/** What is watched of each VM, by its id, as one text. */
export type Watched = Map<string, string>;

export function watchedOf({ properties }: Pick<ObjectContent, 'properties'>): string {
  return WATCHED.map((path) => properties.get(path)?.text ?? '').join('\n');
}

export type OnChange = (change: VmChange) => void;

interface Beginning {
  readonly collector: Moref;
  readonly version: string;
  readonly stood: Watched;
}

export interface WatchParts {
  readonly client: VsphereClient;
  readonly content: ServiceContent;
  readonly wanted: WantedOfVms;
  readonly isOver: () => boolean;
  /** It listens no more. */
  readonly failed: (error: unknown) => void;
}

export class VsphereWatch {
  readonly #parts: WatchParts;
  /** How VMs stood in the last look, until the watch has begun. */
  #seen: Watched | 'begun' | undefined;

  constructor(parts: WatchParts) {
    this.#parts = parts;
  }

  /** See EventFacet. */
  async begin(onChange: OnChange): Promise<() => Promise<void>> {
    const { collector, version, stood } = await this.#begun();
    const seen = this.#seen;
    this.#seen = 'begun';
    if (seen instanceof Map) await this.#settle(differing(stood, seen), onChange);
    let isStopped = false;
    const listen = async (from: string): Promise<void> => {
      for (let known = from; !isStopped && !this.#parts.isOver(); ) {
        const update = childAt(await this.#wait(collector, known), 'returnval');
        if (update === undefined) continue;
        known = textAt(update, 'version') ?? known;
        if (!isStopped) await this.#tell(update, onChange);
      }
    };
    listen(version).catch((error: unknown) => {
      if (!isStopped) this.#parts.failed(error);
    });
    return async () => {
      isStopped = true;
      await this.#parts.client.call('DestroyPropertyCollector', [reference('_this', collector)]).catch(() => {});
    };
  }

  /** What a look is to tell of each VM that it reads while there is no watch; undefined when there is one. */
  beforeIt(): ((one: ObjectContent) => void) | undefined {
    if (this.#seen === 'begun') return undefined;
    // Of several looks the last one counts.
    const seen: Watched = new Map();
    this.#seen = seen;
    return (one) => void seen.set(one.moref.id, watchedOf(one));
  }

  async #begun(): Promise<Beginning> {
    const { client, content } = this.#parts;
    const made = await client.call('CreatePropertyCollector', [reference('_this', content.propertyCollector)]);
    const collector = morefOf(childAt(made, 'returnval'));
    if (collector === undefined)
      throw new BerthError('invalid', 'vsphere.malformed', 'the collector that was made has no name');
    const { view } = await client.view(content, 'VirtualMachine');
    await client.call('CreateFilter', [
      reference('_this', collector),
      watchSpec(view),
      element('partialUpdates', true),
    ]);
    const stood: Watched = new Map();
    const path = ['Envelope', 'Body', 'WaitForUpdatesExResponse', 'returnval', 'filterSet', 'objectSet'];
    const take = (object: XmlElement): void => {
      const moref = morefOf(childAt(object, 'obj'));
      const properties = propertiesOf(childrenNamed(object, 'changeSet'));
      if (moref !== undefined) stood.set(moref.id, watchedOf({ properties }));
    };
    for (let version = ''; ; ) {
      const known = stood.size;
      const update = childAt(await this.#wait(collector, version, { path, take }), 'returnval');
      version = textAt(update, 'version') ?? '-';
      // A server that has much to tell may do so in parts.
      if (textAt(update, 'truncated') !== 'true') return { collector, version, stood };
      if (stood.size === known)
        throw new BerthError('invalid', 'vsphere.malformed', 'vSphere tells how VMs stand in parts without end');
    }
  }

  #wait(collector: Moref, version: string, handOut?: XmlWish['handOut']): Promise<XmlElement> {
    const options = element('options', element('maxWaitSeconds', WAIT_SECONDS));
    return this.#parts.client.call(
      'WaitForUpdatesEx',
      [reference('_this', collector), element('version', version), options],
      { idleMs: (WAIT_SECONDS + 30) * 1_000, ...(handOut === undefined ? {} : { handOut }) },
    );
  }

  async #tell(update: XmlElement, onChange: OnChange): Promise<void> {
    if (textAt(update, 'truncated') === 'true') onChange({ kind: 'missed' });
    const changed = new Set<string>();
    for (const object of childrenNamed(update, 'filterSet').flatMap((set) => childrenNamed(set, 'objectSet'))) {
      const moref = morefOf(childAt(object, 'obj'));
      if (moref === undefined) continue;
      if (textAt(object, 'kind') === 'leave') {
        changed.delete(moref.id);
        onChange({ kind: 'gone', nativeId: moref.id });
        continue;
      }
      const power = propertiesOf(childrenNamed(object, 'changeSet')).get('runtime.powerState')?.text;
      if (power !== undefined) onChange({ kind: 'power', nativeId: moref.id, powerState: powerOf(power) });
      changed.add(moref.id);
    }
    await this.#tellAnew([...changed], (vm) => onChange({ kind: 'seen', vm }));
  }

  async #settle(ids: readonly string[], onChange: OnChange): Promise<void> {
    const found = await this.#tellAnew(ids, (vm) => onChange({ kind: 'seen', vm, isCompared: true }));
    for (const nativeId of ids) if (!found.has(nativeId)) onChange({ kind: 'gone', nativeId, isCompared: true });
  }

  /** All of each of these VMs. @returns who was there */
  async #tellAnew(ids: readonly string[], tell: (vm: VmFacts) => void): Promise<ReadonlySet<string>> {
    const { client, content, wanted } = this.#parts;
    const found = new Set<string>();
    for (let from = 0; from < ids.length; from += PAGE_OBJECTS) {
      const asked = ids.slice(from, from + PAGE_OBJECTS).map((id) => ({ type: 'VirtualMachine', id }));
      for (const vm of await client.retrieve(content.propertyCollector, asked, wanted)) {
        found.add(vm.nativeId);
        tell(vm);
      }
    }
    return found;
  }
}

/** Ids that are in one only, or otherwise in one than in the other. */
export function differing(stood: Watched, seen: Watched): string[] {
  return [...new Set([...stood.keys(), ...seen.keys()])].filter((id) => stood.get(id) !== seen.get(id));
}

function watchSpec(view: Moref): Xml {
  return element(
    'spec',
    element(
      'propSet',
      element('type', 'VirtualMachine'),
      element('all', false),
      ...WATCHED.map((path) => element('pathSet', path)),
    ),
    element(
      'objectSet',
      reference('obj', view),
      element('skip', true),
      // Without its type written out some servers take it for the plain SelectionSpec.
      typedElement(
        'selectSet',
        { 'xsi:type': 'TraversalSpec' },
        element('name', 'members'),
        element('type', 'ContainerView'),
        element('path', 'view'),
        element('skip', false),
      ),
    ),
  );
}
