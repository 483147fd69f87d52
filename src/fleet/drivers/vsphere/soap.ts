/**
 * SOAP 1.1 as vCenter and ESXi speak it: requests written by hand, answers parsed as plain XML, no WSDL.
 *
 * @source vSphere Web Services API, SDK programming guide (facts)
 */
import { BerthError } from '#base';
import { childAt, textAt, type XmlElement } from '../../xml.ts';

export const API_NAMESPACE = 'urn:vim25';
/** vSphere 6.7 and later answer to it, and older ones to what of it they know. */
export const SOAP_ACTION = `"${API_NAMESPACE}/6.7"`;

/** What of XML is written: text is escaped, an absent child leaves no trace. */
export type Xml = { readonly xml: string };
type Child = Xml | string | number | boolean | undefined;

export interface Moref {
  /** `VirtualMachine`, `HostSystem`. */
  readonly type: string;
  /** `vm-42`. */
  readonly id: string;
}

export function element(name: string, ...children: readonly Child[]): Xml {
  return typedElement(name, {}, ...children);
}

// Of each VM that a look asks for there are three elements: written without what is made only to be thrown away.
export function typedElement(
  name: string,
  attributes: Readonly<Record<string, string>>,
  ...children: readonly Child[]
): Xml {
  let xml = `<${name}`;
  for (const key in attributes) xml += ` ${key}="${escapeXml(attributes[key] ?? '')}"`;
  xml += '>';
  for (const child of children) {
    if (typeof child === 'object') xml += child.xml;
    else if (child !== undefined) xml += escapeXml(String(child));
  }
  return { xml: `${xml}</${name}>` };
}

export function reference(name: string, moref: Moref): Xml {
  return typedElement(name, { type: moref.type }, moref.id);
}

const ESCAPED = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff&<>"']/;

/** Characters that XML 1.0 cannot hold at all become a question mark. */
export function escapeXml(text: string): string {
  if (!ESCAPED.test(text)) return text;
  return text
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '?')
    .replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

export function envelope(method: string, children: readonly Child[]): string {
  const body = typedElement(method, { xmlns: API_NAMESPACE }, ...children).xml;
  return `<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema"><soapenv:Body>${body}</soapenv:Body></soapenv:Envelope>`;
}

/** The `...Response` of an answer. @throws what its fault means, and xml.malformed (invalid) */
export function responseOf(answer: XmlElement, method: string): XmlElement {
  const body = childAt(answer, 'Body');
  const fault = childAt(body, 'Fault');
  if (fault !== undefined) throw faultError(fault, method);
  const response = childAt(body, `${method}Response`);
  if (response !== undefined) return response;
  throw new BerthError('invalid', 'vsphere.malformed', `the answer to ${method} holds no ${method}Response`, {
    hint: 'is that the address of a vCenter or an ESXi host?',
  });
}

const KIND_OF_FAULT: Readonly<Record<string, readonly [BerthError['kind'], string]>> = {
  InvalidLogin: ['unauthenticated', 'vsphere.login'],
  // The session is over, not the credentials wrong: connecting anew is all it needs.
  NotAuthenticated: ['unavailable', 'vsphere.expired'],
  NoPermission: ['denied', 'vsphere.denied'],
  RestrictedVersion: ['denied', 'vsphere.licence'],
  ManagedObjectNotFound: ['not_found', 'vsphere.no_object'],
  InvalidPowerState: ['conflict', 'vsphere.bad_state'],
  InvalidState: ['conflict', 'vsphere.bad_state'],
  TaskInProgress: ['conflict', 'vsphere.busy'],
  NotSupported: ['unsupported', 'vsphere.unsupported'],
  ToolsUnavailable: ['unsupported', 'vsphere.no_tools'],
  RequestCanceled: ['cancelled', 'vsphere.cancelled'],
};

export function faultError(fault: XmlElement, method: string): BerthError {
  const detail = childAt(fault, 'detail')?.children[0];
  const name = (detail?.attributes['type'] ?? detail?.name ?? '').replace(/^.*:/, '').replace(/Fault$/, '');
  const text = textAt(fault, 'faultstring') ?? name;
  return meaningOf(name, `${method}: ${text}`);
}

/** @param name - the fault's type, `InvalidPowerState`. */
export function meaningOf(name: string, told: string): BerthError {
  const [kind, code] = KIND_OF_FAULT[name] ?? ['unavailable', 'vsphere.failed'];
  return new BerthError(kind, code, `vSphere refused ${told.slice(0, 500)}`, {
    facts: { fault: name },
    ...(kind === 'unauthenticated' ? { hint: 'remove the source and add it with the right user and password' } : {}),
    ...(kind === 'denied' ? { hint: 'give the user the role Read-only, at the top and with propagation' } : {}),
  });
}

/** Ids outlive the answer that they are in: V8 keeps the whole of a text for a part of 13 characters and more. */
function ownText(text: string): string {
  return text.length < 13 ? text : Buffer.from(text).toString();
}

export function morefOf(found: XmlElement | undefined): Moref | undefined {
  const type = found?.attributes['type'];
  return found === undefined || type === undefined || found.text === ''
    ? undefined
    : { type: type.slice(type.lastIndexOf(':') + 1), id: ownText(found.text) };
}
