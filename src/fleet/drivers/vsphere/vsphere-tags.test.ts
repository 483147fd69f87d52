import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { VmChange } from '../../driver.ts';
import { TagBook } from './tag-book.ts';
import { TagReader, type TagsByVm, tagsByVm } from './vsphere-tags.ts';

const attached = (category: string, tag: string, ...vms: readonly string[]) => ({ category, tag, vms });

test('a category is a name, and several tags of it are one value in alphabetical order', () => {
  const found = tagsByVm([
    attached('tier', 'gold', 'vm-1', 'vm-2', 'vm-2'),
    attached('env', 'test', 'vm-1'),
    attached('env', 'prod', 'vm-1'),
    attached('a=b', 'c=d', 'vm-3'),
  ]);
  assert.deepEqual(Object.fromEntries(found), {
    'vm-1': ['env=prod,test', 'tier=gold'],
    'vm-2': ['tier=gold'],
    'vm-3': ['a%3Db=c=d'],
  });
});

test('more tags than facts can hold are cut, and so are long ones: the VM stays readable', () => {
  const many = Array.from({ length: 900 }, (_, at) => attached(`c${at}`, 'x'.repeat(5_000), 'vm-1'));
  const tags = tagsByVm(many).get('vm-1') ?? [];
  assert.deepEqual([tags.length, Math.max(...tags.map((tag) => tag.length))], [500, 1_000]);
});

test('names are asked for once, those that may not be known are left out, and other objects than VMs too', async () => {
  const asked: string[] = [];
  const answers: Record<string, unknown> = {
    tag: ['t1', 't2', 't3'],
    'tag-association': [
      { tag_id: 't1', object_ids: [{ id: 'vm-1', type: 'VirtualMachine' }] },
      { tag_id: 't2', object_ids: [{ id: 'vm-1', type: 'VirtualMachine' }] },
      { tag_id: 't3', object_ids: [{ id: 'host-1', type: 'HostSystem' }] },
      { tag_id: 'of nobody', object_ids: [{ id: 'vm-1', type: 'VirtualMachine' }] },
    ],
    'tag t1': { name: 'gold', category_id: 'c1' },
    'category c1': { name: 'tier' },
  };
  const reader = new TagReader({
    ask: async ({ of, id }) => {
      asked.push(id === undefined ? of : `${of} ${id}`);
      return answers[asked.at(-1) ?? ''];
    },
  });
  const first = await reader.read();
  assert.deepEqual([[...first.byVm], first.count], [[['vm-1', ['tier=gold']]], 1]);
  assert.deepEqual(asked.sort(), ['category c1', 'tag', 'tag t1', 'tag t2', 'tag-association']);
  asked.length = 0;
  await reader.read();
  assert.deepEqual(asked, ['tag', 'tag-association']);
});

/** A book whose readings are given one by one, with what it tells. */
function bookOf(lastTags?: (nativeId: string) => readonly string[] | undefined) {
  const told: VmChange[] = [];
  let give: (found: TagsByVm) => void = () => {};
  let asked = 0;
  const read = (): Promise<TagsByVm> => {
    asked += 1;
    return new Promise((resolve) => {
      give = resolve;
    });
  };
  const book = new TagBook({ read, lastTags, isAttribute: () => false, everyMs: 1 });
  return {
    book,
    told,
    /** Until the next one is asked for, all of it is told. */
    found: async (tags: Record<string, readonly string[]>): Promise<void> => {
      const before = asked;
      give(new Map(Object.entries(tags)));
      while (asked === before) await new Promise(setImmediate);
    },
  };
}

test('what was never read is told as having been so all along, what changes as a change since the reading before', async () => {
  const { book, told, found } = bookOf((nativeId) => (nativeId === 'known' ? ['template', 'tier=gold'] : undefined));
  assert.deepEqual(book.tagsOf('known', ['template']), ['template', 'tier=gold']);
  assert.deepEqual(book.tagsOf('new', []), []);
  book.follow((change) => told.push(change));
  await found({ known: ['tier=tin'], new: ['tier=gold'] });
  assert.deepEqual(told.splice(0), [
    { kind: 'tags', nativeId: 'known', tags: ['template', 'tier=tin'], notBeforeMs: 0 },
    { kind: 'tags', nativeId: 'new', tags: ['tier=gold'], notBeforeMs: null },
  ]);
  const readMs = Date.now();
  await found({ known: ['tier=tin'], new: ['tier=gold'] });
  assert.equal(told.length, 0);
  await found({ known: [], new: ['tier=gold'] });
  const [change] = told.splice(0);
  assert.ok(change?.kind === 'tags' && change.notBeforeMs !== null && change.notBeforeMs >= readMs - 1_000);
  assert.deepEqual(change.tags, ['template']);
  book.forget('new');
  await found({});
  assert.equal(told.length, 0, 'who is gone has no tags to lose');
  book.stop();
});

test('while a look goes on nothing is told: what it shows is not older than what was told', async () => {
  const { book, told, found } = bookOf();
  book.follow((change) => told.push(change));
  const end = await book.look();
  assert.deepEqual(book.tagsOf('vm', []), []);
  const done = found({ vm: ['a=b'] });
  for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
  assert.deepEqual([told.length, book.tagsOf('vm', [])], [0, []]);
  end();
  await done;
  assert.deepEqual(
    told.map((one) => one.kind),
    ['tags'],
  );
  assert.deepEqual(book.tagsOf('vm', []), ['a=b']);
  book.stop();
});
