/**
 * Power verbs of vSphere: most are tasks, which are looked at until they end or patience does.
 *
 * There is no pause that keeps memory where it is: `pause` suspends, which writes it to the datastore and takes its time.
 */
import { BerthError } from '#base';
import { sleep } from '#platform';
import type { PowerFacet, PowerVerb } from '../../driver.ts';
import { childAt, textAt } from '../../xml.ts';
import { element, type Moref, meaningOf, morefOf, reference, type Xml } from './soap.ts';
import type { ServiceContent, VsphereClient } from './vsphere-client.ts';

/** A task that is still at it when patience ends was accepted: that is all that was asked. */
const TASK_DEADLINE_MS = 10_000;
const TASK_EVERY_MS = 100;

export function powerFacet(client: VsphereClient, content: ServiceContent): PowerFacet {
  const task =
    (method: string, ...more: readonly Xml[]) =>
    async (vm: Moref) => {
      const made = await client.call(method, [reference('_this', vm), ...more]);
      const running = morefOf(childAt(made, 'returnval'));
      if (running !== undefined) await taskEnd(client, content, running);
    };
  const plain = (method: string) => async (vm: Moref) => {
    await client.call(method, [reference('_this', vm)]);
  };
  const powerOn = task('PowerOnVM_Task');
  const actions: Readonly<Record<PowerVerb, (vm: Moref) => Promise<void>>> = {
    start: powerOn,
    stop: task('PowerOffVM_Task'),
    shutdown: plain('ShutdownGuest'),
    reboot: plain('RebootGuest'),
    pause: task('SuspendVM_Task'),
    resume: async (vm) => {
      // The same call would start one that is off.
      const [state] = await client.retrieve(content.propertyCollector, [vm], {
        properties: ['runtime.powerState'],
        read: ({ properties }) => properties.get('runtime.powerState')?.text,
      });
      if (state === undefined) throw new BerthError('not_found', 'vm.not_found', `vSphere has no VM ${vm.id}`);
      if (state !== 'suspended')
        throw new BerthError('conflict', 'vsphere.bad_state', `${vm.id} is not suspended: it is ${state}`, {
          hint: 'start brings up one that is off',
        });
      await powerOn(vm);
    },
    snapshot: task(
      'CreateSnapshot_Task',
      element('name', 'berth'),
      element('memory', false),
      element('quiesce', false),
    ),
  };
  return {
    verbs: Object.keys(actions) as PowerVerb[],
    act: (verb, nativeId) => actions[verb]({ type: 'VirtualMachine', id: nativeId }),
  };
}

/** @throws what it failed with */
async function taskEnd(client: VsphereClient, content: ServiceContent, task: Moref): Promise<void> {
  for (let leftMs = TASK_DEADLINE_MS; leftMs > 0; leftMs -= TASK_EVERY_MS) {
    const [found] = await client.retrieve(content.propertyCollector, [task], {
      properties: ['info.state', 'info.error'],
      read: ({ properties }) => properties,
    });
    const state = found?.get('info.state')?.text;
    if (state === 'success') return;
    if (state === 'error') {
      const failure = found?.get('info.error');
      const name = (childAt(failure, 'fault')?.attributes['type'] ?? '').replace(/^.*:/, '');
      throw meaningOf(name, textAt(failure, 'localizedMessage') ?? name);
    }
    await sleep(TASK_EVERY_MS);
  }
}
