import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { BerthError, GIB, MIB } from '#base';
import { type CheckpointNeeds, needsOf, parseManifest, requireSame } from './checkpoint-manifest.ts';

const packed = { bytes: 256 * MIB, packedBytes: 10, sha256: 'a'.repeat(64) };
const needs: CheckpointNeeds = {
  qemu: '7.2.1',
  accelerator: 'tcg',
  guestKernel: '6.1.0',
  guestProtocol: 1,
  machine: 'b'.repeat(64),
};
const process = {
  args: ['sh'],
  env: [],
  workingDirectory: '/',
  user: '',
  tty: false,
  openStdin: false,
  stdinOnce: false,
  groups: [],
  ulimits: [{ resource: 7, soft: -1, hard: -1 }],
  dropCapabilities: [],
  noNewPrivileges: false,
};
const network = { mode: 'bridge', ports: [], dns: [], dnsSearch: [], dnsOptions: [], extraHosts: [] };
const spec = {
  imageReference: 'app:1',
  imageId: `sha256:${'c'.repeat(64)}`,
  process,
  hostname: 'app',
  domainName: '',
  vcpus: 1,
  memoryBytes: 256 * MIB,
  shmBytes: 64 * MIB,
  diskBytes: 10 * GIB,
  readonlyRoot: false,
  tmpfs: {},
  sysctls: {},
  network,
  stopSignal: 15,
  stopTimeoutSeconds: 10,
  autoRemove: false,
  labels: {},
  docker: { Env: null },
};
const manifest = {
  version: 1,
  createdAtMs: 1,
  vm: { id: 'd'.repeat(64), name: 'app', address: '172.30.0.2' },
  spec,
  needs,
  guestProgramSha256: 'e'.repeat(64),
  log: { stdout: 1, stderr: 0 },
  files: { state: { bytes: 10, sha256: 'f'.repeat(64) }, memory: packed, data: { ...packed, bytes: 10 * GIB } },
};

const refusal = (code: string, words: RegExp) => (error: unknown) =>
  error instanceof BerthError && error.code === code && words.test(error.message);

describe('a checkpoint’s manifest', () => {
  test('is read as it was written', () => {
    const read = parseManifest(JSON.stringify(manifest));
    assert.equal(read.spec.imageId, spec.imageId);
    assert.equal(read.spec.terminal, undefined);
    assert.deepEqual(read.files, manifest.files);
  });

  test('is refused when it is not what berth writes', () => {
    const wrong: [unknown, RegExp][] = [
      ['', /manifest is damaged/],
      [{ ...manifest, vm: { ...manifest.vm, address: '1.2.3.4; rm' } }, /vm.address/],
      [{ ...manifest, spec: { ...spec, imageId: '../../etc' } }, /spec.imageId/],
      [{ ...manifest, spec: { ...spec, memoryBytes: 2 ** 60 } }, /spec.memoryBytes/],
      [{ ...manifest, spec: { ...spec, vcpus: -1 } }, /spec.vcpus/],
      [{ ...manifest, spec: { ...spec, hostname: 'a\nb' } }, /spec.hostname/],
      [{ ...manifest, spec: { ...spec, process: { ...process, args: 'sh' } } }, /spec.process.args/],
      [{ ...manifest, files: { ...manifest.files, memory: { ...packed, sha256: 'x' } } }, /files.memory.sha256/],
      [{ ...manifest, files: { ...manifest.files, data: { ...packed, bytes: 0.5 } } }, /files.data.bytes/],
    ];
    for (const [value, words] of wrong)
      assert.throws(() => parseManifest(JSON.stringify(value)), refusal('checkpoint.damaged', words));
    assert.throws(() => parseManifest('{"version":9}'), refusal('checkpoint.version', /version 9.*version 1/));
  });

  test('names what it needs and what is here when they differ', () => {
    requireSame(needs, { ...needs });
    for (const [other, words] of [
      [{ ...needs, qemu: '9.0.0' }, /QEMU 7.2.1; here it is 9.0.0/],
      [{ ...needs, accelerator: 'kvm' }, /accelerator tcg; here it is kvm/],
      [{ ...needs, guestKernel: '6.12' }, /guest kernel 6.1.0; here it is 6.12/],
      [{ ...needs, guestProtocol: 2 }, /guest protocol 1; here it is 2/],
    ] as const)
      assert.throws(() => requireSame(needs, other), refusal('checkpoint.other_machine', words));
  });

  test('a machine’s layout is the same wherever its files lie, and another with other processors', () => {
    const read = parseManifest(JSON.stringify(manifest)).spec;
    const versions = { qemu: '7.2.1', guestKernel: '6.1.0' };
    const machineOf = (vcpus: number, firmware: string | undefined): string =>
      needsOf({ ...read, vcpus }, { accelerator: 'tcg', firmware }, versions, 'tap').machine;
    assert.equal(machineOf(1, '/a/qboot.rom'), machineOf(1, '/b/qboot.rom'));
    assert.notEqual(machineOf(1, '/a'), machineOf(2, '/a'));
    assert.notEqual(machineOf(1, '/a'), machineOf(1, undefined));
  });
});
