/** Compiles the two C programs and bundles the CLI. Each output appears whole or not at all. */
import { files, runChecked } from '#platform';

/** Kernel headers come from the host; musl's own headers win where both have one. */
const HEADER_PATHS = ['-idirafter', '/usr/include', '-idirafter', '/usr/include/x86_64-linux-gnu'];
const WARNINGS = ['-std=gnu11', '-Wall', '-Wextra', '-Wshadow', '-Werror'];

/** All .c files of `folder` into one static, stripped program. @throws process.failed with the compiler's words. */
export async function compileStatic(folder: string, target: string): Promise<void> {
  const sources = (await files.readdir(folder)).filter((name) => name.endsWith('.c')).sort();
  const aside = files.asideName(target);
  try {
    const inputs = sources.map((name) => `${folder}/${name}`);
    await runChecked(['musl-gcc', '-Os', '-static', '-s', ...WARNINGS, ...HEADER_PATHS, '-o', aside, ...inputs]);
    await files.rename(aside, target);
  } finally {
    await files.rm(aside, { force: true });
  }
}

/**
 * The command line as ES modules that load one another when they are needed: each verb is a chunk of its own, since
 * start-up is on every user's path. The folder appears whole or not at all.
 */
export async function bundleCli(root: string, folder: string): Promise<void> {
  const aside = files.asideName(folder);
  try {
    await runChecked([
      `${root}/node_modules/@esbuild/linux-${process.arch}/bin/esbuild`,
      `${root}/src/cli/main.ts`,
      '--bundle',
      '--splitting',
      '--platform=node',
      '--format=esm',
      '--target=node24',
      '--minify-syntax',
      '--minify-whitespace',
      '--log-level=warning',
      // Commander is CommonJS: its `require` of Node's own modules has to exist inside an ES module.
      "--banner:js=import{createRequire as berthRequire}from'node:module';const require=berthRequire(import.meta.url);",
      `--outdir=${aside}`,
    ]);
    await files.rm(folder, { recursive: true, force: true });
    await files.rename(aside, folder);
  } finally {
    await files.rm(aside, { recursive: true, force: true });
  }
}
