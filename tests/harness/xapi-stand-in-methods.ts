/** The calls that the XAPI stand-in answers, each as the published reference has it; every other one is MESSAGE_METHOD_UNKNOWN. */
import { randomUUID } from 'node:crypto';
import { NULL_REF, type StandInPool, XAPI_CREDENTIALS, XapiFailure } from './xapi-stand-in-database.ts';

export interface Call {
  readonly pool: StandInPool;
  readonly memberIndex: number;
  readonly method: string;
  readonly params: readonly unknown[];
}

/** Power states that a method may begin with, and what it makes of them. */
const POWER: Readonly<Record<string, { readonly from: readonly string[]; readonly to: string }>> = {
  start: { from: ['Halted'], to: 'Running' },
  hard_shutdown: { from: ['Running', 'Paused', 'Suspended'], to: 'Halted' },
  clean_shutdown: { from: ['Running'], to: 'Halted' },
  clean_reboot: { from: ['Running'], to: 'Running' },
  pause: { from: ['Running'], to: 'Paused' },
  unpause: { from: ['Paused'], to: 'Running' },
  resume: { from: ['Suspended'], to: 'Running' },
  snapshot: { from: ['Halted', 'Running', 'Paused', 'Suspended'], to: '' },
};
/** How many come after the session and the VM. */
const MORE_PARAMETERS: Readonly<Record<string, number>> = { start: 2, resume: 2, snapshot: 1 };
const TASK_MS = 20;

export async function answerCall(call: Call): Promise<unknown> {
  const { pool, method, params } = call;
  if (method === 'session.login_with_password') return login(call);
  const [session] = params;
  if (!pool.sessions.has(String(session))) throw new XapiFailure('SESSION_INVALID', String(session));
  if (method === 'session.logout') {
    pool.sessions.delete(String(session));
    pool.database.rouse();
    return '';
  }
  if (call.memberIndex !== pool.masterIndex) throw new XapiFailure('HOST_IS_SLAVE', pool.master.address);
  if (method === 'session.get_this_host') return pool.master.hostRef;
  if (method === 'event.from') return await eventFrom(call);
  if (method === 'host.get_servertime')
    return new Date(Date.now() + pool.clockAheadMs)
      .toISOString()
      .replace(/\.[0-9]+Z/, 'Z')
      .replace(/-/g, '');
  const [, className = '', verb = ''] = /^(?:Async\.)?([A-Za-z_]+)\.([a-z_]+)$/.exec(method) ?? [];
  if (verb === 'get_all_records') return Object.fromEntries(pool.database.allOf(className));
  if (method === 'message.get_since') return messagesSince(call);
  if (method === 'VM.get_by_uuid') return byUuid(call);
  if (method === 'VM.get_record' || method === 'task.get_record') return pool.database.record(String(params[1]));
  if (method === 'task.destroy') {
    pool.database.remove(String(params[1]));
    return '';
  }
  if (method.startsWith('Async.VM.') && POWER[verb] !== undefined) return startTask(call, verb);
  throw new XapiFailure('MESSAGE_METHOD_UNKNOWN', method);
}

function login({ pool, memberIndex, params }: Call): string {
  pool.loginCount += 1;
  if (params.length < 2 || params.length > 4)
    throw new XapiFailure(
      'MESSAGE_PARAMETER_COUNT_MISMATCH',
      'session.login_with_password',
      '4',
      String(params.length),
    );
  if (memberIndex !== pool.masterIndex) throw new XapiFailure('HOST_IS_SLAVE', pool.master.address);
  const [user, password] = params;
  if (user !== XAPI_CREDENTIALS.user || password !== XAPI_CREDENTIALS.password)
    throw new XapiFailure('SESSION_AUTHENTICATION_FAILED', String(user), 'Authentication failure');
  const session = `OpaqueRef:${randomUUID()}`;
  pool.sessions.add(session);
  return session;
}

/** A datetime without a fraction. */
function messagesSince({ pool, params }: Call): unknown {
  const since = String(params[1]);
  if (params.length !== 2 || !/^[0-9]{8}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$/.test(since))
    throw new XapiFailure('FIELD_TYPE_ERROR', 'since');
  // Of one form and one length: they sort as they come after one another.
  return Object.fromEntries(
    pool.database.allOf('message').filter(([, record]) => String(record['timestamp']) >= since),
  );
}

function byUuid({ pool, params }: Call): string {
  const found = pool.database.allOf('VM').find(([, record]) => record['uuid'] === params[1]);
  if (found === undefined) throw new XapiFailure('UUID_INVALID', 'VM', String(params[1]));
  return found[0];
}

/** A token is the number of the last change and, as in XAPI, of the last message, of which there are none. */
async function eventFrom({ pool, params }: Call): Promise<unknown> {
  const { database } = pool;
  const [session, classes, token, timeoutSeconds] = params;
  if (!Array.isArray(classes) || typeof timeoutSeconds !== 'number' || Number.isInteger(timeoutSeconds))
    throw new XapiFailure('FIELD_TYPE_ERROR', 'timeout');
  const wanted = new Set(classes.map((name) => String(name).toLowerCase()));
  const since = token === '' ? 0 : Number(/^([0-9]{20}),[0-9]{20}$/.exec(String(token))?.[1] ?? Number.NaN);
  if (Number.isNaN(since)) throw new XapiFailure('EVENT_FROM_TOKEN_PARSE_FAILURE', String(token));
  const until = Date.now() + timeoutSeconds * 1_000;
  for (;;) {
    if (!pool.sessions.has(String(session))) throw new XapiFailure('SESSION_INVALID', String(session));
    if (token !== '' && since < database.oldestToken) throw new XapiFailure('EVENTS_LOST');
    const events = eventsSince(pool, since).filter((event) => wanted.has(event.class));
    if (events.length > 0 || token === '' || Date.now() >= until) {
      const place = String(database.generation).padStart(20, '0');
      return { events, valid_ref_counts: {}, token: `${place},${'0'.repeat(20)}` };
    }
    await database.untilRoused(until - Date.now());
  }
}

function eventsSince({ database }: StandInPool, since: number) {
  const there = [...database.objects].flatMap(([ref, one]) => {
    if (one.modifiedAt <= since) return [];
    const operation = one.createdAt > since ? 'add' : 'mod';
    const snapshot = structuredClone(one.record);
    return [{ id: String(one.modifiedAt), timestamp: '0.', class: one.class.toLowerCase(), operation, ref, snapshot }];
  });
  const gone = database.deleted.flatMap(({ class: name, ref, at }) =>
    at <= since ? [] : [{ id: String(at), timestamp: '0.', class: name.toLowerCase(), operation: 'del', ref }],
  );
  return [...gone, ...there];
}

function startTask({ pool, params }: Call, verb: string): string {
  const { database } = pool;
  if (params.length !== 2 + (MORE_PARAMETERS[verb] ?? 0))
    throw new XapiFailure('MESSAGE_PARAMETER_COUNT_MISMATCH', verb, '', String(params.length));
  const vm = String(params[1]);
  const task = database.add('task', { uuid: randomUUID(), name_label: verb, status: 'pending', error_info: [] });
  setTimeout(() => {
    try {
      act(pool, vm, verb);
      database.change(task, { status: 'success' });
    } catch (error) {
      if (!(error instanceof XapiFailure)) throw error;
      database.change(task, { status: 'failure', error_info: [error.code, ...error.about] });
    }
  }, TASK_MS).unref();
  return task;
}

function act(pool: StandInPool, vm: string, verb: string): void {
  const { database } = pool;
  const record = database.record(vm);
  const { from, to } = POWER[verb] ?? { from: [], to: '' };
  const state = String(record['power_state']);
  if (!from.includes(state))
    throw new XapiFailure('VM_BAD_POWER_STATE', vm, (from[0] ?? '').toLowerCase(), state.toLowerCase());
  if (verb === 'snapshot') {
    const { uuid: _, ...rest } = structuredClone(record);
    const taken = { ...rest, uuid: randomUUID(), is_a_snapshot: true, is_a_template: true, power_state: 'Halted' };
    database.add('VM', { ...taken, snapshot_of: vm, resident_on: NULL_REF });
  } else if (to === 'Halted') database.setHalted(vm);
  else if (state === 'Halted' || state === 'Suspended') database.setRunning(vm, pool.master.hostRef);
  else database.change(vm, { power_state: to });
}
