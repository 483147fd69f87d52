import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as v from 'valibot';
import { parseDigest, parseVmId } from '#base';
import type { VmRecord } from '#engine';
import { inspectView, listEntry, stateName, statusText } from './container-views.ts';
import { CreateSchema } from './create-body.ts';
import { translateCreate } from './create-translation.ts';

const ID = parseVmId('ab'.repeat(32));
const NOW = 1_700_000_000_000;

function recordOf(body: object, changes: Partial<VmRecord> = {}): VmRecord {
  const image = { id: parseDigest(`sha256:${'1'.repeat(64)}`), config: { Cmd: ['sh'] } };
  const { spec } = translateCreate(v.parse(CreateSchema, { Image: 'web', ...body }), image);
  return {
    version: 1,
    id: ID,
    name: 'boat',
    spec,
    createdAtMs: NOW - 3_600_000,
    uid: 7,
    state: { name: 'created', failure: undefined },
    removal: 'none',
    run: 1,
    startedAtMs: undefined,
    machine: undefined,
    network: undefined,
    boot: {},
    ...changes,
  };
}

const memory = { guestUsedBytes: undefined, host: undefined };
const FACTS = { trouble: '', logPath: '/log', execIds: [], size: undefined, memory };
const inspect = (record: VmRecord): Record<string, Record<string, unknown>> =>
  inspectView(record, FACTS) as Record<string, Record<string, unknown>>;

test('every state has Docker’s word and the STATUS column’s text', () => {
  const startedAtMs = NOW - 120_000;
  const exit = { exitCode: 3, oomKilled: true, error: '', atMs: NOW - 5_000 };
  const expected: [VmRecord['state'], string, string][] = [
    [{ name: 'created', failure: undefined }, 'created', 'Created'],
    [{ name: 'starting' }, 'created', 'Created'],
    [{ name: 'running' }, 'running', 'Up 2 minutes'],
    [{ name: 'ending', exit }, 'running', 'Up 2 minutes'],
    [{ name: 'paused', error: '' }, 'paused', 'Up 2 minutes (Paused)'],
    [{ name: 'exited', exit }, 'exited', 'Exited (3) 5 seconds ago'],
    [{ name: 'removing' }, 'removing', 'Removal In Progress'],
    [{ name: 'dead', error: 'x' }, 'dead', 'Dead'],
  ];
  for (const [state, word, status] of expected) {
    const record = recordOf({}, { state, startedAtMs });
    assert.equal(stateName(state), word);
    assert.equal(statusText(record, NOW), status);
  }
});

test('the list quotes words with blanks, as dockerd does', () => {
  const entry = listEntry(recordOf({ Cmd: ['sh', '-c', 'a b'] }), NOW, undefined) as Record<string, unknown>;
  assert.equal(entry['Command'], "sh -c 'a b'");
  assert.deepEqual(entry['Names'], ['/boat']);
  assert.equal(entry['Created'], (NOW - 3_600_000) / 1000);
  assert.equal('SizeRw' in entry, false);
  assert.equal((listEntry(recordOf({}), NOW, { rw: 1, root: 2 }) as Record<string, unknown>)['SizeRootFs'], 2);
});

test('an empty setting of a client does not hide a default', () => {
  const host = inspect(
    recordOf({
      HostConfig: {
        IpcMode: '',
        CgroupnsMode: '',
        LogConfig: { Type: '', Config: null },
        PidsLimit: 0,
        MemorySwappiness: -1,
      },
    }),
  )['HostConfig'];
  assert.equal(host?.['IpcMode'], 'private');
  assert.equal(host?.['CgroupnsMode'], 'private');
  assert.deepEqual(host?.['LogConfig'], { Type: 'json-file', Config: {} });
  assert.equal(host?.['PidsLimit'], null);
  assert.equal(host?.['MemorySwappiness'], null);
  assert.equal(host?.['NetworkMode'], 'bridge');
});

test('ports: what is asked for, what is exposed, and what was published', () => {
  const asked = { ExposedPorts: { '90/udp': {} }, HostConfig: { PortBindings: { '80/tcp': [{ HostPort: '' }] } } };
  const stopped = inspect(recordOf(asked));
  assert.deepEqual(stopped['HostConfig']?.['PortBindings'], { '80/tcp': [{ HostIp: '', HostPort: '' }] });
  assert.deepEqual(stopped['Config']?.['ExposedPorts'], { '90/udp': {}, '80/tcp': {} });
  assert.deepEqual(stopped['NetworkSettings']?.['Ports'], {});
  const network = {
    kind: 'bridge' as const,
    bridge: 'br',
    tap: 'tap',
    mac: 'm',
    address: '10.0.0.2',
    prefixLength: 24,
    gateway: '10.0.0.1',
    mtu: 1500,
    dns: [],
    ports: [{ protocol: 'tcp' as const, guestPort: 80, hostIp: '', hostPort: 4000 }],
  };
  const running = inspect(recordOf(asked, { network, state: { name: 'running' } }));
  assert.deepEqual(running['NetworkSettings']?.['Ports'], {
    '80/tcp': [{ HostIp: '0.0.0.0', HostPort: '4000' }],
    '90/udp': null,
  });
  assert.equal(running['NetworkSettings']?.['IPAddress'], '10.0.0.2');
});

test('a failed start keeps its reason', () => {
  const failure = { exitCode: 127, oomKilled: false, error: 'not found', atMs: NOW };
  const state = inspect(recordOf({}, { state: { name: 'created', failure } }))['State'];
  assert.deepEqual([state?.['Status'], state?.['ExitCode'], state?.['Error']], ['created', 127, 'not found']);
  assert.equal(state?.['FinishedAt'], '0001-01-01T00:00:00Z');
});
