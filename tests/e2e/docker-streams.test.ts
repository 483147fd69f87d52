/** Logs, exec and attach with the real CLI. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startTestDaemon, type TestDaemon } from '../harness/daemon.ts';
import { DockerCli, eventually } from '../harness/docker-cli.ts';

const IMAGE = 'berth/busybox';

describe('logs, exec and attach under docker', () => {
  let daemon: TestDaemon;
  let docker: DockerCli;

  before(async () => {
    daemon = await startTestDaemon();
    docker = new DockerCli(daemon.socket);
  });

  after(async () => assert.deepEqual(await daemon.dispose(), []));

  const printed = (name: string, text: string): Promise<void> =>
    eventually(async () => (await docker.ok(['logs', name])).includes(text), `${name} prints ${text}`);

  test('logs: both streams, tail, timestamps, since, until', async () => {
    const script = 'for i in 1 2 3 4 5; do echo line $i; done; echo oops >&2; sleep 2.2; echo late; printf unended';
    await docker.run(['run', '--name', 'talker', IMAGE, 'sh', '-c', script]);
    const all = await docker.run(['logs', 'talker']);
    assert.deepEqual([all.stdout, all.stderr], ['line 1\nline 2\nline 3\nline 4\nline 5\nlate\nunended', 'oops\n']);
    assert.equal((await docker.run(['logs', '--tail', '2', 'talker'])).stdout, 'late\nunended');
    assert.equal((await docker.run(['logs', '--tail', '0', 'talker'])).stdout, '');
    assert.equal((await docker.run(['logs', '-n', '4', 'talker'])).stdout, 'line 5\nlate\nunended');
    const stamped = (await docker.run(['logs', '-t', 'talker'])).stdout.split('\n');
    assert.match(stamped[0] ?? '', /^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{9}Z line 1$/);
    assert.match(stamped[5] ?? '', /Z late$/);
    const late = (stamped[5] ?? '').split(' ')[0] ?? '';
    assert.equal((await docker.run(['logs', '--since', late, 'talker'])).stdout, 'late\nunended');
    const before = new Date(Date.parse(late) - 1_000).toISOString();
    const early = await docker.run(['logs', '--until', before, 'talker']);
    assert.equal(early.stdout, 'line 1\nline 2\nline 3\nline 4\nline 5\n');
    assert.equal((await docker.run(['logs', '--since', '10m', '--tail', '1', 'talker'])).stdout, 'unended');
    assert.equal((await docker.run(['logs', '--since', 'yesterday', 'talker'])).code, 1);
    const followed = await docker.run(['logs', '-f', '--tail', '1', 'talker']);
    assert.equal(followed.stdout, 'unended');
    await docker.ok(['rm', 'talker']);
  });

  test('logs -f goes on until the VM ends, and ends at a restart as dockerd does', async () => {
    const script = 'echo begun; trap "echo ending; exit 0" TERM; while :; do sleep 0.1; done';
    await docker.ok(['run', '-d', '--name', 'followed', IMAGE, 'sh', '-c', script]);
    const follower = docker.start(['logs', '-f', 'followed']);
    await follower.untilPrinted('begun');
    await docker.ok(['restart', 'followed']);
    assert.equal((await follower.finished()).stdout, 'begun\nending\n');
    await printed('followed', 'ending\nbegun');
    const second = docker.start(['logs', '-f', '--tail', '1', 'followed']);
    await second.untilPrinted('begun');
    // A moment ahead: a duration would mean "ago", and whether the line is older than that is the machine's speed.
    const until = new Date(Date.now() + 1_000).toISOString();
    const bounded = await docker.run(['logs', '-f', '--until', until, 'followed']);
    assert.match(bounded.stdout, /begun/);
    await docker.ok(['stop', 'followed']);
    assert.equal((await second.finished()).stdout, 'begun\nending\n');
    await docker.ok(['rm', 'followed']);
  });

  test('exec: output, input, exit codes, user, directory, environment, -d, and a terminal', async () => {
    await docker.ok(['run', '-d', '--name', 'host', '-e', 'BASE=1', IMAGE, 'sleep', '500']);
    const both = await docker.run(['exec', 'host', 'sh', '-c', 'echo out; echo err >&2; exit 9']);
    assert.deepEqual(both, { code: 9, stdout: 'out\n', stderr: 'err\n' });
    const input = Buffer.alloc(300_000, 'wxyz\n');
    const echoed = await docker.run(['exec', '-i', 'host', 'sh', '-c', 'cat; echo end'], { input });
    assert.equal(echoed.stdout.length, input.length + 4);
    assert.equal((await docker.run(['exec', 'host', 'cat'], { input: 'unread' })).stdout, '');
    const flags = ['-u', '7:8', '-w', '/tmp', '-e', 'MORE=2'];
    const script = 'echo $BASE$MORE $(id -u) $(id -g) $(pwd)';
    assert.equal(await docker.ok(['exec', ...flags, 'host', 'sh', '-c', script]), '12 7 8 /tmp');
    assert.equal(await docker.ok(['exec', '-u', 'nobody', 'host', 'id', '-un']), 'nobody');

    const missing = await docker.run(['exec', 'host', 'nosuch']);
    assert.equal(missing.code, 127);
    assert.match(missing.stdout + missing.stderr, /exec: "nosuch": executable file not found in \$PATH/);
    const denied = await docker.run(['exec', 'host', '/etc/passwd']);
    assert.equal(denied.code, 126);
    assert.match(denied.stdout + denied.stderr, /permission denied/);
    const nowhere = await docker.run(['exec', '-w', '/nowhere', 'host', 'id']);
    assert.equal(nowhere.code, 126);
    assert.match(nowhere.stdout + nowhere.stderr, /chdir to cwd \("\/nowhere"\) .*no such file or directory/);
    const stranger = await docker.run(['exec', '-u', 'stranger', 'host', 'id']);
    assert.equal(stranger.code, 126);
    assert.match(stranger.stdout + stranger.stderr, /unable to find user stranger/);
    assert.equal((await docker.run(['exec', 'host', 'sh', '-c', 'kill -KILL $$'])).code, 137);
    assert.equal((await docker.run(['exec', 'nobody-there', 'true'])).code, 1);

    assert.equal(await docker.ok(['exec', '-d', 'host', 'sh', '-c', 'echo quiet > /made']), '');
    await eventually(
      async () => (await docker.run(['exec', 'host', 'cat', '/made'])).stdout === 'quiet\n',
      'exec -d ran',
    );

    const line = 'tty; stty size; echo "[$TERM]"; read word; echo "read $word"; exit 4';
    const terminal = docker.onTerminal(['exec', '-it', 'host', 'sh', '-c', line], { rows: 40, columns: 132 });
    await terminal.untilPrinted('[xterm]');
    terminal.write('word\r');
    const { code, stdout } = await terminal.finished();
    assert.equal(code, 4);
    assert.match(stdout, /\/dev\/pts\/[0-9]\r\n40 132\r\n\[xterm\]\r\n/);
    assert.match(stdout, /read word\r\n$/);

    // An exec that is under way when the VM goes ends with it.
    const cut = docker.start(['exec', 'host', 'sh', '-c', 'echo on; sleep 100']);
    await cut.untilPrinted('on');
    await docker.ok(['kill', 'host']);
    assert.equal((await cut.finished()).code, 137);
    await docker.ok(['rm', 'host']);
  });

  test('attach: what comes from now on, to several clients; the exit code; signals', async () => {
    const script = 'trap "echo bye; exit 5" TERM; echo early; while :; do sleep 0.2; echo tick >&2; done';
    await docker.ok(['run', '-d', '--name', 'shared', IMAGE, 'sh', '-c', script]);
    await printed('shared', 'early');
    const clients = [docker.start(['attach', 'shared']), docker.start(['attach', '--sig-proxy=false', 'shared'])];
    await eventually(() => clients.every((client) => client.stderr.includes('tick')), 'both clients hear it tick');
    clients[1]?.signal('SIGKILL');
    clients[0]?.signal('SIGTERM');
    const first = await clients[0]?.finished();
    assert.deepEqual([first?.code, first?.stdout], [5, 'bye\n']);
    await docker.ok(['rm', 'shared']);
  });

  test('attach: input of a client that leaves does not end the process unless it was the one and only', async () => {
    await docker.ok([
      'run',
      '-di',
      '--name',
      'reader',
      IMAGE,
      'sh',
      '-c',
      'while read l; do echo "got $l"; done; echo over',
    ]);
    const first = docker.start(['attach', 'reader']);
    first.write('one\n');
    await first.untilPrinted('got one');
    first.endInput();
    first.signal('SIGKILL');
    await first.finished();
    const second = docker.start(['attach', 'reader']);
    second.write('two\n');
    await second.untilPrinted('got two');
    second.signal('SIGKILL');
    await second.finished();
    assert.equal(await docker.ok(['inspect', '--format', '{{.State.Running}}', 'reader']), 'true');
    await docker.ok(['rm', '-f', 'reader']);
  });

  test('a terminal: detach keys leave it running, attach comes back, its own keys too', async () => {
    const size = { rows: 30, columns: 90 };
    const run = docker.onTerminal(['run', '-it', '--name', 'shell', IMAGE, 'sh'], size);
    await run.untilPrinted('#');
    run.write('echo first-$((40+2))\r');
    await run.untilPrinted('first-42');
    run.write('\u0010\u0011');
    assert.equal((await run.finished()).code, 0);
    assert.equal(await docker.ok(['inspect', '--format', '{{.State.Running}}', 'shell']), 'true');

    const back = docker.onTerminal(['attach', '--detach-keys', 'ctrl-x,x', 'shell'], { rows: 20, columns: 70 });
    // The size goes through H+1, W+1 first, so that a full-screen program draws itself again.
    back.write('\r');
    await back.untilPrinted('#');
    back.write('stty size; echo second-$((1+1))\r');
    await back.untilPrinted(/20 70[\s\S]*second-2/);
    back.write('\u0018x');
    assert.match((await back.finished()).stdout, /read escape sequence/);

    const last = docker.onTerminal(['attach', 'shell'], size);
    last.write('exit 11\r');
    const { code } = await last.finished();
    assert.equal(code, 11);
    assert.match(await docker.ok(['logs', 'shell']), /first-42[\s\S]*second-2/);
    const restarted = docker.onTerminal(['start', '-ai', 'shell'], size);
    await restarted.untilPrinted('#');
    restarted.write('exit 12\r');
    assert.equal((await restarted.finished()).code, 12);
    await docker.ok(['rm', 'shell']);
  });
});
