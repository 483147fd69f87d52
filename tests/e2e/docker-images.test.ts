/** Images with the real CLI, a real registry and real archives. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { tarEnd, tarFile } from '../../src/images/tar/tar-writer.ts';
import { startTestDaemon, type TestDaemon } from '../harness/daemon.ts';
import { DockerCli, eventually } from '../harness/docker-cli.ts';
import { layerTar, pushImage } from '../harness/image-fixture.ts';
import { type RunningRegistry, startRegistry } from '../harness/registry.ts';
import { startFaultProxy } from '../harness/registry-fault-proxy.ts';

const IMAGE = 'berth/busybox';

describe('images under docker', () => {
  let daemon: TestDaemon;
  let registry: RunningRegistry;
  let docker: DockerCli;
  let pushedId = '';
  const folder = mkdtempSync(join(tmpdir(), 'berth-e2e-'));

  before(async () => {
    [daemon, registry] = await Promise.all([startTestDaemon(), startRegistry()]);
    docker = new DockerCli(daemon.socket);
    // One layer is a busybox, so that the image runs; the other is what the test looks for.
    const layers = [
      { tar: Buffer.concat([tarFile('bin/sh', readFileSync('/bin/busybox'), { mode: 0o755 }), tarEnd()]) },
      { tar: layerTar({ 'etc/greeting': 'hello from the registry\n' }) },
    ];
    ({ id: pushedId } = await pushImage({ host: registry.host, repository: 'made/here' }, 'v1', { layers }));
  });

  after(async () => {
    rmSync(folder, { recursive: true, force: true });
    await registry.stop();
    assert.deepEqual(await daemon.dispose(), []);
  });

  const idOf = (name: string): Promise<string> => docker.ok(['image', 'inspect', '--format', '{{.Id}}', name]);
  const refused = async (args: readonly string[], words: RegExp, code = 1): Promise<void> => {
    const outcome = await docker.run(args);
    assert.match(outcome.stderr, words, args.join(' '));
    assert.equal(outcome.code, code, args.join(' '));
  };

  test('pull shows docker’s progress and keeps the digest; a second pull finds it up to date', async () => {
    const name = `${registry.host}/made/here:v1`;
    const first = await docker.ok(['pull', name]);
    assert.match(first, /^v1: Pulling from made\/here\n/);
    assert.match(first, /[0-9a-f]{12}: Pull complete\n/);
    assert.match(
      first,
      /\nDigest: sha256:[0-9a-f]{64}\nStatus: Downloaded newer image for 127\.0\.0\.1:[0-9]+\/made\/here:v1\n/,
    );
    assert.match(await docker.ok(['pull', name]), /\nStatus: Image is up to date for /);
    assert.equal(await docker.ok(['pull', '-q', name]), name);
    assert.equal(await idOf(name), pushedId);
    const digest = /Digest: (sha256:[0-9a-f]{64})/.exec(first)?.[1] ?? '';
    assert.equal(
      await docker.ok(['image', 'inspect', '--format', '{{index .RepoDigests 0}}', name]),
      `${registry.host}/made/here@${digest}`,
    );
    assert.match(await docker.ok(['pull', `${registry.host}/made/here@${digest}`]), /Image is up to date/);
  });

  test('run pulls what is missing, says so on standard error, and runs it', async () => {
    const name = `${registry.host}/made/here:v1`;
    await docker.ok(['rmi', name]);
    const { code, stdout, stderr } = await docker.run([
      'run',
      '--rm',
      '--entrypoint',
      '/bin/sh',
      name,
      '-c',
      'read l </etc/greeting; echo $l',
    ]);
    assert.deepEqual([code, stdout], [0, 'hello from the registry\n'], stderr);
    assert.match(stderr, /Unable to find image '127\.0\.0\.1:[0-9]+\/made\/here:v1' locally\n/);
  });

  test('what a registry does not have, or does not answer, is said clearly', async () => {
    await refused(
      ['pull', `${registry.host}/made/nothing:v1`],
      /manifest for 127\.0\.0\.1:[0-9]+\/made\/nothing:v1 not found|repository does not exist/,
    );
    await refused(
      ['pull', `${registry.host}/made/here:v9`],
      /manifest for 127\.0\.0\.1:[0-9]+\/made\/here:v9 not found: manifest unknown/,
    );
    await refused(['pull', '127.0.0.1:1/a/b'], /127\.0\.0\.1:1/);
    await refused(['run', '--rm', '127.0.0.1:1/a/b', 'true'], /127\.0\.0\.1:1/, 125);
    await refused(['search', 'anything'], /Error response from daemon: .*index\.docker\.io/);
  });

  test('a client that leaves in the middle of a pull or a run: the daemon goes on, and the next pull succeeds', async () => {
    const proxy = await startFaultProxy(registry.host);
    try {
      const name = `${proxy.host}/made/here:v1`;
      const layers = [{ tar: layerTar({ 'etc/big': randomBytes(300_000) }) }];
      await pushImage({ host: registry.host, repository: 'made/here' }, 'slow', { layers });
      const before = readdirSync(`/proc/${daemon.pid}/fd`).length;
      proxy.fault = (path, count) =>
        path.includes('/blobs/') && count < 2 ? { kind: 'stall', afterBytes: 50 } : undefined;
      const slow = name.replace(':v1', ':slow');
      for (const args of [
        ['pull', slow],
        ['run', '--rm', slow, 'true'],
      ]) {
        const asked = proxy.seen.length;
        const command = docker.start(args);
        await eventually(
          () => proxy.seen.slice(asked).some(({ path }) => path.includes('/blobs/')),
          'it asks for a blob',
        );
        command.signal('SIGKILL');
        await command.finished();
      }
      const descriptors = (): number => readdirSync(`/proc/${daemon.pid}/fd`).length;
      // Connections to a registry are kept for the next request: one more for each that was asked at once.
      await eventually(() => descriptors() <= before + 4, `descriptors go back from ${descriptors()} to ${before}`);
      assert.equal(await docker.ok(['ps', '-aq']), '');
      proxy.fault = () => undefined;
      assert.match(await docker.ok(['pull', slow]), /Status: Downloaded newer image/);
      await docker.ok(['rmi', slow]);
    } finally {
      await proxy.stop();
    }
  });

  test('images, tag, filters, history', async () => {
    const id = await idOf(IMAGE);
    await docker.ok(['tag', IMAGE, 'local/copy:one']);
    await docker.ok(['tag', id, 'local/copy:two']);
    const list = async (...flags: string[]): Promise<string[]> => {
      const text = await docker.ok(['images', '--format', '{{.Repository}}:{{.Tag}}', ...flags]);
      return text.split('\n').sort();
    };
    const copies = ['local/copy:one', 'local/copy:two'];
    assert.deepEqual(await list('local/copy'), copies);
    assert.deepEqual(await list('--filter', 'reference=local/*'), copies);
    assert.deepEqual(await list('--filter', 'reference=*:two'), ['']);
    assert.deepEqual(await list('--filter', 'reference=*/*:two'), ['local/copy:two']);
    assert.deepEqual(await list('--filter', 'dangling=true'), ['']);
    assert.deepEqual(await list('--filter', 'label=none'), ['']);
    assert.equal(await docker.ok(['images', '-q', '--no-trunc', 'local/copy:one']), id);
    await refused(['images', '--filter', 'odd=1'], /nvalid filter 'odd'/);
    assert.match(await docker.ok(['history', IMAGE]), /^IMAGE +CREATED +CREATED BY +SIZE +COMMENT\n[0-9a-f]{12} /);
    await refused(['tag', 'nosuch', 'x'], /No such image: nosuch:latest\n/);
    await refused(['history', 'nosuch'], /No such image: nosuch:latest\n/);
    await refused(['image', 'inspect', 'nosuch'], /[Nn]o such image: nosuch/);
    await refused(['inspect', 'nosuch'], /No such object: nosuch/);
    await refused(['save', 'nosuch'], /No such image: nosuch/);
    assert.equal(
      await docker.ok(['rmi', 'local/copy:one', 'local/copy:two']),
      'Untagged: local/copy:one\nUntagged: local/copy:two',
    );
  });

  test('rmi refuses what a VM uses, forced or not while it runs', async () => {
    await docker.ok(['tag', IMAGE, 'used:now']);
    await docker.ok(['create', '--name', 'user', 'used:now', 'true']);
    const short = (await docker.ok(['inspect', '--format', '{{.Id}}', 'user'])).slice(0, 12);
    await refused(['rmi', 'nosuch'], /No such image: nosuch:latest\n/);
    const id = await idOf(IMAGE);
    await refused(
      ['rmi', id],
      /conflict: unable to delete [0-9a-f]{12} \(must be forced\) - image is referenced in multiple repositories/,
    );
    await docker.ok(['rmi', 'used:now']);
    await refused(
      ['rmi', IMAGE],
      new RegExp(
        `conflict: unable to remove repository reference "${IMAGE}[^"]*" \\(must force\\) - container ${short} is using its referenced image`,
      ),
    );
    await docker.ok(['rm', 'user']);
  });

  test('save and load give the same image back', async () => {
    const archive = join(folder, 'image.tar');
    const id = await idOf(IMAGE);
    await docker.ok(['tag', IMAGE, 'saved:a']);
    await docker.ok(['save', '-o', archive, 'saved:a', `${registry.host}/made/here:v1`]);
    await docker.ok(['rmi', 'saved:a', `${registry.host}/made/here:v1`]);
    const loaded = await docker.ok(['load', '-i', archive]);
    assert.deepEqual(
      loaded
        .split('\n')
        .filter((line) => line.startsWith('Loaded'))
        .sort(),
      [`Loaded image: ${registry.host}/made/here:v1`, 'Loaded image: saved:a'],
    );
    assert.equal(await idOf('saved:a'), id);
    assert.equal(await idOf(`${registry.host}/made/here:v1`), pushedId);
    const piped = await docker.run(['load', '-q'], { input: readFileSync(archive) });
    assert.match(piped.stdout, /Loaded image: saved:a/);
    await refused(['load', '-i', '/etc/passwd'], /./);
    const again = join(folder, 'again.tar');
    await docker.ok(['save', '-o', again, 'saved:a', `${registry.host}/made/here:v1`]);
    assert.equal(sha256(again), sha256(archive));
    await docker.ok(['rmi', 'saved:a']);
  });

  test('import makes an image that runs', async () => {
    const tar = Buffer.concat([tarFile('bin/sh', readFileSync('/bin/busybox'), { mode: 0o755 }), tarEnd()]);
    const path = join(folder, 'root.tar');
    writeFileSync(path, tar);
    const flags = ['-c', 'CMD ["/bin/sh", "-c", "echo $WORD"]', '-c', 'ENV WORD=imported', '-m', 'by hand'];
    const id = await docker.ok(['import', ...flags, path, 'imported:x']);
    assert.match(id, /^sha256:[0-9a-f]{64}$/);
    assert.equal(await idOf('imported:x'), id);
    assert.equal(
      await docker.ok(['image', 'inspect', '--format', '{{.Comment}}|{{json .Config.Env}}', 'imported:x']),
      'by hand|["WORD=imported"]',
    );
    assert.equal(await docker.ok(['run', '--rm', 'imported:x']), 'imported');
    assert.match(await docker.ok(['rmi', 'imported:x']), /^Untagged: imported:x\nDeleted: sha256:/);
  });

  test('prune takes only what its filters allow', async () => {
    const path = join(folder, 'root.tar');
    await docker.ok(['import', '-c', 'LABEL keep=yes', path]);
    await docker.ok(['import', '-c', 'LABEL keep=no', path]);
    const dangling = async (): Promise<number> =>
      (await docker.ok(['images', '-q', '--filter', 'dangling=true'])).split('\n').filter((line) => line !== '').length;
    assert.equal(await dangling(), 2);
    await docker.ok(['image', 'prune', '-f', '--filter', 'until=1h']);
    await docker.ok(['image', 'prune', '-f', '--filter', 'label=other']);
    assert.equal(await dangling(), 2);
    assert.match(
      await docker.ok(['image', 'prune', '-f', '--filter', 'label!=keep=yes']),
      /deleted: sha256:[\s\S]*Total reclaimed space/,
    );
    assert.equal(await dangling(), 1);
    await docker.ok(['image', 'prune', '-f']);
    assert.equal(await dangling(), 0);
    assert.match(await idOf(IMAGE), /^sha256:/);
  });

  test('events tell of images', async () => {
    const until = String(Date.now() / 1000);
    const text = await docker.ok([
      'events',
      '--since',
      '1',
      '--until',
      until,
      '--filter',
      'type=image',
      '--format',
      '{{.Action}}',
    ]);
    const seen = new Set(text.split('\n'));
    for (const action of ['pull', 'tag', 'untag', 'delete', 'save', 'load', 'import'])
      assert.ok(seen.has(action), action);
  });
});

function sha256(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}
