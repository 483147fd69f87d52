/** The Engine API's streams by hand: both ways of taking over a connection, and clients that leave in the middle. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { startTestDaemon, type TestDaemon } from '../harness/daemon.ts';
import { DockerCli, eventually } from '../harness/docker-cli.ts';
import { RawConnection, requestHead, UPGRADE, unframed } from '../harness/raw-http.ts';

const Image = 'berth/busybox';
const MULTIPLEXED = 'application/vnd.docker.multiplexed-stream';
const RAW = 'application/vnd.docker.raw-stream';

describe('streams of the Engine API', () => {
  let daemon: TestDaemon;
  let docker: DockerCli;

  before(async () => {
    // Without a pool: one test counts descriptors, and each machine that waits has two.
    daemon = await startTestDaemon({ env: { BERTH_POOL: 'off' } });
    docker = new DockerCli(daemon.socket);
    // Every second VM is idle: one for execs, which most of these tests are about.
    await docker.ok(['run', '-d', '--name', 'host', Image, 'sleep', '900']);
  });

  after(async () => assert.deepEqual(await daemon.dispose(), []));

  const makeExec = async (body: object): Promise<string> => {
    const answer = await daemon.call('POST', '/containers/host/exec', {
      AttachStdout: true,
      AttachStderr: true,
      ...body,
    });
    assert.equal(answer.status, 201, JSON.stringify(answer.body));
    return (answer.body as { Id: string }).Id;
  };
  const exitCodeOf = async (exec: string): Promise<number | null> =>
    ((await daemon.call('GET', `/exec/${exec}/json`)).body as { ExitCode: number | null }).ExitCode;
  const descriptors = (): number => readdirSync(`/proc/${daemon.pid}/fd`).length;
  const processes = async (): Promise<string> => await docker.ok(['top', 'host', '-o', 'pid,args']);

  test('exec with an upgrade: 101, frames, standard input until half-close, then the exit code', async () => {
    const exec = await makeExec({ Cmd: ['sh', '-c', 'cat; echo done >&2; exit 6'], AttachStdin: true });
    const connection = new RawConnection(daemon.socket);
    await connection.send('POST', `/v1.42/exec/${exec}/start`, {
      headers: UPGRADE,
      body: '{"Detach":false,"Tty":false}',
    });
    const { status, headers } = await connection.answered();
    assert.deepEqual([status, headers['content-type'], headers['upgrade']], [101, MULTIPLEXED, 'tcp']);
    await connection.write('some input\n');
    await connection.untilReceived('some input');
    connection.halfClose();
    await connection.ended();
    assert.deepEqual(unframed(connection.body), { stdout: 'some input\n', stderr: 'done\n' });
    assert.equal(await exitCodeOf(exec), 6);
  });

  test('an old version’s 101 says raw-stream, a terminal has no frames', async () => {
    const old = new RawConnection(daemon.socket);
    const first = await makeExec({ Cmd: ['echo', 'framed'] });
    await old.send('POST', `/v1.41/exec/${first}/start`, { headers: UPGRADE, body: '{}' });
    assert.equal((await old.answered()).headers['content-type'], RAW);
    await old.ended();
    assert.deepEqual(unframed(old.body), { stdout: 'framed\n', stderr: '' });
    old.destroy();

    const terminal = new RawConnection(daemon.socket);
    const second = await makeExec({ Cmd: ['stty', 'size'], Tty: true });
    const body = '{"Tty":true,"ConsoleSize":[11,22]}';
    await terminal.send('POST', `/v1.50/exec/${second}/start`, { headers: UPGRADE, body });
    assert.equal((await terminal.answered()).headers['content-type'], RAW);
    await terminal.ended();
    assert.equal(terminal.body.toString(), '11 22\r\n');
    terminal.destroy();
  });

  test('exec without an upgrade: 200 and the stream as its body', async () => {
    const exec = await makeExec({ Cmd: ['sh', '-c', 'echo out; echo err >&2'] });
    const connection = new RawConnection(daemon.socket);
    await connection.send('POST', `/exec/${exec}/start`, { body: '{"Detach":false}' });
    const { status, headers } = await connection.answered();
    assert.deepEqual([status, headers['content-type']], [200, RAW]);
    assert.equal(headers['transfer-encoding'], undefined);
    await connection.ended();
    assert.deepEqual(unframed(connection.body), { stdout: 'out\n', stderr: 'err\n' });
  });

  test('the body may come in a second packet, byte by byte, with input glued behind it', async () => {
    const exec = await makeExec({ Cmd: ['cat'], AttachStdin: true });
    const body = '{"Detach":false,"Tty":false}';
    const connection = new RawConnection(daemon.socket);
    await connection.write(requestHead('POST', `/v1.50/exec/${exec}/start`, { headers: UPGRADE, body }));
    for (const letter of body.slice(0, -1)) await connection.write(letter);
    assert.equal(connection.text, '');
    await connection.write(`${body.slice(-1)}glued input\n`);
    await connection.untilReceived('glued input');
    connection.halfClose();
    await connection.ended();
    assert.equal(unframed(connection.body).stdout, 'glued input\n');

    const whole = await makeExec({ Cmd: ['cat'], AttachStdin: true });
    const second = new RawConnection(daemon.socket);
    const head = requestHead('POST', `/v1.50/exec/${whole}/start`, { headers: UPGRADE, body });
    await second.write(`${head}${body}all at once`);
    second.halfClose();
    await second.ended();
    assert.equal(unframed(second.body).stdout, 'all at once');
    assert.equal(await exitCodeOf(whole), 0);
  });

  test('the body of an attach is no input for the process: JSON as dockerode sends it, nor the end of an empty one', async () => {
    const target = '/v1.50/containers/chunky/attach?stream=1&stdin=1&stdout=1';
    const chunked = requestHead('POST', target, { headers: { ...UPGRADE, 'Transfer-Encoding': 'chunked' } });
    const body = '{"stream":true,"stdin":true,"hijack":true}';
    const requests = [`${chunked}0\r\n\r\n`, `${requestHead('POST', target, { headers: UPGRADE, body })}${body}`];
    await daemon.call('POST', '/containers/create?name=chunky', {
      Image,
      Cmd: ['cat'],
      OpenStdin: true,
      StdinOnce: true,
    });
    for (const request of requests) {
      const connection = new RawConnection(daemon.socket);
      await connection.write(request);
      assert.equal((await connection.answered()).status, 101);
      await daemon.call('POST', '/containers/chunky/start');
      await connection.write('real input');
      connection.halfClose();
      await connection.ended();
      assert.equal(unframed(connection.body).stdout, 'real input');
    }
    await docker.ok(['rm', 'chunky']);
  });

  test('an error inside an upgraded exec is told in the stream', async () => {
    const exec = await makeExec({ Cmd: ['nosuch'] });
    const connection = new RawConnection(daemon.socket);
    await connection.send('POST', `/v1.50/exec/${exec}/start`, { headers: UPGRADE, body: '{}' });
    assert.equal((await connection.answered()).status, 101);
    await connection.ended();
    assert.match(
      unframed(connection.body).stdout,
      /^OCI runtime exec failed: .*executable file not found in \$PATH\r\n$/,
    );
    assert.equal(await exitCodeOf(exec), 127);
    connection.destroy();
  });

  test('attach before start, upgraded and plain, with input once', async () => {
    await daemon.call('POST', '/containers/create?name=fed', {
      Image,
      Cmd: ['sh', '-c', 'echo ready; cat; echo end'],
      OpenStdin: true,
      StdinOnce: true,
      AttachStdin: true,
    });
    const upgraded = new RawConnection(daemon.socket);
    await upgraded.send('POST', '/v1.50/containers/fed/attach?stream=1&stdin=1&stdout=1&stderr=1', {
      headers: UPGRADE,
    });
    assert.equal((await upgraded.answered()).status, 101);
    const plain = new RawConnection(daemon.socket);
    await plain.send('POST', '/containers/fed/attach?stream=1&stdout=1&stderr=1');
    const { status, headers } = await plain.answered();
    assert.deepEqual([status, headers['content-type']], [200, RAW]);
    // Input that comes before the start waits for it.
    await upgraded.write('early\n');
    assert.equal((await daemon.call('POST', '/containers/fed/start')).status, 204);
    await upgraded.untilReceived('early');
    upgraded.halfClose();
    await upgraded.ended();
    await plain.ended();
    for (const client of [upgraded, plain]) assert.equal(unframed(client.body).stdout, 'ready\nearly\nend\n');
    const late = new RawConnection(daemon.socket);
    await late.send('POST', '/v1.50/containers/fed/attach?logs=1&stdout=1', { headers: UPGRADE });
    await late.ended();
    assert.equal(unframed(late.body).stdout, 'ready\nearly\nend\n');
    late.destroy();
    await docker.ok(['rm', 'fed']);
  });

  test('clients that leave in the middle cost nothing and end nothing they should not', async () => {
    await docker.ok(['run', '-d', '--name', 'chatty', Image, 'sh', '-c', 'while :; do echo word; sleep 0.05; done']);
    await eventually(async () => (await docker.ok(['logs', '-n', '1', 'chatty'])) === 'word', 'it talks');
    const before = descriptors();
    const exec = await makeExec({ Cmd: ['sh', '-c', 'while :; do echo more; sleep 0.05; done'] });
    const leavers: [string, string, Record<string, string>, string | undefined][] = [
      ['GET', '/containers/chatty/logs?follow=1&stdout=1', {}, undefined],
      ['POST', '/v1.50/containers/chatty/attach?stream=1&stdout=1', UPGRADE, undefined],
      ['POST', '/containers/chatty/attach?stream=1&stdout=1', {}, undefined],
      ['POST', `/v1.50/exec/${exec}/start`, UPGRADE, '{}'],
      ['POST', '/containers/chatty/wait', {}, undefined],
      ['GET', '/events', {}, undefined],
    ];
    for (let round = 0; round < 3; round += 1) {
      for (const [method, path, headers, body] of leavers) {
        if (round > 0 && path.includes('/exec/')) continue;
        const connection = new RawConnection(daemon.socket);
        await connection.send(method, path, { headers, ...(body === undefined ? {} : { body }) });
        assert.ok((await connection.answered()).status < 300, path);
        if (/logs|attach|exec/.test(path)) await eventually(() => connection.body.length > 0, `${path} streams`);
        connection.destroy();
      }
    }
    // A half-close of a plain request means the client has gone, as in dockerd; another leaves between headers and body.
    const half = new RawConnection(daemon.socket);
    await half.send('GET', '/containers/chatty/logs?follow=1&stdout=1');
    await half.answered();
    half.halfClose();
    await half.ended();
    const cut = new RawConnection(daemon.socket);
    await cut.write(requestHead('POST', `/exec/${exec}/start`, { headers: UPGRADE, body: '{"Detach":false}' }));
    cut.destroy();
    const refusedOne = new RawConnection(daemon.socket);
    await refusedOne.send('POST', '/exec/none/start', { headers: UPGRADE, body: '{}' });
    await refusedOne.answered();
    refusedOne.destroy();
    await eventually(() => descriptors() <= before, `descriptors go back from ${descriptors()} to ${before}`);
    assert.equal(await docker.ok(['inspect', '--format', '{{.State.Running}}', 'chatty']), 'true');
    assert.match(await processes(), /echo more/);
    assert.equal(await exitCodeOf(exec), null);
    await docker.ok(['rm', '-f', 'chatty']);
  });

  test('a client that does not read holds back nobody else', async () => {
    const script = 'dd if=/dev/zero bs=64k count=160 2>/dev/null | tr "\\000" x; echo; echo finished';
    await docker.ok(['create', '--name', 'flood', Image, 'sh', '-c', script]);
    const lazy = new RawConnection(daemon.socket);
    await lazy.send('POST', '/v1.50/containers/flood/attach?stream=1&stdout=1', { headers: UPGRADE });
    await lazy.answered();
    lazy.pause();
    const { code, stdout } = await docker.run(['start', '-a', 'flood']);
    assert.equal(code, 0);
    assert.equal(stdout.length, 160 * 65_536 + '\nfinished\n'.length);
    assert.ok(residentMebibytes(daemon.pid) < 400, `${residentMebibytes(daemon.pid)} MiB`);
    lazy.resume();
    await lazy.ended();
    assert.equal(unframed(lazy.body).stdout.length, stdout.length);
    lazy.destroy();
    await docker.ok(['rm', 'flood']);
  });

  test('docker run that is killed leaves its VM running; with --rm it still goes when it ends', async () => {
    const before = descriptors();
    const run = docker.start(['run', '--rm', '--name', 'orphan', Image, 'sh', '-c', 'echo up; sleep 600']);
    await run.untilPrinted('up');
    run.signal('SIGKILL');
    await run.finished();
    assert.equal(await docker.ok(['inspect', '--format', '{{.State.Running}}', 'orphan']), 'true');
    await docker.ok(['stop', '-t', '0', 'orphan']);
    await eventually(async () => (await docker.ok(['ps', '-aq', '--filter', 'name=orphan'])) === '', 'it is gone');
    await eventually(() => descriptors() <= before, `descriptors go back to ${before}`);
  });

  test('a client that leaves while the VM boots: it runs all the same', async () => {
    await docker.ok(['create', '--name', 'left', Image, 'sleep', '600']);
    const connection = new RawConnection(daemon.socket);
    await connection.send('POST', '/containers/left/start');
    connection.destroy();
    await eventually(
      async () => (await docker.ok(['inspect', '--format', '{{.State.Status}}', 'left'])) === 'running',
      'it runs',
    );
    await docker.ok(['rm', '-f', 'left']);
  });

  test('the daemon had nothing to complain about', () => {
    const complaints = readFileSync(daemon.logPath, 'utf8')
      .split('\n')
      .filter((line) => /Error|at .*\.ts:/.test(line));
    assert.deepEqual(complaints, []);
  });
});

function residentMebibytes(pid: number): number {
  return Number(/VmRSS:\s+([0-9]+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
}
