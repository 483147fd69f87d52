/** /rrd_updates of the XAPI stand-in: averages of one minute for two hours of the VMs on one host, control domain included. */
import type { StandInPool } from './xapi-stand-in-database.ts';

const STEP_SECONDS = 60;
const KEPT_ROWS = 120;

/** What every VM of the stand-in consumes, in each minute alike; the second card came later and has no figures. */
export const STAND_IN_RATES = {
  cpu0: 0.25,
  cpu1: 0.5,
  memory: 2 ** 30,
  memory_internal_free: 262_144,
  vbd_xvda_read: 1_000.5,
  vbd_xvda_write: 2_000,
  vbd_xvda_read_latency: 99,
  vif_0_rx: 300,
  vif_0_tx: 400,
  vif_1_rx: Number.NaN,
} as const;

/** What every host of the stand-in tells of itself, when it is asked to. */
export const STAND_IN_HOST_RATES = {
  cpu0: 0.5,
  cpu_avg: 0.125,
  memory_total_kib: 64 * 2 ** 20,
  memory_free_kib: 24 * 2 ** 20,
} as const;

export function roundRobinText(pool: StandInPool, hostRef: string, query: URLSearchParams): string {
  const { numbers, clockAheadMs } = pool;
  if (query.get('interval') !== String(STEP_SECONDS) || query.get('cf') !== 'AVERAGE') return '{}';
  const residents = pool.database.allOf('VM').filter(([, record]) => record['resident_on'] === hostRef);
  const columns: { readonly entry: string; readonly rate: number }[] = residents.flatMap(([, record]) =>
    Object.entries(STAND_IN_RATES).map(([source, rate]) => ({
      entry: `AVERAGE:vm:${String(record['uuid'])}:${source}`,
      rate,
    })),
  );
  if (query.get('host') === 'true')
    for (const [source, rate] of Object.entries(STAND_IN_HOST_RATES))
      columns.push({ entry: `AVERAGE:host:${String(pool.database.record(hostRef)['uuid'])}:${source}`, rate });
  const end = Math.floor((Date.now() + clockAheadMs) / 1_000 / STEP_SECONDS) * STEP_SECONDS;
  const start = Math.max(Number(query.get('start')), end - KEPT_ROWS * STEP_SECONDS);
  const write = (value: number): string => (numbers === 'quoted' ? `"${value}"` : String(value));
  const rows: string[] = [];
  // The newest comes first.
  for (let t = end; t > start; t -= STEP_SECONDS)
    rows.push(`{"t":${write(t)},"values":[${columns.map(({ rate }) => write(rate)).join(',')}]}`);
  const legend = JSON.stringify(columns.map(({ entry }) => entry));
  const meta = `{"start":${start},"step":${STEP_SECONDS},"end":${end},"rows":${rows.length},"legend":${legend}}`;
  return `{"meta":${meta},"data":[${rows.join(',')}]}`;
}
