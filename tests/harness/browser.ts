/** A real Chromium (Debian's), headless, for looking at a page that is a file. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const DEADLINE_MS = 120_000;

export interface LookedAt {
  /** The page's elements as the browser has them once it is loaded. */
  readonly dom: string;
  /** PNG. */
  readonly screenshot: Buffer;
}

/** The browser may reach no network: what the page does not hold it does not have. */
export async function lookAt(path: string): Promise<LookedAt> {
  const folder = await mkdtemp(join(tmpdir(), 'berth-browser-'));
  try {
    const common = [
      '--headless=new',
      '--no-sandbox',
      '--disable-gpu',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--proxy-server=127.0.0.1:1',
      `--user-data-dir=${join(folder, 'profile')}`,
      '--window-size=1000,1400',
      '--virtual-time-budget=2000',
    ];
    const options = { timeout: DEADLINE_MS, killSignal: 'SIGKILL' as const, maxBuffer: 64 * 1024 * 1024, cwd: folder };
    const { stdout } = await run('chromium', [...common, '--dump-dom', `file://${path}`], options);
    await run('chromium', [...common, `--screenshot=${join(folder, 'page.png')}`, `file://${path}`], options);
    return { dom: stdout, screenshot: await readFile(join(folder, 'page.png')) };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
