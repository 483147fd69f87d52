/** Images: pulling, loading, saving, naming, looking at them. */
import { Buffer } from 'node:buffer';
import type { Writable } from 'node:stream';
import * as v from 'valibot';
import { BerthError, type Digest, messageOf } from '#base';
import {
  familiarReference,
  type ImageSummary,
  type ProgressEvent,
  parseReference,
  type RegistryCredentials,
} from '#images';
import { nowMs } from '#platform';
import type { Call } from './call.ts';
import type { DockerContext } from './context.ts';
import { parseTime } from './durations.ts';
import { booleanFilter, labelsMatch, parseFilters } from './filters.ts';
import { write } from './frames.ts';
import { imageInspectView, imageListEntry } from './image-views.ts';
import { problemOf } from './problems.ts';
import type { Route } from './router.ts';

const IMAGE_FILTERS = ['before', 'dangling', 'label', 'reference', 'since', 'until'];

const RegistryAuth = v.looseObject({
  username: v.optional(v.string()),
  password: v.optional(v.string()),
  identitytoken: v.optional(v.string()),
  registrytoken: v.optional(v.string()),
  auth: v.optional(v.string()),
});

export function imageRoutes(context: DockerContext): Route[] {
  const { images, engine } = context;
  const users = (id: Digest): { id: string; isRunning: boolean }[] =>
    engine
      .list()
      .filter((vm) => vm.record.spec.imageId === id)
      .map((vm) => ({
        id: vm.record.id,
        isRunning: vm.record.state.name === 'running' || vm.record.state.name === 'paused',
      }));
  const happened = (action: string, id: string, name: string): void =>
    context.events.add({ type: 'image', action, id, attributes: { name }, timeMs: nowMs() });

  const list = async (call: Call): Promise<void> => {
    const filters = parseFilters(call.query.get('filters'), IMAGE_FILTERS);
    const dangling = booleanFilter(filters, 'dangling');
    const edge = async (name: string): Promise<number | undefined> => {
      const [reference] = filters.get(name) ?? [];
      return reference === undefined ? undefined : (await images.inspect(reference)).createdAtMs;
    };
    const [before, since] = [await edge('before'), await edge('since')];
    const until = parseTime(filters.get('until')?.[0] ?? null, nowMs());
    const patterns = filters.get('reference');
    const listed = (await images.list()).map((image) => (patterns === undefined ? image : onlyNamed(image, patterns)));
    const chosen = listed.filter((image) => {
      if (dangling !== undefined && (image.tags.length === 0) !== dangling) return false;
      if (before !== undefined && image.createdAtMs >= before) return false;
      if (since !== undefined && image.createdAtMs <= since) return false;
      if (until !== undefined && image.createdAtMs >= until) return false;
      if (image.tags.length + image.repoDigests.length === 0 && patterns !== undefined) return false;
      return labelsMatch(image.labels, filters.get('label'));
    });
    call.reply(
      200,
      chosen.map((image) => imageListEntry(image, users(image.id).length)),
    );
  };

  const create = async (call: Call): Promise<void> => {
    const from = call.query.get('fromImage');
    const source = call.query.get('fromSrc');
    if (from) await pull(call, from);
    else if (source) await importArchive(call, source);
    else throw new BerthError('invalid', 'images.no_source', 'neither fromImage nor fromSrc is given');
  };

  const pull = async (call: Call, from: string): Promise<void> => {
    const tag = call.query.get('tag') ?? '';
    const separator = tag.startsWith('sha256:') ? '@' : ':';
    const name = tag === '' ? from : `${from}${separator}${tag}`;
    const reference = parseReference(name);
    const credentials = registryAuth(call);
    const progress = new JsonProgress(call);
    const platform = call.query.get('platform') || undefined;
    try {
      await images.pull(name, {
        signal: call.signal,
        onProgress: (event) => progress.add(event),
        ...(credentials === undefined ? {} : { credentials }),
        ...(platform === undefined ? {} : { platform }),
      });
      happened('pull', familiarReference(reference), familiarReference(reference));
      await progress.end();
    } catch (error) {
      await progress.fail(error);
    }
  };

  const importArchive = async (call: Call, source: string): Promise<void> => {
    if (source !== '-') {
      throw new BerthError('unsupported', 'import.remote', 'importing from an address is not supported', {
        hint: 'download the archive and pipe it in: docker import - NAME < archive.tar',
      });
    }
    const repository = call.query.get('repo') ?? '';
    const tag = call.query.get('tag') ?? '';
    const progress = new JsonProgress(call);
    const message = call.query.get('message') || undefined;
    try {
      const id = await images.import(call.bodyStream(), {
        signal: call.signal,
        changes: call.query.getAll('changes'),
        ...(message === undefined ? {} : { message }),
        ...(repository === '' ? {} : { reference: tag === '' ? repository : `${repository}:${tag}` }),
      });
      happened('import', id, repository);
      progress.add({ status: id });
      await progress.end();
    } catch (error) {
      await progress.fail(error);
    }
  };

  const load = async (call: Call): Promise<void> => {
    const progress = new JsonProgress(call);
    try {
      const quiet = call.flag('quiet');
      const loaded = await images.load(call.bodyStream(), {
        signal: call.signal,
        onProgress: (event) => {
          if (!quiet) progress.add(event);
        },
      });
      for (const { id, references } of loaded) {
        const lines =
          references.length > 0 ? references.map((name) => `Loaded image: ${name}`) : [`Loaded image ID: ${id}`];
        for (const line of lines) progress.addStream(`${line}\n`);
        happened('load', id, references[0] ?? id);
      }
      await progress.end();
    } catch (error) {
      await progress.fail(error);
    }
  };

  const save = async (call: Call, names: readonly string[]): Promise<void> => {
    if (names.length === 0) throw new BerthError('invalid', 'images.no_names', 'no image names were given to save');
    const archive = await images.save(names);
    const response = call.stream('application/x-tar');
    call.signal.addEventListener('abort', () => archive.destroy(), { once: true });
    for await (const chunk of archive) await write(response, chunk as Buffer);
    response.end();
    for (const name of names) happened('save', name, name);
  };

  const remove = async (call: Call): Promise<void> => {
    const name = call.parameter('name');
    const { id } = await images.inspect(name);
    const removed = await images.remove(name, { force: call.flag('force'), inUseBy: users });
    for (const item of removed) {
      if ('untagged' in item) happened('untag', id, id);
      else if (item.deleted === id) happened('delete', id, id);
    }
    call.reply(
      200,
      removed.map((item) => ('untagged' in item ? { Untagged: item.untagged } : { Deleted: item.deleted })),
    );
  };

  const tag = async (call: Call): Promise<void> => {
    const repository = call.query.get('repo') ?? '';
    const name = call.query.get('tag') || 'latest';
    const target = `${repository}:${name}`;
    await images.tag(call.parameter('name'), target);
    happened('tag', (await images.inspect(call.parameter('name'))).id, familiarReference(parseReference(target)));
    call.reply(201);
  };

  const history = async (call: Call): Promise<void> => {
    const entries = await images.history(call.parameter('name'));
    call.reply(
      200,
      entries.map((entry) => ({
        Id: entry.id,
        Created: Math.floor(entry.createdAtMs / 1000),
        CreatedBy: entry.createdBy,
        Tags: entry.tags.length === 0 ? null : entry.tags,
        Size: entry.sizeBytes,
        Comment: entry.comment,
      })),
    );
  };

  const search = async (call: Call): Promise<void> => {
    const term = call.query.get('term') ?? '';
    const results = await images.search(term, { limit: call.number('limit') || 25, signal: call.signal });
    call.reply(
      200,
      results.map((found) => ({
        name: found.name,
        description: found.description,
        star_count: found.starCount,
        is_official: found.isOfficial,
        is_automated: false,
      })),
    );
  };

  const prune = async (call: Call): Promise<void> => {
    const filters = parseFilters(call.query.get('filters'), ['dangling', 'label', 'label!', 'until']);
    const all = booleanFilter(filters, 'dangling') === false;
    const until = parseTime(filters.get('until')?.[0] ?? null, nowMs());
    const inUse = (): Digest[] => engine.list().map((vm) => vm.record.spec.imageId);
    const result = await images.collectGarbage({
      all,
      inUse,
      mayRemove: (image) =>
        labelsMatch(image.labels, filters.get('label')) &&
        !(filters.get('label!') ?? []).some((label) => labelsMatch(image.labels, [label])) &&
        (until === undefined || image.createdAtMs < until),
    });
    call.reply(200, {
      ImagesDeleted: result.removed.map((item) =>
        'untagged' in item ? { Untagged: item.untagged } : { Deleted: item.deleted },
      ),
      SpaceReclaimed: result.freedBytes,
    });
  };

  return [
    { method: 'GET', path: '/images/json', summary: 'list', handle: list },
    { method: 'POST', path: '/images/create', summary: 'pull or import', handle: create },
    { method: 'POST', path: '/images/load', summary: 'load an archive', handle: load },
    {
      method: 'GET',
      path: '/images/get',
      summary: 'save several',
      handle: (call) =>
        save(
          call,
          call.query.getAll('names').flatMap((name) => name.split(',')),
        ),
    },
    { method: 'GET', path: '/images/search', summary: 'search a registry', handle: search },
    { method: 'POST', path: '/images/prune', summary: 'remove what nobody uses', handle: prune },
    {
      method: 'GET',
      path: '/images/{name...}/get',
      summary: 'save one',
      handle: (call) => save(call, [call.parameter('name')]),
    },
    {
      method: 'GET',
      path: '/images/{name...}/json',
      summary: 'inspect',
      handle: async (call) => call.reply(200, imageInspectView(await images.inspect(call.parameter('name')))),
    },
    { method: 'GET', path: '/images/{name...}/history', summary: 'history', handle: history },
    { method: 'POST', path: '/images/{name...}/tag', summary: 'tag', handle: tag },
    { method: 'DELETE', path: '/images/{name...}', summary: 'remove', handle: remove },
  ];
}

/** Docker's `reference` filter: a shell pattern over `name` or `name:tag`. It narrows the names that are shown, too. */
function onlyNamed(image: ImageSummary, patterns: readonly string[]): ImageSummary {
  const expressions = patterns.map((pattern) => {
    const source = pattern
      .replace(/[.+^${}()|\\]/g, '\\$&')
      .replace(/\*/g, '[^/]*')
      .replace(/\?/g, '[^/]');
    return new RegExp(`^${source}(:[^/]*|@[^/]*)?$`);
  });
  const matches = (name: string): boolean => expressions.some((expression) => expression.test(name));
  return { ...image, tags: image.tags.filter(matches), repoDigests: image.repoDigests.filter(matches) };
}

/** The header's base64url JSON. @throws auth.malformed (invalid) */
function registryAuth(call: Call): RegistryCredentials | undefined {
  const header = call.request.headers['x-registry-auth'];
  if (typeof header !== 'string' || header === '') return undefined;
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(header, 'base64url').toString('utf8'));
  } catch (error) {
    throw new BerthError('invalid', 'auth.malformed', `X-Registry-Auth is not base64 of JSON: ${messageOf(error)}`);
  }
  const parsed = v.safeParse(RegistryAuth, value);
  if (!parsed.success) throw new BerthError('invalid', 'auth.malformed', 'X-Registry-Auth holds no credentials');
  const { username, password, identitytoken, registrytoken, auth } = parsed.output;
  const pair = auth ? Buffer.from(auth, 'base64').toString('utf8') : '';
  const colon = pair.indexOf(':');
  const user = username || (colon > 0 ? pair.slice(0, colon) : '');
  const secret = password || (colon > 0 ? pair.slice(colon + 1) : '');
  if (!user && !identitytoken && !registrytoken) return undefined;
  return {
    ...(user ? { username: user, password: secret } : {}),
    ...(identitytoken ? { identityToken: identitytoken } : {}),
    ...(registrytoken ? { registryToken: registrytoken } : {}),
  };
}

/**
 * Docker's stream of progress objects. Nothing is sent before the first event, so that an error that comes before any
 * progress is a plain HTTP error with its status, as dockerd answers.
 */
class JsonProgress {
  readonly #call: Call;
  #response: Writable | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(call: Call) {
    this.#call = call;
  }

  add(event: ProgressEvent): void {
    const { id, status, progressDetail } = event;
    this.#send({
      status,
      progressDetail: progressDetail ?? {},
      ...(progressDetail === undefined ? {} : { progress: bar(progressDetail) }),
      ...(id === undefined ? {} : { id }),
    });
  }

  addStream(text: string): void {
    this.#send({ stream: text });
  }

  async end(): Promise<void> {
    const response = this.#open();
    await this.#writing;
    response.end();
  }

  async fail(error: unknown): Promise<void> {
    if (this.#response === undefined) throw error;
    const { message } = problemOf(error);
    this.#send({ errorDetail: { message }, error: message });
    await this.#writing;
    this.#response.end();
  }

  #open(): Writable {
    this.#response ??= this.#call.stream('application/json');
    return this.#response;
  }

  #send(value: object): void {
    const response = this.#open();
    this.#writing = this.#writing.then(() => write(response, `${JSON.stringify(value)}\r\n`));
  }
}

/** `[=====>     ]  5MB/10MB`, for clients that print `progress` as it is. */
function bar({ current, total }: { current: number; total: number }): string {
  const width = 50;
  if (total <= 0) return `${current}B`;
  const done = Math.min(width, Math.floor((width * current) / total));
  const filled = done === width ? '='.repeat(width) : `${'='.repeat(done)}>${' '.repeat(width - done - 1)}`;
  return `[${filled}]  ${(current / 1e6).toFixed(2)}MB/${(total / 1e6).toFixed(2)}MB`;
}
