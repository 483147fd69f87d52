import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DockerEvent, EventLog, eventMatches, eventView } from './event-log.ts';

const START: DockerEvent = {
  type: 'container',
  action: 'start',
  id: 'abcdef',
  timeMs: 1_700_000_000_123.5,
  attributes: { name: 'boat', image: 'berth/busybox:latest', team: 'blue' },
};
const EXEC: DockerEvent = { ...START, action: 'exec_create: sh -c true' };
const PULL: DockerEvent = { type: 'image', action: 'pull', id: 'web:1', timeMs: 1, attributes: { name: 'web:1' } };

test('filters of one name are alternatives, of several names conditions', () => {
  const matches = (event: DockerEvent, ...filters: [string, string[]][]): boolean =>
    eventMatches(event, new Map(filters));
  assert.ok(matches(START));
  assert.ok(matches(START, ['event', ['die', 'start']], ['type', ['container']]));
  assert.ok(!matches(START, ['event', ['die']]));
  assert.ok(matches(EXEC, ['event', ['exec_create']]));
  for (const name of ['boat', 'abcdef', 'abc']) assert.ok(matches(START, ['container', [name]]), name);
  assert.ok(!matches(START, ['container', ['boa']]));
  for (const name of ['berth/busybox:latest', 'berth/busybox']) assert.ok(matches(START, ['image', [name]]), name);
  assert.ok(matches(PULL, ['image', ['web']]));
  assert.ok(!matches(PULL, ['container', ['web:1']]));
  assert.ok(matches(START, ['label', ['team=blue']]));
  assert.ok(!matches(START, ['label', ['team=red']]));
  assert.ok(!matches(START, ['volume', ['x']]));
});

test('the wire form has the old fields beside the new', () => {
  assert.deepEqual(eventView(START), {
    status: 'start',
    id: 'abcdef',
    from: 'berth/busybox:latest',
    Type: 'container',
    Action: 'start',
    Actor: { ID: 'abcdef', Attributes: START.attributes },
    scope: 'local',
    time: 1_700_000_000,
    timeNano: 1_700_000_000_123.5 * 1e6,
  });
});

test('the last 256 are kept', () => {
  const log = new EventLog();
  for (let at = 0; at < 300; at += 1) log.add({ ...START, timeMs: at });
  assert.equal(log.since(0).length, 256);
  assert.equal(log.since(0)[0]?.timeMs, 44);
  const seen: string[] = [];
  const stop = log.subscribe(({ action }) => seen.push(action));
  log.add(PULL);
  stop();
  log.add(START);
  assert.deepEqual(seen, ['pull']);
});
