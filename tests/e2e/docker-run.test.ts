/** `docker run` and what its flags do inside the VM, with the real CLI. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startTestDaemon, type TestDaemon } from '../harness/daemon.ts';
import { DockerCli, eventually } from '../harness/docker-cli.ts';

const IMAGE = 'berth/busybox';

describe('docker run', () => {
  let daemon: TestDaemon;
  let docker: DockerCli;
  const folder = mkdtempSync(join(tmpdir(), 'berth-e2e-'));

  before(async () => {
    daemon = await startTestDaemon();
    docker = new DockerCli(daemon.socket);
  });

  after(async () => {
    rmSync(folder, { recursive: true, force: true });
    assert.deepEqual(await daemon.dispose(), []);
  });

  test('the version of the server is shown', async () => {
    const text = await docker.ok([
      'version',
      '--format',
      '{{.Server.APIVersion}} {{.Server.Os}} {{.Client.APIVersion}}',
    ]);
    assert.equal(text, '1.50 linux 1.50');
    assert.match(await docker.ok(['version']), /Engine:\n\s+Version: /);
    const info = await docker.ok(['info', '--format', '{{.OSType}} {{.Swarm.LocalNodeState}} {{.DefaultRuntime}}']);
    assert.equal(info, 'linux inactive berth');
    assert.match((await docker.run(['info'])).stdout, /Accelerator: /);
  });

  test('output, standard error, input and the exit code pass through', async () => {
    const script = 'echo out; echo err >&2; cat; exit 7';
    const { code, stdout, stderr } = await docker.run(['run', '--rm', '-i', IMAGE, 'sh', '-c', script], {
      input: 'from outside\n',
    });
    assert.deepEqual({ code, stdout, stderr }, { code: 7, stdout: 'out\nfrom outside\n', stderr: 'err\n' });
    assert.equal(await docker.ok(['ps', '-aq']), '');
  });

  test('a megabyte each way arrives whole', async () => {
    const input = Buffer.alloc(1_000_000, 'abcdefghijklmnopqrstuvwxyz\n');
    const { code, stdout } = await docker.run(['run', '--rm', '-i', IMAGE, 'cat'], { input });
    assert.equal(code, 0);
    assert.equal(stdout, input.toString());
  });

  test('a VM that ends by a signal has 128 and the signal for its exit code', async () => {
    const { code } = await docker.run(['run', '--rm', IMAGE, 'sh', '-c', 'kill -TERM $$; sleep 9']);
    assert.equal(code, 143);
  });

  test('what cannot be executed exits with 127 or 126 and leaves nothing behind', async () => {
    const missing = await docker.run(['run', '--rm', IMAGE, 'nosuchcmd']);
    assert.equal(missing.code, 127);
    assert.match(missing.stderr, /exec: "nosuchcmd": executable file not found in \$PATH/);
    const denied = await docker.run(['run', '--rm', IMAGE, '/etc/passwd']);
    assert.equal(denied.code, 126);
    assert.match(denied.stderr, /permission denied/);
    assert.equal(await docker.ok(['ps', '-aq']), '');
  });

  test('what the daemon refuses exits with 125, says why, and leaves nothing behind', async () => {
    const refused: [string[], RegExp][] = [
      [['-m', '1m'], /Minimum memory limit allowed is 80MB/],
      [['--cpus', '1000'], /range of CPUs is from 0\.01 to/],
      [['-v', '/tmp:/x'], /the host folder \/tmp \(-v \/tmp:\/x\) is not supported/],
      [['--restart', 'always'], /the restart policy always is not supported yet/],
      [['--network', 'mine'], /the network mode mine is not supported yet/],
      [['-w', 'relative'], /the working directory 'relative' is invalid, it needs to be an absolute path/],
      [['--name', '_bad'], /Invalid container name \(_bad\), only \[a-zA-Z0-9\]\[a-zA-Z0-9_\.-\] are allowed/],
      [['--privileged', '--device', '/dev/null'], /HostConfig\.Devices is not supported yet/],
      [['--runtime', 'other'], /Unknown runtime specified other/],
    ];
    for (const [flags, words] of refused) {
      const { code, stderr } = await docker.run(['create', ...flags, IMAGE, 'true']);
      assert.equal(code, 1, flags.join(' '));
      assert.match(stderr, words);
    }
    const missing = await docker.run(['run', '--rm', '--pull', 'never', 'nosuch/image', 'true']);
    assert.equal(missing.code, 125);
    assert.match(missing.stderr, /Error response from daemon: No such image: nosuch\/image:latest\n/);
    assert.equal(await docker.ok(['ps', '-aq']), '');
  });

  test('a user nobody knows cannot start', async () => {
    const { code, stderr } = await docker.run(['run', '--rm', '-u', 'stranger', IMAGE, 'id']);
    assert.match(stderr, /unable to find user stranger: no matching entries in passwd file/);
    assert.equal(code, 125);
  });

  test('environment, user, working directory, host name, hosts, dns, tmpfs, init and a read-only root', async () => {
    const envFile = join(folder, 'env');
    writeFileSync(envFile, '# a comment\nFROM_FILE=file value\nFROM_HOST\n');
    const script = [
      'echo "$ONE|$FROM_FILE|$FROM_HOST|$HOME|$HOSTNAME"',
      'id -u; id -g; pwd; hostname',
      'grep elsewhere /etc/hosts | tr "\\t" " "; grep nameserver /etc/resolv.conf; grep search /etc/resolv.conf',
      'touch /nope 2>&1; touch /scratch/yes && echo scratch; grep " /scratch " /proc/mounts',
      'grep -c ^processor /proc/cpuinfo; grep MemTotal /proc/meminfo',
    ];
    const flags = ['-e', 'ONE=1', '--env-file', envFile, '-u', '1234:55', '-w', '/some/new'];
    flags.push('--hostname', 'harbour', '--add-host', 'elsewhere:192.0.2.7', '--dns', '192.0.2.53');
    flags.push('--dns-search', 'example.test', '--read-only', '--tmpfs', '/scratch:size=1m', '--init');
    flags.push('--cpus', '2', '-m', '128m');
    const output = await docker.ok(['run', '--rm', ...flags, IMAGE, 'sh', '-c', script.join('; ')], {
      env: { FROM_HOST: 'host value' },
    });
    const lines = output.split('\n');
    assert.equal(lines[0], '1|file value|host value|/|harbour');
    assert.deepEqual(lines.slice(1, 5), ['1234', '55', '/some/new', 'harbour']);
    assert.match(output, /192\.0\.2\.7 elsewhere/);
    assert.match(output, /nameserver 192\.0\.2\.53/);
    assert.match(output, /search example\.test/);
    assert.match(output, /touch: \/nope: Read-only file system/);
    assert.match(output, /\nscratch\n/);
    assert.match(output, /tmpfs \/scratch tmpfs .*size=1024k/);
    assert.match(output, /\n2\n/);
    const total = Number(/MemTotal:\s+([0-9]+) kB/.exec(output)?.[1]);
    assert.ok(total > 64 * 1024 && total <= 128 * 1024, `${total} kB`);
  });

  test('a user by name, an entrypoint, and a command after it', async () => {
    const output = await docker.ok([
      'run',
      '--rm',
      '-u',
      'nobody',
      '--entrypoint',
      'sh',
      IMAGE,
      '-c',
      'id -un; echo $0',
    ]);
    assert.equal(output, 'nobody\nsh');
  });

  test('-d prints the id and runs on; labels, stop signal and published ports hold', async () => {
    const flags = ['--name', 'server', '--label', 'tier=front', '--stop-signal', 'USR1', '--stop-timeout', '20'];
    const script = 'trap "exit 42" USR1; echo ready; (while :; do echo pong | nc -l -p 8080; done) & wait';
    const id = await docker.ok(['run', '-d', ...flags, '-p', '127.0.0.1::8080', IMAGE, 'sh', '-c', script]);
    assert.match(id, /^[0-9a-f]{64}$/);
    await eventually(async () => (await docker.ok(['logs', 'server'])).includes('ready'), 'the server is ready');
    const published = await docker.ok(['port', 'server', '8080']);
    const port = Number(/^127\.0\.0\.1:([0-9]+)$/.exec(published)?.[1]);
    assert.ok(port > 0, published);
    await eventually(async () => (await answerOf(port)) === 'pong\n', 'the published port answers');
    assert.match(await docker.ok(['ps', '--format', '{{.Ports}}']), new RegExp(`127\\.0\\.0\\.1:${port}->8080/tcp`));
    const format = '{{.Config.StopSignal}} {{.Config.StopTimeout}} {{index .Config.Labels "tier"}} {{.State.Running}}';
    assert.equal(await docker.ok(['inspect', '--format', format, 'server']), 'USR1 20 front true');
    await docker.ok(['stop', 'server']);
    assert.equal(await docker.ok(['inspect', '--format', '{{.State.ExitCode}}', 'server']), '42');
    assert.equal((await docker.run(['port', 'server', '8080'])).code, 1);
    await docker.ok(['rm', 'server']);
  });

  test('a terminal: its size, its name, one stream, and the exit code', async () => {
    const script = 'echo err >&2; tty; echo "[$TERM]"; read line; echo "got $line"; stty size; exit 3';
    const command = docker.onTerminal(['run', '--rm', '-it', IMAGE, 'sh', '-c', script], { rows: 33, columns: 101 });
    await command.untilPrinted('[xterm]');
    command.write('hello\r');
    const { code, stdout } = await command.finished();
    assert.match(stdout, /err\r\n\/dev\/pts\/0\r\n\[xterm\]\r\n/);
    assert.match(stdout, /got hello\r\n33 101\r\n/);
    assert.equal(code, 3);
  });

  test('ctrl-c on a terminal interrupts the process', async () => {
    const script = 'trap "echo caught; exit 9" INT; echo armed; while :; do sleep 0.1; done';
    const command = docker.onTerminal(['run', '--rm', '-it', IMAGE, 'sh', '-c', script], { rows: 24, columns: 80 });
    await command.untilPrinted('armed');
    command.write('\u0003');
    const { code, stdout } = await command.finished();
    assert.match(stdout, /caught/);
    assert.equal(code, 9);
  });

  test('SIGTERM to an attached docker run reaches the process', async () => {
    const script = 'trap "echo told; exit 5" TERM; echo armed; while :; do sleep 0.1; done';
    const command = docker.start(['run', '--rm', IMAGE, 'sh', '-c', script]);
    await command.untilPrinted('armed');
    command.signal('SIGTERM');
    const { code, stdout } = await command.finished();
    assert.deepEqual({ code, stdout }, { code: 5, stdout: 'armed\ntold\n' });
  });
});

/** What a server on the host's loopback says; empty when it does not answer. */
function answerOf(port: number): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const socket = createConnection({ host: '127.0.0.1', port });
    socket.setTimeout(3_000, () => socket.destroy());
    socket.on('data', (chunk) => {
      text += chunk.toString();
      socket.end();
    });
    socket.on('error', () => resolve(''));
    socket.on('close', () => resolve(text));
  });
}
