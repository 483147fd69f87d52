/**
 * Volumes: disks with names, which outlive the VMs that have them.
 *
 *     FOLDER/NAME.img   a sparse ext4 image
 *     the record        name, size, labels: what there is. A file without one is the rest of a crash, and removed
 *
 * Who has a volume is not known here: a VM's record says which it wants.
 */
import { randomBytes } from 'node:crypto';
import * as v from 'valibot';
import { BerthError, GIB, MIB } from '#base';
import { files, nowMs } from '#platform';

/** As Docker's; it is also the name of a file. */
export const VOLUME_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,199}$/;

const LEAST_BYTES = 16 * MIB;
const MOST_BYTES = 16 * 1024 * GIB;
const DEFAULT_BYTES = 10 * GIB;

const RecordSchema = v.object({
  version: v.literal(1),
  name: v.pipe(v.string(), v.regex(VOLUME_NAME)),
  createdAtMs: v.number(),
  sizeBytes: v.number(),
  labels: v.record(v.string(), v.string()),
  options: v.record(v.string(), v.string()),
});

export interface Volume {
  readonly name: string;
  readonly createdAtMs: number;
  readonly sizeBytes: number;
  readonly labels: Readonly<Record<string, string>>;
  /** As they were asked for. */
  readonly options: Readonly<Record<string, string>>;
}

export interface VolumeRequest {
  /** Absent: one nobody has. */
  readonly name?: string | undefined;
  readonly sizeBytes?: number | undefined;
  readonly labels?: Readonly<Record<string, string>> | undefined;
  readonly options?: Readonly<Record<string, string>> | undefined;
}

export interface VolumeRecords {
  save(name: string, document: unknown): void;
  remove(name: string): void;
  loadAll(): readonly unknown[];
}

export interface VolumeSettings {
  readonly folder: string;
  readonly records: VolumeRecords;
  makeDisk(path: string, bytes: number): Promise<void>;
}

export class Volumes {
  readonly #settings: VolumeSettings;
  readonly #known = new Map<string, Volume>();
  readonly #making = new Map<string, Promise<Volume>>();
  /** Files that are being removed: a volume of the same name waits, or its disk would go with them. */
  readonly #removing = new Map<string, Promise<void>>();

  private constructor(settings: VolumeSettings) {
    this.#settings = settings;
  }

  /** Reads what there is, and removes files that belong to no volume. @throws record.version (unsupported) */
  static async open(settings: VolumeSettings): Promise<Volumes> {
    await files.mkdir(settings.folder, { recursive: true, mode: 0o711 });
    const volumes = new Volumes(settings);
    for (const document of settings.records.loadAll()) {
      const parsed = v.safeParse(RecordSchema, document);
      if (!parsed.success)
        throw new BerthError('unsupported', 'record.version', 'a record of a volume is not what this berth writes', {
          hint: 'start the newer berth that wrote it',
        });
      const { version: _, ...volume } = parsed.output;
      volumes.#known.set(volume.name, volume);
    }
    for (const name of await files.readdir(settings.folder)) {
      if (!(name.endsWith('.img') && volumes.#known.has(name.slice(0, -4))))
        await files.rm(`${settings.folder}/${name}`, { force: true, recursive: true });
    }
    return volumes;
  }

  /** By name. */
  list(): readonly Volume[] {
    return [...this.#known.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** @throws volume.not_found (not_found) */
  get(name: string): Volume {
    const volume = this.#known.get(name);
    if (volume !== undefined) return volume;
    throw new BerthError('not_found', 'volume.not_found', `get ${name}: no such volume`);
  }

  has(name: string): boolean {
    return this.#known.has(name);
  }

  /** The one of that name when there is one already: as Docker, whatever else was asked for. @throws volume.bad_name, volume.size (invalid); disk.full (exhausted) */
  async create(request: VolumeRequest): Promise<{ readonly volume: Volume; readonly isNew: boolean }> {
    const name = request.name ?? randomBytes(32).toString('hex');
    if (!VOLUME_NAME.test(name)) {
      const text = `${JSON.stringify(name)} is no name for a volume: letters, digits, "_", "." and "-", of which the first is a letter or digit`;
      throw new BerthError('invalid', 'volume.bad_name', text);
    }
    const known = this.#known.get(name);
    if (known !== undefined) return { volume: known, isNew: false };
    const making = this.#making.get(name);
    if (making !== undefined) return { volume: await making, isNew: false };
    const made = this.#make(name, request);
    this.#making.set(name, made);
    try {
      return { volume: await made, isNew: true };
    } finally {
      this.#making.delete(name);
    }
  }

  async #make(name: string, { sizeBytes = DEFAULT_BYTES, labels = {}, options = {} }: VolumeRequest): Promise<Volume> {
    if (!(sizeBytes >= LEAST_BYTES && sizeBytes <= MOST_BYTES))
      throw new BerthError('invalid', 'volume.size', `a volume has from 16 MiB to 16 TiB, not ${sizeBytes} bytes`);
    const path = this.#pathOf(name);
    await this.#removing.get(name)?.catch(() => {});
    // The rest of a removal that was cut short.
    await files.rm(path, { force: true });
    const volume: Volume = {
      name,
      createdAtMs: nowMs(),
      sizeBytes: Math.ceil(sizeBytes / MIB) * MIB,
      labels,
      options,
    };
    await this.#settings.makeDisk(path, volume.sizeBytes);
    try {
      this.#settings.records.save(name, { version: 1, ...volume });
    } catch (error) {
      await files.rm(path, { force: true });
      throw error;
    }
    this.#known.set(name, volume);
    return volume;
  }

  /** Whoever calls has made sure that no VM has it. @throws volume.not_found (not_found) */
  async remove(name: string): Promise<void> {
    this.get(name);
    this.#known.delete(name);
    this.#settings.records.remove(name);
    const removing = files.rm(this.#pathOf(name), { force: true });
    this.#removing.set(name, removing);
    try {
      await removing;
    } finally {
      if (this.#removing.get(name) === removing) this.#removing.delete(name);
    }
  }

  /** @throws volume.not_found (not_found) */
  diskOf(name: string): string {
    return this.#pathOf(this.get(name).name);
  }

  /** What it takes on the host's disk. */
  async usedBytes(name: string): Promise<number> {
    const path = this.diskOf(name);
    // One that someone took away takes nothing; it can still be listed and removed.
    return (await files.exists(path)) ? (await files.stat(path)).blocks * 512 : 0;
  }

  #pathOf(name: string): string {
    return `${this.#settings.folder}/${name}.img`;
  }
}
