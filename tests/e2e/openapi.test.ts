/** Every GET call of berth's own API, asked of a daemon with VMs of its own and of libvirt: its answer is what the document says. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { runChecked } from '#platform';
import { startTestDaemon, type TestDaemon } from '../harness/daemon.ts';
import { type RunningLibvirt, startLibvirt } from '../harness/libvirt.ts';
import { createVm, eventually, startVm } from '../harness/vm-client.ts';

const BERTH = new URL('../../berth', import.meta.url).pathname;
const MONTH = new Date().toISOString().slice(0, 7);
const CARD = `rate-card: house
format: 1
currency: EUR
charge-per: day
month: calendar
versions:
  - version: only
    effective: { from: 2020-01-01 }
    items:
      - { id: cpu, resource: vcpu, unit: vcpu-hour, price: 3600 }
    idle: { share: none }
    overhead: { share: none }
budgets:
  - { name: all, amount: 100000, alerts: [] }
`;

interface Operation {
  readonly parameters: readonly { readonly name: string; readonly in: string; readonly required: boolean }[];
  readonly responses: Readonly<
    Record<string, { readonly content?: Readonly<Record<string, { readonly schema: object }>> }>
  >;
}

/** What calls cannot do without. */
const given = (): Readonly<Record<string, string>> => ({
  vm: 'test',
  q: 'tes',
  time: new Date().toISOString(),
  month: MONTH,
});

let daemon: TestDaemon;
let libvirt: RunningLibvirt;
let folder: string;
let document: {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: object;
};

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'berth-openapi-'));
  [daemon, libvirt] = await Promise.all([startTestDaemon({ env: { BERTH_POOL: 'off' } }), startLibvirt()]);
  const card = join(folder, 'card.yaml');
  writeFileSync(card, CARD);
  const berth = (...words: string[]) => runChecked([BERTH, '--socket', daemon.socket, ...words]);
  await berth(
    'source',
    'add',
    'lab',
    `test+unix:///default?socket=${libvirt.socket}`,
    '--allow-power',
    '--sample-every',
    '1',
  );
  await berth('source', 'add', 'away', `test+unix:///default?socket=${libvirt.socket}-nobody`);
  await berth('source', 'pace', 'berth', '--sample-every', '1');
  await createVm(daemon, 'mine', 'while :; do :; done');
  await startVm(daemon, 'mine');
  await eventually('the fleet is known, and consumed something', 90_000, async () => {
    for (const name of ['lab', 'berth']) await daemon.call('POST', `/berth/v1/sources/${name}/refresh`);
    const all = await usagePages();
    const items = all.flatMap((page) => page.items);
    return items.some((one) => one.name === 'test') && items.some((one) => one.type === 'consumed');
  });
  // A change, so that history, drift and gaps have lines.
  await libvirt.virsh('test:///default', 'destroy', 'test');
  await berth('cost', 'card', 'set', card);
  await berth('cost', 'rate');
  document = (await daemon.call('GET', '/berth/v1/openapi.json')).body as typeof document;
});

after(async () => {
  await libvirt.dispose();
  const leaks = await daemon.dispose();
  rmSync(folder, { recursive: true, force: true });
  assert.deepEqual(leaks, []);
});

interface UsagePage {
  readonly items: readonly { readonly type: string; readonly name?: string }[];
  readonly next: string | null;
}

async function usagePages(): Promise<UsagePage[]> {
  const pages: UsagePage[] = [];
  for (let after = ''; ; ) {
    const page = JSON.parse((await ask(`/berth/v1/fleet/usage?limit=1000${after}`)).text) as UsagePage;
    pages.push(page);
    if (page.next === null) return pages;
    after = `&after=${encodeURIComponent(page.next)}`;
  }
}

function ask(path: string): Promise<{ status: number; type: string; text: string }> {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath: daemon.socket, path }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          type: response.headers['content-type'] ?? '',
          text: Buffer.concat(chunks).toString('utf8'),
        }),
      );
    });
    sent.on('error', reject);
    sent.end();
  });
}

/** The schema with nothing allowed that it does not name: an answer's field that the document forgot is a fault. */
function sealed(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(sealed);
  if (typeof schema !== 'object' || schema === null) return schema;
  const made = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, sealed(value)]));
  return 'properties' in made && !('additionalProperties' in made) ? { ...made, additionalProperties: false } : made;
}

test('every GET call answers what the document says, and nothing that it does not say', async () => {
  const asked: string[] = [];
  for (const [path, methods] of Object.entries(document.paths)) {
    const operation = methods['get'];
    if (operation === undefined) continue;
    const filled = path.replace(/\{([a-z]+)\}/g, (_, name: string) => given()[name] ?? `missing-${name}`);
    const query = operation.parameters.filter((one) => one.in === 'query' && one.required);
    const words = query.map(({ name }) => `${name}=${encodeURIComponent(given()[name] ?? '')}`).join('&');
    const { status, type, text } = await ask(words === '' ? filled : `${filled}?${words}`);
    assert.equal(status, 200, `${path}: ${text}`);
    const content = operation.responses['200']?.content ?? {};
    const [kind = '', { schema } = { schema: {} }] = Object.entries(content)[0] ?? [];
    assert.ok(type.startsWith(kind) && kind !== '', `${path} answers ${type}, not ${kind}`);
    asked.push(path);
    if (kind !== 'application/json') continue;
    const isOpen = path.endsWith('openapi.json');
    const validate = new Ajv2020({ strict: false, allErrors: true }).compile(
      (isOpen ? schema : sealed(schema)) as object,
    );
    const answer: unknown = JSON.parse(text);
    assert.ok(validate(answer), `${path}: ${JSON.stringify(validate.errors)}\n${text.slice(0, 500)}`);
    const items = (answer as { items?: unknown[] }).items ?? (Array.isArray(answer) ? answer : [answer]);
    // An empty list fits every schema. Nothing of this daemon has moved, for it has no second host.
    if (!path.endsWith('/moves')) assert.ok(items.length > 0, `${path} has something to check`);
  }
  assert.ok(asked.length >= 18, `${asked.length} calls: ${asked.join(' ')}`);
});

test('usage has every kind of line, each as the document says', async () => {
  await eventually('the end of the VM is a gap', 60_000, async () =>
    (await usagePages()).some((page) => page.items.some((one) => one.type === 'gap')),
  );
  const schema =
    document.paths['/berth/v1/fleet/usage']?.['get']?.responses['200']?.content?.['application/json']?.schema;
  const validate = new Ajv2020({ strict: false, allErrors: true }).compile(sealed(schema) as object);
  const kinds = new Set<string>();
  for (const page of await usagePages()) {
    assert.ok(validate(page), JSON.stringify(validate.errors));
    for (const { type } of page.items) kinds.add(type);
  }
  assert.deepEqual([...kinds].sort(), ['consumed', 'gap', 'host', 'interval', 'overhead']);
});

test('a refusal is a problem as the document describes it', async () => {
  const { Problem } = (document.components as { schemas: { Problem: object } }).schemas;
  const validate = new Ajv2020({ strict: false }).compile(sealed(Problem) as object);
  for (const path of ['/berth/v1/fleet/vms/nobody', '/berth/v1/fleet/at', '/berth/v1/cost/report?by=colour']) {
    const { status, text } = await ask(path);
    assert.ok(status >= 400 && status < 500, `${path}: ${status}`);
    assert.ok(validate(JSON.parse(text)), `${path}: ${text}`);
  }
});
