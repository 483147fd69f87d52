/**
 * What a pool remembers of its VMs: the messages XAPI keeps for the administrator, at most 10,000 of them, of all kinds.
 *
 * They tell whole seconds, in no order that is documented. What several of one second say is told only when they agree: how
 * the VM stood after them is unknown otherwise. Where a VM ran is in the words of a start or a resume; a migration does not
 * say where to.
 *
 * @source XenAPI reference: class message (`get_since`, and the names of messages)
 */
import * as v from 'valibot';
import { BerthError } from '#base';
import { nowMs } from '#platform';
import type { PastEvent } from '../../driver.ts';
import type { PowerState } from '../../facts.ts';
import type { SessionCall } from './pool-reader.ts';
import { timeOf } from './records.ts';

/** As for what VMs consume: the server tells whole seconds. */
const SAME_CLOCK_MS = 5_000;
/** The body's is a sentence of a hundred characters and a name. */
const MOST_BODY = 4_096;

/** After a crash or a revert it depends on the VM's settings, or on the snapshot. */
const STATE_AFTER: Readonly<Record<string, PowerState>> = {
  VM_STARTED: 'running',
  VM_RESUMED: 'running',
  VM_UNPAUSED: 'running',
  VM_REBOOTED: 'running',
  VM_MIGRATED: 'running',
  VM_PAUSED: 'paused',
  VM_SUSPENDED: 'suspended',
  VM_SHUTDOWN: 'off',
  VM_CRASHED: 'unknown',
  VM_SNAPSHOT_REVERTED: 'unknown',
};
/** Those after which it is where it was. */
const STAYS: ReadonlySet<string> = new Set(['VM_UNPAUSED', 'VM_REBOOTED', 'VM_PAUSED']);

const MessagesSchema = v.record(v.string(), v.unknown());
const MessageSchema = v.object({
  name: v.string(),
  cls: v.string(),
  obj_uuid: v.pipe(v.string(), v.minLength(1), v.maxLength(1_024)),
  timestamp: v.pipe(v.string(), v.transform(timeOf), v.number()),
  body: v.fallback(v.string(), ''),
});
type Message = v.InferOutput<typeof MessageSchema>;

/** @throws what the calls throw; xapi.malformed (invalid) */
export async function pastEvents(call: SessionCall, fromMs: number): Promise<PastEvent[]> {
  const time = timeOf(String(await call('host.get_servertime', [await call('session.get_this_host')])));
  const aheadMs = (time ?? nowMs()) - nowMs();
  const shiftMs = Math.abs(aheadMs) < SAME_CLOCK_MS ? 0 : Math.round(aheadMs / 1_000) * 1_000;
  const since = new Date(fromMs + shiftMs)
    .toISOString()
    .replace(/\.[0-9]+Z$/, 'Z')
    .replace(/-/g, '');
  const answer = v.safeParse(MessagesSchema, await call('message.get_since', [since]));
  if (!answer.success)
    throw new BerthError('invalid', 'xapi.malformed', 'the answer to message.get_since is no map of records');
  return eventsOf(Object.values(answer.output), shiftMs).filter((event) => event.atMs >= fromMs);
}

/** @param records - of messages; what is none, or about something else, is left out. */
export function eventsOf(records: readonly unknown[], shiftMs: number): PastEvent[] {
  const moments = new Map<string, Message[]>();
  for (const record of records) {
    const parsed = v.safeParse(MessageSchema, record);
    if (!parsed.success) continue;
    const message = parsed.output;
    if (message.cls !== 'VM' || STATE_AFTER[message.name] === undefined) continue;
    const moment = `${message.obj_uuid} ${message.timestamp}`;
    moments.set(moment, [...(moments.get(moment) ?? []), message]);
  }
  return [...moments.values()].map((together, sequence) => eventOf(together, { sequence, shiftMs }));
}

function eventOf(
  together: readonly Message[],
  { sequence, shiftMs }: { readonly sequence: number; readonly shiftMs: number },
): PastEvent {
  const [first] = together as [Message];
  const states = new Set(together.map(({ name }) => STATE_AFTER[name]));
  const hosts = new Set(together.map(hostAfter));
  const at = { nativeId: first.obj_uuid, atMs: first.timestamp - shiftMs, sequence };
  const powerState: PowerState = states.size === 1 ? (STATE_AFTER[first.name] ?? 'unknown') : 'unknown';
  const [hostId] = hosts.size === 1 ? hosts : [null];
  return { ...at, powerState, ...(hostId === undefined ? {} : { hostId }) };
}

/** Undefined: as before. Null: on none, or it is not told. */
function hostAfter({ name, body }: Message): string | null | undefined {
  if (STAYS.has(name)) return undefined;
  if (name !== 'VM_STARTED' && name !== 'VM_RESUMED') return null;
  // At the end of the sentence: before it comes the VM's name, which may be anything.
  return /\(uuid: ([0-9a-f-]{36})\)\s*$/i.exec(body.slice(-MOST_BODY))?.[1]?.toLowerCase() ?? null;
}
