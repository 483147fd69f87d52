/** The default network: addresses, names, published ports from loopback and from outside, two daemons side by side. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { runChecked, runProcess } from '#platform';
import { startTestDaemon, type TestDaemon } from '../harness/daemon.ts';
import { createVm, eventually, execIn, inspectVm, startVm } from '../harness/vm-client.ts';

const SERVE = 'mkdir -p /www; echo served > /www/index.html; exec httpd -f -p 80 -h /www';
let daemon: TestDaemon;

before(async () => {
  daemon = await startTestDaemon();
});

after(async () => {
  assert.deepEqual(await daemon.dispose(), [], 'nothing is left behind');
});

function publish(hostPort: string, hostIp = ''): Record<string, unknown> {
  return { PortBindings: { '80/tcp': [{ HostIp: hostIp, HostPort: hostPort }] } };
}

async function portOf(name: string): Promise<number> {
  const { body } = await daemon.call('GET', `/containers/${name}/json`);
  const ports = (body as { NetworkSettings: { Ports: Record<string, { HostPort: string }[]> } }).NetworkSettings.Ports;
  return Number(ports['80/tcp']?.[0]?.HostPort);
}

async function fetched(url: string): Promise<string> {
  const { stdout } = await runProcess(['curl', '-s', '--max-time', '5', url]);
  return stdout;
}

test('a published port answers on loopback, on the host’s address and from another host, and is gone with the VM', async () => {
  await createVm(daemon, 'web', SERVE, publish(''));
  await startVm(daemon, 'web');
  const port = await portOf('web');
  await eventually('it serves', 20_000, async () => (await fetched(`http://127.0.0.1:${port}/`)) === 'served\n');

  // Another host: a network namespace of its own behind a veth pair.
  const [space, near, far] = [`bt${process.pid}`, `bn${process.pid}`, `bf${process.pid}`];
  await runChecked(['ip', 'netns', 'add', space]);
  try {
    await runChecked(['ip', 'link', 'add', near, 'type', 'veth', 'peer', 'name', far]);
    await runChecked(['ip', 'link', 'set', far, 'netns', space]);
    await runChecked(['ip', 'address', 'add', '198.18.77.1/30', 'dev', near]);
    await runChecked(['ip', 'link', 'set', near, 'up']);
    await runChecked(['ip', '-n', space, 'address', 'add', '198.18.77.2/30', 'dev', far]);
    await runChecked(['ip', '-n', space, 'link', 'set', far, 'up']);
    assert.equal(await fetched(`http://198.18.77.1:${port}/`), 'served\n', 'the host asks its own address');
    const outside = await runProcess([
      'ip',
      'netns',
      'exec',
      space,
      'curl',
      '-s',
      '--max-time',
      '5',
      `http://198.18.77.1:${port}/`,
    ]);
    assert.equal(outside.stdout, 'served\n', 'another host asks');
    const address = (await inspectVm(daemon, 'web'))?.NetworkSettings.IPAddress ?? '';
    await runChecked(['ip', '-n', space, 'route', 'add', 'default', 'via', '198.18.77.1']);
    const around = await runProcess([
      'ip',
      'netns',
      'exec',
      space,
      'curl',
      '-s',
      '--max-time',
      '2',
      `http://${address}/`,
    ]);
    assert.notEqual(around.exitCode, 0, 'what is not published is not reachable from outside');
  } finally {
    await runProcess(['ip', 'link', 'delete', near]);
    await runChecked(['ip', 'netns', 'delete', space]);
  }

  await daemon.call('DELETE', '/containers/web?force=1');
  assert.equal(await fetched(`http://127.0.0.1:${port}/`), '', 'nobody answers any more');
});

test('VMs find each other by name and short id, and reach the host through the gateway', async () => {
  await createVm(daemon, 'server', SERVE);
  await createVm(daemon, 'client', 'sleep 600');
  await Promise.all([startVm(daemon, 'server'), startVm(daemon, 'client')]);
  const id = (await inspectVm(daemon, 'server'))?.Id.slice(0, 12);
  for (const name of ['server', id ?? '']) {
    const got = await eventually(`${name} answers`, 20_000, async () => {
      const { output } = await execIn(daemon, 'client', ['wget', '-q', '-O', '-', `http://${name}/`]);
      return output.includes('served') && output;
    });
    assert.equal(got, 'served\n');
  }
  await daemon.call('POST', '/containers/server/rename?name=other');
  await eventually('the new name resolves', 20_000, async () =>
    (await execIn(daemon, 'client', ['nslookup', 'other'])).output.includes('172.'),
  );

  const host = createServer((_request, response) => response.end('from the host'));
  await new Promise<void>((resolve) => host.listen(0, '0.0.0.0', resolve));
  try {
    const address = host.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const { output: route } = await execIn(daemon, 'client', ['ip', 'route']);
    const gateway = /default via ([0-9.]+)/.exec(route)?.[1];
    const { output } = await execIn(daemon, 'client', ['wget', '-O', '-', `http://${gateway}:${port}/`]);
    assert.match(output, /from the host/);
  } finally {
    host.close();
  }
  for (const name of ['other', 'client']) await daemon.call('DELETE', `/containers/${name}?force=1`);
});

test('a host port that somebody has is refused with its number, and nothing of the start stays', async () => {
  const holder = createServer(() => {});
  await new Promise<void>((resolve) => holder.listen(0, '0.0.0.0', resolve));
  try {
    const address = holder.address();
    const port = typeof address === 'object' && address !== null ? String(address.port) : '0';
    await createVm(daemon, 'late', SERVE, publish(port));
    const { status, body } = await daemon.call('POST', '/containers/late/start');
    assert.equal(status, 500);
    assert.match(
      (body as { message: string }).message,
      new RegExp(`Bind for 0.0.0.0:${port} failed: port is already allocated`),
    );
    assert.equal((await inspectVm(daemon, 'late'))?.State.Status, 'created');
    assert.deepEqual(await daemon.leaks(), []);
  } finally {
    holder.close();
  }
  await startVm(daemon, 'late');
  await daemon.call('DELETE', '/containers/late?force=1');
});

test('--network none has no card but loopback', async () => {
  await createVm(daemon, 'alone', 'sleep 600', { NetworkMode: 'none' });
  await startVm(daemon, 'alone');
  const { output } = await execIn(daemon, 'alone', ['ls', '/sys/class/net']);
  assert.equal(output, 'lo\n');
  await daemon.call('DELETE', '/containers/alone?force=1');
});

test('the bridge keeps its hardware address while VMs come and go', async () => {
  await createVm(daemon, 'stays', 'sleep 600');
  await startVm(daemon, 'stays');
  const gateway = async (): Promise<string> => {
    const script =
      'gw=$(ip route | sed -n "s/default via \\([0-9.]*\\).*/\\1/p"); ping -c 1 -W 2 $gw >/dev/null && grep -w $gw /proc/net/arp';
    const { output, exitCode } = await execIn(daemon, 'stays', ['sh', '-c', script]);
    assert.equal(exitCode, 0, 'the gateway answers');
    return output.split(/\s+/)[3] ?? '';
  };
  const before = await gateway();
  for (let round = 0; round < 4; round += 1) {
    await createVm(daemon, 'goes', 'sleep 600');
    await startVm(daemon, 'goes');
    assert.equal(await gateway(), before);
    await daemon.call('DELETE', '/containers/goes?force=1');
    assert.equal(await gateway(), before);
  }
  await daemon.call('DELETE', '/containers/stays?force=1');
});

test('a second daemon has another bridge and another subnet, and both serve', async () => {
  const other = await startTestDaemon();
  try {
    for (const one of [daemon, other]) await createVm(one, 'same-name', SERVE, publish(''));
    await Promise.all([daemon, other].map((one) => startVm(one, 'same-name')));
    const networks = await Promise.all(
      [daemon, other].map(async (one) => {
        const { body } = await one.call('GET', '/containers/same-name/json');
        const { bridge } = (
          body as { NetworkSettings: { Networks: { bridge: { NetworkID: string; Gateway: string } } } }
        ).NetworkSettings.Networks;
        return bridge;
      }),
    );
    assert.notEqual(networks[0]?.NetworkID, networks[1]?.NetworkID);
    assert.notEqual(networks[0]?.Gateway, networks[1]?.Gateway);
    const port = await portOf('same-name');
    await eventually('it serves', 20_000, async () => (await fetched(`http://127.0.0.1:${port}/`)) === 'served\n');
  } finally {
    assert.deepEqual(await other.dispose(), []);
  }
  await daemon.call('DELETE', '/containers/same-name?force=1');
});

test('a daemon whose bridge name went to another one meanwhile takes a new one and leaves the other alone', async () => {
  const first = await startTestDaemon();
  const bridgeOf = async (one: TestDaemon): Promise<string> => {
    await createVm(one, 'probe', SERVE, publish(''));
    await startVm(one, 'probe');
    const { body } = await one.call('GET', '/containers/probe/json');
    const { NetworkID } = (body as { NetworkSettings: { Networks: { bridge: { NetworkID: string } } } }).NetworkSettings
      .Networks.bridge;
    await one.call('DELETE', '/containers/probe?force=1');
    return NetworkID;
  };
  const before = await bridgeOf(first);
  await first.stop();
  const second = await startTestDaemon();
  try {
    assert.equal(await bridgeOf(second), before, 'the name was free');
    await first.start();
    assert.notEqual(await bridgeOf(first), before);
    assert.equal(await bridgeOf(second), before);
  } finally {
    assert.deepEqual(await second.dispose(), []);
    assert.deepEqual(await first.dispose(), []);
  }
});
