import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as v from 'valibot';
import { MIB, parseDigest } from '#base';
import { CreateSchema } from './create-body.ts';
import { type ImageDefaults, mergeEnvironment, type Translation, translateCreate } from './create-translation.ts';

const ID = parseDigest(`sha256:${'0'.repeat(64)}`);
const WEB: ImageDefaults = {
  Entrypoint: ['/entry'],
  Cmd: ['serve', '--now'],
  Env: ['PATH=/bin', 'MODE=image'],
  WorkingDir: '/srv',
  User: 'www',
  StopSignal: 'SIGQUIT',
  Labels: { from: 'image', both: 'image' },
  ExposedPorts: { '80/tcp': {} },
};

function translate(body: object, config: ImageDefaults = WEB): Translation {
  return translateCreate(v.parse(CreateSchema, { Image: 'web', ...body }), { id: ID, config });
}

const refusal = (body: object): { code: string; message: string } => {
  try {
    translate(body);
  } catch (error) {
    return error as { code: string; message: string };
  }
  throw new Error(`not refused: ${JSON.stringify(body)}`);
};

test('without a request the image decides', () => {
  const { spec, warnings } = translate({});
  assert.deepEqual(spec.process.args, ['/entry', 'serve', '--now']);
  assert.deepEqual(spec.process.env, ['PATH=/bin', 'MODE=image']);
  assert.equal(spec.process.workingDirectory, '/srv');
  assert.equal(spec.process.user, 'www');
  assert.equal(spec.stopSignal, 3);
  assert.equal(spec.stopTimeoutSeconds, 10);
  assert.equal(spec.vcpus, 1);
  assert.equal(spec.memoryBytes, 256 * MIB);
  assert.equal(spec.network.mode, 'bridge');
  assert.deepEqual(warnings, []);
});

test('command and entrypoint combine as in dockerd', () => {
  const words = (body: object): readonly string[] => translate(body).spec.process.args;
  assert.deepEqual(words({ Cmd: ['other'] }), ['/entry', 'other']);
  assert.deepEqual(words({ Cmd: [] }), ['/entry', 'serve', '--now']);
  assert.deepEqual(words({ Cmd: 'one string' }), ['/entry', 'one string']);
  assert.deepEqual(words({ Entrypoint: ['sh'] }), ['sh']);
  assert.deepEqual(words({ Entrypoint: ['sh'], Cmd: ['-c', 'x'] }), ['sh', '-c', 'x']);
  assert.deepEqual(words({ Entrypoint: [''], Cmd: ['plain'] }), ['plain']);
  assert.match(refusal({ Entrypoint: [''] }).message, /no command specified/);
});

test('what inspect shows is the merge', () => {
  const shown = (body: object): Record<string, unknown> => translate(body).spec.docker as Record<string, unknown>;
  const plain = shown({ HostConfig: { PortBindings: { '443/tcp': [{ HostPort: '' }] } } });
  assert.deepEqual(plain['Cmd'], ['serve', '--now']);
  assert.deepEqual(plain['Entrypoint'], ['/entry']);
  assert.deepEqual(plain['ExposedPorts'], { '80/tcp': {}, '443/tcp': {} });
  assert.equal(plain['StopSignal'], 'SIGQUIT');
  assert.equal(plain['WorkingDir'], '/srv');
  const pointed = shown({ Entrypoint: ['sh'] });
  assert.deepEqual([pointed['Entrypoint'], pointed['Cmd']], [['sh'], null]);
});

test('environments: the request wins, a bare name removes, PATH is there', () => {
  assert.deepEqual(mergeEnvironment(['A=1', 'B=2'], ['B=3', 'C=', 'A']).slice(1), ['B=3', 'C=']);
  assert.match(mergeEnvironment([], [])[0] ?? '', /^PATH=\/usr\/local\/sbin:/);
  assert.deepEqual(mergeEnvironment(['PATH=/x'], ['PATH=/y']), ['PATH=/y']);
});

test('labels are laid over the image’s', () => {
  assert.deepEqual(translate({ Labels: { both: 'own', more: '' } }).spec.labels, {
    from: 'image',
    both: 'own',
    more: '',
  });
});

test('cpus and memory', () => {
  const cpus = (host: object): [number, number] => {
    const { spec, warnings } = translate({ HostConfig: host });
    return [spec.vcpus, warnings.length];
  };
  assert.deepEqual(cpus({ NanoCpus: 2e9 }), [2, 0]);
  assert.deepEqual(cpus({ NanoCpus: 1.5e9 }), [2, 1]);
  assert.deepEqual(cpus({ CpuQuota: 300_000 }), [3, 0]);
  assert.deepEqual(cpus({ CpuQuota: 100_000, CpuPeriod: 50_000 }), [2, 0]);
  assert.match(refusal({ HostConfig: { NanoCpus: 65e9 } }).message, /from 0\.01 to 64\.00/);
  assert.equal(translate({ HostConfig: { Memory: 80 * MIB + 1 } }).spec.memoryBytes, 81 * MIB);
  assert.match(refusal({ HostConfig: { Memory: 80 * MIB - 1 } }).message, /^Minimum memory limit allowed is 80MB/);
  assert.match(refusal({ HostConfig: { Memory: -1 } }).message, /^Minimum memory/);
});

test('ports: bindings, ranges, and all that is exposed', () => {
  const ports = (body: object): string[] =>
    translate(body).spec.network.ports.map(
      (port) => `${port.hostIp}:${port.hostPort}->${port.guestPort}/${port.protocol}`,
    );
  const bindings = { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: '8080' }, { HostPort: 9090 }], '53/udp': null };
  assert.deepEqual(ports({ HostConfig: { PortBindings: bindings } }), [
    '127.0.0.1:8080->80/tcp',
    ':9090->80/tcp',
    ':0->53/udp',
  ]);
  assert.deepEqual(ports({ HostConfig: { PublishAllPorts: true }, ExposedPorts: { '90/udp': {} } }), [
    ':0->80/tcp',
    ':0->90/udp',
  ]);
  for (const key of ['0/tcp', '65536/tcp', 'x', '1.5/tcp']) {
    assert.match(refusal({ HostConfig: { PortBindings: { [key]: [] } } }).message, /invalid port specification/, key);
  }
  assert.equal(refusal({ HostConfig: { PortBindings: { '80/tcp': [{ HostIp: '::1' }] } } }).code, 'create.unsupported');
});

test('tmpfs, hosts, limits, capabilities, disk', () => {
  const { spec } = translate({
    HostConfig: {
      Tmpfs: { '/a': 'size=1m' },
      Mounts: [{ Type: 'tmpfs', Target: '/b', TmpfsOptions: { SizeBytes: 4096, Mode: 0o700 } }],
      ExtraHosts: ['x:192.0.2.1', 'six=2001:db8::1', 'gate:host-gateway'],
      Ulimits: [{ Name: 'nofile', Soft: 10, Hard: -1 }],
      CapDrop: ['ALL'],
      CapAdd: ['CAP_CHOWN'],
      SecurityOpt: ['no-new-privileges'],
      StorageOpt: { size: '1.5G' },
    },
  });
  assert.deepEqual(spec.tmpfs, { '/a': 'size=1m', '/b': 'size=4096,mode=700' });
  assert.deepEqual(spec.network.extraHosts, ['x:192.0.2.1', 'six:2001:db8::1', 'gate:host-gateway']);
  assert.deepEqual(spec.process.ulimits, [{ resource: 7, soft: 10, hard: -1 }]);
  assert.equal(spec.process.dropCapabilities.length, 40);
  assert.ok(!spec.process.dropCapabilities.includes(0));
  assert.ok(spec.process.noNewPrivileges);
  assert.equal(spec.diskBytes, 1536 * MIB);
  for (const host of [
    { Tmpfs: { relative: '' } },
    { ExtraHosts: ['x'] },
    { CapDrop: ['ODD'] },
    { StorageOpt: { size: '1k' } },
  ]) {
    assert.equal(refusal({ HostConfig: host }).code, 'create.invalid', JSON.stringify(host));
  }
});

test('null means absent, wherever a client sends it', () => {
  const nothing = Object.fromEntries(
    Object.keys(CreateSchema.entries).map((key) => [key, key === 'Image' ? 'web' : null]),
  );
  assert.deepEqual(translate(nothing).spec.process, translate({}).spec.process);
});

test('what is not there yet is refused by the field’s name', () => {
  const refused: [object, RegExp][] = [
    [{ HostConfig: { Binds: ['/a:/b'] } }, /the host folder \/a \(-v \/a:\/b\)/],
    [{ HostConfig: { VolumesFrom: ['x'] } }, /HostConfig\.VolumesFrom/],
    [{ HostConfig: { Links: ['x'] } }, /HostConfig\.Links/],
    [{ HostConfig: { Devices: [{}] } }, /HostConfig\.Devices/],
    [{ HostConfig: { RestartPolicy: { Name: 'on-failure' } } }, /restart policy on-failure/],
    [{ HostConfig: { NetworkMode: 'host' } }, /network mode host/],
    [{ HostConfig: { IpcMode: 'container:x' } }, /HostConfig\.IpcMode container:x/],
    [{ HostConfig: { LogConfig: { Type: 'syslog' } } }, /log driver syslog/],
  ];
  for (const [body, words] of refused) {
    const { code, message } = refusal(body);
    assert.equal(code, 'create.unsupported');
    assert.match(message, words);
  }
});

test('a terminal has the size of the client’s, when it says one', () => {
  assert.deepEqual(translate({ Tty: true, HostConfig: { ConsoleSize: [50, 132] } }).spec.terminal, {
    rows: 50,
    columns: 132,
  });
  for (const size of [undefined, [0, 0], [10], [70_000, 80]]) {
    assert.equal(translate({ Tty: true, HostConfig: { ConsoleSize: size } }).spec.terminal, undefined);
  }
});

test('a host name is one name: white space would reach the name server as another', () => {
  assert.equal(translate({ Hostname: 'web-1.example' }).spec.hostname, 'web-1.example');
  for (const name of ['a b', 'a\n10.0.0.1 bank.example', '-a', 'a'.repeat(64), 'a/b']) {
    assert.match(refusal({ Hostname: name }).message, /invalid hostname format/);
    assert.match(refusal({ Domainname: name }).message, /invalid hostname format/);
  }
});
