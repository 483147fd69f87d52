/** A real PostgreSQL (Debian's postgresql-15) of its own, on a unix socket in a folder of its own. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chown, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

const PROGRAMS = '/usr/lib/postgresql/15/bin';
const START_DEADLINE_MS = 30_000;

export interface RunningPostgres {
  /** Of a new, empty database. */
  newDatabase(): string;
  stop(): Promise<void>;
}

export async function startPostgres(): Promise<RunningPostgres> {
  const folder = await mkdtemp(join(tmpdir(), 'berth-postgres-'));
  // The server refuses to run as root.
  const idOf = (flag: string): number => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
  const user = process.getuid?.() === 0 ? { uid: idOf('-u'), gid: idOf('-g') } : {};
  if (user.uid !== undefined) await chown(folder, user.uid, user.gid);
  const run = (program: string, args: readonly string[]): void => {
    execFileSync(join(PROGRAMS, program), args, { ...user, stdio: 'ignore', cwd: folder });
  };
  run('initdb', [
    '-D',
    join(folder, 'data'),
    '-U',
    'berth',
    '-A',
    'trust',
    '--no-sync',
    '--encoding=UTF8',
    '--locale=C',
  ]);
  const settings = ['listen_addresses=', `unix_socket_directories=${folder}`, 'max_connections=20'];
  const child = spawn(
    join(PROGRAMS, 'postgres'),
    ['-D', join(folder, 'data'), ...settings.flatMap((one) => ['-c', one])],
    {
      ...user,
      stdio: 'ignore',
      cwd: folder,
    },
  );
  const exited = once(child, 'exit');
  const stop = async (): Promise<void> => {
    child.kill('SIGINT');
    await exited;
    await rm(folder, { recursive: true, force: true });
  };
  const deadline = Date.now() + START_DEADLINE_MS;
  for (;;) {
    try {
      run('pg_isready', ['-h', folder, '-q']);
      break;
    } catch (error) {
      if (Date.now() > deadline || child.exitCode !== null) {
        await stop();
        throw new Error('PostgreSQL did not start: is the package postgresql-15 installed?', { cause: error });
      }
      await delay(50);
    }
  }
  let count = 0;
  return {
    newDatabase: () => {
      count += 1;
      run('createdb', ['-h', folder, '-U', 'berth', `ledger${count}`]);
      return `postgres://berth@localhost/ledger${count}?host=${encodeURIComponent(folder)}`;
    },
    stop,
  };
}
