/**
 * The life of a VM, decided in one pure place.
 *
 *                 start            process_started
 *     created ───────────► starting ───────────────► running ◄──────► paused
 *        ▲                    │  │                      │    pause      │
 *        │ start_failed       │  │ process_exited       │    unpause    │
 *        └────────────────────┘  │ machine_gone         │               │
 *                                ▼                      ▼               │
 *     running ── fell_asleep ──► asleep ── waking ──► waking ── woke ──► running
 *                                  ▲ └─ machine_gone ─► ending            │
 *                                  └────────── wake_failed ◄──────────────┘
 *
 *     exited ◄──────────────── ending ◄─────────────────┴───────────────┘
 *        │  │    torn_down                process_exited, machine_gone
 *        │  └── start ──► starting
 *        └───── remove ─► removing ──► (gone)      remove_failed ─► dead ── remove ─► removing
 *
 * Invariants: a machine (QEMU) exists only in starting, running, paused, waking and ending; `exited` is reached only after its
 * processes, sockets, tap and ports are gone; nothing leaves `removing` but the end or `dead`.
 * A start that failed goes back to `created` (or `exited` when it had run before) with the reason kept, as Docker does.
 */
import { BerthError, shortId, unreachable } from '#base';
import type { ExitFacts, RunOrigin, SavedMachine, VmRecord, VmState } from './model.ts';

export type VmEvent =
  /** `origin`: from another's memory instead of a boot. */
  | { readonly type: 'start'; readonly origin?: RunOrigin | undefined }
  | { readonly type: 'process_started' }
  | { readonly type: 'start_failed'; readonly exit: ExitFacts }
  | { readonly type: 'process_exited'; readonly exit: ExitFacts }
  | { readonly type: 'machine_gone'; readonly exit: ExitFacts }
  | { readonly type: 'machine_stopped'; readonly error: string }
  /** `keep`: a restart is under way, which spares a VM that goes away when it ends. */
  | { readonly type: 'torn_down'; readonly keep: boolean }
  | { readonly type: 'paused' }
  | { readonly type: 'unpaused' }
  | { readonly type: 'fell_asleep'; readonly saved: SavedMachine }
  | { readonly type: 'waking' }
  | { readonly type: 'woke' }
  | { readonly type: 'wake_failed'; readonly error: string }
  | { readonly type: 'remove'; readonly force: boolean }
  | { readonly type: 'remove_failed'; readonly error: string };

export type VmEffect = 'boot' | 'finish' | 'tear_down' | 'kill_machine' | 'delete' | 'announce_start' | 'announce_die';

export interface Decision {
  readonly record: VmRecord;
  readonly effects: readonly VmEffect[];
}

/**
 * What `event` does to a VM. Returns the record unchanged and no effects when the event says nothing new.
 *
 * @throws vm.already_running (not_modified), vm.paused, vm.running, vm.removing (conflict): refusals of requests.
 */
export function decide(record: VmRecord, event: VmEvent, nowMs: number): Decision {
  switch (event.type) {
    case 'start':
      return start(record, event.origin);
    case 'process_started':
      if (record.state.name !== 'starting') return same(record);
      return to({ ...record, startedAtMs: nowMs, origin: undefined }, { name: 'running' }, ['announce_start']);
    case 'start_failed':
      if (record.state.name !== 'starting') return same(record);
      return to(record, { name: 'ending', exit: event.exit }, ['tear_down']);
    case 'process_exited':
      if (!hasMachine(record.state) || record.state.name === 'ending') return same(record);
      return to(record, { name: 'ending', exit: event.exit }, ['announce_die', 'finish']);
    case 'machine_gone':
      // Whatever led to `ending` has queued the one tear-down already.
      if (!isUp(record.state) || record.state.name === 'ending') return same(record);
      if (record.state.name === 'starting') return to(record, { name: 'ending', exit: event.exit }, ['tear_down']);
      return to(record, { name: 'ending', exit: event.exit }, ['announce_die', 'tear_down']);
    case 'machine_stopped':
      return record.state.name === 'running' ? to(record, { name: 'paused', error: event.error }, []) : same(record);
    case 'paused':
      return record.state.name === 'running' ? to(record, { name: 'paused', error: '' }, []) : same(record);
    case 'unpaused':
      return record.state.name === 'paused' ? to(record, { name: 'running' }, []) : same(record);
    case 'fell_asleep':
      if (record.state.name !== 'running') return same(record);
      return to(settled(record), { name: 'asleep', saved: event.saved, error: '' }, []);
    case 'waking':
      if (record.state.name !== 'asleep') return same(record);
      return to(record, { name: 'waking', saved: record.state.saved }, []);
    case 'woke':
      return record.state.name === 'waking'
        ? to({ ...record, transit: 'waking' }, { name: 'running' }, [])
        : same(record);
    case 'wake_failed':
      if (record.state.name !== 'waking') return same(record);
      return to(settled(record), { name: 'asleep', saved: record.state.saved, error: event.error }, []);
    case 'torn_down':
      return tornDown(record, event.keep);
    case 'remove':
      return remove(record, event.force);
    case 'remove_failed':
      return record.state.name === 'removing' ? to(record, { name: 'dead', error: event.error }, []) : same(record);
    default:
      return unreachable(event, 'VM event');
  }
}

/** Whether a QEMU may exist in this state. */
export function hasMachine(state: VmState): boolean {
  const { name } = state;
  return name === 'starting' || name === 'running' || name === 'paused' || name === 'waking' || name === 'ending';
}

/** Whether the VM's process lives, be it in a machine or written out. */
export function isUp(state: VmState): boolean {
  return hasMachine(state) || state.name === 'asleep';
}

/** Without a machine, and nothing under way. */
function settled(record: VmRecord): VmRecord {
  return { ...record, machine: undefined, transit: undefined };
}

function same(record: VmRecord): Decision {
  return { record, effects: [] };
}

function to(record: VmRecord, state: VmState, effects: readonly VmEffect[]): Decision {
  return { record: { ...record, state }, effects };
}

function start(record: VmRecord, origin: RunOrigin | undefined): Decision {
  const { state } = record;
  if (record.origin !== undefined && origin === undefined && !hasMachine(state)) {
    throw new BerthError('conflict', 'vm.being_made', `VM ${record.name} is still being made`);
  }
  switch (state.name) {
    case 'created':
    case 'exited':
      return to(
        { ...record, run: record.run + 1, boot: {}, machine: undefined, network: undefined, origin },
        { name: 'starting' },
        ['boot'],
      );
    case 'starting':
    case 'running':
    case 'asleep':
    case 'waking':
      throw new BerthError('not_modified', 'vm.already_running', `VM ${record.name} is already running`);
    case 'paused':
      throw new BerthError('conflict', 'vm.paused', 'cannot start a paused container, try unpause instead');
    case 'ending':
      throw new BerthError('conflict', 'vm.ending', `VM ${record.name} is still ending; start it when it has stopped`);
    case 'removing':
    case 'dead':
      throw new BerthError('conflict', 'vm.removing', 'container is marked for removal and cannot be started');
    default:
      return unreachable(state, 'VM state');
  }
}

function tornDown(record: VmRecord, keep: boolean): Decision {
  if (record.state.name !== 'ending') return same(record);
  const ended = { ...settled(record), network: undefined, origin: undefined, frozen: undefined };
  if (record.origin === 'fork') return to(ended, { name: 'removing' }, ['delete']);
  if (record.removal === 'when_ended' || (record.spec.autoRemove && !keep))
    return to(ended, { name: 'removing' }, ['delete']);
  if (record.startedAtMs === undefined && record.run <= 1)
    return to(ended, { name: 'created', failure: record.state.exit }, []);
  return to(ended, { name: 'exited', exit: record.state.exit }, []);
}

function remove(record: VmRecord, force: boolean): Decision {
  const { state } = record;
  if (state.name === 'removing') {
    throw new BerthError('conflict', 'vm.removing', `removal of container ${record.name} is already in progress`);
  }
  if (!isUp(state)) return to(record, { name: 'removing' }, ['delete']);
  if (state.name === 'ending') return { record: { ...record, removal: 'when_ended' }, effects: [] };
  if (!force) {
    const remedy =
      state.name === 'paused'
        ? 'container is paused and must be unpaused first'
        : 'container is running: stop the container before removing or force remove';
    throw new BerthError(
      'conflict',
      'vm.running',
      `cannot remove container "${record.name || shortId(record.id)}": ${remedy}`,
    );
  }
  return { record: { ...record, removal: 'when_ended' }, effects: ['kill_machine'] };
}
