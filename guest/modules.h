/* Kernel modules of the initramfs. */
#pragma once

/* Loads the modules named in /modules/order, one a line, and deletes each file to give its memory back. One that is
 * already loaded or absent is not an error; another failure is logged. */
void load_modules(void);
