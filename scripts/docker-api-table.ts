/** Writes docs/docker-api.md from the routes of the Docker door. A unit test beside them says when to run it. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { apiTable } from '#docker';

const folder = new URL('../docs/', import.meta.url);
mkdirSync(folder, { recursive: true });
writeFileSync(new URL('docker-api.md', folder), apiTable());
