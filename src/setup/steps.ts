/**
 * Set-up as a table of steps: each knows whether it is done, what it is called, and how to do it. Every step writes
 * aside and renames, so that a set-up that was interrupted is simply started again.
 */
import { createHash } from 'node:crypto';
import { BerthError } from '#base';
import { files } from '#platform';
import { bundleCli, bundleDaemon, compileStatic } from './compile.ts';
import { fetchKernel } from './kernel.ts';
import { type DebianPackage, identifyHost, installPackages, missingPackages } from './packages.ts';
import type { Installation } from './paths.ts';
import { writeInitramfs } from './write-initramfs.ts';

export interface SetupStep {
  readonly title: string;
  isDone(): Promise<boolean>;
  run(onOutput: (chunk: Buffer) => void): Promise<void>;
}

export function packageStep(wanted: readonly DebianPackage[], title = 'Debian packages'): SetupStep {
  return {
    title,
    isDone: async () => (await missingPackages(wanted)).length === 0,
    run: async (onOutput) => {
      const missing = await missingPackages(wanted);
      await installPackages(missing, await identifyHost(), onOutput);
      const [still] = await missingPackages(wanted);
      if (still !== undefined) {
        throw new BerthError(
          'unavailable',
          'setup.package',
          `${still.name} is installed but ${still.provides} is not there`,
        );
      }
    },
  };
}

export function buildSteps(installation: Installation): SetupStep[] {
  const { root } = installation;
  const compiled = (title: string, sources: string, target: string): SetupStep =>
    whenChanged(title, target, [`${root}/${sources}`], () => compileStatic(`${root}/${sources}`, target));
  return [
    {
      title: 'guest kernel',
      isDone: () => files.exists(installation.kernelRelease),
      run: () => fetchKernel(`${installation.build}/kernel`),
    },
    compiled('guest program', 'guest', installation.guestProgram),
    compiled('launcher', 'launcher', installation.launcher),
    compiled('memory keeper', 'memory', installation.memoryProgram),
    ...(installation.twinProgram === undefined ? [] : [compiled('twin maker', 'twin', installation.twinProgram)]),
    compiled('fast listing', 'fast', installation.fastList),
    whenChanged(
      'initramfs',
      installation.initramfs,
      [installation.guestProgram, installation.kernelRelease, `${root}/src/setup/initramfs.ts`],
      () => writeInitramfs(installation),
    ),
    whenChanged('command line', installation.cli, [`${root}/src`, `${root}/package-lock.json`], () =>
      bundleCli(root, installation.cli),
    ),
    whenChanged('daemon', installation.daemonFolder, [`${root}/src`, `${root}/package-lock.json`], () =>
      bundleDaemon(root, installation.daemonFolder),
    ),
  ];
}

/** A step that is done when `target` was made from what `inputs` hold now: their digest lies beside it. */
function whenChanged(title: string, target: string, inputs: readonly string[], make: () => Promise<void>): SetupStep {
  const stamp = `${target}.inputs`;
  return {
    title,
    isDone: async () =>
      (await files.exists(target)) && (await files.readTextIfExists(stamp)) === (await digestOf(inputs)),
    run: async () => {
      const digest = await digestOf(inputs);
      await files.rm(stamp, { force: true });
      await make();
      await files.writeFileAtomic(stamp, digest, 0o644);
    },
  };
}

async function digestOf(paths: readonly string[]): Promise<string> {
  const hash = createHash('sha256');
  const add = async (path: string): Promise<void> => {
    const facts = await files.stat(path);
    if (facts.isDirectory()) {
      for (const name of (await files.readdir(path)).sort()) await add(`${path}/${name}`);
      return;
    }
    const content = await files.readFile(path);
    hash.update(`${path.length}:${path}:${content.length}:`).update(content);
  };
  for (const path of paths) await add(path);
  return hash.digest('hex');
}
