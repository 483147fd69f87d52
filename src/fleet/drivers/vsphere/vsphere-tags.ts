/**
 * Reads the tags of all VMs: which tags there are, to what they are attached (100 tags at a time), and the names of those that a VM
 * has. Nothing is asked for each VM; names are remembered.
 *
 * A tag is told as `category=tag`. Several tags of one category are one, `category=a,b`, in alphabetical order: rules and rate
 * cards look at tags as names with one value each, and would see only the last of several.
 */
import * as v from 'valibot';
import { BerthError } from '#base';
import type { VapiClient } from './vapi-client.ts';

const TAGS_AT_ONCE = 100;
/** Answers under way at once: a vCenter has other work. */
const NAMES_AT_ONCE = 4;
/** Readings for which names are taken as remembered. */
const NAMES_KEPT = 10;
/** vCenter 8 supports far fewer of either. What has more talks nonsense, or would take all memory. */
const MOST_TAGS = 50_000;
const MOST_ATTACHED = 2_000_000;
/** Facts hold 512 tags, of which a template has one more. */
const MOST_OF_A_VM = 500;
const MOST_CHARACTERS = 1_000;

const id = v.pipe(v.string(), v.minLength(1), v.maxLength(512));
const IdsSchema = v.pipe(v.nullish(v.array(id), []), v.maxLength(MOST_TAGS));
const AttachedSchema = v.nullish(
  v.pipe(
    v.array(v.object({ tag_id: id, object_ids: v.nullish(v.array(v.object({ id, type: v.string() })), []) })),
    v.maxLength(TAGS_AT_ONCE),
  ),
  [],
);
const name = v.pipe(v.string(), v.minLength(1), v.maxLength(4_096));
const TagSchema = v.object({ name, category_id: id });
const CategorySchema = v.object({ name });

interface TagName {
  readonly category: string;
  readonly tag: string;
}

/** Of those VMs that have any. */
export type TagsByVm = ReadonlyMap<string, readonly string[]>;

export class TagReader {
  readonly #vapi: Pick<VapiClient, 'ask'>;
  /** Of tags, by id; null when this user may not know it. */
  #names = new Map<string, TagName | null>();
  #categories = new Map<string, string | null>();
  #readings = 0;

  constructor(vapi: Pick<VapiClient, 'ask'>) {
    this.#vapi = vapi;
  }

  /** @returns the tags of VMs, and how many different ones there are. @throws what VapiClient throws; vsphere.malformed, vsphere.too_large */
  async read(): Promise<{ readonly byVm: TagsByVm; readonly count: number }> {
    if (this.#readings++ % NAMES_KEPT === 0) {
      this.#names = new Map();
      this.#categories = new Map();
    }
    const ids = [...new Set(parse(IdsSchema, await this.#vapi.ask({ of: 'tag' }), 'a list of tags'))];
    const vmsOf = await this.#attached(ids);
    await inGroups([...vmsOf.keys()], (tag) => this.#learn(tag));
    const named = [...vmsOf].flatMap(([tag, vms]) => {
      const known = this.#names.get(tag);
      return known === undefined || known === null ? [] : [{ ...known, vms }];
    });
    return { byVm: tagsByVm(named), count: named.length };
  }

  /** Native ids of VMs, by tag. */
  async #attached(ids: readonly string[]): Promise<Map<string, readonly string[]>> {
    const vmsOf = new Map<string, readonly string[]>();
    let count = 0;
    for (let from = 0; from < ids.length; from += TAGS_AT_ONCE) {
      const body = { tag_ids: ids.slice(from, from + TAGS_AT_ONCE) };
      const answer = await this.#vapi.ask({ of: 'tag-association', action: 'list-attached-objects-on-tags', body });
      for (const { tag_id, object_ids } of parse(AttachedSchema, answer, 'what tags are attached to')) {
        const vms = object_ids.filter(({ type }) => type === 'VirtualMachine').map((one) => one.id);
        count += vms.length;
        if (count > MOST_ATTACHED)
          throw new BerthError(
            'exhausted',
            'vsphere.too_large',
            `tags are attached to VMs over ${MOST_ATTACHED} times`,
          );
        if (vms.length > 0 && body.tag_ids.includes(tag_id)) vmsOf.set(tag_id, vms);
      }
    }
    return vmsOf;
  }

  async #learn(tag: string): Promise<void> {
    if (this.#names.has(tag)) return;
    const answer = await this.#vapi.ask({ of: 'tag', id: tag });
    const found = answer === undefined ? null : parse(TagSchema, answer, 'a tag');
    const category = found === null ? null : await this.#category(found.category_id);
    this.#names.set(tag, found === null || category === null ? null : { category, tag: found.name });
  }

  async #category(category: string): Promise<string | null> {
    const known = this.#categories.get(category);
    if (known !== undefined) return known;
    const answer = await this.#vapi.ask({ of: 'category', id: category });
    const found = answer === undefined ? null : parse(CategorySchema, answer, 'a category').name;
    this.#categories.set(category, found);
    return found;
  }
}

/** Pure. Sorted; the first `=` ends the category, so that one of its own is written `%3D`. */
export function tagsByVm(tags: readonly (TagName & { readonly vms: readonly string[] })[]): Map<string, string[]> {
  const byVm = new Map<string, Map<string, string[]>>();
  const sorted = [...tags].sort((a, b) => compare(a.category, b.category) || compare(a.tag, b.tag));
  for (const { category, tag, vms } of sorted) {
    const key = category.replaceAll('=', '%3D');
    for (const vm of new Set(vms)) {
      const own = byVm.get(vm) ?? new Map<string, string[]>();
      byVm.set(vm, own);
      const names = own.get(key);
      if (names === undefined) own.set(key, [tag]);
      else names.push(tag);
    }
  }
  return new Map([...byVm].map(([vm, own]) => [vm, [...own].map(written).slice(0, MOST_OF_A_VM)]));
}

function written([category, names]: readonly [string, readonly string[]]): string {
  return `${category}=${names.join(',')}`.slice(0, MOST_CHARACTERS);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

async function inGroups<T>(all: readonly T[], work: (one: T) => Promise<void>): Promise<void> {
  for (let from = 0; from < all.length; from += NAMES_AT_ONCE)
    await Promise.all(all.slice(from, from + NAMES_AT_ONCE).map(work));
}

function parse<Schema extends v.GenericSchema>(schema: Schema, answer: unknown, what: string): v.InferOutput<Schema> {
  const parsed = v.safeParse(schema, answer);
  if (parsed.success) return parsed.output;
  const problems = parsed.issues
    .slice(0, 5)
    .map((issue) => `${v.getDotPath(issue) ?? 'all of it'}: ${issue.message.slice(0, 100)}`);
  throw new BerthError(
    'invalid',
    'vsphere.malformed',
    `the tagging service tells ${what} wrongly: ${problems.join('; ')}`,
  );
}
