/** Charges for tests of what keeps and shows them. */
import { Exact } from '../exact.ts';
import { type Charge, chargeKey, NOBODY } from '../rating/charge.ts';

/** One usage charge of `quantity` vCPU hours at `price`, told apart by `name`. */
export function chargeOf(name: string, quantity: string, price = '0.012'): Charge {
  const [amount, unitPrice] = [Exact.from(quantity), Exact.from(price)];
  const subject = {
    ...NOBODY,
    vm: name,
    vmName: `${name} “ü”`,
    source: 'lab',
    host: 'h1',
    project: 'p',
    tags: { a: 'b' },
  };
  return {
    key: chargeKey(['usage', 'cpu', 'v1'], subject),
    period: '2026-10',
    category: 'usage',
    item: 'cpu',
    card: 'house',
    cardVersion: 'v1',
    currency: 'EUR',
    resource: 'vcpu',
    unit: 'vcpu-hour',
    focusUnit: 'vCPU-Hours',
    subject,
    startMs: Date.parse('2026-10-01T00:00:00Z'),
    endMs: Date.parse('2026-10-01T01:00:00Z'),
    quantity: amount,
    unitPrice,
    cost: amount.times(unitPrice),
    basis: `${quantity} vcpu-hour`,
    allocation: undefined,
  };
}
