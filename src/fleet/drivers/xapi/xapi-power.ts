/**
 * Power verbs as XAPI's asynchronous calls: each gives a task at once, which is looked at until it ends or patience does.
 *
 * @source XenAPI reference: Async.VM.*, class task
 */
import * as v from 'valibot';
import { BerthError } from '#base';
import { sleep } from '#platform';
import type { PowerFacet, PowerVerb } from '../../driver.ts';
import { meaningOf } from './failures.ts';
import { isVm } from './pool-facts.ts';
import type { SessionCall } from './pool-reader.ts';
import { readRecord, type VmRecord } from './records.ts';

/** A task that is still at it when patience ends was accepted: that is all that was asked. */
const TASK_DEADLINE_MS = 10_000;
const TASK_EVERY_MS = 100;

/** Method and what comes after the VM. */
type Action = readonly [method: string, ...params: readonly unknown[]];

const ACTIONS: Readonly<Record<PowerVerb, (vm: VmRecord) => Action>> = {
  // Not paused, and not forced onto a host that would not do.
  start: () => ['start', false, false],
  stop: () => ['hard_shutdown'],
  shutdown: () => ['clean_shutdown'],
  reboot: () => ['clean_reboot'],
  pause: () => ['pause'],
  resume: (vm) => (vm.power_state === 'Suspended' ? ['resume', false, false] : ['unpause']),
  snapshot: () => ['snapshot', 'berth'],
};

const TaskSchema = v.object({ status: v.string(), error_info: v.fallback(v.array(v.string()), []) });

export function powerFacet(call: SessionCall): PowerFacet {
  return {
    verbs: Object.keys(ACTIONS) as PowerVerb[],
    act: async (verb, nativeId) => {
      const { ref, record } = await vmNamed(call, nativeId);
      const [method, ...params] = ACTIONS[verb](record);
      const task = await call(`Async.VM.${method}`, [ref, ...params]);
      await taskEnd(call, String(task), `${verb} of ${record.name_label}`);
    },
  };
}

async function vmNamed(call: SessionCall, uuid: string): Promise<{ ref: string; record: VmRecord }> {
  const ref = String(await call('VM.get_by_uuid', [uuid]));
  const record = readRecord('VM', await call('VM.get_record', [ref]));
  // A control domain is the host: what would stop it is no verb of a VM.
  if (record !== undefined && isVm(record)) return { ref, record };
  throw new BerthError('not_found', 'vm.not_found', `${uuid} is no VM of this pool`);
}

async function taskEnd(call: SessionCall, task: string, what: string): Promise<void> {
  for (let leftMs = TASK_DEADLINE_MS; leftMs > 0; leftMs -= TASK_EVERY_MS) {
    const parsed = v.safeParse(TaskSchema, await call('task.get_record', [task]));
    const status = parsed.success ? parsed.output.status : 'unknown';
    if (status !== 'pending') {
      await call('task.destroy', [task]).catch(() => {});
      if (status === 'success') return;
      const [code = status, ...about] = parsed.success ? parsed.output.error_info : [];
      throw meaningOf(code, about, what);
    }
    await sleep(TASK_EVERY_MS);
  }
}
