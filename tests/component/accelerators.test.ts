/** The verdict on accelerators, with real QEMU: proved by a guest, kept, and made anew when something changes. */
import assert from 'node:assert/strict';
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { judgeAccelerators, type ProbePlan, probeAccelerators, verdictKey } from '#engine';
import { findProcesses } from '#platform';
import { thisInstallation } from '#setup';

let folder: string;
let plan: ProbePlan;

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'berth-verdict-'));
  const { kernel, initramfs, launcher } = thisInstallation();
  copyFileSync(initramfs, join(folder, 'initramfs'));
  const build = {
    binary: '/usr/bin/qemu-system-x86_64',
    firmware: '/usr/share/qemu/qboot.rom',
    kernel,
    initramfs: join(folder, 'initramfs'),
  };
  plan = { build, launcher, identity: undefined };
});

after(async () => {
  assert.deepEqual(
    (await findProcesses(folder)).map((one) => one.argv.join(' ')),
    [],
    'no probe is left',
  );
  rmSync(folder, { recursive: true });
});

test('software emulation answers; hardware is believed only when a guest says so', async () => {
  const verdict = await probeAccelerators(plan, 'key');
  const [kvm, tcg] = ['kvm', 'tcg'].map((name) => verdict.probes.find((probe) => probe.accelerator === name));
  assert.equal(tcg?.works, true, tcg?.why);
  assert.equal(verdict.chosen, kvm?.works === true ? 'kvm' : 'tcg');
  if (!existsSync('/dev/kvm')) assert.match(kvm?.why ?? '', /does not exist/);
  // Where the device opens and no guest runs, that is said in QEMU's or the deadline's words.
  else if (kvm?.works === false) assert.match(kvm.why, /QEMU ended without the answer: \S|did not answer within/);
});

test('a verdict is kept until what it depends on changes', async () => {
  const cache = join(folder, 'verdict.json');
  const first = await judgeAccelerators(plan, cache);
  const written = statSync(cache).mtimeMs;
  assert.deepEqual(await judgeAccelerators(plan, cache), first);
  assert.equal(statSync(cache).mtimeMs, written, 'nothing was probed again');
  copyFileSync(thisInstallation().initramfs, join(folder, 'initramfs'));
  assert.notEqual(await verdictKey(plan), first.key, 'another initramfs');
  assert.notEqual(
    await verdictKey({ ...plan, identity: { uid: 1, group: 2 } }),
    await verdictKey(plan),
    'another user',
  );
  const second = await judgeAccelerators(plan, cache);
  assert.notEqual(second.key, first.key);
  assert.deepEqual(JSON.parse(readFileSync(cache, 'utf8')), JSON.parse(JSON.stringify(second)));
});

test('a QEMU that runs no guest is refused with every reason', async () => {
  const broken = { ...plan, build: { ...plan.build, binary: '/bin/false' } };
  await assert.rejects(
    probeAccelerators(broken, 'key'),
    /no accelerator of QEMU runs a guest on this host: kvm: .*; tcg: QEMU ended without the answer/,
  );
});

test('a probe ends at once when the daemon leaves', async () => {
  const leaving = new AbortController();
  const probing = assert.rejects(probeAccelerators({ ...plan, signal: leaving.signal }, 'key'));
  setTimeout(() => leaving.abort(), 200);
  await probing;
});
