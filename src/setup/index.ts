export { daemonCommand } from './daemon-command.ts';
export { debianPackages, identifyHost, installCommand, missingPackages } from './packages.ts';
export { type Installation, installationAt, thisInstallation } from './paths.ts';
