/** Docker's experimental checkpoints, and berth's own ways to carry them to another host. */
import { PassThrough } from 'node:stream';
import * as v from 'valibot';
import { BerthError } from '#base';
import type { Vm } from '#engine';
import type { Call } from './call.ts';
import type { DockerContext } from './context.ts';
import { rfc3339 } from './durations.ts';
import { write } from './frames.ts';
import type { Route } from './router.ts';

const CreateSchema = v.object({
  CheckpointID: v.string(),
  CheckpointDir: v.optional(v.nullable(v.string())),
  Exit: v.optional(v.boolean()),
});

/** Where checkpoints lie is berth's affair. @throws checkpoint.dir (unsupported) */
export function refuseCheckpointDir(folder: string | null | undefined): void {
  if (!folder) return;
  throw new BerthError(
    'unsupported',
    'checkpoint.dir',
    `a checkpoint folder of one's own is not supported: ${folder}`,
    {
      hint: 'checkpoints lie with their VM; "berth checkpoint export" writes one into a file',
    },
  );
}

export function checkpointRoutes(context: DockerContext): Route[] {
  const { engine } = context;
  const vmOf = (call: Call): Vm => engine.find(call.parameter('id'));

  const list = async (call: Call): Promise<void> => {
    refuseCheckpointDir(call.query.get('dir'));
    const found = await engine.checkpoints.list(vmOf(call));
    call.reply(
      200,
      found.map(({ name, createdAtMs, bytes }) => ({ Name: name, Created: rfc3339(createdAtMs), Size: bytes })),
    );
  };

  const create = async (call: Call): Promise<void> => {
    const body = await call.json(CreateSchema);
    refuseCheckpointDir(body.CheckpointDir);
    await engine.checkpoints.create(vmOf(call), body.CheckpointID, { exit: body.Exit ?? false });
    call.reply(201);
  };

  const remove = async (call: Call): Promise<void> => {
    refuseCheckpointDir(call.query.get('dir'));
    await engine.checkpoints.remove(vmOf(call), call.parameter('checkpoint'));
    call.reply(204);
  };

  const exportOne = async (call: Call): Promise<void> => {
    const archive = await engine.checkpoints.exportTo(vmOf(call), call.parameter('checkpoint'));
    const response = call.stream('application/x-tar');
    for await (const chunk of archive) {
      if (call.signal.aborted) return;
      await write(response, chunk as Buffer);
    }
    response.end();
  };

  const importOne = async (call: Call): Promise<void> => {
    const body = call.bodyStream();
    const archive = body.pipe(new PassThrough());
    body.once('close', () => archive.end());
    try {
      const vm = await engine.checkpoints.import(archive, {
        name: call.query.get('name') || undefined,
        checkpoint: call.query.get('checkpoint') || 'imported',
      });
      call.reply(201, { id: vm.record.id, name: vm.record.name });
    } catch (error) {
      // The rest is read and dropped: a connection closed over unread bytes takes the refusal with it.
      const isRead = body.readableEnded || body.destroyed;
      body.unpipe(archive).resume();
      if (!isRead) await new Promise<void>((resolve) => body.once('end', resolve).once('close', resolve));
      throw error;
    }
  };

  return [
    { method: 'GET', path: '/containers/{id}/checkpoints', summary: 'list checkpoints', handle: list },
    { method: 'POST', path: '/containers/{id}/checkpoints', summary: 'make a checkpoint', handle: create },
    {
      method: 'DELETE',
      path: '/containers/{id}/checkpoints/{checkpoint}',
      summary: 'remove a checkpoint',
      handle: remove,
    },
    {
      method: 'GET',
      path: '/berth/v1/vms/{id}/checkpoints/{checkpoint}/export',
      summary: 'a checkpoint as one file',
      handle: exportOne,
    },
    { method: 'POST', path: '/berth/v1/checkpoints/import', summary: 'a VM from such a file', handle: importOne },
  ];
}
