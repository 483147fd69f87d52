import type { Vm } from '#engine';
import { files } from '#platform';
import type { DockerContext } from './context.ts';

/** Bytes the VM's disk takes on the host, and with its image's layers. */
export async function sizesOf(context: DockerContext, vm: Vm): Promise<{ rw: number; root: number }> {
  const disk = await files.stat(vm.diskPath).catch(() => undefined);
  const rw = (disk?.blocks ?? 0) * 512;
  const image = await context.images.rootDiskOf(vm.record.spec.imageId).catch(() => undefined);
  return { rw, root: rw + (image?.layers ?? []).reduce((sum, layer) => sum + layer.sizeBytes, 0) };
}
