/** An export that is killed at any moment: under its final name there is nothing, or all of it. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { runChecked } from '#platform';
import { usageFileText } from '../harness/usage-file.ts';

const BERTH = new URL('../../berth', import.meta.url).pathname;
const MAIN = new URL('../../.build/cli/main.cjs', import.meta.url).pathname;

let folder: string;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'berth-export-kill-'));
  const doc = readFileSync(new URL('../../docs/cost.md', import.meta.url), 'utf8');
  writeFileSync(join(folder, 'card.yaml'), /```yaml\n([\s\S]*?)```/.exec(doc)?.[1] ?? '');
  writeFileSync(join(folder, 'usage.jsonl'), usageFileText());
  // Set-up, if any is to do, must not be what is killed. A command that asks no daemon: it would start this machine's own.
  await runChecked([BERTH, 'cost', 'check', '--card', join(folder, 'card.yaml')]);
});

after(() => rmSync(folder, { recursive: true, force: true }));

const words = (form: string, out: string): string[] => [
  ...['cost', 'export', '--card', join(folder, 'card.yaml'), '--usage', join(folder, 'usage.jsonl')],
  ...['--month', '2026-11', '--as', form, '--out', out],
];

for (const form of ['csv', 'parquet']) {
  test(`${form}: killed at a dozen moments, a file that is there is whole, and the earlier one stays until then`, async () => {
    const whole = join(folder, `whole.${form}`);
    const began = performance.now();
    await runChecked([process.execPath, MAIN, ...words(form, whole)]);
    let tookMs = performance.now() - began;
    const expected = readFileSync(whole);
    const target = join(folder, `target.${form}`);
    let [finished, killed] = [0, 0];
    // How long one takes depends on what else the machine does: those that end before their moment are no round.
    for (let round = 0; round < 12 && finished < 24; ) {
      const startedAt = performance.now();
      const isEarlier = round % 2 === 0;
      if (isEarlier) writeFileSync(target, 'an earlier export');
      else rmSync(target, { force: true });
      const child = spawn(process.execPath, [MAIN, ...words(form, target)], { stdio: 'ignore' });
      const ended = once(child, 'exit');
      // Most of the moments lie near the end, where it writes.
      const timer = setTimeout(() => child.kill('SIGKILL'), tookMs * (0.6 + round * 0.03));
      const [code] = (await ended) as [number | null];
      clearTimeout(timer);
      if (code === 0) {
        finished += 1;
        tookMs = Math.min(tookMs, performance.now() - startedAt);
      } else {
        killed += 1;
        round += 1;
      }
      const found = existsSync(target) ? readFileSync(target) : undefined;
      const isUntouched = isEarlier ? found?.toString() === 'an earlier export' : found === undefined;
      assert.ok(
        isUntouched || found?.equals(expected),
        `${killed} killed: ${found?.length} of ${expected.length} bytes`,
      );
      assert.ok(code !== 0 || found?.equals(expected));
      if (!isUntouched) assert.ok(existsSync(`${target}.schema.json`), 'what describes it was there before it');
    }
    assert.ok(killed >= 8, `${killed} killed, ${finished} finished`);
    await runChecked([process.execPath, MAIN, ...words(form, target)]);
    assert.ok(readFileSync(target).equals(expected));
  });
}
