import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BerthError, parseDigest, parseVmId } from '#base';
import { decide, hasMachine, type VmEvent } from './lifecycle.ts';
import type { ExitFacts, VmRecord, VmState } from './model.ts';

const exit: ExitFacts = { exitCode: 3, oomKilled: false, error: '', atMs: 5 };

function record(state: VmState, overrides: Partial<VmRecord> = {}, autoRemove = false): VmRecord {
  return {
    version: 1,
    id: parseVmId('a'.repeat(64)),
    name: 'web',
    createdAtMs: 1,
    uid: 1,
    state,
    removal: 'none',
    run: 1,
    startedAtMs: 2,
    machine: undefined,
    network: undefined,
    boot: {},
    ...overrides,
    spec: {
      imageReference: 'i',
      imageId: parseDigest(`sha256:${'b'.repeat(64)}`),
      process: {
        args: ['sh'],
        env: [],
        workingDirectory: '/',
        user: '',
        tty: false,
        openStdin: false,
        stdinOnce: false,
        groups: [],
        ulimits: [],
        dropCapabilities: [],
        noNewPrivileges: false,
      },
      terminal: undefined,
      hostname: 'h',
      domainName: '',
      vcpus: 1,
      memoryBytes: 1,
      shmBytes: 1,
      diskBytes: 1,
      readonlyRoot: false,
      tmpfs: {},
      sysctls: {},
      network: { mode: 'bridge', ports: [], dns: [], dnsSearch: [], dnsOptions: [], extraHosts: [], mac: undefined },
      stopSignal: 15,
      stopTimeoutSeconds: 10,
      autoRemove,
      sleepAfterSeconds: 0,
      labels: {},
      docker: {},
    },
  };
}

const states: readonly VmState[] = [
  { name: 'created', failure: undefined },
  { name: 'starting' },
  { name: 'running' },
  { name: 'paused', error: '' },
  { name: 'ending', exit },
  { name: 'exited', exit },
  { name: 'removing' },
  { name: 'dead', error: 'x' },
];

const events: readonly VmEvent[] = [
  { type: 'start' },
  { type: 'process_started' },
  { type: 'start_failed', exit },
  { type: 'process_exited', exit },
  { type: 'machine_gone', exit },
  { type: 'machine_stopped', error: 'full' },
  { type: 'torn_down', keep: false },
  { type: 'paused' },
  { type: 'unpaused' },
  { type: 'remove', force: false },
  { type: 'remove', force: true },
  { type: 'remove_failed', error: 'busy' },
];

function after(state: VmState, event: VmEvent): string {
  try {
    return decide(record(state), event, 9).record.state.name;
  } catch (error) {
    assert.ok(error instanceof BerthError, 'a refusal is a BerthError');
    return `refused: ${error.code}`;
  }
}

test('every event in every state leads where the picture says', () => {
  const table = Object.fromEntries(
    states.map((state) => [
      state.name,
      Object.fromEntries(
        events
          .map(
            (event) =>
              [event.type === 'remove' && event.force ? 'remove -f' : event.type, after(state, event)] as const,
          )
          .filter(([, next]) => next !== state.name),
      ),
    ]),
  );
  assert.deepEqual(table, {
    created: { start: 'starting', remove: 'removing', 'remove -f': 'removing' },
    starting: {
      start: 'refused: vm.already_running',
      process_started: 'running',
      start_failed: 'ending',
      process_exited: 'ending',
      machine_gone: 'ending',
      remove: 'refused: vm.running',
    },
    running: {
      start: 'refused: vm.already_running',
      process_exited: 'ending',
      machine_gone: 'ending',
      machine_stopped: 'paused',
      paused: 'paused',
      remove: 'refused: vm.running',
    },
    paused: {
      start: 'refused: vm.paused',
      process_exited: 'ending',
      machine_gone: 'ending',
      unpaused: 'running',
      remove: 'refused: vm.running',
    },
    ending: { start: 'refused: vm.ending', torn_down: 'exited' },
    exited: { start: 'starting', remove: 'removing', 'remove -f': 'removing' },
    removing: {
      start: 'refused: vm.removing',
      remove: 'refused: vm.removing',
      'remove -f': 'refused: vm.removing',
      remove_failed: 'dead',
    },
    dead: { start: 'refused: vm.removing', remove: 'removing', 'remove -f': 'removing' },
  });
});

test('every way into ending queues exactly one tear-down, and nothing in ending queues another', () => {
  for (const state of states) {
    for (const event of events) {
      let decision: ReturnType<typeof decide>;
      try {
        decision = decide(record(state), event, 9);
      } catch {
        continue;
      }
      const tearDowns = decision.effects.filter((effect) => effect === 'tear_down' || effect === 'finish').length;
      const enters = state.name !== 'ending' && decision.record.state.name === 'ending';
      assert.equal(tearDowns, enters ? 1 : 0, `${state.name} + ${event.type}`);
    }
  }
});

test('a machine is deleted only when none can be running', () => {
  for (const state of states) {
    for (const event of events) {
      try {
        const { effects, record: next } = decide(record(state), event, 9);
        if (effects.includes('delete')) assert.ok(!hasMachine(next.state), `${state.name} + ${event.type}`);
      } catch (error) {
        assert.ok(error instanceof BerthError);
      }
    }
  }
});

test('a forced removal of a running VM kills it and remembers to remove it at the end', () => {
  const first = decide(record({ name: 'running' }), { type: 'remove', force: true }, 9);
  assert.deepEqual(
    [first.record.state.name, first.record.removal, first.effects],
    ['running', 'when_ended', ['kill_machine']],
  );
  const gone = decide(first.record, { type: 'machine_gone', exit }, 9);
  const last = decide(gone.record, { type: 'torn_down', keep: false }, 9);
  assert.deepEqual([last.record.state.name, last.effects], ['removing', ['delete']]);
});

test('auto-remove takes the VM away at its end, also after a failed start, but not in a restart', () => {
  const ending = record({ name: 'ending', exit }, {}, true);
  assert.equal(decide(ending, { type: 'torn_down', keep: false }, 9).record.state.name, 'removing');
  assert.equal(decide(ending, { type: 'torn_down', keep: true }, 9).record.state.name, 'exited');
  const failed = record({ name: 'ending', exit }, { startedAtMs: undefined }, true);
  assert.equal(decide(failed, { type: 'torn_down', keep: false }, 9).record.state.name, 'removing');
});

test('a first start that failed leaves the VM created with the reason; a later one leaves it exited', () => {
  const first = decide(
    record({ name: 'ending', exit }, { startedAtMs: undefined, run: 1 }),
    { type: 'torn_down', keep: false },
    9,
  );
  assert.deepEqual(first.record.state, { name: 'created', failure: exit });
  const later = decide(
    record({ name: 'ending', exit }, { startedAtMs: undefined, run: 2 }),
    { type: 'torn_down', keep: false },
    9,
  );
  assert.deepEqual(later.record.state, { name: 'exited', exit });
});

test('a fork that does not come to run goes away; nobody starts it meanwhile', () => {
  const made = record({ name: 'created', failure: undefined }, { origin: 'fork', run: 0, startedAtMs: undefined });
  assert.throws(
    () => decide(made, { type: 'start' }, 0),
    (error) => error instanceof BerthError && error.code === 'vm.being_made',
  );
  const starting = decide(made, { type: 'start', origin: 'fork' }, 0).record;
  assert.equal(starting.origin, 'fork');
  const ending = decide(starting, { type: 'machine_gone', exit }, 0).record;
  const over = decide(ending, { type: 'torn_down', keep: false }, 0);
  assert.deepEqual([over.record.state.name, over.effects], ['removing', ['delete']]);
  const running = decide(starting, { type: 'process_started' }, 0).record;
  assert.equal(running.origin, undefined, 'from here on it is a VM like any other');
});
