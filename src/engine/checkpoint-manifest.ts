/** What is written of a checkpoint beside its memory, its devices and its disk; and who may go on from it. Pure. */
import { createHash } from 'node:crypto';
import * as v from 'valibot';
import { BerthError, GIB, isDigest } from '#base';
import type { VmSpec } from './model.ts';
import { type QemuBuild, qemuArguments } from './qemu-command.ts';

export const CHECKPOINT_VERSION = 1;
/** Of `guest/PROTOCOL.md`; a guest of another version is not understood. */
const GUEST_PROTOCOL = 1;

/** Of a memory or a disk that anybody has. */
const MAX_BYTES = 16 * 1024 * GIB;
const Natural = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const Text = v.pipe(v.string(), v.maxLength(65_536));
const Texts = v.pipe(v.array(Text), v.maxLength(10_000));
const TextMap = v.record(Text, Text);
const Sha256 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/));
const Packed = v.object({ bytes: Natural, packedBytes: Natural, sha256: Sha256 });
const Address = v.pipe(v.string(), v.regex(/^([0-9]{1,3}(\.[0-9]{1,3}){3})?$/));

const ProcessSchema = v.object({
  args: Texts,
  env: Texts,
  workingDirectory: Text,
  user: Text,
  tty: v.boolean(),
  openStdin: v.boolean(),
  stdinOnce: v.boolean(),
  groups: Texts,
  ulimits: v.array(v.object({ resource: Natural, soft: v.number(), hard: v.number() })),
  dropCapabilities: v.array(Natural),
  noNewPrivileges: v.boolean(),
});

const PortSchema = v.object({
  protocol: v.picklist(['tcp', 'udp']),
  guestPort: v.pipe(Natural, v.maxValue(65_535)),
  hostIp: Text,
  hostPort: v.pipe(Natural, v.maxValue(65_535)),
});

const SpecSchema = v.object({
  imageReference: Text,
  imageId: v.custom<VmSpec['imageId']>((value) => typeof value === 'string' && isDigest(value)),
  process: ProcessSchema,
  terminal: v.optional(v.object({ rows: Natural, columns: Natural })),
  hostname: v.pipe(v.string(), v.maxLength(64), v.regex(/^[A-Za-z0-9_.-]*$/)),
  domainName: v.pipe(v.string(), v.maxLength(255)),
  vcpus: v.pipe(Natural, v.minValue(1), v.maxValue(512)),
  memoryBytes: v.pipe(Natural, v.minValue(1), v.maxValue(MAX_BYTES)),
  shmBytes: Natural,
  diskBytes: v.pipe(Natural, v.maxValue(MAX_BYTES)),
  readonlyRoot: v.boolean(),
  tmpfs: TextMap,
  sysctls: TextMap,
  network: v.object({
    mode: v.picklist(['bridge', 'none']),
    ports: v.array(PortSchema),
    dns: Texts,
    dnsSearch: Texts,
    dnsOptions: Texts,
    extraHosts: Texts,
    mac: v.optional(v.pipe(v.string(), v.regex(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i))),
  }),
  stopSignal: v.pipe(Natural, v.maxValue(64)),
  stopTimeoutSeconds: v.number(),
  autoRemove: v.boolean(),
  sleepAfterSeconds: v.optional(v.number(), 0),
  labels: TextMap,
  docker: v.record(v.string(), v.unknown()),
});

const ManifestSchema = v.object({
  version: v.literal(CHECKPOINT_VERSION),
  createdAtMs: Natural,
  vm: v.object({ id: Sha256, name: v.pipe(v.string(), v.maxLength(255)), address: Address }),
  spec: SpecSchema,
  needs: v.object({
    qemu: Text,
    accelerator: Text,
    guestKernel: Text,
    guestProtocol: Natural,
    machine: Sha256,
  }),
  /** Of the guest program the machine was started with: for people. */
  guestProgramSha256: Sha256,
  /** Bytes of the main process's output that were in the log. */
  log: v.object({ stdout: Natural, stderr: Natural }),
  files: v.object({ state: v.object({ bytes: Natural, sha256: Sha256 }), memory: Packed, data: Packed }),
});

export type CheckpointManifest = Omit<v.InferOutput<typeof ManifestSchema>, 'spec'> & { readonly spec: VmSpec };
export type CheckpointNeeds = CheckpointManifest['needs'];

/** @throws checkpoint.damaged (data_loss), checkpoint.version (unsupported) */
export function parseManifest(text: string): CheckpointManifest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw damagedManifest('it is not JSON');
  }
  const version = (value as { version?: unknown } | null)?.version;
  if (typeof version === 'number' && version !== CHECKPOINT_VERSION) {
    const what = `the checkpoint has version ${version}; this berth reads version ${CHECKPOINT_VERSION}`;
    throw new BerthError('unsupported', 'checkpoint.version', what);
  }
  const parsed = v.safeParse(ManifestSchema, value);
  if (!parsed.success) {
    const [issue] = parsed.issues;
    throw damagedManifest(`${v.getDotPath(issue) ?? 'it'}: ${issue.message}`);
  }
  const { spec, ...rest } = parsed.output;
  return { ...rest, spec: { ...spec, terminal: spec.terminal, network: { ...spec.network, mac: spec.network.mac } } };
}

function damagedManifest(why: string): BerthError {
  return new BerthError('data_loss', 'checkpoint.damaged', `the checkpoint's manifest is damaged: ${why}`);
}

/** What a machine has to be to go on from a checkpoint taken of the one that `spec` and `build` describe. */
export function needsOf(
  spec: VmSpec,
  build: Pick<QemuBuild, 'accelerator' | 'firmware'>,
  versions: { readonly qemu: string; readonly guestKernel: string },
  card: 'tap' | 'user',
): CheckpointNeeds {
  const network =
    card === 'tap'
      ? { kind: 'tap' as const, descriptor: 3 }
      : { kind: 'user' as const, isolated: true, address: '', ports: [] };
  const layout = qemuArguments(
    {
      ...build,
      firmware: build.firmware === undefined ? undefined : 'firmware',
      binary: '',
      kernel: '',
      initramfs: '',
    },
    {
      ...{ name: '', memory: 'restored', qmpSocket: '', agentSocket: '', network },
      ...{ rootDescriptor: undefined, dataDisk: undefined, vcpus: spec.vcpus, memoryBytes: spec.memoryBytes },
    },
  );
  const machine = createHash('sha256').update(JSON.stringify(layout)).digest('hex');
  return { ...versions, accelerator: build.accelerator, guestProtocol: GUEST_PROTOCOL, machine };
}

/** @throws checkpoint.other_machine (conflict) naming what the checkpoint needs and what is here. */
export function requireSame(needs: CheckpointNeeds, here: CheckpointNeeds): void {
  const titles: Readonly<Record<keyof CheckpointNeeds, string>> = {
    qemu: 'QEMU',
    accelerator: 'accelerator',
    guestKernel: 'guest kernel',
    guestProtocol: 'guest protocol',
    machine: 'machine layout',
  };
  for (const key of Object.keys(titles) as (keyof CheckpointNeeds)[]) {
    if (needs[key] === here[key]) continue;
    const what = `the checkpoint was made with ${titles[key]} ${needs[key]}; here it is ${here[key]}`;
    throw new BerthError('conflict', 'checkpoint.other_machine', what, {
      hint: 'a memory can go on only where it finds the machine it knows',
    });
  }
}
