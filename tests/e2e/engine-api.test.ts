/** Docker's Engine API by hand: statuses, texts and shapes that clients other than the docker CLI depend on. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startTestDaemon, type TestDaemon } from '../harness/daemon.ts';
import { eventually } from '../harness/docker-cli.ts';
import { RawConnection, UPGRADE } from '../harness/raw-http.ts';

const Image = 'berth/busybox';

describe('the Engine API', () => {
  let daemon: TestDaemon;

  before(async () => {
    daemon = await startTestDaemon();
  });

  after(async () => assert.deepEqual(await daemon.dispose(), []));

  /** The status and, of an error, the message; checks that an error body holds a message and nothing else. */
  const call = async (method: string, path: string, body?: unknown): Promise<[number, string]> => {
    const answer = await daemon.call(method, path, body);
    if (answer.status < 400) return [answer.status, ''];
    assert.deepEqual(Object.keys(answer.body as object), ['message'], `${method} ${path}`);
    return [answer.status, (answer.body as { message: string }).message];
  };
  const refused = async (
    status: number,
    words: RegExp,
    method: string,
    path: string,
    body?: unknown,
  ): Promise<void> => {
    const [actual, message] = await call(method, path, body);
    assert.equal(actual, status, `${method} ${path}: ${message}`);
    assert.match(message, words);
  };
  const create = async (name: string, body: object): Promise<string> => {
    const answer = await daemon.call('POST', `/containers/create?name=${name}`, { Image, ...body });
    assert.equal(answer.status, 201, JSON.stringify(answer.body));
    return (answer.body as { Id: string }).Id;
  };
  const get = async <Shape>(path: string): Promise<Shape> => (await daemon.call('GET', path)).body as Shape;

  test('ping, with and without a version, by GET and HEAD', async () => {
    for (const path of ['/_ping', '/v1.24/_ping', '/v1.50/_ping']) {
      for (const method of ['GET', 'HEAD']) {
        const connection = new RawConnection(daemon.socket);
        await connection.send(method, path);
        const { status, headers } = await connection.answered();
        const { 'api-version': version, ostype, swarm, 'content-length': length } = headers;
        assert.deepEqual(
          { status, version, ostype, swarm, length },
          { status: 200, version: '1.50', ostype: 'linux', swarm: 'inactive', length: '2' },
        );
        connection.destroy();
      }
    }
  });

  test('versions outside the range are refused in dockerd’s words', async () => {
    await refused(
      400,
      /^client version 1\.99 is too new\. Maximum supported API version is 1\.50$/,
      'GET',
      '/v1.99/version',
    );
    await refused(
      400,
      /^client version 1\.10 is too old\. Minimum supported API version is 1\.24, please upgrade/,
      'GET',
      '/v1.10/version',
    );
    assert.equal((await get<{ ApiVersion: string }>('/v1.30/version')).ApiVersion, '1.50');
  });

  test('unknown routes are 404, Docker’s own that are missing 501 by name, swarm’s 503', async () => {
    await refused(404, /^page not found$/, 'GET', '/nothing');
    await refused(404, /^page not found$/, 'PUT', '/containers/json');
    await refused(404, /^page not found$/, 'GET', '/containers/json/');
    await refused(400, /percent-encoded/, 'GET', '/containers/%zz/json');
    await refused(501, /berth does not support POST \/commit yet/, 'POST', '/commit');
    await refused(501, /GET \/containers\/\{id\}\/changes/, 'GET', '/v1.41/containers/x/changes');
    await refused(404, /^No such container: x$/, 'GET', '/containers/x/stats');
    await refused(503, /^This node is not a swarm manager/, 'GET', '/nodes');
    await refused(503, /^This node is not a swarm manager/, 'POST', '/swarm/init', {});
    await refused(404, /^network x not found$/, 'GET', '/networks/x');
    await refused(404, /^get x: no such volume$/, 'GET', '/volumes/x');
    for (const target of ['//', '//containers/json', '/?', 'http://x/_ping', '*', '/v1.50']) {
      const connection = new RawConnection(daemon.socket);
      await connection.send('GET', target);
      assert.ok((await connection.answered()).status > 0, target);
      connection.destroy();
    }
    assert.equal((await call('GET', '/_ping'))[0], 200);
  });

  test('filters come as lists and as maps; unknown and malformed ones are refused', async () => {
    await create('filtered', { Labels: { team: 'blue' }, Cmd: ['true'] });
    const names = async (filters: unknown): Promise<string[]> => {
      const text = encodeURIComponent(JSON.stringify(filters));
      return (await get<{ Names: string[] }[]>(`/containers/json?all=1&filters=${text}`)).flatMap(({ Names }) => Names);
    };
    assert.deepEqual(await names({ label: ['team=blue'] }), ['/filtered']);
    assert.deepEqual(await names({ label: { 'team=blue': true } }), ['/filtered']);
    assert.deepEqual(await names({ label: ['team=red'] }), []);
    assert.deepEqual(await names({ label: { 'team=red': true } }), []);
    await refused(400, /nvalid filter 'bogus'/, 'GET', '/containers/json?filters={"bogus":["1"]}');
    await refused(400, /nvalid filter/, 'GET', '/containers/json?filters=[1]');
    await refused(400, /nvalid filter/, 'GET', '/containers/json?filters=nonsense');
    await refused(400, /nvalid filter/, 'GET', '/images/json?filters={"dangling":["maybe"]}');
    await call('DELETE', '/containers/filtered');
  });

  test('bodies: malformed, wrong types, unknown fields, too large, and the connection after them', async () => {
    const connection = new RawConnection(daemon.socket);
    await connection.send('POST', '/containers/create', { body: '{"Image":' });
    assert.equal((await connection.answered()).status, 400);
    await connection.untilReceived('"message":"the request body is not JSON');
    await connection.send('GET', '/version');
    await connection.untilReceived('"ApiVersion":"1.50"');
    assert.equal(connection.hasEnded, false, 'the connection serves on after an error');
    await connection.send('POST', '/nothing', { body: '{"unread":"body"}' });
    await connection.untilReceived('page not found');
    await connection.send('GET', '/info');
    await connection.untilReceived('"OSType":"linux"');
    connection.destroy();

    await refused(400, /Env/, 'POST', '/containers/create', { Image, Env: 'A=1' });
    await refused(400, /no image specified/, 'POST', '/containers/create', {});
    await refused(404, /^No such image: nosuch:latest$/, 'POST', '/containers/create', { Image: 'nosuch' });
    const unknown = await daemon.call('POST', '/containers/create?name=tolerant', {
      Image,
      Cmd: 'true',
      Shiny: { New: 1 },
    });
    assert.equal(unknown.status, 201);
    assert.deepEqual((await get<{ Args: string[]; Path: string }>('/containers/tolerant/json')).Path, 'true');
    await call('DELETE', '/containers/tolerant');

    await refused(413, /larger than/, 'POST', '/containers/create', { Image, Env: ['A'.repeat(5_000_000)] });
    const chunked = new RawConnection(daemon.socket);
    await chunked.send('POST', '/containers/create', { headers: { 'Transfer-Encoding': 'chunked' } });
    for (let sent = 0; sent < 80 && chunked.text === ''; sent += 1) {
      await chunked.write(`10000\r\n${' '.repeat(65_536)}\r\n`);
    }
    assert.equal((await chunked.answered()).status, 413);
    chunked.destroy();
  });

  test('what a VM cannot be is refused with the field’s name', async () => {
    const refusals: [object, number, RegExp][] = [
      [{ HostConfig: { Memory: 4_000_000 } }, 400, /^Minimum memory limit allowed is 80MB/],
      [{ HostConfig: { NanoCpus: 1e15 } }, 400, /range of CPUs is from 0\.01 to 64\.00/],
      [{ HostConfig: { Binds: ['/a:/b'] } }, 501, /the host folder \/a \(-v \/a:\/b\) is not supported/],
      [{ HostConfig: { Mounts: [{ Type: 'bind', Source: '/a', Target: '/b' }] } }, 501, /a mount of type bind/],
      [{ HostConfig: { RestartPolicy: { Name: 'always' } } }, 501, /restart policy always/],
      [{ HostConfig: { NetworkMode: 'mine' } }, 501, /network mode mine/],
      [{ NetworkingConfig: { EndpointsConfig: { mine: {} } } }, 501, /network mine/],
      [{ HostConfig: { PidMode: 'host' } }, 501, /HostConfig\.PidMode host/],
      [{ HostConfig: { PortBindings: { 'x/tcp': [] } } }, 400, /invalid port specification: "x\/tcp"/],
      [{ HostConfig: { PortBindings: { '80/sctp': null } } }, 501, /publishing of sctp ports/],
      [{ StopSignal: 'SIGODD' }, 400, /Invalid signal: SIGODD/],
      [{ WorkingDir: 'relative' }, 400, /needs to be an absolute path/],
      [{ Entrypoint: [''], Cmd: [] }, 400, /no command specified/],
      [{ HostConfig: { Ulimits: [{ Name: 'odd', Soft: 1, Hard: 1 }] } }, 400, /invalid ulimit type: odd/],
    ];
    for (const [body, status, words] of refusals) {
      await refused(status, words, 'POST', '/containers/create', { Image, Cmd: ['true'], ...body });
    }
    await refused(501, /platform linux\/s390x is not supported/, 'POST', '/containers/create?platform=linux/s390x', {
      Image,
    });
    assert.deepEqual(await get('/containers/json?all=1'), []);
  });

  test('a body with nothing but an image is enough, and inspect fills in the rest', async () => {
    const id = await create('bare', {});
    const view = await get<{ HostConfig: Record<string, unknown>; Config: Record<string, unknown>; State: object }>(
      '/containers/bare/json',
    );
    assert.equal(view.HostConfig['NetworkMode'], 'bridge');
    assert.equal(view.HostConfig['Memory'], 0);
    assert.deepEqual(view.HostConfig['RestartPolicy'], { Name: 'no', MaximumRetryCount: 0 });
    assert.deepEqual(view.HostConfig['LogConfig'], { Type: 'json-file', Config: {} });
    assert.equal(view.Config['Hostname'], id.slice(0, 12));
    assert.deepEqual((view.State as { FinishedAt: string }).FinishedAt, '0001-01-01T00:00:00Z');
    await refused(409, /is not running/, 'POST', '/containers/bare/kill');
    await refused(409, /is not running/, 'POST', '/containers/bare/exec', { Cmd: ['true'] });
    await refused(409, /is not running/, 'POST', '/containers/bare/pause');
    assert.equal((await call('POST', '/containers/bare/stop'))[0], 304);
    assert.deepEqual((await daemon.call('POST', '/containers/bare/wait')).body, { StatusCode: 0 });
    await refused(400, /invalid condition/, 'POST', '/containers/bare/wait?condition=odd');
    await refused(
      409,
      new RegExp(`The container name "/bare" is already in use by container "${id}"`),
      'POST',
      '/containers/create?name=bare',
      { Image },
    );
    assert.equal((await call('DELETE', `/containers/${id.slice(0, 12)}`))[0], 204);
    await refused(404, /^No such container: bare$/, 'GET', '/containers/bare/json');
  });

  test('a running VM: 304, 409, exec and its states', async () => {
    const id = await create('busy', { Cmd: ['sh', '-c', 'echo out; exec sleep 600'] });
    assert.equal((await call('POST', '/containers/busy/start'))[0], 204);
    assert.equal((await call('POST', '/containers/busy/start'))[0], 304);
    await refused(409, /cannot remove container "busy": container is running/, 'DELETE', '/containers/busy');
    await refused(400, /Invalid signal: ODD/, 'POST', '/containers/busy/kill?signal=ODD');
    await refused(400, /you must choose at least one stream/, 'GET', '/containers/busy/logs');
    await refused(400, /No exec command specified/, 'POST', '/containers/busy/exec', { Cmd: [] });
    await refused(404, /^No such exec instance: 0123$/, 'GET', '/exec/0123/json');

    const made = await daemon.call('POST', '/containers/busy/exec', {
      Cmd: ['sh', '-c', 'exit 3'],
      AttachStdout: true,
    });
    const exec = (made.body as { Id: string }).Id;
    const before = await get<Record<string, unknown>>(`/exec/${exec}/json`);
    assert.deepEqual([before['Running'], before['ExitCode'], before['ContainerID']], [false, null, id]);
    assert.deepEqual(before['ProcessConfig'], {
      tty: false,
      entrypoint: 'sh',
      arguments: ['-c', 'exit 3'],
      privileged: false,
    });
    assert.equal((await call('POST', `/exec/${exec}/start`, { Detach: true }))[0], 200);
    await eventually(
      async () => (await get<{ ExitCode: number | null }>(`/exec/${exec}/json`)).ExitCode === 3,
      'the exec ends',
    );
    await refused(409, /has already run/, 'POST', `/exec/${exec}/start`, { Detach: true });

    const long = (
      (await daemon.call('POST', '/containers/busy/exec', { Cmd: ['sleep', '600'] })).body as { Id: string }
    ).Id;
    await call('POST', `/exec/${long}/start`, { Detach: true });
    assert.deepEqual((await get<{ ExecIDs: string[] }>('/containers/busy/json')).ExecIDs, [long]);
    assert.equal((await call('POST', '/containers/busy/stop?t=0'))[0], 204);
    const after = await get<Record<string, unknown>>(`/exec/${long}/json`);
    assert.deepEqual([after['Running'], after['ExitCode'], after['Pid']], [false, 137, 0]);
    await refused(409, /is not running/, 'POST', '/containers/busy/exec', { Cmd: ['true'] });
    assert.equal((await call('DELETE', '/containers/busy'))[0], 204);
    await refused(404, /^No such exec instance/, 'GET', `/exec/${long}/json`);
  });

  test('wait sends its headers at once, and its body when the VM is gone', async () => {
    await create('awaited', { Cmd: ['sh', '-c', 'exit 8'], HostConfig: { AutoRemove: true } });
    const next = new RawConnection(daemon.socket);
    await next.send('POST', '/containers/awaited/wait?condition=next-exit');
    const removed = new RawConnection(daemon.socket);
    await removed.send('POST', '/containers/awaited/wait?condition=removed');
    assert.equal((await next.answered()).status, 200);
    assert.equal((await removed.answered()).status, 200);
    assert.equal(next.body.length, 0);
    assert.equal((await call('POST', '/containers/awaited/start'))[0], 204);
    await next.untilReceived('{"StatusCode":8}');
    await removed.untilReceived('{"StatusCode":8}');
    assert.deepEqual(await get('/containers/json?all=1'), []);
    next.destroy();
    removed.destroy();
  });

  test('an error on a route that upgrades is plain HTTP, and the connection is let go', async () => {
    const connection = new RawConnection(daemon.socket);
    await connection.send('POST', '/v1.50/containers/nobody/attach?stream=1&stdout=1', { headers: UPGRADE, body: '' });
    const { status, headers } = await connection.answered();
    assert.equal(status, 404);
    assert.equal(headers['api-version'], '1.50');
    await connection.untilReceived('{"message":"No such container: nobody"}');
    await connection.ended();
    connection.destroy();
  });

  test('events keep the fields old clients read', async () => {
    const until = Date.now() / 1000;
    const { body } = await daemon.call('GET', `/events?since=1&until=${until}&filters={"event":["die"]}`);
    const first = JSON.parse(String(body).split('\n')[0] ?? '') as Record<string, unknown>;
    assert.deepEqual(
      [first['status'], first['from'], first['scope'], first['Type']],
      ['die', Image, 'local', 'container'],
    );
    assert.match((first['Actor'] as { Attributes: Record<string, string> }).Attributes['exitCode'] ?? '', /^1(37|43)$/);
  });
});
