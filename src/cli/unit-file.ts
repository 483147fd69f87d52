import { BerthError } from '#base';

/** The template without its first comment and with every `@NAME@` replaced. Pure. @throws unit.path (invalid) for a path systemd would cut or read as its own. */
export function unitText(template: string, values: Readonly<Record<string, string>>): string {
  const unit = template.replace(/^# Template.*\n/, '');
  return unit.replace(/@([A-Z]+)@/g, (_whole, name: string) => {
    const value = values[name] ?? '';
    if (!/^[A-Za-z0-9/._+:@-]+$/.test(value)) {
      throw new BerthError('invalid', 'unit.path', `${JSON.stringify(value)} cannot stand in a systemd unit`, {
        hint: 'choose paths of letters, digits and /._+:@-',
      });
    }
    return value;
  });
}
