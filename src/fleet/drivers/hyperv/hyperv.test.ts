import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseVmFacts } from '../../facts.ts';
import { readEstate, timeOf } from './answers.ts';
import { hypervDriver } from './hyperv-driver.ts';
import { failureOf } from './remote-line.ts';
import { REMOTE_WORDS, SCRIPT, SCRIPT_LINE } from './script.ts';
import { partsByVm, powerOf, vmFacts } from './vm-facts.ts';

const ID = 'E5F6A7B8-0000-4000-8000-00000000000A';
const LISTS =
  'systems settings memory processors synthetic emulated connections switches storage devices disks addresses guests computer product cpus system';
const EMPTY = Object.fromEntries(LISTS.split(' ').map((list) => [list, []]));

test('what goes into a command line means the same to cmd.exe and PowerShell, and is short enough for both', () => {
  const words = REMOTE_WORDS.join(' ');
  assert.match(words, /^[A-Za-z0-9+/=. -]+$/);
  assert.ok(words.length < 8_191);
});

test('the script is one line of base64 of plain ASCII, and takes from a request nothing but verbs and a GUID', () => {
  assert.match(SCRIPT, /^[\n\x20-\x7e]+$/);
  assert.equal(Buffer.from(SCRIPT_LINE.trim(), 'base64').toString('utf8'), SCRIPT);
  assert.match(SCRIPT, /\[guid\]\$text\)\.ToString\(\)/);
  assert.doesNotMatch(SCRIPT, /Invoke-Expression|\biex\b|WHERE Name='\$(text|what|line|verb)/i);
});

test('datetimes of PowerShell 5.1, of 7 and of WMI are the same instant; before 1971 is never', () => {
  const expected = Date.UTC(2026, 0, 31, 12, 34, 56);
  for (const text of [`/Date(${expected})/`, '2026-01-31T12:34:56.0000000Z', '20260131133456.000000+060'])
    assert.equal(timeOf(text), expected, text);
  for (const none of ['', '/Date(x)/', '16010101000000.000000-000', '/Date(-11644473600000)/'])
    assert.equal(timeOf(none), null, none);
});

test('lists in the odd shape of PowerShell 5.1 are lists', () => {
  const row = { SystemName: ID, GuestIntrinsicExchangeItems: { value: ['a', 'b'], Count: 2 } };
  const { guests } = readEstate({ ...EMPTY, guests: { value: [row], Count: 1 } }, 'hv');
  assert.deepEqual(guests[0]?.GuestIntrinsicExchangeItems, ['a', 'b']);
});

test('an answer in which a list is missing is refused with its name: nobody is taken for gone', () => {
  const { settings: _, ...rest } = EMPTY;
  assert.throws(() => readEstate(rest, 'hv'), { code: 'hyperv.malformed', message: /settings/ });
  assert.throws(() => readEstate({ ...EMPTY, systems: null }, 'hv'), { code: 'hyperv.malformed', message: /systems/ });
});

test('states that nobody knows are unknown', () => {
  const states = [2, 3, 4, 9, 32768, 32769, 5, -1].map(powerOf);
  assert.deepEqual(states, ['running', 'off', 'stopping', 'paused', 'paused', 'suspended', 'unknown', 'unknown']);
});

test('settings of other VMs and of snapshots are not its own, and case does not matter', () => {
  const estate = readEstate(
    {
      ...EMPTY,
      systems: [{ Name: ID, ElementName: 'vm', EnabledState: 3 }],
      settings: [{ VirtualSystemIdentifier: ID.toLowerCase(), BIOSGUID: '{78563412-AB90-EFCD-1234-567890ABCDEF}' }],
      memory: [
        { InstanceID: 'Microsoft:AAAAAAAA-0000-4000-8000-00000000000B\\x', VirtualQuantity: 7 },
        { InstanceID: `Microsoft:${ID.toLowerCase()}\\x`, VirtualQuantity: '1024' },
      ],
      processors: [{ InstanceID: `Microsoft:${ID}\\y`, VirtualQuantity: 2 }],
    },
    'hv',
  );
  const [system] = estate.systems;
  if (system === undefined) throw new Error('there is a system');
  const facts = parseVmFacts(vmFacts(system, partsByVm(estate)(ID), 'host'));
  assert.deepEqual(
    [facts.uuid, facts.memoryBytes, facts.vcpus, facts.disks, facts.virtualization.mode],
    ['12345678-90ab-cdef-1234-567890abcdef', 2 ** 30, 2, [], 'full'],
  );
});

test('WMI’s failures mean kinds', () => {
  const kindOf = (hresult: string) => failureOf({ message: 'x', code: `HRESULT ${hresult},Get` }, 'hv').kind;
  assert.deepEqual(['0x8004100e', '0x80041003', '0x80041017'].map(kindOf), ['unsupported', 'denied', 'unavailable']);
});

test('a URL has a host, keys and nothing else', () => {
  assert.deepEqual(hypervDriver.problemsOf(new URL('hyperv+ssh://admin@hv1/?keyfile=/k&known_hosts=/h')), []);
  for (const wrong of ['hyperv+ssh:///', 'hyperv+ssh://a:b@hv1/', 'hyperv+ssh://hv1/x', 'hyperv+ssh://hv1/?y=1'])
    assert.equal(hypervDriver.problemsOf(new URL(wrong)).length, 1, wrong);
});
