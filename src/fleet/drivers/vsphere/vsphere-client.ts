/** One login at a vCenter or an ESXi host: calls, and the objects every client begins with. */
import { BerthError } from '#base';
import {
  type HttpResponse,
  type HttpsConnections,
  httpRequest,
  httpsConnections,
  readWholeText,
  translateHttpError,
} from '#platform';
import type { SourceTarget } from '../../driver.ts';
import { childAt, childrenNamed, textAt, type XmlElement } from '../../xml.ts';
import { scanXml, type XmlWish } from '../../xml-scan.ts';
import { element, envelope, type Moref, morefOf, reference, responseOf, SOAP_ACTION, type Xml } from './soap.ts';
import { type ObjectContent, objectOf, wantedOfDevices } from './vsphere-facts.ts';

/** Larger pages made vCenters run into their own two minutes. @source ManageIQ pull request 7540 */
export const PAGE_OBJECTS = 250;
/** An answer of 250 VMs has one to two MB. */
const MOST_ANSWER_BYTES = 64 * 1024 * 1024;
const CALL_IDLE_MS = 120_000;

export interface CallOptions extends XmlWish {
  /** Without a byte for so long the call has failed. */
  readonly idleMs?: number;
}

export interface BesideRequest {
  readonly method: 'GET' | 'POST' | 'DELETE';
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly mostBytes: number;
}

export interface BesideAnswer {
  readonly status: number;
  readonly text: string;
}

export interface ServiceContent {
  readonly product: string;
  readonly version: string;
  readonly rootFolder: Moref;
  readonly propertyCollector: Moref;
  readonly viewManager: Moref;
  readonly sessionManager: Moref;
  /** Absent where nothing is measured, or this user may not see it. */
  readonly perfManager: Moref | undefined;
  readonly eventManager: Moref | undefined;
  /** Absent of an ESXi host. */
  readonly customFieldsManager: Moref | undefined;
}

export class VsphereClient {
  readonly #url: URL;
  readonly #connections: HttpsConnections;
  /** Ends every call under way. */
  readonly #closing = new AbortController();
  #cookie: string | undefined;

  constructor(target: Pick<SourceTarget, 'url' | 'pin'>) {
    const port = target.url.port === '' ? 443 : Number(target.url.port);
    this.#url = new URL(`https://${target.url.hostname}:${port}/sdk`);
    const host = target.url.hostname.replace(/^\[|\]$/g, '');
    this.#connections = httpsConnections({ host, port, pin: target.pin });
  }

  /** @throws what a fault means; http.unreachable, vsphere.malformed. */
  async call(method: string, children: readonly Xml[], options: CallOptions = {}): Promise<XmlElement> {
    const headers: Record<string, string> = { 'content-type': 'text/xml; charset=utf-8', soapaction: SOAP_ACTION };
    if (this.#cookie !== undefined) headers['cookie'] = this.#cookie;
    const body = envelope(method, children);
    const request = {
      url: this.#url,
      method: 'POST' as const,
      headers,
      body,
      idleMs: options.idleMs ?? CALL_IDLE_MS,
      through: this.#connections,
      signal: this.#closing.signal,
    };
    const response = await httpRequest(request);
    const cookie = /vmware_soap_session=[^;,]+/.exec(response.headers['set-cookie'] ?? '')?.[0];
    if (cookie !== undefined) this.#cookie = cookie;
    // Faults come with 500; anything else that is not 200 did not come from the API.
    if (response.status !== 200 && response.status !== 500) {
      throw new BerthError(
        'unavailable',
        'vsphere.status',
        `${this.#url.host} answered ${method} with status ${response.status}`,
        {
          hint: 'is that the address of a vCenter or an ESXi host?',
        },
      );
    }
    return responseOf(scanXml(await this.#textOf(response, method, MOST_ANSWER_BYTES), options), method);
  }

  /** To another API of the same server, whose connections are judged alike. @throws http.unreachable, vsphere.too_large */
  async beside(path: string, { method, headers, body, mostBytes }: BesideRequest): Promise<BesideAnswer> {
    const response = await httpRequest({
      url: new URL(path, this.#url),
      method,
      headers,
      ...(body === undefined ? {} : { body }),
      idleMs: CALL_IDLE_MS,
      through: this.#connections,
      signal: this.#closing.signal,
    });
    const text = await this.#textOf(response, `${method} ${path}`, mostBytes);
    return { status: response.status, text };
  }

  get host(): string {
    return this.#url.host;
  }

  async #textOf(response: HttpResponse, what: string, mostBytes: number): Promise<string> {
    const tooLarge = (): BerthError => {
      const problem = `the answer to ${what.slice(0, 200)} has more than ${mostBytes} bytes`;
      return new BerthError('exhausted', 'vsphere.too_large', problem);
    };
    try {
      return await readWholeText(response.body, { mostBytes, tooLarge });
    } catch (error) {
      throw translateHttpError(error, this.#url, this.#closing.signal);
    }
  }

  async serviceContent(): Promise<ServiceContent> {
    const root = reference('_this', { type: 'ServiceInstance', id: 'ServiceInstance' });
    const content = childAt(await this.call('RetrieveServiceContent', [root]), 'returnval');
    const moref = (name: string): Moref => {
      const found = morefOf(childAt(content, name));
      if (found === undefined)
        throw new BerthError('invalid', 'vsphere.malformed', `the service content has no ${name}`);
      return found;
    };
    return {
      product: textAt(content, 'about', 'name') ?? 'vSphere',
      version: textAt(content, 'about', 'version') ?? 'unknown',
      rootFolder: moref('rootFolder'),
      propertyCollector: moref('propertyCollector'),
      viewManager: moref('viewManager'),
      sessionManager: moref('sessionManager'),
      perfManager: morefOf(childAt(content, 'perfManager')),
      eventManager: morefOf(childAt(content, 'eventManager')),
      customFieldsManager: morefOf(childAt(content, 'customFieldsManager')),
    };
  }

  /**
   * Named properties of objects that are listed; one that is gone meanwhile is left out.
   *
   * The server may answer in parts of its own: those are followed.
   *
   * @param wanted - `read` makes of each object what is kept of it, as soon as it is there.
   */
  async retrieve<T>(
    collector: Moref,
    objects: readonly Moref[],
    { properties, read }: { readonly properties: readonly string[]; readonly read: (one: ObjectContent) => T },
  ): Promise<T[]> {
    const types = [...new Set(objects.map((one) => one.type))];
    const sets = types.map((type) =>
      element(
        'propSet',
        element('type', type),
        element('all', false),
        ...properties.map((path) => element('pathSet', path)),
      ),
    );
    const specs = element(
      'specSet',
      ...sets,
      ...objects.map((one) => element('objectSet', reference('obj', one), element('skip', false))),
      element('reportMissingObjectsInResults', true),
    );
    const found: T[] = [];
    const ask = async (method: string, parameters: readonly Xml[]): Promise<string | undefined> => {
      const path = ['Envelope', 'Body', `${method}Response`, 'returnval', 'objects'];
      const take = (one: XmlElement): void => {
        const object = objectOf(one);
        if (object !== undefined) found.push(read(object));
      };
      const me = reference('_this', collector);
      const options = { interest: wantedOfDevices, handOut: { path, take } };
      return textAt(await this.call(method, [me, ...parameters], options), 'returnval', 'token');
    };
    let token = await ask('RetrievePropertiesEx', [specs, element('options')]);
    while (token !== undefined) token = await ask('ContinueRetrievePropertiesEx', [element('token', token)]);
    return found;
  }

  /** A view of everything of one type, and what is in it now. */
  async view(content: ServiceContent, type: string): Promise<{ view: Moref; members: Moref[] }> {
    const made = await this.call('CreateContainerView', [
      reference('_this', content.viewManager),
      reference('container', content.rootFolder),
      element('type', type),
      element('recursive', true),
    ]);
    const view = morefOf(childAt(made, 'returnval'));
    if (view === undefined) throw new BerthError('invalid', 'vsphere.malformed', 'the view that was made has no name');
    return { view, members: await this.membersOf(content, view) };
  }

  async membersOf(content: ServiceContent, view: Moref): Promise<Moref[]> {
    const [members] = await this.retrieve(content.propertyCollector, [view], {
      properties: ['view'],
      read: ({ properties }) => childrenNamed(properties.get('view'), 'ManagedObjectReference'),
    });
    return members?.flatMap((one) => morefOf(one) ?? []) ?? [];
  }

  close(): void {
    this.#closing.abort(new BerthError('unavailable', 'vsphere.closed', 'the session with vSphere is closed'));
    this.#connections.close();
  }
}
