/** A connection to PostgreSQL. The driver is loaded when somebody connects: most hosts never do. */
import { BerthError, messageOf } from '#base';

export interface PostgresConnection {
  /** Several statements when there are no parameters. @throws store.unavailable (unavailable), store.full (exhausted) */
  query<Row>(sql: string, parameters?: readonly unknown[]): Promise<Row[]>;
  end(): Promise<void>;
}

const CONNECT_MS = 10_000;

/** @throws store.unavailable (unavailable), without the address's password. */
export async function connectPostgres(url: string): Promise<PostgresConnection> {
  const { default: postgres } = await import('pg');
  const client = new postgres.Client({ connectionString: url, connectionTimeoutMillis: CONNECT_MS });
  const place = placeOf(url);
  // A connection that breaks while nobody asks anything: the next question fails with the reason.
  client.on('error', () => {});
  try {
    await client.connect();
  } catch (error) {
    throw translated(error, place);
  }
  return {
    query: async <Row>(sql: string, parameters?: readonly unknown[]): Promise<Row[]> => {
      try {
        const result = await client.query(sql, parameters === undefined ? undefined : [...parameters]);
        return result.rows as Row[];
      } catch (error) {
        throw translated(error, place);
      }
    },
    end: () => client.end(),
  };
}

function placeOf(url: string): string {
  if (!URL.canParse(url)) return 'PostgreSQL';
  const { hostname, port, pathname } = new URL(url);
  return `PostgreSQL at ${hostname || 'the local socket'}${port === '' ? '' : `:${port}`}${pathname}`;
}

function translated(error: unknown, place: string): BerthError {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  // @source PostgreSQL manual, appendix A: 53100 disk_full
  if (code === '53100')
    return new BerthError('exhausted', 'store.full', `${place} has no space left`, { cause: error });
  return new BerthError('unavailable', 'store.unavailable', `${place} refused: ${messageOf(error)}`, {
    facts: { code },
    hint: 'see that the server runs, and that this user may use the database',
    cause: error,
  });
}
