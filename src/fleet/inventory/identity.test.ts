import assert from 'node:assert/strict';
import { test } from 'node:test';
import { agreement, type Candidate, type Evidence, matchStrangers } from './identity.ts';

const U = '00000000-0000-4000-8000-000000000001';
const evidence = (name: string, ...macs: string[]): Evidence => ({ uuid: U, name, macs });
const candidate = (vmId: number, name: string, ...macs: string[]): Candidate => ({
  ...evidence(name, ...macs),
  vmId,
  isGone: false,
});
const stranger = (nativeId: string, name: string, ...macs: string[]) => ({ nativeId, ...evidence(name, ...macs) });
const matches = (strangers: ReturnType<typeof stranger>[], candidates: Candidate[]): Record<string, number> =>
  Object.fromEntries([...matchStrangers(strangers, () => candidates)].map(([id, one]) => [id, one.vmId]));

test('one VM or two: UUID, then hardware addresses, then the name', () => {
  assert.ok(agreement(evidence('a', 'm1'), evidence('b', 'm1')) > 0, 'renamed, but the same card');
  assert.ok(agreement(evidence('a'), evidence('a', 'm1')) > 0, 'one source does not tell the addresses');
  assert.equal(agreement(evidence('a', 'm1'), evidence('a', 'm2')), 0, 'a copy with a new card');
  assert.equal(agreement(evidence('a'), evidence('b')), 0);
  assert.equal(agreement({ ...evidence('a', 'm1'), uuid: null }, { ...evidence('a', 'm1'), uuid: null }), 0);
});

test('of two copies the one with the right card is the VM, whichever comes first', () => {
  for (const order of [0, 1]) {
    const both = [stranger('x', 'copy', 'm2'), stranger('y', 'web', 'm1')];
    assert.deepEqual(matches(order ? both : both.reverse(), [candidate(7, 'web', 'm1')]), { y: 7 });
  }
});

test('a VM is nobody twice', () => {
  assert.deepEqual(matches([stranger('x', 'web', 'm1'), stranger('y', 'web', 'm1')], [candidate(7, 'web', 'm1')]), {
    x: 7,
  });
});

test('who is as likely to be one as the other is neither', () => {
  assert.deepEqual(matches([stranger('x', 'web')], [candidate(7, 'web'), candidate(8, 'web')]), {});
});

test('a VM that is there goes before one that is gone', () => {
  assert.deepEqual(matches([stranger('x', 'web')], [{ ...candidate(7, 'web'), isGone: true }, candidate(8, 'web')]), {
    x: 8,
  });
  assert.deepEqual(matches([stranger('x', 'web')], [{ ...candidate(7, 'web'), isGone: true }]), { x: 7 });
});
