/** Containers: making, starting, ending and looking at them. */
import { BerthError, isDigest } from '#base';
import type { Vm, WaitCondition } from '#engine';
import { nowMs } from '#platform';
import type { Call } from './call.ts';
import { refuseCheckpointDir } from './checkpoints.ts';
import { chooseRecords, LIST_FILTERS } from './container-list.ts';
import { inspectView, listEntry } from './container-views.ts';
import type { DockerContext } from './context.ts';
import { CreateSchema } from './create-body.ts';
import { translateCreate } from './create-translation.ts';
import { sizesOf } from './disk-sizes.ts';
import { parseTime } from './durations.ts';
import { containerHappened } from './event-log.ts';
import { labelsMatch, parseFilters } from './filters.ts';
import { processTable } from './process-table.ts';
import { randomName } from './random-name.ts';
import type { Route } from './router.ts';
import { parseSignal } from './signals.ts';
import { removeVolume, tellVolume } from './volumes.ts';

export function containerRoutes(context: DockerContext): Route[] {
  const { engine } = context;
  const vmOf = (call: Call): Vm => engine.find(call.parameter('id'));

  const create = async (call: Call): Promise<void> => {
    const body = await call.json(CreateSchema);
    if (!body.Image) throw new BerthError('invalid', 'create.no_image', 'no image specified: the field Image is empty');
    checkPlatform(call.query.get('platform'), context);
    const image = await context.images.rootDiskOf(body.Image);
    const { spec, warnings, volumes } = translateCreate(body, { id: image.imageId, config: image.config.config });
    const taken = new Set(engine.list().map((vm) => vm.record.name));
    const name = (call.query.get('name') || randomName((candidate) => taken.has(candidate))).replace(/^\//, '');
    const made: string[] = [];
    try {
      for (const request of volumes) {
        const { volume, isNew } = await context.volumes.create(request);
        if (!isNew) continue;
        made.push(volume.name);
        tellVolume(context, 'create', volume.name);
      }
      const vm = await engine.create(name, spec);
      call.reply(201, { Id: vm.record.id, Warnings: warnings });
    } catch (error) {
      // They hold nothing yet. Asked last: somebody else may have got one meanwhile.
      for (const one of made)
        if (context.volumes.has(one) && engine.usersOf(one).length === 0) await removeVolume(context, one);
      throw error;
    }
  };

  const list = async (call: Call): Promise<void> => {
    const filters = parseFilters(call.query.get('filters'), LIST_FILTERS);
    const ancestorIds = new Set<string>();
    for (const name of filters.get('ancestor') ?? []) {
      const found = await context.images.inspect(name).catch(() => undefined);
      if (found !== undefined) ancestorIds.add(found.id);
      if (isDigest(name)) ancestorIds.add(name);
    }
    const records = chooseRecords(engine, { all: call.flag('all'), limit: call.number('limit'), filters, ancestorIds });
    const now = nowMs();
    const sized = call.flag('size');
    const entries = await Promise.all(
      records.map(async (record) =>
        listEntry(record, now, sized ? await sizesOf(context, engine.find(record.id)) : undefined),
      ),
    );
    call.reply(200, entries);
  };

  const inspect = async (call: Call): Promise<void> => {
    const vm = vmOf(call);
    const execIds = [...vm.execs.values()].filter((exec) => exec.state.name === 'running').map((exec) => exec.id);
    const size = call.flag('size') ? await sizesOf(context, vm) : undefined;
    const memory = await vm.memory();
    call.reply(200, inspectView(vm.record, { trouble: vm.trouble, logPath: vm.logPath, execIds, size, memory }));
  };

  const stopOptions = (call: Call): { signal?: number; timeoutSeconds?: number } => {
    const signal = call.query.get('signal');
    const timeoutSeconds = call.number('t');
    return {
      ...(signal ? { signal: parseSignal(signal) } : {}),
      ...(timeoutSeconds === undefined ? {} : { timeoutSeconds }),
    };
  };

  const wait = async (call: Call): Promise<void> => {
    const vm = vmOf(call);
    const condition = (call.query.get('condition') || 'not-running') as WaitCondition;
    if (!['not-running', 'next-exit', 'removed'].includes(condition)) {
      throw new BerthError('invalid', 'wait.condition', `invalid condition: "${condition}"`);
    }
    const settled = vm.wait(condition, call.signal);
    settled.catch(() => {});
    // Headers now: the CLI sends no `start` before it has them.
    const response = call.stream('application/json');
    const { exitCode, error } = await settled;
    response.end(
      `${JSON.stringify({ StatusCode: exitCode, ...(error === '' ? {} : { Error: { Message: error } }) })}\n`,
    );
  };

  const prune = async (call: Call): Promise<void> => {
    const filters = parseFilters(call.query.get('filters'), ['label', 'label!', 'until']);
    const until = parseTime(filters.get('until')?.[0] ?? null, nowMs());
    const deleted: string[] = [];
    let freedBytes = 0;
    for (const vm of engine.list()) {
      const { id, state, spec, createdAtMs } = vm.record;
      const isOver = state.name === 'created' || state.name === 'exited' || state.name === 'dead';
      const isKept =
        !labelsMatch(spec.labels, filters.get('label')) ||
        (filters.get('label!') ?? []).some((label) => labelsMatch(spec.labels, [label]));
      if (!isOver || isKept || (until !== undefined && createdAtMs >= until)) continue;
      const { rw } = await sizesOf(context, vm);
      // One that starts or goes away meanwhile is not this call's business any more.
      const isRemoved = await vm.remove({ force: false }).then(
        () => true,
        () => false,
      );
      if (!isRemoved) continue;
      deleted.push(id);
      freedBytes += rw;
    }
    call.reply(200, { ContainersDeleted: deleted, SpaceReclaimed: freedBytes });
  };

  const done = (action: (call: Call) => Promise<void> | void) => async (call: Call) => {
    await action(call);
    call.reply(204);
  };

  return [
    { method: 'GET', path: '/containers/json', summary: 'list', handle: list },
    { method: 'POST', path: '/containers/create', summary: 'create', handle: create },
    { method: 'GET', path: '/containers/{id}/json', summary: 'inspect', handle: inspect },
    {
      method: 'POST',
      path: '/containers/{id}/start',
      summary: 'start',
      handle: done((call) => startVm(call, vmOf(call), context)),
    },
    {
      method: 'POST',
      path: '/containers/{id}/stop',
      summary: 'stop',
      handle: done((call) => vmOf(call).stop(stopOptions(call))),
    },
    {
      method: 'POST',
      path: '/containers/{id}/restart',
      summary: 'restart',
      handle: done((call) => vmOf(call).restart(stopOptions(call))),
    },
    {
      method: 'POST',
      path: '/containers/{id}/kill',
      summary: 'send a signal',
      handle: done((call) => vmOf(call).kill(parseSignal(call.query.get('signal') || 'KILL'))),
    },
    { method: 'POST', path: '/containers/{id}/pause', summary: 'pause', handle: done((call) => vmOf(call).pause()) },
    {
      method: 'POST',
      path: '/containers/{id}/unpause',
      summary: 'unpause',
      handle: done((call) => vmOf(call).unpause()),
    },
    {
      method: 'POST',
      path: '/containers/{id}/rename',
      summary: 'rename',
      handle: done((call) => {
        const name = call.query.get('name') ?? '';
        if (name === '') throw new BerthError('invalid', 'vm.bad_name', 'Neither old nor new names may be empty');
        const vm = vmOf(call);
        const next = name.replace(/^\//, '');
        if (vm.record.name === next) {
          const text = 'Renaming a container with the same name as its current name';
          throw new BerthError('invalid', 'vm.same_name', text);
        }
        engine.rename(vm, next);
      }),
    },
    { method: 'POST', path: '/containers/prune', summary: 'remove those that do not run', handle: prune },
    { method: 'POST', path: '/containers/{id}/wait', summary: 'wait for the end', handle: wait },
    {
      method: 'DELETE',
      path: '/containers/{id}',
      summary: 'remove',
      handle: done((call) => vmOf(call).remove({ force: call.flag('force') })),
    },
    {
      method: 'GET',
      path: '/containers/{id}/top',
      summary: 'processes inside',
      handle: (call) => top(call, context),
    },
  ];
}

async function startVm(call: Call, vm: Vm, context: DockerContext): Promise<void> {
  refuseCheckpointDir(call.query.get('checkpoint-dir'));
  const checkpoint = call.query.get('checkpoint');
  if (checkpoint) await context.engine.checkpoints.restore(vm, checkpoint);
  else await vm.start();
}

function checkPlatform(platform: string | null, context: DockerContext): void {
  if (platform === null || platform === '') return;
  const [os, architecture] = platform.split('/');
  if (os !== 'linux' || (architecture !== undefined && architecture !== context.facts.architecture)) {
    const text = `the platform ${platform} is not supported: guests are linux/${context.facts.architecture}`;
    throw new BerthError('unsupported', 'create.platform', text);
  }
}

async function top(call: Call, context: DockerContext): Promise<void> {
  const vm = context.engine.find(call.parameter('id'));
  await vm.awake();
  const link = vm.link();
  const [entries, memory] = await Promise.all([link.top(), link.memory()]);
  const moment = { nowMs: nowMs(), totalBytes: memory.totalBytes };
  call.reply(200, processTable(entries, call.query.get('ps_args') || '-ef', moment));
  containerHappened(context, vm, 'top');
}
