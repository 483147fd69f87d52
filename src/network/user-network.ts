/**
 * The network of a daemon that is not root: QEMU's own user-mode stack, one per VM, behind the user's own sockets.
 *
 * No bridge, no rules, no name server: guests cannot see one another, reach out through the host, and published ports
 * are sockets of QEMU. It is slower than a bridge and needs no rights.
 *
 * @source QEMU, "Network emulation": user mode (10.0.2.0/24, gateway .2, DNS .3, first guest .15)
 */
import { BerthError } from '#base';
import { reservePort } from '#platform';
import type { Attachment, AttachmentRequest, Binding } from './bridge-network.ts';

const MAC = '02:42:0a:00:02:0f';

export class UserNetwork {
  readonly bridge = undefined;

  /** Chooses host ports. QEMU binds them itself, so each is only tried here: one that is taken is refused by name. */
  async attach(request: AttachmentRequest): Promise<Attachment> {
    const ports: Binding[] = [];
    for (const port of request.ports) {
      if (port.hostPort > 0 && port.hostPort < 1024) {
        throw new BerthError('denied', 'port.denied', `only root may publish port ${port.hostPort}`, {
          hint: 'choose a host port from 1024 on, or run the daemon as root',
        });
      }
      const reservation = await reservePort(port.protocol, port.hostIp, port.hostPort);
      await reservation.release();
      ports.push({ ...port, hostPort: reservation.port });
    }
    return {
      kind: 'user',
      bridge: '',
      tap: '',
      mac: request.mac ?? MAC,
      address: '10.0.2.15',
      prefixLength: 24,
      gateway: '10.0.2.2',
      mtu: 1500,
      dns: ['10.0.2.3'],
      ports,
    };
  }

  async restore(): Promise<void> {}

  rename(): void {}

  async detach(): Promise<void> {}

  /** Never asked for: a VM here cannot sleep, since its ports are QEMU's own. */
  async hold(): Promise<void> {}

  async unhold(): Promise<void> {}
}
