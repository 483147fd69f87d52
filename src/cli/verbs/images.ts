/** Images: listing, fetching, keeping, removing. */
import type { Readable } from 'node:stream';
import { BerthError, humanDuration, messageOf } from '#base';
import { files, isTerminal, nowMs, standardInput, writeTo } from '#platform';
import { usageError } from '../command-line.ts';
import { filtersOf, jsonLines, pathName } from '../engine-client.ts';
import { FAILED } from '../exit-codes.ts';
import { LISTING_FLAGS, renderListing } from '../listing.ts';
import { noteError } from '../problems.ts';
import type { ProgressLine } from '../progress.ts';
import { printProgress, pullImage, splitImage } from '../pull.ts';
import { ellipsis, humanSize } from '../tables.ts';
import type { Verb } from '../verb.ts';

interface ListedImage {
  readonly Id: string;
  readonly RepoTags: readonly string[] | null;
  readonly RepoDigests: readonly string[] | null;
  readonly Created: number;
  readonly Size: number;
  readonly Containers: number;
}

export const images: Verb = {
  shape: {
    usage: '[OPTIONS] [NAME[:TAG]]',
    about: 'Lists images.',
    flags: [
      { flags: '-a, --all', about: 'all' },
      { flags: '-q, --quiet', about: 'ids only' },
      { flags: '--no-trunc', about: 'nothing is cut short' },
      { flags: '--digests', about: 'with digests' },
      { flags: '-f, --filter <NAME=VALUE>', about: 'only those for which it holds', many: true },
      ...LISTING_FLAGS,
    ],
    most: 1,
    examples: ['berth images', 'berth images --filter dangling=true -q'],
  },
  run: async ({ engine, out }, options, [name]) => {
    const filters = filtersOf([...options.list('filter'), ...(name === undefined ? [] : [`reference=${name}`])]);
    const found = await engine.call<ListedImage[]>('GET', '/images/json', {
      query: { all: options.flag('all'), filters },
    });
    const whole = options.flag('no-trunc');
    const now = nowMs() / 1000;
    const rows = found.flatMap((image) => {
      const tags = (image.RepoTags ?? []).length === 0 ? ['<none>:<none>'] : (image.RepoTags ?? []);
      return tags.map((tagged) => {
        const { name: repository, tag } = splitImage(tagged);
        return {
          Containers: String(image.Containers),
          CreatedAt: new Date(image.Created * 1000).toISOString(),
          CreatedSince: image.Created > 0 ? `${humanDuration(now - image.Created)} ago` : 'N/A',
          Digest: image.RepoDigests?.find((one) => one.startsWith(`${repository}@`))?.split('@')[1] ?? '<none>',
          ID: whole ? image.Id : image.Id.replace(/^sha256:/, '').slice(0, 12),
          Repository: repository,
          Size: humanSize(image.Size),
          Tag: tag,
        };
      });
    });
    if (options.flag('quiet')) {
      await out(rows.map((row) => `${row.ID}\n`).join(''));
      return 0;
    }
    const columns: [string, string][] = [
      ['Repository', 'REPOSITORY'],
      ['Tag', 'TAG'],
      ...(options.flag('digests') ? [['Digest', 'DIGEST'] as [string, string]] : []),
      ['ID', 'IMAGE ID'],
      ['CreatedSince', 'CREATED'],
      ['Size', 'SIZE'],
    ];
    await out(renderListing({ rows, columns }, options));
    return 0;
  },
};

export const pull: Verb = {
  shape: {
    usage: '[OPTIONS] NAME[:TAG|@DIGEST]',
    about: 'Fetches an image from a registry.',
    flags: [
      { flags: '--platform <OS/ARCHITECTURE>', about: 'platform of the image' },
      { flags: '-q, --quiet', about: 'print the name only' },
    ],
    least: 1,
    most: 1,
    examples: ['berth pull debian:bookworm', 'berth pull localhost:5000/app'],
  },
  run: async ({ engine, env, out }, options, [image = '']) => {
    const quiet = options.flag('quiet');
    const { name, tag } = splitImage(image);
    if (!quiet && tag === 'latest' && !image.endsWith(':latest')) await out('Using default tag: latest\n');
    await pullImage(engine, { image, platform: options.text('platform'), quiet, env, stream: 'stdout' });
    await out(`${name}${tag.startsWith('sha256:') ? '@' : ':'}${tag}\n`);
    return 0;
  },
};

export const load: Verb = {
  shape: {
    usage: '[OPTIONS]',
    about: 'Loads images from an archive that "save" wrote.',
    flags: [
      { flags: '-i, --input <FILE>', about: 'from a file instead of standard input' },
      { flags: '-q, --quiet', about: 'no progress' },
    ],
    most: 0,
    examples: ['berth load -i app.tar', 'berth save app | ssh other berth load'],
  },
  run: async ({ engine }, options) => {
    const path = options.text('input');
    if (path === undefined && isTerminal('stdin'))
      throw usageError('requested load from stdin, but stdin is empty', 'name a file with -i, or pipe one in');
    const body = path === undefined ? standardInput() : await openGiven(path);
    const { body: answer } = await engine.stream('POST', '/images/load', {
      query: { quiet: options.flag('quiet') },
      headers: { 'Content-Type': 'application/x-tar' },
      body,
    });
    await printProgress(jsonLines<ProgressLine>(answer), { quiet: false, stream: 'stdout' });
    return 0;
  },
};

export const save: Verb = {
  shape: {
    usage: '[OPTIONS] IMAGE [IMAGE...]',
    about: 'Writes images into an archive.',
    flags: [{ flags: '-o, --output <FILE>', about: 'to a file instead of standard output' }],
    least: 1,
    examples: ['berth save -o app.tar app:1'],
  },
  run: async ({ engine }, options, names) => {
    const path = options.text('output');
    if (path === undefined && isTerminal('stdout'))
      throw usageError('cowardly refusing to save to a terminal', 'name a file with -o, or redirect');
    const { body } = await engine.stream('GET', '/images/get', { query: { names } });
    if (path === undefined) {
      for await (const chunk of body) await writeTo('stdout', chunk as Buffer);
      return 0;
    }
    const aside = files.asideName(path);
    const handle = await files.open(aside, 'wx', 0o600);
    try {
      for await (const chunk of body) await handle.write(chunk as Buffer);
      await handle.close();
      await files.rename(aside, path);
    } catch (error) {
      await handle.close();
      await files.rm(aside, { force: true });
      throw error;
    }
    return 0;
  },
};

const importVerb: Verb = {
  shape: {
    usage: '[OPTIONS] FILE|- [NAME[:TAG]]',
    about: 'Makes an image of one layer from an archive of a file system.',
    flags: [
      { flags: '-c, --change <INSTRUCTION>', about: 'a Dockerfile instruction: CMD, ENV ...', many: true },
      { flags: '-m, --message <TEXT>', about: 'for the history' },
      { flags: '--platform <OS/ARCHITECTURE>', about: 'platform of the image' },
    ],
    least: 1,
    most: 2,
    examples: ['berth import -c "CMD sh" rootfs.tar.gz mine:1'],
  },
  run: async ({ engine, out }, options, [source = '', name]) => {
    const body = source === '-' ? standardInput() : await openGiven(source);
    const { name: repo, tag } = name === undefined ? { name: undefined, tag: undefined } : splitImage(name);
    const { body: answer } = await engine.stream('POST', '/images/create', {
      query: {
        fromSrc: '-',
        repo,
        tag,
        changes: options.list('change'),
        message: options.text('message'),
        platform: options.text('platform'),
      },
      headers: { 'Content-Type': 'application/x-tar' },
      body,
    });
    let last = '';
    for await (const line of jsonLines<ProgressLine>(answer)) {
      if (line.error !== undefined) throw new BerthError('unavailable', 'import.failed', line.error);
      last = line.status ?? last;
    }
    await out(`${last}\n`);
    return 0;
  },
};

export { importVerb as import };

export const tag: Verb = {
  shape: { usage: 'IMAGE NAME[:TAG]', about: 'Gives an image another name.', flags: [], least: 2, most: 2 },
  run: async ({ engine }, _options, [image = '', name = '']) => {
    const { name: repo, tag: word } = splitImage(name);
    await engine.call('POST', `/images/${pathName(image)}/tag`, { query: { repo, tag: word } });
    return 0;
  },
};

export const rmi: Verb = {
  shape: {
    usage: '[OPTIONS] IMAGE [IMAGE...]',
    about: 'Removes images.',
    flags: [
      { flags: '-f, --force', about: 'even when several names or stopped VMs point to it' },
      { flags: '--no-prune', about: 'accepted' },
    ],
    least: 1,
  },
  run: async ({ engine, out, note }, options, names) => {
    let exitCode = 0;
    for (const name of names) {
      try {
        const query = { force: options.flag('force'), noprune: options.flag('no-prune') };
        const removed = await engine.call<{ Untagged?: string; Deleted?: string }[]>(
          'DELETE',
          `/images/${pathName(name)}`,
          { query },
        );
        for (const { Untagged, Deleted } of removed)
          await out(Untagged === undefined ? `Deleted: ${Deleted}\n` : `Untagged: ${Untagged}\n`);
      } catch (error) {
        noteError(note, error);
        exitCode = FAILED;
      }
    }
    return exitCode;
  },
};

interface HistoryItem {
  readonly Id: string;
  readonly Created: number;
  readonly CreatedBy: string;
  readonly Size: number;
  readonly Comment: string;
}

export const history: Verb = {
  shape: {
    usage: '[OPTIONS] IMAGE',
    about: 'Shows how an image was made.',
    flags: [
      { flags: '-q, --quiet', about: 'ids only' },
      { flags: '--no-trunc', about: 'nothing is cut short' },
      ...LISTING_FLAGS,
    ],
    least: 1,
    most: 1,
  },
  run: async ({ engine, out }, options, [image = '']) => {
    const items = await engine.call<HistoryItem[]>('GET', `/images/${pathName(image)}/history`);
    const whole = options.flag('no-trunc');
    const now = nowMs() / 1000;
    const rows = items.map((item) => ({
      ID: whole ? item.Id : item.Id.replace(/^sha256:/, '').slice(0, 12),
      CreatedSince: `${humanDuration(now - item.Created)} ago`,
      CreatedAt: new Date(item.Created * 1000).toISOString(),
      CreatedBy: whole ? item.CreatedBy : ellipsis(item.CreatedBy.replaceAll('\t', ' '), 45),
      Size: humanSize(item.Size),
      Comment: item.Comment,
    }));
    if (options.flag('quiet')) await out(rows.map((row) => `${row.ID}\n`).join(''));
    else {
      await out(
        renderListing(
          {
            rows,
            columns: [
              ['ID', 'IMAGE'],
              ['CreatedSince', 'CREATED'],
              ['CreatedBy', 'CREATED BY'],
              ['Size', 'SIZE'],
              ['Comment', 'COMMENT'],
            ],
          },
          options,
        ),
      );
    }
    return 0;
  },
};

interface Found {
  readonly name: string;
  readonly description: string;
  readonly star_count: number;
  readonly is_official: boolean;
}

export const search: Verb = {
  shape: {
    usage: '[OPTIONS] TERM',
    about: 'Searches a registry for images.',
    flags: [
      { flags: '--limit <NUMBER>', about: 'how many' },
      { flags: '--no-trunc', about: 'nothing is cut short' },
      ...LISTING_FLAGS,
    ],
    least: 1,
    most: 1,
  },
  run: async ({ engine, out }, options, [term]) => {
    const found = await engine.call<Found[]>('GET', '/images/search', {
      query: { term, limit: options.number('limit') },
    });
    const rows = found.map((one) => ({
      Name: one.name,
      Description: options.flag('no-trunc') ? one.description : ellipsis(one.description.replace(/\s+/g, ' '), 45),
      StarCount: String(one.star_count),
      IsOfficial: one.is_official ? '[OK]' : '',
    }));
    const columns = [
      ['Name', 'NAME'],
      ['Description', 'DESCRIPTION'],
      ['StarCount', 'STARS'],
      ['IsOfficial', 'OFFICIAL'],
    ] as const;
    await out(renderListing({ rows, columns }, options));
    return 0;
  },
};

export const prune: Verb = {
  shape: {
    usage: '[OPTIONS]',
    about: 'Removes images that nobody uses.',
    flags: [
      { flags: '-a, --all', about: 'tagged ones, too' },
      { flags: '-f, --force', about: 'do not ask' },
      { flags: '--filter <NAME=VALUE>', about: 'only those for which it holds', many: true },
    ],
    most: 0,
  },
  run: async ({ engine, out }, options) => {
    if (!options.flag('force')) throw usageError('this removes images for good', 'say so with --force');
    const filters = filtersOf([...options.list('filter'), `dangling=${options.flag('all') ? 'false' : 'true'}`]);
    const result = await engine.call<{
      ImagesDeleted: { Untagged?: string; Deleted?: string }[] | null;
      SpaceReclaimed: number;
    }>('POST', '/images/prune', { query: { filters } });
    for (const { Untagged, Deleted } of result.ImagesDeleted ?? [])
      await out(Untagged === undefined ? `deleted: ${Deleted}\n` : `untagged: ${Untagged}\n`);
    await out(`Total reclaimed space: ${humanSize(result.SpaceReclaimed)}\n`);
    return 0;
  },
};

async function openGiven(path: string): Promise<Readable> {
  try {
    await files.access(path);
  } catch (error) {
    throw usageError(`cannot read ${path}: ${messageOf(error)}`);
  }
  return files.createReadStream(path);
}
