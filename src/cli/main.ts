/** The command line's process. Little is loaded before it is known what for. */
import { enableCompileCache } from 'node:module';

// Beside the bundle: compiled code is kept between runs. A folder that cannot be written is no harm.
if (import.meta.url.includes('/.build/')) enableCompileCache(new URL('../compile-cache', import.meta.url).pathname);
const { runProgram } = await import('./program.ts');
process.exit(await runProgram({ words: process.argv.slice(2), env: process.env, uid: process.getuid?.() ?? 0 }));
