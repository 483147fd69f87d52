/** Compiles the C programs and bundles command line and daemon. Each output appears whole or not at all. */
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

/**
 * Node's own modules are loaded when something in them is first used, not when the file that names them is: crypto
 * takes 5 ms, child_process 5 ms, fs/promises 3 ms. `require` is the parameter of Node's module wrapper.
 */
const LAZY_REQUIRE =
  'require=(real=>name=>name.startsWith("node:")?new Proxy({},{get:(_,key)=>real(name)[key]}):real(name))(require);';

/** Compiled code is kept between runs; a folder that cannot be written is no harm. */
const START_FILE = `require('node:module').enableCompileCache(__dirname + '/../compile-cache');
require('./program.cjs');
`;

/** Libraries that few commands use stay out of the bundle that all commands read; node_modules has them. */
const RARELY_USED = ['pg', 'yaml', 'hyparquet-writer'];
/** A large verb is a file of its own: in the one that all commands read it cost each of them 12 ms (2026-11-22). */
const COST_VERB = '#cost-verb';

/**
 * The command line as one CommonJS file, in which every module is a function that runs when it is first imported.
 *
 * Start-up is on every user's path. One file, since Node's loader takes about 1 ms for each ES module; modules that are
 * not needed cost nothing until then. Measured 2026-11-22, medians of 40 interleaved runs: an empty program 25 ms, a
 * listing 37 ms; as ES modules split by verb, with node:http, 85 ms. The folder appears whole or not at all.
 */
export async function bundleCli(root: string, folder: string): Promise<void> {
  const aside = files.asideName(folder);
  try {
    const bundle = (source: string, target: string): Promise<unknown> =>
      runChecked([
        `${root}/node_modules/@esbuild/linux-${process.arch}/bin/esbuild`,
        `${root}/src/cli/${source}`,
        '--bundle',
        '--platform=node',
        '--format=cjs',
        '--target=node24',
        '--minify-syntax',
        '--minify-whitespace',
        '--log-level=warning',
        ...[...RARELY_USED, COST_VERB].map((name) => `--external:${name}`),
        '--define:import.meta.url=berthProgramUrl',
        `--banner:js=const berthProgramUrl='file://'+encodeURI(__filename).replace(/[?#]/g,encodeURIComponent);${LAZY_REQUIRE}`,
        `--outfile=${aside}/${target}`,
      ]);
    await bundle('main.ts', 'program.cjs');
    await bundle('verbs/cost.ts', 'cost.cjs');
    const doors = { imports: { [COST_VERB]: './cost.cjs' } };
    await files.writeFileAtomic(`${aside}/package.json`, `${JSON.stringify(doors)}\n`, 0o644);
    await files.writeFileAtomic(`${aside}/main.cjs`, START_FILE, 0o644);
    await files.rm(folder, { recursive: true, force: true });
    await files.rename(aside, folder);
  } finally {
    await files.rm(aside, { recursive: true, force: true });
  }
}

/**
 * The daemon as one file, so that stripping types costs nobody memory. Measured 2026-11-22, medians of 5: serving after
 * 258 ms instead of 484, 33 MB (Pss) instead of 68. A daemon that runs keeps what it loaded when this is replaced.
 * What reckons is a program of its own, which the daemon starts when there is something to reckon.
 */
export async function bundleDaemon(root: string, folder: string): Promise<void> {
  const aside = files.asideName(folder);
  try {
    const bundle = (source: string, target: string): Promise<unknown> =>
      runChecked([
        `${root}/node_modules/@esbuild/linux-${process.arch}/bin/esbuild`,
        `${root}/src/daemon/${source}`,
        '--bundle',
        '--platform=node',
        '--format=esm',
        '--target=node24',
        '--minify-syntax',
        '--minify-whitespace',
        '--log-level=warning',
        ...RARELY_USED.map((name) => `--external:${name}`),
        `--outfile=${aside}/${target}`,
      ]);
    await bundle('main.ts', 'main.mjs');
    await bundle('money/main.ts', 'money.mjs');
    await files.rm(folder, { recursive: true, force: true });
    await files.rename(aside, folder);
  } finally {
    await files.rm(aside, { recursive: true, force: true });
  }
}
