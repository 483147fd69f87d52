/**
 * Which accelerator really runs a guest.
 *
 * /dev/kvm may exist, open and answer, and a guest still hangs for ever (nested hosts, containers, sandboxes). So each
 * accelerator boots the guest kernel and program with a random word on the kernel command line, and must print it back
 * reversed before a deadline. The verdict is kept under a key of everything it depends on.
 */
import { createHash, randomBytes } from 'node:crypto';
import * as v from 'valibot';
import { BerthError, MIB, messageOf } from '#base';
import { files, monotonicMs, nowMs, runProcess } from '#platform';
import { identityArguments, type QemuIdentity } from './machine.ts';
import { kernelArguments, kernelFiles, machineArguments, type QemuBuild } from './qemu-command.ts';

/** TCG boots in 1 to 2 s on an idle core; a host twenty times slower still passes. */
const TCG_DEADLINE_MS = 60_000;
/** Working KVM needs a fraction of a second, nested KVM on a slow host up to 18 s by reports; TCG is there meanwhile. */
const KVM_DEADLINE_MS = 20_000;

const VerdictSchema = v.object({
  key: v.string(),
  chosen: v.picklist(['kvm', 'tcg']),
  probedAtMs: v.number(),
  probes: v.array(
    v.object({ accelerator: v.picklist(['kvm', 'tcg']), works: v.boolean(), ms: v.number(), why: v.string() }),
  ),
});

export type AcceleratorVerdict = v.InferOutput<typeof VerdictSchema>;
export type AcceleratorProbe = AcceleratorVerdict['probes'][number];

/** What is probed: the QEMU that VMs get, started the way VMs are. */
export interface ProbePlan {
  readonly build: Omit<QemuBuild, 'accelerator'>;
  readonly launcher: string;
  readonly identity: QemuIdentity | undefined;
  /** Ends the probes early: the daemon is leaving. */
  readonly signal?: AbortSignal;
}

/** Everything a verdict depends on: QEMU's build, the host's kernel, the processor and its microcode, the guest. */
export async function verdictKey({ build, identity }: ProbePlan): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify(identity ?? null));
  for (const path of [build.binary, build.kernel, build.initramfs]) {
    const facts = await files.stat(path);
    hash.update(`${path}:${facts.size}:${facts.mtimeMs}\n`);
  }
  const cpu = (await files.readTextIfExists('/proc/cpuinfo')) ?? '';
  const processor = /^model name.*$/m.exec(cpu)?.[0] ?? '';
  const microcode = /^microcode.*$/m.exec(cpu)?.[0] ?? '';
  const kernel = (await files.readTextIfExists('/proc/version')) ?? '';
  const device = await files.stat('/dev/kvm').then(
    (facts) => `kvm ${facts.mode} ${facts.uid} ${facts.gid}`,
    () => 'no kvm device',
  );
  return hash.update([processor, microcode, kernel, device].join('\n')).digest('hex');
}

/** The stored verdict when it still holds, otherwise a new one, stored. @throws accelerator.none (unavailable) */
export async function judgeAccelerators(plan: ProbePlan, cachePath: string): Promise<AcceleratorVerdict> {
  const key = await verdictKey(plan);
  const stored = await storedVerdict(cachePath);
  if (stored?.key === key) return stored;
  const verdict = await probeAccelerators(plan, key);
  await files.writeFileAtomic(cachePath, `${JSON.stringify(verdict, undefined, 2)}\n`, 0o644);
  return verdict;
}

/** Probes anew, whatever is stored. @throws accelerator.none (unavailable) with each one's reason. */
export async function probeAccelerators(plan: ProbePlan, key: string): Promise<AcceleratorVerdict> {
  const probes = await Promise.all([probe(plan, 'kvm', KVM_DEADLINE_MS), probe(plan, 'tcg', TCG_DEADLINE_MS)]);
  const working = probes.find((one) => one.works);
  if (working === undefined) {
    const reasons = probes.map((one) => `${one.accelerator}: ${one.why}`).join('; ');
    throw new BerthError(
      'unavailable',
      'accelerator.none',
      `no accelerator of QEMU runs a guest on this host: ${reasons}`,
      {
        hint: 'run "berth doctor" for the details',
      },
    );
  }
  return { key, chosen: working.accelerator, probedAtMs: nowMs(), probes };
}

async function storedVerdict(path: string): Promise<AcceleratorVerdict | undefined> {
  const text = await files.readTextIfExists(path);
  if (text === undefined) return undefined;
  try {
    const parsed = v.safeParse(VerdictSchema, JSON.parse(text));
    return parsed.success ? parsed.output : undefined;
  } catch {
    return undefined;
  }
}

async function probe(plan: ProbePlan, accelerator: 'kvm' | 'tcg', deadlineMs: number): Promise<AcceleratorProbe> {
  const build: QemuBuild = { ...plan.build, accelerator };
  if (accelerator === 'kvm' && !(await files.exists('/dev/kvm'))) {
    return {
      accelerator,
      works: false,
      ms: 0,
      why: '/dev/kvm does not exist: no hardware virtualization, or its module is not loaded',
    };
  }
  const nonce = randomBytes(8).toString('hex');
  const expected = `berth-probe:${[...nonce].reverse().join('')}`;
  const started = monotonicMs();
  const answered = new AbortController();
  let seen = '';
  try {
    const result = await runProcess(
      [
        plan.launcher,
        ...identityArguments(plan.identity),
        ...['--ends-with-parent', 'yes', '--', build.binary],
        ...machineArguments(build, { vcpus: 1, memoryBytes: 128 * MIB }),
        ...kernelFiles(build),
        ...['-append', [...kernelArguments(accelerator), `berth.probe=${nonce}`].join(' '), '-serial', 'stdio'],
      ],
      {
        deadlineMs,
        env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
        signal: plan.signal === undefined ? answered.signal : AbortSignal.any([answered.signal, plan.signal]),
        onOutput: (chunk) => {
          seen = (seen + chunk.toString('latin1')).slice(-65_536);
          if (seen.includes(expected)) answered.abort();
        },
      },
    );
    const words = result.stderr.trim().split('\n').at(-1) ?? '';
    return {
      accelerator,
      works: false,
      ms: Math.round(monotonicMs() - started),
      why: `QEMU ended without the answer: ${words || lastLine(seen)}`,
    };
  } catch (error) {
    if (plan.signal?.aborted) throw error;
    const ms = Math.round(monotonicMs() - started);
    if (answered.signal.aborted) return { accelerator, works: true, ms, why: `the guest answered after ${ms} ms` };
    const late = error instanceof BerthError && error.code === 'process.deadline';
    const why = late
      ? `the guest did not answer within ${deadlineMs} ms: it hangs${lastLine(seen) === '' ? '' : ` after "${lastLine(seen)}"`}`
      : messageOf(error);
    return { accelerator, works: false, ms, why };
  }
}

function lastLine(text: string): string {
  return text.trim().split('\n').at(-1)?.trim().slice(0, 200) ?? '';
}
