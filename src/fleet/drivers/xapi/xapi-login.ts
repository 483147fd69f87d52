/**
 * Signing in, at the pool's master whichever member was named.
 *
 * Only the master answers; another member says HOST_IS_SLAVE and its address. That address is followed once, over TLS that is
 * judged as strictly as the first: by the same pin, or by the machine's authorities for the name that was told. Credentials go
 * there only then.
 *
 * @source XenAPI reference: session.login_with_password, error HOST_IS_SLAVE
 */
import { BerthError } from '#base';
import type { SourceTarget } from '../../driver.ts';
import { masterNamedBy } from './failures.ts';
import { XapiClient } from './xapi-client.ts';

const HTTPS_PORT = 443;
/** What the login says of us; XAPI shows it to its administrators. */
const API_VERSION = '1.0';
const ORIGINATOR = 'berth';

export interface Login {
  readonly client: XapiClient;
  /** Opaque, and a secret: whoever has it is signed in. */
  readonly session: string;
  /** The member that the URL named, when the master is another. */
  readonly namedMember: string | undefined;
}

export function problemsOf(url: URL): string[] {
  return [
    ...(url.hostname === '' ? ['the host is missing'] : []),
    ...(url.username === '' && url.password === ''
      ? []
      : ['user and password do not belong into the URL: use --credentials-file']),
    ...(url.pathname === '' || url.pathname === '/' ? [] : [`the path ${url.pathname} means nothing to XAPI`]),
    ...(url.search === '' ? [] : ['there are no parameters']),
  ];
}

/** @throws xapi.no_credentials, xapi.login (unauthenticated); xapi.master (unauthenticated, unavailable) when the master is not reached */
export async function signIn(target: SourceTarget, signal: AbortSignal): Promise<Login> {
  const { url, pin } = target;
  const port = url.port === '' ? HTTPS_PORT : Number(url.port);
  const first = new XapiClient({ host: url.hostname, port, pin });
  try {
    return { client: first, session: await login(first, target, signal), namedMember: undefined };
  } catch (error) {
    first.close();
    const master = masterNamedBy(error);
    if (master === undefined) throw error;
    return await signInAtMaster(target, { named: first.where, master, port }, signal);
  }
}

async function signInAtMaster(
  target: SourceTarget,
  { named, master, port }: { readonly named: string; readonly master: string; readonly port: number },
  signal: AbortSignal,
): Promise<Login> {
  if (!/^([A-Za-z0-9.-]{1,253}|[0-9a-fA-F:.]{2,45})$/.test(master) || master.startsWith('-')) {
    const text = `${named} is not its pool's master, and names as master what is no address: ${JSON.stringify(master)}`;
    throw new BerthError('invalid', 'xapi.master', text);
  }
  const client = new XapiClient({ host: master.includes(':') ? `[${master}]` : master, port, pin: target.pin });
  try {
    return { client, session: await login(client, target, signal), namedMember: named };
  } catch (error) {
    client.close();
    signal.throwIfAborted();
    if (!(error instanceof BerthError) || error.code === 'xapi.login') throw error;
    if (masterNamedBy(error) !== undefined) {
      const text = `${named} names ${client.where} as the pool's master, which says that it is not: the pool is changing its master`;
      throw new BerthError('unavailable', 'xapi.master', text);
    }
    const text = `${named} is not its pool's master, and the master ${client.where} could not be signed in at: ${error.message}`;
    const hint =
      error.code === 'tls.untrusted'
        ? `remove the source and add xapi://${client.where}/ with that host's own --pin`
        : error.hint;
    throw new BerthError(error.kind, error.code === 'tls.untrusted' ? error.code : 'xapi.master', text, {
      facts: error.facts,
      ...(hint === undefined ? {} : { hint }),
    });
  }
}

async function login(client: XapiClient, { name, credentials }: SourceTarget, signal: AbortSignal): Promise<string> {
  if (credentials === undefined) {
    throw new BerthError('unauthenticated', 'xapi.no_credentials', `source ${name} has no credentials`, {
      hint: 'add it with --credentials-file, --credentials-env or --user',
    });
  }
  signal.throwIfAborted();
  const giveUp = (): void => client.close();
  signal.addEventListener('abort', giveUp, { once: true });
  try {
    const { user, password } = credentials;
    const session = await client.call('session.login_with_password', [user, password, API_VERSION, ORIGINATOR]);
    if (typeof session === 'string' && session !== '') return session;
    throw new BerthError('invalid', 'xapi.malformed', `${client.where} gave no session for a login that it accepted`);
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', giveUp);
  }
}
