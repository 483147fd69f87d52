/**
 * Empty disks for VMs and volumes: sparse ext4 images, written in a millisecond from a template.
 *
 * mkfs.ext4 runs once per size; what it wrote (a few hundred KiB of a 20 GiB file) is kept as a list of non-zero
 * blocks, and a new disk is a truncate and a handful of writes. The host's kernel never mounts it.
 */
import * as v from 'valibot';
import { BerthError, errnoOf } from '#base';
import { files, runChecked } from '#platform';

/** What `qemu-img map --output=json` says of a raw file. */
const MapOutput = v.array(v.object({ start: v.number(), length: v.number(), zero: v.boolean(), data: v.boolean() }));

export interface DiskPrograms {
  readonly mkfsExt4: string;
  readonly qemuImg: string;
}

interface Span {
  readonly position: number;
  readonly data: Buffer;
}

export class EmptyDisks {
  readonly #folder: string;
  readonly #programs: DiskPrograms;
  readonly #templates = new Map<number, Promise<readonly Span[]>>();

  /** @param folder - where templates are kept; @param programs - paths. */
  constructor(folder: string, programs: DiskPrograms) {
    this.#folder = folder;
    this.#programs = programs;
  }

  /**
   * Makes an empty, formatted disk at `path`, owned by `uid`. Nothing is left behind on failure.
   *
   * @throws disk.full (exhausted) when the host has no room.
   */
  async create(path: string, bytes: number, uid: number | undefined): Promise<void> {
    const spans = await this.#template(bytes);
    try {
      const handle = await files.open(path, 'wx', 0o600);
      try {
        await handle.truncate(bytes);
        for (const span of spans) await handle.write(span.data, 0, span.data.length, span.position);
        if (uid !== undefined) await handle.chown(uid, uid);
      } finally {
        await handle.close();
      }
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') await files.rm(path, { force: true });
      if (errnoOf(error) === 'ENOSPC') {
        throw new BerthError('exhausted', 'disk.full', `no space left on the host for the disk ${path}`, {
          hint: 'free some space, for example with "docker image rm" or "docker rm", and try again',
          cause: error,
        });
      }
      throw error;
    }
  }

  #template(bytes: number): Promise<readonly Span[]> {
    let template = this.#templates.get(bytes);
    if (template === undefined) {
      template = this.#makeTemplate(bytes);
      this.#templates.set(bytes, template);
      template.catch(() => this.#templates.delete(bytes));
    }
    return template;
  }

  async #makeTemplate(bytes: number): Promise<readonly Span[]> {
    const path = files.asideName(`${this.#folder}/ext4-${bytes}`);
    try {
      await files.mkdir(this.#folder, { recursive: true, mode: 0o700 });
      const handle = await files.open(path, 'wx', 0o600);
      try {
        await handle.truncate(bytes);
      } finally {
        await handle.close();
      }
      // Without 64bit and metadata_csum mounting is quicker under TCG; one backup-free superblock layout and large
      // flex groups leave 124 KiB to write for a 10 GiB disk (200 KiB and three times the pieces by default).
      const features = '^64bit,^metadata_csum,uninit_bg,^resize_inode,^huge_file,sparse_super2';
      const extended = 'lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0,nodiscard,num_backup_sb=0';
      const layout = ['-b', '4096', '-m', '0', '-G', '128', '-J', 'size=8', '-O', features, '-E', extended];
      await runChecked([this.#programs.mkfsExt4, '-q', '-F', ...layout, path]);
      return await dataSpans(this.#programs.qemuImg, path);
    } finally {
      await files.rm(path, { force: true });
    }
  }
}

/** The parts of `path` that are not holes, as SEEK_DATA finds them: the only way to it from Node is a program. */
async function dataSpans(qemuImg: string, path: string): Promise<Span[]> {
  const { stdout } = await runChecked([qemuImg, 'map', '--output=json', '-f', 'raw', path]);
  const regions = v.parse(MapOutput, JSON.parse(stdout)).filter((region) => region.data && !region.zero);
  const handle = await files.open(path, 'r');
  try {
    const spans: Span[] = [];
    for (const region of regions) {
      const data = Buffer.alloc(region.length);
      await handle.read(data, 0, region.length, region.start);
      spans.push({ position: region.start, data });
    }
    return spans;
  } finally {
    await handle.close();
  }
}
