/* Kernel modules of the initramfs. */
#pragma once

/* Loads the modules named in /modules/order, one a line, from where the last call stopped up to the next line that
 * begins with `@` or the end, and deletes each file to give its memory back. One that is already loaded or absent is
 * not an error; another failure is logged. */
void load_modules(void);
