/**
 * XML from hypervisors as a tree. Hostile input: sizes are limited, and a document type declaration, which is where
 * entities are defined and expanded, is refused outright.
 */
import { SaxesParser } from 'saxes';
import { BerthError, messageOf } from '#base';

/** Libvirt allows 4 MiB in one string; a SOAP page of 500 VMs has about 3 MB. */
const MOST_CHARACTERS = 64 * 1024 * 1024;
/** Domain XML nests ten deep, SOAP twenty. */
const MOST_DEPTH = 64;
const MOST_ELEMENTS = 2_000_000;

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
  readonly attributes: Record<string, string>;
  readonly children: XmlElement[];
  text: string;
}

/** @throws xml.malformed (invalid) with the place where it went wrong. */
export function parseXml(source: string): XmlElement {
  if (source.length > MOST_CHARACTERS) throw malformed(`it has ${source.length} characters`);
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
    open.push({ name: localName(name), attributes: withoutPrefixes(attributes), children: [], text: '' });
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
    const element: XmlElement = { ...closed, text: closed.text.trim() };
    const parent = open.at(-1);
    if (parent === undefined) root = element;
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

function malformed(why: string): BerthError {
  return new BerthError('invalid', 'xml.malformed', `the XML document cannot be used: ${why.slice(0, 300)}`);
}

function localName(name: string): string {
  return name.slice(name.indexOf(':') + 1);
}

function withoutPrefixes(attributes: Readonly<Record<string, string>>): Record<string, string> {
  const plain: Record<string, string> = Object.create(null) as Record<string, string>;
  for (const [name, value] of Object.entries(attributes)) plain[localName(name)] = value;
  return plain;
}

/** The first child with this name, at the end of a path of names. */
export function childAt(element: XmlElement | undefined, ...path: readonly string[]): XmlElement | undefined {
  let current = element;
  for (const name of path) current = current?.children.find((child) => child.name === name);
  return current;
}

export function childrenNamed(element: XmlElement | undefined, name: string): readonly XmlElement[] {
  return element?.children.filter((child) => child.name === name) ?? [];
}

/** The text at the end of a path; undefined when there is none. */
export function textAt(element: XmlElement | undefined, ...path: readonly string[]): string | undefined {
  const text = childAt(element, ...path)?.text;
  return text === '' ? undefined : text;
}
