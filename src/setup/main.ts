/**
 * Set-up of a checkout: what is missing is made, with a line per step; nothing to do costs a fraction of a second.
 *
 * With `--tests` also installs what the tests need. Exit status 0 done, 1 with the reason and the remedy on standard error.
 */
import { BerthError, messageOf } from '#base';
import { files, monotonicMs } from '#platform';
import { lockWhenFree } from './lock.ts';
import { debianPackages, testPackages } from './packages.ts';
import { thisInstallation } from './paths.ts';
import { buildSteps, packageStep, type SetupStep } from './steps.ts';

async function main(): Promise<void> {
  const installation = thisInstallation();
  await files.mkdir(installation.build, { recursive: true });
  const lock = await lockWhenFree(installation.build, () =>
    say('another set-up is running in this checkout; waiting for it'),
  );
  try {
    await sweepUnfinished(installation.build);
    const forTests = process.argv.includes('--tests');
    const steps: SetupStep[] = [
      packageStep(forTests ? [...debianPackages, ...testPackages] : debianPackages),
      ...buildSteps(installation),
    ];
    for (const step of steps) await carryOut(step);
    await files.writeFileAtomic(installation.ready, '', 0o644);
  } finally {
    lock.release();
  }
}

/** What an interrupted set-up was writing aside. The lock is held: nobody else writes here. */
async function sweepUnfinished(folder: string): Promise<void> {
  for (const name of await files.readdir(folder)) {
    if (name.endsWith('.tmp')) await files.rm(`${folder}/${name}`, { recursive: true, force: true });
  }
}

async function carryOut(step: SetupStep): Promise<void> {
  if (await step.isDone()) return;
  const started = monotonicMs();
  say(`setting up: ${step.title} ...`);
  await step.run(showOutput);
  say(`setting up: ${step.title}: done in ${((monotonicMs() - started) / 1000).toFixed(1)} s`);
}

function say(line: string): void {
  process.stderr.write(`berth: ${line}\n`);
}

function showOutput(chunk: Buffer): void {
  process.stderr.write(chunk);
}

try {
  await main();
} catch (error) {
  say(messageOf(error));
  if (error instanceof BerthError && error.hint !== undefined) say(error.hint);
  process.exitCode = 1;
}
