/**
 * `npm run check`: format and lint, types, layers, dead code and unit tests, side by side where they do not
 * depend on one another. Exit status 0 only when every one passed; the output of a failed one is printed whole.
 */
import { spawn } from 'node:child_process';

interface Check {
  readonly name: string;
  readonly argv: readonly [string, ...string[]];
}

const bin = (name: string): string => new URL(`../node_modules/.bin/${name}`, import.meta.url).pathname;

const checks: readonly Check[] = [
  { name: 'format and lint', argv: [bin('biome'), 'check', '--error-on-warnings', '.'] },
  { name: 'types', argv: [bin('tsc'), '--noEmit'] },
  {
    name: 'layers',
    argv: [bin('depcruise'), 'src', 'tests', '--config', '.dependency-cruiser.cjs', '--output-type', 'err-long'],
  },
  { name: 'dead code', argv: [bin('knip')] },
  { name: 'unit tests', argv: [process.execPath, '--test', '--test-reporter=dot', 'src/**/*.test.ts'] },
];

function run(check: Check): Promise<boolean> {
  return new Promise((resolve) => {
    const started = performance.now();
    const [command, ...args] = check.argv;
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    const output: Buffer[] = [];
    child.stdout.on('data', (data: Buffer) => output.push(data));
    child.stderr.on('data', (data: Buffer) => output.push(data));
    child.on('error', (error) => output.push(Buffer.from(`${error.message}\n`)));
    child.on('close', (code) => {
      const seconds = ((performance.now() - started) / 1000).toFixed(1);
      const passed = code === 0;
      process.stdout.write(`${passed ? 'ok  ' : 'FAIL'} ${check.name} (${seconds} s)\n`);
      if (!passed) process.stdout.write(Buffer.concat(output));
      resolve(passed);
    });
  });
}

const [first, ...rest] = checks;
const results = first === undefined ? [] : [await run(first), ...(await Promise.all(rest.map(run)))];
process.exitCode = results.every(Boolean) ? 0 : 1;
