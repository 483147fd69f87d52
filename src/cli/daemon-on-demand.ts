import type { DaemonSettings } from '#base';
import { startDaemonProcess } from '#daemon';
import { thisInstallation } from '#setup';

/** Nobody listens: the daemon is started, as `daemon start` does, and the verb goes on. */
export async function startOnDemand(place: DaemonSettings, note: (line: string) => void): Promise<void> {
  note(`berth: starting the daemon (state in ${place.stateFolder})`);
  await startDaemonProcess(place, thisInstallation());
}
