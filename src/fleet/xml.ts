/**
 * XML from hypervisors as a tree. Hostile input: sizes are limited, and a document type declaration, which is where
 * entities are defined and expanded, is refused outright.
 */
import { SaxesParser } from 'saxes';
import { BerthError, messageOf } from '#base';

/** Libvirt allows 4 MiB in one string; a SOAP page of 500 VMs has about 3 MB. */
export const MOST_CHARACTERS = 64 * 1024 * 1024;
/** Domain XML nests ten deep, SOAP twenty. */
export const MOST_DEPTH = 64;
export const MOST_ELEMENTS = 2_000_000;

export interface XmlElement {
  /** Without its namespace prefix. */
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly children: readonly XmlElement[];
  /** Its own text, without that of its children; blanks around it are off. */
  readonly text: string;
}

interface Open {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  children: XmlElement[] | undefined;
  text: string;
}

/** Most elements have none: one object for all of them keeps a page of 250 VMs at a few megabytes. */
export const NO_ATTRIBUTES: Readonly<Record<string, string>> = Object.freeze(
  Object.create(null) as Readonly<Record<string, string>>,
);
export const NO_CHILDREN: readonly XmlElement[] = Object.freeze([]);

/** @throws xml.malformed (invalid) saying what is wrong. */
export function parseXml(source: string): XmlElement {
  if (source.length > MOST_CHARACTERS) throw malformed(`it has more than ${MOST_CHARACTERS} characters`);
  const parser = new SaxesParser({ xmlns: false, position: false });
  const open: Open[] = [];
  let root: XmlElement | undefined;
  let count = 0;
  parser.on('doctype', () => {
    throw malformed('it declares a document type');
  });
  parser.on('error', (error) => {
    throw malformed(messageOf(error));
  });
  parser.on('opentag', ({ name, attributes }) => {
    count += 1;
    if (open.length >= MOST_DEPTH) throw malformed(`it nests deeper than ${MOST_DEPTH}`);
    if (count > MOST_ELEMENTS) throw malformed(`it has more than ${MOST_ELEMENTS} elements`);
    open.push({ name: localName(name), attributes: withoutPrefixes(attributes), children: undefined, text: '' });
  });
  const addText = (text: string): void => {
    const current = open.at(-1);
    if (current !== undefined) current.text += text;
  };
  parser.on('text', addText);
  parser.on('cdata', addText);
  parser.on('closetag', () => {
    const closed = open.pop();
    if (closed === undefined) return;
    const { name, attributes, children = NO_CHILDREN } = closed;
    const element: XmlElement = { name, attributes, children, text: closed.text.trim() };
    const parent = open.at(-1);
    if (parent === undefined) root = element;
    else if (parent.children === undefined) parent.children = [element];
    else parent.children.push(element);
  });
  try {
    parser.write(source).close();
  } catch (error) {
    throw error instanceof BerthError ? error : malformed(messageOf(error));
  }
  if (root === undefined) throw malformed('it holds no element');
  return root;
}

export function malformed(why: string): BerthError {
  return new BerthError('invalid', 'xml.malformed', `the XML document cannot be used: ${why.slice(0, 300)}`);
}

function localName(name: string): string {
  return name.slice(name.indexOf(':') + 1);
}

function withoutPrefixes(attributes: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  let plain: Record<string, string> | undefined;
  for (const name in attributes) {
    plain ??= Object.create(null) as Record<string, string>;
    plain[localName(name)] = attributes[name] ?? '';
  }
  return plain ?? NO_ATTRIBUTES;
}

/** The first child with this name, at the end of a path of names. */
export function childAt(
  element: XmlElement | undefined,
  name: string,
  ...deeper: readonly string[]
): XmlElement | undefined {
  let current = firstChild(element, name);
  for (let at = 0; at < deeper.length; at += 1) current = firstChild(current, deeper[at] ?? '');
  return current;
}

// Asked a hundred times of each VM of a vCenter: plain loops, which are quick before they are compiled as well.
function firstChild(element: XmlElement | undefined, name: string): XmlElement | undefined {
  if (element === undefined) return undefined;
  const { children } = element;
  for (let at = 0; at < children.length; at += 1) {
    const child = children[at];
    if (child?.name === name) return child;
  }
  return undefined;
}

export function childrenNamed(element: XmlElement | undefined, name: string): readonly XmlElement[] {
  if (element === undefined) return NO_CHILDREN;
  const { children } = element;
  const named: XmlElement[] = [];
  for (let at = 0; at < children.length; at += 1) {
    const child = children[at];
    if (child?.name === name) named.push(child);
  }
  return named;
}

/** The text at the end of a path; undefined when there is none. */
export function textAt(
  element: XmlElement | undefined,
  name: string,
  ...deeper: readonly string[]
): string | undefined {
  const found = deeper.length === 0 ? firstChild(element, name) : childAt(element, name, ...deeper);
  const text = found?.text;
  return text === '' ? undefined : text;
}
