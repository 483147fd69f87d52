/** Where one VM's files lie: what outlives a run in the state folder, its sockets in the run folder. */
import { BerthError, shortId } from '#base';
import { files } from '#platform';
import type { VmRecord } from './model.ts';
import type { EnginePorts, EngineSettings } from './ports.ts';
import { type Extent, layOutRootDisk } from './root-disk.ts';

export class VmFolders {
  readonly state: string;
  readonly run: string;
  readonly #settings: EngineSettings;

  constructor(id: string, settings: EngineSettings) {
    this.state = `${settings.stateFolder}/vms/${id}`;
    // As long as the name of a machine of the pool: one takes the other's place in the arguments of a twin.
    this.run = `${settings.runFolder}/vm/v${shortId(id)}`;
    this.#settings = settings;
  }

  get processLog(): string {
    return `${this.state}/process.log`;
  }

  /** QEMU's own words. */
  get qemuLog(): string {
    return `${this.state}/qemu.log`;
  }

  get dataDisk(): string {
    return `${this.state}/data.img`;
  }

  /** Memory and devices of a VM that sleeps. */
  get sleep(): string {
    return `${this.state}/asleep`;
  }

  get rootDescriptor(): string {
    return `${this.state}/root.vmdk`;
  }

  /** @throws disk.full (exhausted), image.not_found (not_found) */
  async prepare(
    record: VmRecord,
    ports: EnginePorts,
    makeDisk: (path: string, bytes: number, uid: number | undefined) => Promise<void>,
  ): Promise<void> {
    await files.mkdir(this.state, { recursive: true, mode: 0o711 });
    await makeDisk(
      this.dataDisk,
      record.spec.diskBytes,
      this.#settings.firstUid === undefined ? undefined : record.uid,
    );
    await this.writeRootDescriptor(record, ports);
  }

  /**
   * An empty run folder that only this VM's QEMU and root can enter. Its disks are that user's as well: a daemon that died
   * while it gave the VM a machine from the pool may have left it another's.
   *
   * @throws volume.lost (data_loss)
   */
  async prepareRun(uid: number, volumes: readonly string[]): Promise<void> {
    await this.removeRun();
    for (const path of volumes) {
      if (await files.exists(path)) continue;
      throw new BerthError('data_loss', 'volume.lost', `the disk of a volume is gone: ${path}`, {
        hint: 'bring it back from a backup, or remove the volume and make an empty one',
      });
    }
    await files.mkdir(this.run, { recursive: true, mode: 0o700 });
    if (this.#settings.firstUid === undefined) return;
    for (const path of [this.run, this.dataDisk, ...volumes]) await files.chown(path, uid, uid);
  }

  /** Writes the root disk's descriptor when it is not there or the image store has moved; returns the layers' places. */
  async writeRootDescriptor(record: VmRecord, ports: EnginePorts): Promise<readonly Extent[]> {
    const disk = layOutRootDisk(await ports.images.layersOf(record.spec.imageId));
    if ((await files.readTextIfExists(this.rootDescriptor)) !== disk.descriptor) {
      await files.writeFileAtomic(this.rootDescriptor, disk.descriptor, 0o644);
    }
    return disk.extents;
  }

  async removeRun(): Promise<void> {
    await files.rm(this.run, { recursive: true, force: true });
  }

  async remove(): Promise<void> {
    await files.rm(this.state, { recursive: true, force: true });
    await this.removeRun();
  }
}
