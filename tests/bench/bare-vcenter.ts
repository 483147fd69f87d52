/**
 * A bare client of a vCenter: it signs in, lists, and asks for the properties that berth asks for, in the pages in which berth
 * asks for them, and does nothing with the answers but count what is in them. Trusts whoever answers.
 */
import { Agent, request } from 'node:https';
import { HOST_PROPERTIES, VM_PROPERTIES } from '../../src/fleet/drivers/vsphere/vsphere-facts.ts';

const PAGE_OBJECTS = 250;
const ENVELOPE = [
  '<?xml version="1.0"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>',
  '</soapenv:Body></soapenv:Envelope>',
] as const;

export interface BareRead {
  readonly ms: number;
  readonly objects: number;
  readonly bytes: number;
}

export async function readBare(
  url: URL,
  login: { readonly user: string; readonly password: string },
): Promise<BareRead> {
  const began = performance.now();
  const agent = new Agent({ keepAlive: true, maxSockets: 1, rejectUnauthorized: false });
  let cookie = '';
  const call = (body: string): Promise<Buffer> =>
    new Promise((resolve, reject) => {
      const headers = {
        'content-type': 'text/xml',
        soapaction: '"urn:vim25/6.7"',
        ...(cookie === '' ? {} : { cookie }),
      };
      const sent = request({ agent, host: url.hostname, port: url.port, path: '/sdk', method: 'POST', headers });
      sent.on('error', reject);
      sent.on('response', (response) => {
        cookie ||= response.headers['set-cookie']?.[0]?.split(';')[0] ?? '';
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          const answer = Buffer.concat(chunks);
          if (response.statusCode === 200) resolve(answer);
          else reject(new Error(`vCenter answered ${response.statusCode}: ${answer.toString().slice(0, 300)}`));
        });
      });
      sent.end(ENVELOPE[0] + body + ENVELOPE[1]);
    });
  const me = (type: string, id = type): string => `<_this type="${type}">${id}</_this>`;
  const properties = async (objects: readonly [string, string][], paths: readonly string[]): Promise<Buffer> => {
    const [type] = objects[0] ?? [''];
    const sets = `<propSet><type>${type}</type><all>false</all>${paths.map((path) => `<pathSet>${path}</pathSet>`).join('')}</propSet>`;
    const specs = objects.map(
      ([kind, id]) => `<objectSet><obj type="${kind}">${id}</obj><skip>false</skip></objectSet>`,
    );
    return await call(
      `<RetrievePropertiesEx xmlns="urn:vim25">${me('PropertyCollector', collector)}<specSet>${sets}${specs.join('')}</specSet><options></options></RetrievePropertiesEx>`,
    );
  };
  const content = (
    await call(`<RetrieveServiceContent xmlns="urn:vim25">${me('ServiceInstance')}</RetrieveServiceContent>`)
  ).toString();
  const named = (name: string): string => new RegExp(`<${name} type="[^"]*">([^<]*)<`).exec(content)?.[1] ?? '';
  const collector = named('propertyCollector');
  await call(
    `<Login xmlns="urn:vim25">${me('SessionManager', named('sessionManager'))}<userName>${login.user}</userName><password>${login.password}</password></Login>`,
  );
  let [objects, bytes] = [0, 0];
  for (const [type, paths] of [
    ['HostSystem', HOST_PROPERTIES],
    ['VirtualMachine', VM_PROPERTIES],
  ] as const) {
    const made = await call(
      `<CreateContainerView xmlns="urn:vim25">${me('ViewManager', named('viewManager'))}<container type="Folder">${named('rootFolder')}</container><type>${type}</type><recursive>true</recursive></CreateContainerView>`,
    );
    const view = /<returnval type="ContainerView">([^<]*)</.exec(made.toString())?.[1] ?? '';
    const listed = (await properties([['ContainerView', view]], ['view'])).toString();
    const members = Array.from(
      listed.matchAll(new RegExp(`type="${type}"[^>]*>([^<]*)<`, 'g')),
      (match): [string, string] => [type, match[1] ?? ''],
    );
    for (let from = 0; from < members.length; from += PAGE_OBJECTS) {
      const page = await properties(members.slice(from, from + PAGE_OBJECTS), paths);
      bytes += page.length;
      for (let at = page.indexOf('<objects>'); at >= 0; at = page.indexOf('<objects>', at + 1)) objects += 1;
    }
  }
  agent.destroy();
  return { ms: performance.now() - began, objects, bytes };
}
