/** The Xen driver against a real Xen 4.17 over real ssh. `xl` typed at dom0 is the outside view. */
import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { xenDriver } from '#fleet';
import { type DriverWorld, driverConformance } from '../../src/fleet/driver.conformance.ts';
import { type RunningXen, startXen } from '../harness/xen.ts';

/** Under emulation a command of xl takes a quarter of a second, a guest two to be made. */
const EVENT_DEADLINE_MS = 15_000;

function urlOf(xen: RunningXen, port = xen.port): URL {
  return new URL(`xl+ssh://root@127.0.0.1:${port}/?keyfile=${xen.keyPath}&known_hosts=${xen.knownHostsPath}`);
}

/** Rows of `xl list -v` without dom0; names of this file's guests have no blanks. */
async function look(xen: RunningXen) {
  const rows = (await xen.run('xl list -v')).trim().split('\n').slice(2);
  return rows.map((row) => {
    const [name = '', domid = '', , , flags = '', , uuid = ''] = row.split(/\s+/);
    const powerState = flags.includes('p') ? ('paused' as const) : ('running' as const);
    return { nativeId: uuid, name, domid, powerState, flags };
  });
}

async function worldOf(): Promise<DriverWorld> {
  const xen = await startXen();
  const paths = new Map<string, string>();
  return {
    driver: xenDriver,
    target: { name: 'conform', url: urlOf(xen), allowPower: false },
    deadUrl: urlOf(xen, 1),
    forgetsStopped: true,
    look: async () => (await look(xen)).map(({ nativeId, name, powerState }) => ({ nativeId, name, powerState })),
    create: async (name) => {
      paths.set(name, await xen.define(name));
    },
    start: async (name) => {
      await xen.run(`xl create ${paths.get(name)}`);
    },
    stop: async (name) => {
      await xen.run(`xl destroy ${name}`);
    },
    remove: async (name) => {
      await xen.run(`rm ${paths.get(name)}`);
    },
    crash: () => xen.kill(),
    eventDeadlineMs: EVENT_DEADLINE_MS,
  };
}

describe('Xen by xl over ssh', () => driverConformance(worldOf));
void assert;
