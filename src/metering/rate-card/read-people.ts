/** Whose a VM is, and what they may spend: attribution rules and budgets of a rate card file. Pure. */
import type { AlertTarget, AttributionRule, Budget, BudgetAlert } from './card.ts';
import { readSelector } from './read-selector.ts';
import { readValidity } from './read-validity.ts';
import { selectsEverything } from './selector.ts';
import { type Place, quote, type YamlReader } from './yaml-reader.ts';

export function readAttribution(reader: YamlReader, place: Place): AttributionRule | undefined {
  const fields = reader.map(place, 'an attribution rule', ['project', 'owner', 'effective', 'when']);
  const [projectPlace, ownerPlace] = [fields.get('project'), fields.get('owner')];
  const project = projectPlace === undefined ? undefined : reader.text(projectPlace, 'project');
  const owner = ownerPlace === undefined ? undefined : reader.text(ownerPlace, 'owner');
  if (projectPlace === undefined && ownerPlace === undefined)
    reader.problem(place, 'an attribution rule gives a project, an owner or both');
  const effective = readValidity(reader, fields.get('effective'), 'effective of an attribution rule');
  const when = readSelector(reader, fields.get('when'));
  for (const name of ['project', 'owner'] as const)
    if (when.names[name] !== undefined)
      reader.problem(fields.get('when'), `an attribution rule cannot look at the ${name}: it is what such rules give`);
  return { project, owner, effective, when };
}

export function readBudget(reader: YamlReader, place: Place): Budget | undefined {
  const fields = reader.map(place, 'a budget', ['name', 'amount', 'select', 'alerts']);
  const name = reader.text(fields.get('name'), 'name of a budget');
  const amount = reader.decimal(fields.get('amount'), 'amount of a budget');
  if (amount?.isZero === true) reader.problem(fields.get('amount'), 'a budget of zero is always exceeded');
  const select = readSelector(reader, fields.get('select'));
  if (fields.get('select') !== undefined && selectsEverything(select))
    reader.problem(fields.get('select'), 'select is empty; leave it out for a budget of everything');
  const alerts = reader.list(fields.get('alerts'), 'alerts').flatMap((one) => readAlert(reader, one) ?? []);
  return name === undefined || amount === undefined ? undefined : { name, amount, select, alerts };
}

function readAlert(reader: YamlReader, place: Place): BudgetAlert | undefined {
  const fields = reader.map(place, 'an alert', ['at', 'of', 'webhook', 'command']);
  const at = reader.percent(fields.get('at'), 'at of an alert');
  const of =
    fields.get('of') === undefined ? 'actual' : reader.choice(fields.get('of'), 'of', ['actual', 'forecast'] as const);
  const notify = readTarget(reader, place, [fields.get('webhook'), fields.get('command')]);
  return at === undefined || of === undefined || notify === undefined ? undefined : { at, of, notify };
}

function readTarget(
  reader: YamlReader,
  place: Place,
  [webhook, command]: readonly [Place, Place],
): AlertTarget | undefined {
  if ((webhook === undefined) === (command === undefined)) {
    reader.problem(place, 'an alert has either a webhook or a command');
    return undefined;
  }
  if (webhook !== undefined) {
    const url = reader.text(webhook, 'webhook');
    if (url === undefined) return undefined;
    if (/^https?:\/\/[^\s/]+/.test(url) && URL.canParse(url)) return { kind: 'webhook', url };
    reader.problem(webhook, `webhook is ${quote(url)}; an http or https address is wanted`);
    return undefined;
  }
  const [program, ...args] = reader
    .list(command, 'command')
    .flatMap((one) => reader.text(one, 'a word of command') ?? []);
  if (program === undefined) {
    reader.problem(command, 'command is a list of words: [/usr/local/bin/notify, --budget]');
    return undefined;
  }
  return { kind: 'command', argv: [program, ...args] };
}
