/** The command line's process. The bundle's start file turns the compile cache on before this is loaded. */
import { runProgram } from './program.ts';

runProgram({ words: process.argv.slice(2), env: process.env, uid: process.getuid?.() ?? 0 }).then(
  (exitCode) => process.exit(exitCode),
  (error: unknown) => {
    console.error(error);
    process.exit(1);
  },
);
