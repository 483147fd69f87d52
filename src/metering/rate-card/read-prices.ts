/** Price items and fixed items of a rate card file. Pure. */
import type { FixedItem, PriceItem, Pricing, TierStep } from './card.ts';
import { readSelector } from './read-selector.ts';
import { RESOURCES, resourceKindOf, type Unit, unitsOf } from './units.ts';
import { type Fields, type Place, quote, type YamlReader } from './yaml-reader.ts';

export function readItem(reader: YamlReader, place: Place): PriceItem | undefined {
  const fields = reader.map(place, 'an item', ['id', 'resource', 'unit', 'price', 'tiers', 'select']);
  const id = reader.text(fields.get('id'), 'id of an item');
  const resource = reader.text(fields.get('resource'), 'resource of an item');
  const unit = readUnit(reader, fields, resource);
  const pricing = readPricing(reader, fields);
  const select = readSelector(reader, fields.get('select'));
  if (id === undefined || resource === undefined || unit === undefined || pricing === undefined) return undefined;
  return { id, resource, unit, pricing, select };
}

function readUnit(reader: YamlReader, fields: Fields, resource: string | undefined): Unit | undefined {
  const place = fields.get('unit');
  const name = reader.text(place, 'unit of an item');
  const kind = resource === undefined ? undefined : resourceKindOf(resource);
  if (resource !== undefined && kind === undefined)
    reader.problem(
      fields.get('resource'),
      `there is no resource ${quote(resource)}; there are ${RESOURCES.join(', ')}, and disk:CLASS`,
    );
  if (kind === undefined || name === undefined) return undefined;
  const units = unitsOf(kind);
  const unit = units.find((one) => one.name === name);
  if (unit === undefined)
    reader.problem(
      place,
      `${kind} is not priced by ${quote(name)}; its units are ${units.map((one) => one.name).join(', ')}`,
    );
  return unit;
}

function readPricing(reader: YamlReader, fields: Fields): Pricing | undefined {
  const [price, tiers] = [fields.get('price'), fields.get('tiers')];
  if (price !== undefined && tiers !== undefined) {
    reader.problem(price, 'an item has either a price or tiers, not both');
    return undefined;
  }
  if (tiers !== undefined) return readTiers(reader, tiers);
  if (price === undefined) {
    reader.problem(fields.place, 'an item needs a price or tiers');
    return undefined;
  }
  const value = reader.decimal(price, 'price');
  return value === undefined ? undefined : { kind: 'flat', price: value };
}

function readTiers(reader: YamlReader, place: Place): Pricing | undefined {
  const fields = reader.map(place, 'tiers', ['mode', 'per', 'steps']);
  const mode = reader.choice(fields.get('mode'), 'mode of tiers', ['graduated', 'volume'] as const);
  const per = reader.choice(fields.get('per'), 'per of tiers', ['vm', 'project', 'owner', 'all'] as const);
  const places = reader.list(fields.get('steps') ?? null, 'steps of tiers');
  const steps: TierStep[] = [];
  for (const [index, one] of places.entries()) {
    const step = reader.map(one, 'a step', ['up-to', 'price']);
    const isLast = index === places.length - 1;
    const upToPlace = step.get('up-to');
    const price = reader.decimal(step.get('price'), 'price of a step');
    const upTo = upToPlace === undefined ? undefined : reader.decimal(upToPlace, 'up-to of a step');
    if (isLast && upToPlace !== undefined)
      reader.problem(upToPlace, 'the last step has no up-to: usage beyond it would have no price');
    if (!isLast && upToPlace === undefined)
      reader.problem(one, 'a step without up-to takes all usage: the steps after it are never reached');
    const before = steps.at(-1)?.upTo;
    if (upTo !== undefined && (upTo.isZero || (before !== undefined && upTo.compare(before) <= 0)))
      reader.problem(upToPlace, `up-to ${upTo} is not above ${before ?? '0'}: steps must rise`);
    if (price !== undefined) steps.push({ upTo, price });
  }
  if (mode === undefined || per === undefined || steps.length === 0) return undefined;
  return { kind: 'tiers', mode, per, steps };
}

export function readFixed(reader: YamlReader, place: Place): FixedItem | undefined {
  const fields = reader.map(place, 'a fixed item', ['id', 'per', 'price', 'prorate', 'select']);
  const id = reader.text(fields.get('id'), 'id of a fixed item');
  const per = reader.choice(fields.get('per'), 'per of a fixed item', [
    'vm-month',
    'project-month',
    'owner-month',
    'host-month',
  ] as const);
  const price = reader.decimal(fields.get('price'), 'price');
  const prorate =
    fields.get('prorate') === undefined
      ? 'time'
      : reader.choice(fields.get('prorate'), 'prorate', ['time', 'none'] as const);
  const select = readSelector(reader, fields.get('select'));
  if (per === 'host-month')
    for (const name of ['name', 'project', 'owner'] as const)
      if (select.names[name] !== undefined)
        reader.problem(place, `a host has no ${name}: a host-month item can select source and host only`);
  if (id === undefined || per === undefined || price === undefined || prorate === undefined) return undefined;
  return { id, per, price, prorate, select };
}
