/** Compiles the two C programs and bundles the CLI. Each output appears whole or not at all. */
import { dirname } from 'node:path';
import { files, runChecked } from '#platform';

/** Kernel headers come from the host; musl's own headers win where both have one. */
const HEADER_PATHS = ['-idirafter', '/usr/include', '-idirafter', '/usr/include/x86_64-linux-gnu'];
/** Static, stripped, and without functions nobody calls. */
const SMALL = [
  '-Os',
  '-flto',
  '-ffunction-sections',
  '-fdata-sections',
  '-fno-asynchronous-unwind-tables',
  '-static',
  '-s',
  '-Wl,--gc-sections',
];
const WARNINGS = ['-std=gnu11', '-Wall', '-Wextra', '-Wshadow', '-Werror'];

/** All .c files of `folder` into one static, stripped program. @throws process.failed with the compiler's words. */
export async function compileStatic(folder: string, target: string): Promise<void> {
  const sources = (await files.readdir(folder)).filter((name) => name.endsWith('.c')).sort();
  const aside = files.asideName(target);
  try {
    const inputs = sources.map((name) => `${folder}/${name}`);
    await runChecked(['musl-gcc', ...SMALL, ...WARNINGS, ...HEADER_PATHS, '-o', aside, ...inputs]);
    await files.rename(aside, target);
  } finally {
    await files.rm(aside, { force: true });
  }
}

/** Compiled code is kept between runs; a folder that cannot be written is no harm. */
const START_FILE = `require('node:module').enableCompileCache(__dirname + '/../compile-cache');
require('./program.cjs');
`;

/**
 * The command line as one CommonJS file, in which every module is a function that runs when it is first imported.
 *
 * Start-up is on every user's path. One file, since Node's loader takes about 1 ms for each ES module, and modules that
 * are not needed cost nothing until then, Node's own (crypto: 7 ms, http: 35 ms) neither. Measured 2026-11-21, median
 * above an empty program: 12 ms, against 27 ms as ES modules split by verb. The folder appears whole or not at all.
 */
export async function bundleCli(root: string, folder: string): Promise<void> {
  const aside = files.asideName(folder);
  try {
    await runChecked([
      `${root}/node_modules/@esbuild/linux-${process.arch}/bin/esbuild`,
      `${root}/src/cli/main.ts`,
      '--bundle',
      '--platform=node',
      '--format=cjs',
      '--target=node24',
      '--minify-syntax',
      '--minify-whitespace',
      '--log-level=warning',
      '--define:import.meta.url=berthProgramUrl',
      "--banner:js=const berthProgramUrl=require('node:url').pathToFileURL(__filename).href;",
      `--outfile=${aside}/program.cjs`,
    ]);
    await files.writeFileAtomic(`${aside}/main.cjs`, START_FILE, 0o644);
    await files.rm(folder, { recursive: true, force: true });
    await files.rename(aside, folder);
  } finally {
    await files.rm(aside, { recursive: true, force: true });
  }
}

/**
 * The daemon as one file: the compiler that strips types from sources takes 40 MB of a process that uses it (resident,
 * idle, 2026-11-22: 113 MB from sources, 70 MB bundled), and berthd is there all day.
 */
export async function bundleDaemon(root: string, target: string): Promise<void> {
  const aside = files.asideName(target);
  try {
    await runChecked([
      `${root}/node_modules/@esbuild/linux-${process.arch}/bin/esbuild`,
      `${root}/src/daemon/main.ts`,
      '--bundle',
      '--platform=node',
      '--format=esm',
      '--target=node24',
      '--minify-syntax',
      '--minify-whitespace',
      '--keep-names',
      '--log-level=warning',
      `--outfile=${aside}`,
    ]);
    await files.mkdir(dirname(target), { recursive: true });
    await files.rename(aside, target);
  } finally {
    await files.rm(aside, { force: true });
  }
}
