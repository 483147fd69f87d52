/** What berth can beyond Docker's API, on the same socket. Append-only, like everything that is called v1. */
import type { Call } from './call.ts';
import type { DockerContext } from './context.ts';
import type { Route } from './router.ts';

export function extensionRoutes(context: DockerContext): Route[] {
  const { engine } = context;

  const fork = async (call: Call): Promise<void> => {
    const parent = engine.find(call.parameter('id'));
    const { vms, failures } = await engine.fork(parent, {
      count: call.number('count') ?? 1,
      name: call.query.get('name') || undefined,
    });
    call.reply(201, {
      vms: vms.map(({ record }) => ({ id: record.id, name: record.name })),
      ...(failures.length === 0 ? {} : { failures }),
    });
  };

  return [{ method: 'POST', path: '/berth/v1/vms/{id}/fork', summary: 'fork a running VM', handle: fork }];
}
