/**
 * vCenter's REST API, as far as its tagging service needs it: a session of its own beside the one of SOAP, with the same user over
 * the same judged connections.
 *
 *     none ─POST session─▶ signed in ─(401)─▶ none, and once more ─▶ …
 *                              └─ close: DELETE session
 *
 * There are two forms. `/rest` is served by every vCenter since 6.5 and wraps what it answers in `value`; `/api` by those since 7.0 U2,
 * bare. The older one is tried first, the other where there is no such path. An ESXi host has neither.
 *
 * @source vSphere Automation REST API reference: cis.session, cis.tagging (paths and names are facts)
 */
import { BerthError } from '#base';
import type { Credentials } from '../../driver.ts';
import type { BesideAnswer, BesideRequest, VsphereClient } from './vsphere-client.ts';

/** 100 tags that 10,000 VMs each have are 60 MB. */
const MOST_ANSWER_BYTES = 64 * 1024 * 1024;
const MOST_TOKEN_CHARACTERS = 4_096;

interface Form {
  readonly session: string;
  pathOf(call: VapiCall): string;
  /** What an answer holds. */
  within(answer: unknown): unknown;
}

const FORMS: readonly Form[] = [
  {
    session: '/rest/com/vmware/cis/session',
    pathOf: ({ of, id, action }) =>
      `/rest/com/vmware/cis/tagging/${of}${id === undefined ? '' : `/id:${encodeURIComponent(id)}`}${action === undefined ? '' : `?~action=${action}`}`,
    within: (answer) => (typeof answer === 'object' && answer !== null && 'value' in answer ? answer.value : null),
  },
  {
    session: '/api/session',
    pathOf: ({ of, id, action }) =>
      `/api/cis/tagging/${of}${id === undefined ? '' : `/${encodeURIComponent(id)}`}${action === undefined ? '' : `?action=${action}`}`,
    within: (answer) => answer,
  },
];

export interface VapiCall {
  readonly of: 'category' | 'tag' | 'tag-association';
  readonly id?: string;
  /** With one it is a POST. */
  readonly action?: string;
  readonly body?: unknown;
}

interface SignedIn {
  readonly form: Form;
  readonly token: string;
}

export class VapiClient {
  readonly #client: Pick<VsphereClient, 'beside' | 'host'>;
  readonly #credentials: Credentials;
  #signedIn: Promise<SignedIn> | undefined;
  #isClosed = false;

  constructor(client: Pick<VsphereClient, 'beside' | 'host'>, credentials: Credentials) {
    this.#client = client;
    this.#credentials = credentials;
  }

  /**
   * @returns what was answered, not looked at yet; undefined when what `id` names is not there, or not for this user.
   * @throws vsphere.tags_denied (denied), vsphere.no_tagging (unsupported), vsphere.tags_status (unavailable), vsphere.malformed
   */
  async ask(call: VapiCall): Promise<unknown> {
    const first = await this.#session();
    let { form } = first;
    let answer = await this.#send(call, first);
    if (answer.status === 401) {
      await this.#forget(first);
      const second = await this.#session();
      form = second.form;
      answer = await this.#send(call, second);
    }
    if (call.id !== undefined && (answer.status === 404 || answer.status === 403)) return undefined;
    if (answer.status !== 200) throw this.#refusal(answer.status, `asked for ${call.of}`);
    return form.within(parse(answer.text, this.#client.host));
  }

  /** Never throws. Nothing can be asked any more. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const session = await this.#signedIn?.catch(() => undefined);
    this.#signedIn = undefined;
    if (session !== undefined) await this.#request(session.form.session, 'DELETE', session.token).catch(() => {});
  }

  /** One login for all who ask at once. */
  #session(): Promise<SignedIn> {
    if (this.#isClosed)
      return Promise.reject(new BerthError('unavailable', 'vsphere.closed', 'the session with vSphere is closed'));
    if (this.#signedIn === undefined) {
      const signingIn = this.#signIn();
      this.#signedIn = signingIn;
      signingIn.catch(() => {
        if (this.#signedIn === signingIn) this.#signedIn = undefined;
      });
    }
    return this.#signedIn;
  }

  /** Somebody else may have signed in anew already. */
  async #forget(over: SignedIn): Promise<void> {
    const current = await this.#signedIn?.catch(() => undefined);
    if (current === over) this.#signedIn = undefined;
  }

  async #signIn(): Promise<SignedIn> {
    const { user, password } = this.#credentials;
    const authorization = `Basic ${Buffer.from(`${user}:${password}`, 'utf8').toString('base64')}`;
    for (const form of FORMS) {
      const headers = { authorization, 'vmware-use-header-authn': 'true' };
      const answer = await this.#client.beside(form.session, { method: 'POST', headers, mostBytes: 64 * 1024 });
      if (answer.status === 404) continue;
      if (answer.status !== 200 && answer.status !== 201) throw this.#refusal(answer.status, 'asked for a session');
      const token = form.within(parse(answer.text, this.#client.host));
      // It goes into a header: what is no visible ASCII would be another header, or none.
      if (typeof token === 'string' && token.length <= MOST_TOKEN_CHARACTERS && /^[\x21-\x7e]+$/.test(token))
        return { form, token };
      throw new BerthError('invalid', 'vsphere.malformed', `${this.#client.host} answers with no session's name`);
    }
    throw new BerthError(
      'unsupported',
      'vsphere.no_tagging',
      `there is no tagging service at ${this.#client.host} (status 404)`,
      { hint: 'only a vCenter has tags, an ESXi host has none' },
    );
  }

  #send({ body, ...call }: VapiCall, { form, token }: SignedIn): Promise<BesideAnswer> {
    const method = call.action === undefined ? 'GET' : 'POST';
    return this.#request(form.pathOf(call), method, token, body);
  }

  #request(path: string, method: BesideRequest['method'], token: string, body?: unknown): Promise<BesideAnswer> {
    const headers: Record<string, string> = { 'vmware-api-session-id': token, accept: 'application/json' };
    if (body !== undefined) headers['content-type'] = 'application/json';
    const more = body === undefined ? {} : { body: JSON.stringify(body) };
    return this.#client.beside(path, { method, headers, mostBytes: MOST_ANSWER_BYTES, ...more });
  }

  #refusal(status: number, what: string): BerthError {
    const text = `the tagging service of ${this.#client.host}, ${what}, answered with status ${status}`;
    if (status !== 401 && status !== 403) return new BerthError('unavailable', 'vsphere.tags_status', text);
    const hint = 'give the user the role Read-only, at the top and with propagation: tags are read with its rights';
    return new BerthError('denied', 'vsphere.tags_denied', text, { hint });
  }
}

function parse(text: string, host: string): unknown {
  if (text === '') return null;
  try {
    return JSON.parse(text);
  } catch {
    throw new BerthError('invalid', 'vsphere.malformed', `the tagging service of ${host} answers with no JSON`);
  }
}
