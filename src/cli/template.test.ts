import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileTemplate } from './template.ts';

const value = {
  Id: 'abc',
  State: { Running: true, ExitCode: 0, Error: '' },
  Args: ['a', 'b'],
  Labels: { z: '1', 'com.x/y': '2' },
  NetworkSettings: {
    Networks: { bridge: { IPAddress: '172.17.0.2' } },
    Ports: { '80/tcp': [{ HostIp: '0.0.0.0', HostPort: '8080' }], '443/tcp': null },
  },
};

const cases: readonly [string, string][] = [
  ['{{.Id}}', 'abc'],
  ['{{.State.Running}} {{.State.ExitCode}}', 'true 0'],
  ['{{json .State}}', '{"Running":true,"ExitCode":0,"Error":""}'],
  ['{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}', '172.17.0.2'],
  ['{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}', '8080'],
  [
    '{{range $p, $c := .NetworkSettings.Ports}}{{$p}}={{if $c}}{{(index $c 0).HostPort}}{{else}}none{{end}};{{end}}',
    '443/tcp=none;80/tcp=8080;',
  ],
  ['{{if .State.Error}}bad{{else if .State.Running}}up{{else}}down{{end}}', 'up'],
  ['{{with .State}}{{.ExitCode}}{{end}}', '0'],
  ['{{index .Labels "com.x/y"}}', '2'],
  ['{{join .Args ", "}} {{len .Args}} {{.Args}}', 'a, b 2 [a b]'],
  ['{{.Labels}}', 'map[com.x/y:2 z:1]'],
  ['{{.Id | upper | printf "%5s|"}}', '  ABC|'],
  ['{{.Missing}}', '<no value>'],
  ['{{range .Args -}}  {{.}}{{- end}}', 'ab'],
  ['{{/* words */}}{{eq .Id "abc"}} {{ne .Id "abc"}} {{not .State.Error}}', 'true false true'],
  ['{{$x := .Id}}{{range .Args}}{{$x}}{{$.Id}}{{end}}', 'abcabcabcabc'],
  ['{{println .Id}}', 'abc\n'],
];

for (const [template, wanted] of cases) {
  test(`${template} gives ${JSON.stringify(wanted)}`, () => assert.equal(compileTemplate(template)(value), wanted));
}

for (const wrong of ['{{.Id', '{{if .Id}}', '{{end}}', '{{nonsense .Id}}', '{{range}}x{{end}}', '{{.Id "x"}}']) {
  test(`${wrong} is refused`, () => assert.throws(() => compileTemplate(wrong)(value), { code: 'usage' }));
}
