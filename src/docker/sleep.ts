/** Sleep over the API: berth's own, since containers do not sleep. */
import type { DockerContext } from './context.ts';
import type { Route } from './router.ts';

export function sleepRoutes({ engine }: DockerContext): Route[] {
  return [
    {
      method: 'POST',
      path: '/berth/v1/vms/{id}/sleep',
      summary: 'write the machine out and end it',
      handle: async (call) => {
        await engine.find(call.parameter('id')).sleep();
        call.reply(204);
      },
    },
    {
      method: 'POST',
      path: '/berth/v1/vms/{id}/wake',
      summary: 'make it run again',
      handle: async (call) => {
        await engine.find(call.parameter('id')).awake();
        call.reply(204);
      },
    },
  ];
}
