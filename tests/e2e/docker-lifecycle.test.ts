/** From create to rm, `docker ps`, `docker wait` and `docker events`, with the real CLI. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startTestDaemon, type TestDaemon } from '../harness/daemon.ts';
import { DockerCli, eventually } from '../harness/docker-cli.ts';

const IMAGE = 'berth/busybox';
/** Ends with 5 when told to, and says so. */
const LISTENER = 'trap "echo told; exit 5" TERM; trap "echo user1" USR1; echo armed; while :; do sleep 0.1; done';

describe('the life of a VM under docker', () => {
  let daemon: TestDaemon;
  let docker: DockerCli;

  before(async () => {
    daemon = await startTestDaemon();
    docker = new DockerCli(daemon.socket);
  });

  after(async () => assert.deepEqual(await daemon.dispose(), []));

  const show = (name: string, format: string): Promise<string> => docker.ok(['inspect', '--format', format, name]);
  const printed = (name: string, text: string): Promise<void> =>
    eventually(async () => (await docker.ok(['logs', name])).includes(text), `${name} prints ${text}`);
  const refused = async (args: readonly string[], words: RegExp, code = 1): Promise<void> => {
    const outcome = await docker.run(args);
    assert.match(outcome.stderr, words, args.join(' '));
    assert.equal(outcome.code, code, args.join(' '));
  };

  test('create, start -a again and again: each run shows its own output and exit code', async () => {
    await docker.ok([
      'create',
      '--name',
      'again',
      '-e',
      'MINE=1',
      IMAGE,
      'sh',
      '-c',
      'echo run; echo oops >&2; exit 3',
    ]);
    assert.equal(await show('again', '{{.State.Status}} {{.State.ExitCode}} {{.State.Pid}}'), 'created 0 0');
    for (let run = 0; run < 2; run += 1) {
      const { code, stdout, stderr } = await docker.run(['start', '-a', 'again']);
      assert.deepEqual({ code, stdout, stderr }, { code: 3, stdout: 'run\n', stderr: 'oops\n' });
    }
    assert.equal(await show('again', '{{.State.Status}} {{.State.ExitCode}}'), 'exited 3');
    assert.equal(await docker.ok(['logs', 'again']), 'run\nrun');
  });

  test('inspect shows the request laid over the image', async () => {
    const words = '["sh","-c","echo run; echo oops >&2; exit 3"]';
    assert.equal(await show('again', '{{json .Config.Cmd}} {{json .Config.Entrypoint}} {{.Path}}'), `${words} null sh`);
    assert.equal(await show('again', '{{.HostConfig.IpcMode}} {{.HostConfig.LogConfig.Type}}'), 'private json-file');
    assert.match(await show('again', '{{json .Config.Env}}'), /"MINE=1"/);
    await docker.ok(['create', '--name', 'plain', '-p', '80', '--expose', '90/udp', IMAGE]);
    const image = JSON.parse(await docker.ok(['image', 'inspect', '--format', '{{json .Config}}', IMAGE])) as {
      Cmd: string[];
      Env: string[];
    };
    assert.deepEqual(JSON.parse(await show('plain', '{{json .Config.Cmd}}')), image.Cmd);
    assert.deepEqual(JSON.parse(await show('plain', '{{json .Config.Env}}')), image.Env);
    assert.deepEqual(JSON.parse(await show('plain', '{{json .Config.ExposedPorts}}')), { '80/tcp': {}, '90/udp': {} });
    await docker.ok(['create', '--name', 'pointed', '--entrypoint', '/bin/echo', IMAGE]);
    assert.equal(await show('pointed', '{{json .Config.Entrypoint}} {{json .Config.Cmd}}'), '["/bin/echo"] null');
    await docker.ok(['rm', 'plain', 'pointed', 'again']);
  });

  test('start -ai feeds input; a second run gets its own', async () => {
    await docker.ok(['create', '-i', '--name', 'echo', IMAGE, 'cat']);
    for (const input of ['first', 'second']) {
      const { code, stdout } = await docker.run(['start', '-ai', 'echo'], { input });
      assert.deepEqual({ code, stdout }, { code: 0, stdout: input });
    }
    await docker.ok(['rm', 'echo']);
  });

  test('signals, pause, restart, stop, and what each state refuses', async () => {
    await docker.ok(['run', '-d', '--name', 'vm', IMAGE, 'sh', '-c', LISTENER]);
    await printed('vm', 'armed');
    await docker.ok(['kill', '-s', 'USR1', 'vm']);
    await printed('vm', 'user1');
    assert.equal(await docker.ok(['start', 'vm']), 'vm');
    await refused(
      ['rm', 'vm'],
      /cannot remove container "vm": container is running: stop the container before removing/,
    );
    await refused(['kill', '-s', 'FOO', 'vm'], /Invalid signal: FOO/);
    await refused(['rename', 'vm', 'vm'], /Renaming a container with the same name as its current name/);
    await refused(
      ['create', '--name', 'vm', IMAGE],
      /The container name "\/vm" is already in use by container "[0-9a-f]{64}"/,
    );
    await refused(['unpause', 'vm'], /is not paused/);

    await docker.ok(['pause', 'vm']);
    assert.equal(await show('vm', '{{.State.Status}} {{.State.Running}} {{.State.Paused}}'), 'paused true true');
    assert.match(await docker.ok(['ps', '--format', '{{.Status}}']), /^Up .* \(Paused\)$/);
    await refused(['pause', 'vm'], /already paused/);
    await refused(['exec', 'vm', 'true'], /is paused, unpause the container before exec/);
    await refused(['start', 'vm'], /cannot start a paused container, try unpause instead/);
    await refused(['attach', 'vm'], /You cannot attach to a paused container, unpause it first/);
    await docker.ok(['unpause', 'vm']);
    assert.equal(await docker.ok(['exec', 'vm', 'echo', 'awake']), 'awake');

    const started = await show('vm', '{{.State.StartedAt}}');
    await docker.ok(['restart', '-t', '8', 'vm']);
    assert.notEqual(await show('vm', '{{.State.StartedAt}}'), started);
    await eventually(async () => (await docker.ok(['logs', 'vm'])).split('armed').length === 3, 'it is armed again');
    assert.equal(await docker.ok(['logs', 'vm']), 'armed\nuser1\ntold\narmed');

    await docker.ok(['rename', 'vm', 'other']);
    await refused(['inspect', 'vm'], /No such object: vm/);
    const waiting = docker.start(['wait', 'other']);
    await docker.ok(['stop', '-t', '8', 'other']);
    assert.equal((await waiting.finished()).stdout, '5\n');
    assert.equal(await docker.ok(['wait', 'other']), '5');
    assert.equal(await docker.ok(['stop', 'other']), 'other');
    await refused(['kill', 'other'], /is not running/);
    await refused(['pause', 'other'], /is not running/);
    await refused(['exec', 'other', 'true'], /is not running/);
    await refused(['top', 'other'], /is not running/);
    await refused(['attach', 'other'], /You cannot attach to a stopped container, start it first/);
    await docker.ok(['rm', 'other']);
    await refused(['rm', 'other'], /No such container: other/);
  });

  test('stop insists after its time, kill at once: both exit with 137', async () => {
    const deaf = ['sh', '-c', 'trap "" TERM; echo armed; while :; do sleep 0.1; done'];
    await docker.ok(['run', '-d', '--name', 'deaf', IMAGE, ...deaf]);
    await printed('deaf', 'armed');
    await docker.ok(['stop', '-t', '1', 'deaf']);
    assert.equal(await show('deaf', '{{.State.ExitCode}} {{.State.OOMKilled}}'), '137 false');
    await docker.ok(['start', 'deaf']);
    await docker.ok(['kill', 'deaf']);
    assert.equal(await show('deaf', '{{.State.Status}} {{.State.ExitCode}}'), 'exited 137');
    await docker.ok(['start', 'deaf']);
    await docker.ok(['rm', '-f', 'deaf']);
    await refused(['inspect', 'deaf'], /No such object: deaf/);
  });

  test('--rm: restart keeps the VM, stop and kill remove it, wait tells the exit code', async () => {
    await docker.ok(['run', '-d', '--rm', '--name', 'brief', IMAGE, 'sh', '-c', LISTENER]);
    await printed('brief', 'armed');
    await docker.ok(['restart', 'brief']);
    await eventually(async () => (await docker.ok(['logs', 'brief'])).split('armed').length === 3, 'it is armed again');
    const waiting = docker.start(['wait', 'brief']);
    await docker.ok(['stop', 'brief']);
    assert.equal((await waiting.finished()).stdout, '5\n');
    await eventually(async () => (await docker.ok(['ps', '-aq'])) === '', 'the stopped VM is gone');
    await docker.ok(['run', '-d', '--rm', '--name', 'brief', IMAGE, 'sleep', '100']);
    await docker.ok(['kill', 'brief']);
    await eventually(async () => (await docker.ok(['ps', '-aq'])) === '', 'the killed VM is gone');
  });

  test('a start that fails leaves a created VM with the reason, and start shows it', async () => {
    await docker.ok(['create', '--name', 'broken', IMAGE, 'nosuchcmd']);
    await refused(['start', 'broken'], /exec: "nosuchcmd": executable file not found in \$PATH/);
    assert.equal(await show('broken', '{{.State.Status}} {{.State.ExitCode}}'), 'created 127');
    assert.match(await show('broken', '{{.State.Error}}'), /executable file not found/);
    await docker.ok(['rm', 'broken']);
  });

  test('ps: filters and columns', async () => {
    await docker.ok(['run', '-d', '--name', 'first', '-l', 'side=port', '-p', '127.0.0.1::80', IMAGE, 'sleep', '500']);
    await docker.ok([
      'create',
      '--name',
      'second',
      '-l',
      'side=starboard',
      '-l',
      'lit',
      '--expose',
      '90',
      IMAGE,
      'echo',
      'a b',
    ]);
    await docker.run(['run', '--name', 'third', '--network', 'none', IMAGE, 'sh', '-c', 'exit 4']);
    const names = async (...filters: string[]): Promise<string[]> => {
      const flags = filters.flatMap((filter) => ['--filter', filter]);
      const text = await docker.ok(['ps', '-a', '--format', '{{.Names}}', ...flags]);
      return text === '' ? [] : text.split('\n');
    };
    assert.deepEqual(await names(), ['third', 'second', 'first']);
    assert.equal(await docker.ok(['ps', '--format', '{{.Names}}']), 'first');
    assert.equal(await docker.ok(['ps', '-l', '--format', '{{.Names}}']), 'third');
    assert.equal(await docker.ok(['ps', '-n', '2', '--format', '{{.Names}}']), 'third\nsecond');
    const id = await show('second', '{{.Id}}');
    const expected: [string[], string[]][] = [
      [['status=running'], ['first']],
      [
        ['status=created', 'status=exited'],
        ['third', 'second'],
      ],
      [['exited=4'], ['third']],
      [['label=side'], ['second', 'first']],
      [['label=side=port'], ['first']],
      [['label=side', 'label=lit'], ['second']],
      [['name=ir'], ['third', 'first']],
      [['name=^first$'], ['first']],
      [['name=^/second'], ['second']],
      [[`id=${id.slice(0, 12)}`], ['second']],
      [[`ancestor=${IMAGE}`], ['third', 'second', 'first']],
      [['ancestor=other'], []],
      [['before=second'], ['first']],
      [['since=second'], ['third']],
      [['network=none'], ['third']],
      [['network=bridge', 'status=running'], ['first']],
      [['expose=90'], ['second']],
      [['expose=80/tcp'], ['first']],
      [['health=none'], ['third', 'second', 'first']],
      [['health=healthy'], []],
      [['volume=x'], []],
    ];
    for (const [filters, found] of expected) assert.deepEqual(await names(...filters), found, filters.join(' '));
    const port = (await docker.ok(['port', 'first', '80'])).split(':')[1] ?? '';
    assert.deepEqual(await names(`publish=${port}`), ['first']);
    await refused(['ps', '--filter', 'bogus=1'], /nvalid filter 'bogus'/);
    await refused(['ps', '--filter', 'status=odd'], /nvalid filter 'status=odd'/);
    await refused(['ps', '--filter', 'before=nobody'], /No such container: nobody/);
    const row = await docker.ok([
      'ps',
      '-a',
      '--no-trunc',
      '--filter',
      'name=second',
      '--format',
      '{{.Image}}|{{.Command}}|{{.State}}|{{.Status}}|{{.Labels}}|{{.Ports}}',
    ]);
    assert.equal(row, `${IMAGE}|"echo 'a b'"|created|Created|lit=,side=starboard|`);
    assert.match(
      await docker.ok(['ps', '-a', '--filter', 'name=third', '--format', '{{.Status}}']),
      /^Exited \(4\) .* ago$/,
    );
    assert.match(await docker.ok(['ps', '-s', '--format', '{{.Size}}']), /^[0-9.]+[kM]?B \(virtual [0-9.]+MB\)$/);

    assert.match(await docker.ok(['top', 'first']), /^UID +PID +PPID .*CMD\n.*sleep 500$/);
    assert.match(await docker.ok(['top', 'first', 'aux']), /^USER +PID +%CPU .*COMMAND\n.*sleep 500$/);
    assert.match(await docker.ok(['top', 'first', '-o', 'pid,comm']), /^PID +COMMAND\n[0-9]+ +sleep$/);
    await refused(['top', 'first', '-o', 'pid,bogus'], /unknown user-defined format specifier "bogus"/);
    await refused(['top', 'first', '--forest'], /the ps arguments "--forest" is not supported/);

    const use = JSON.parse(
      await docker.ok(['system', 'df', '--format', '{{json .}}']).then((text) => `[${text.replaceAll('\n', ',')}]`),
    ) as { Type: string; TotalCount: string; Active: string; Size: string }[];
    assert.deepEqual(
      use.map(({ Type, TotalCount, Active }) => [Type, TotalCount, Active]),
      [
        ['Images', '1', '1'],
        ['Containers', '3', '1'],
        ['Local Volumes', '0', '0'],
        ['Build Cache', '0', '0'],
      ],
    );
    assert.notEqual(use[1]?.Size, '0B');
    await docker.ok(['container', 'prune', '-f', '--filter', 'until=1h']);
    await docker.ok(['container', 'prune', '-f', '--filter', 'label!=lit', '--filter', 'label=side']);
    assert.deepEqual(await names(), ['third', 'second', 'first']);
    assert.match(
      await docker.ok(['container', 'prune', '-f', '--filter', 'label=lit']),
      /^Deleted Containers:\n[0-9a-f]{64}\n/,
    );
    assert.deepEqual(await names(), ['third', 'first']);
    assert.match(await docker.ok(['system', 'prune', '-f', '--volumes']), /Total reclaimed space: /);
    assert.deepEqual(await names(), ['first']);
    await docker.ok(['rm', '-f', 'first']);
  });

  test('events: the order of a life, filters, since and until', async () => {
    const since = String(Date.now() / 1000);
    const live = docker.start(['events', '--filter', 'container=seen', '--format', '{{.Action}}']);
    await docker.run(['run', '--name', 'seen', '-l', 'kept=yes', IMAGE, 'sh', '-c', 'exit 6']);
    await docker.ok(['start', 'seen']);
    await docker.ok(['wait', 'seen']);
    await docker.ok(['rename', 'seen', 'unseen']);
    await docker.ok(['rm', 'unseen']);
    const until = String(Date.now() / 1000 + 0.001);
    const past = async (...filters: string[]): Promise<string[]> => {
      const flags = filters.flatMap((filter) => ['--filter', filter]);
      const format = '{{.Type}} {{.Action}} {{index .Actor.Attributes "exitCode"}}';
      const text = await docker.ok(['events', '--since', since, '--until', until, '--format', format, ...flags]);
      return text.split('\n').map((line) => line.trim().replace(' <no value>', ''));
    };
    const life = ['container create', 'container attach', 'container start', 'container die 6', 'container start'];
    assert.deepEqual(await past('type=container'), [
      ...life,
      'container die 6',
      'container rename',
      'container destroy',
    ]);
    assert.deepEqual(await past('event=die', `image=${IMAGE}`), ['container die 6', 'container die 6']);
    assert.deepEqual(await past('label=kept=yes', 'event=destroy'), ['container destroy']);
    assert.deepEqual(await past('label=kept=no'), ['']);
    assert.deepEqual(await past('type=image'), ['']);
    // The rename carries the new name, so the filter ends the story there.
    await live.untilPrinted(/(die[\s\S]*){2}/);
    live.signal('SIGKILL');
    const { stdout } = await live.finished();
    assert.deepEqual(stdout.trim().split('\n').slice(0, 6), ['create', 'attach', 'start', 'die', 'start', 'die']);
    await refused(['events', '--until', '1', '--filter', 'odd=1'], /nvalid filter 'odd'/);
  });
});
