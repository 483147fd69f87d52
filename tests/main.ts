/**
 * `npm test`: sets up what the tests need, then runs the checks with the unit tests, the component tests (real parts)
 * and the end-to-end tests (real clients), in that order. Stops at the first stage that fails.
 *
 * VM tests run one file at a time: on two cores more would only make each other slow.
 */
import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';

const root = new URL('..', import.meta.url).pathname;

interface Stage {
  readonly name: string;
  readonly args: readonly string[];
}

function testStage(name: string, pattern: string): Stage {
  const files = globSync(pattern, { cwd: root }).sort();
  if (files.length === 0) throw new Error(`no test file matches ${pattern}`);
  const limits = ['--test-concurrency=1', '--test-timeout=600000'];
  return { name, args: ['--test', '--test-reporter=spec', ...limits, ...files] };
}

function run(stage: Stage): Promise<boolean> {
  const started = performance.now();
  process.stdout.write(`\n== ${stage.name}\n`);
  return new Promise((resolve) => {
    const child = spawn(process.execPath, stage.args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
    child.on('close', (code) => {
      const seconds = ((performance.now() - started) / 1000).toFixed(0);
      process.stdout.write(`== ${stage.name}: ${code === 0 ? 'passed' : 'FAILED'} after ${seconds} s\n`);
      resolve(code === 0);
    });
  });
}

const stages: readonly Stage[] = [
  { name: 'set-up', args: ['src/setup/main.ts', '--tests'] },
  { name: 'checks and unit tests', args: ['scripts/check.ts'] },
];

for (const stage of stages) {
  if (!(await run(stage))) process.exit(1);
}
for (const stage of [
  testStage('component tests', 'tests/component/*.test.ts'),
  testStage('end-to-end tests', 'tests/e2e/*.test.ts'),
]) {
  if (!(await run(stage))) process.exit(1);
}
