/**
 * The promise "pull → runnable costs at most twice `gunzip | sha256sum` of the layers", measured side by side.
 *
 * The image: about 200 MB in several layers, half text that compresses, half programs from this machine; pushed to a
 * real registry on loopback. Each pair pulls into an empty store and then runs the baseline, or the reverse.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { ImageService } from '#images';
import { tarEnd, tarFile } from '../../src/images/tar/tar-writer.ts';
import { pushImage } from '../harness/image-fixture.ts';
import { startRegistry } from '../harness/registry.ts';

const run = promisify(execFile);
const MEGABYTE = 1_000_000;

export interface PullBenchOptions {
  readonly pairs?: number;
  readonly totalMegabytes?: number;
  readonly layers?: number;
}

export interface PullBenchResult {
  readonly medianRatio: number;
  readonly medianPullMs: number;
  readonly medianBaselineMs: number;
  /** Peak of a fresh process that pulls once, above what it had before. */
  readonly rssGrowthBytes: number;
  readonly tarBytes: number;
  readonly ratios: readonly number[];
}

export async function benchPull(options: PullBenchOptions = {}): Promise<PullBenchResult> {
  const { pairs = 20, totalMegabytes = 200, layers: layerCount = 6 } = options;
  const folder = await mkdtemp(join(tmpdir(), 'berth-bench-pull-'));
  const registry = await startRegistry();
  try {
    const tars = await realisticLayers(totalMegabytes * MEGABYTE, layerCount);
    await pushImage({ host: registry.host, repository: 'bench/image' }, 'latest', {
      layers: tars.map((tar) => ({ tar })),
    });
    const blobs: string[] = [];
    for (const [index, tar] of tars.entries()) {
      const path = join(folder, `layer-${index}.tar.gz`);
      await writeFile(path, gzipSync(tar, { level: 6 }));
      blobs.push(path);
    }
    const tarBytes = tars.reduce((total, tar) => total + tar.length, 0);
    tars.length = 0;
    const rssGrowthBytes = await rssGrowthOfPull(join(folder, 'store-rss'), registry.host);
    const measured: { pullMs: number; baselineMs: number }[] = [];
    // One pair warms caches and is not counted.
    for (let pair = -1; pair < pairs; pair += 1) {
      const pull = () => timed(() => pullOnce(join(folder, 'store'), registry.host));
      const baseline = () =>
        timed(() => run('sh', ['-c', 'for f; do gunzip -c "$f" | sha256sum; done', 'sh', ...blobs]));
      const isPullFirst = pair % 2 === 0;
      const first = await (isPullFirst ? pull() : baseline());
      const second = await (isPullFirst ? baseline() : pull());
      if (pair >= 0)
        measured.push(isPullFirst ? { pullMs: first, baselineMs: second } : { pullMs: second, baselineMs: first });
    }
    const ratios = measured.map(({ pullMs, baselineMs }) => pullMs / baselineMs);
    return {
      medianRatio: median(ratios),
      medianPullMs: median(measured.map(({ pullMs }) => pullMs)),
      medianBaselineMs: median(measured.map(({ baselineMs }) => baselineMs)),
      rssGrowthBytes,
      tarBytes,
      ratios,
    };
  } finally {
    await registry.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

async function pullOnce(root: string, host: string): Promise<void> {
  const images = await ImageService.open({ root });
  await images.pull(`${host}/bench/image`);
  await images.rootDiskOf(`${host}/bench/image`);
  // Emptying the store belongs to the bench, not to the pull; it is small beside it, and counted against us.
  await rm(root, { recursive: true, force: true });
}

/** In a process of its own, because this one's memory is full of the fixture. */
async function rssGrowthOfPull(root: string, host: string): Promise<number> {
  const door = new URL('../../src/images/index.ts', import.meta.url).href;
  const script = `
    const { ImageService } = await import(${JSON.stringify(door)});
    const images = await ImageService.open({ root: ${JSON.stringify(root)} });
    const before = process.memoryUsage.rss();
    await images.pull(${JSON.stringify(`${host}/bench/image`)});
    // Not getrusage: its peak counts what the parent had before exec.
    const { readFileSync } = await import('node:fs');
    const peak = Number(/VmHWM:\\s*([0-9]+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024;
    console.log(peak - before);`;
  const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', script]);
  return Number(stdout);
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

/** Programs and libraries of this machine, and text made from their names: many small files and some large ones. */
export async function realisticLayers(totalBytes: number, count: number): Promise<Buffer[]> {
  const programs = await programFiles(totalBytes / 2);
  const layers: Buffer[] = [];
  for (let layer = 0; layer < count; layer += 1) {
    const parts: Buffer[] = [];
    let text = 0;
    for (let file = 0; text < totalBytes / 2 / count; file += 1) {
      const size = 500 + ((file * 7919) % 40_000);
      parts.push(
        tarFile(`usr/share/doc/part-${layer}/${file % 40}/page-${file}.txt`, prose(size, layer * 1_000_003 + file)),
      );
      text += size;
    }
    programs.forEach((program, index) => {
      if (index % count === layer)
        parts.push(tarFile(`usr/lib/part-${layer}/program-${index}`, program, { mode: 0o755 }));
    });
    layers.push(Buffer.concat([...parts, tarEnd()]));
  }
  return layers;
}

async function programFiles(totalBytes: number): Promise<Buffer[]> {
  const found: Buffer[] = [];
  let bytes = 0;
  for (const folder of ['/usr/bin', '/usr/lib/x86_64-linux-gnu', '/usr/sbin', '/usr/libexec']) {
    for (const name of await readdir(folder).catch(() => [])) {
      const path = join(folder, name);
      const facts = await stat(path).catch(() => undefined);
      if (facts === undefined || !facts.isFile() || facts.size > 20 * MEGABYTE) continue;
      found.push(await readFile(path));
      bytes += facts.size;
      if (bytes >= totalBytes) return found;
    }
  }
  return found;
}

const WORDS =
  'the image layer holds files that a guest reads and writes over many blocks in order of their names'.split(' ');

function prose(size: number, seed: number): Buffer {
  let state = seed >>> 0 || 1;
  const words: string[] = [];
  for (let length = 0; length < size; ) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    const word = (state >>> 28) % 3 === 0 ? state.toString(36) : (WORDS[(state >>> 16) % WORDS.length] ?? '');
    words.push(word);
    length += word.length + 1;
  }
  return Buffer.from(words.join(' ')).subarray(0, size);
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const high = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? high : ((sorted[middle - 1] ?? high) + high) / 2;
}

if (import.meta.main) {
  const result = await benchPull({ pairs: Number(process.argv[2] ?? '20') });
  console.log(JSON.stringify({ ...result, ratios: result.ratios.map((ratio) => Number(ratio.toFixed(2))) }));
}
