/* A folder with all that lies in it, copied as it is. */
#pragma once
#include <stdbool.h>

/*
 * Copies what lies in `from` into the empty folder `to`, with owners, modes, times and extended attributes, and those of
 * the folder itself. Symbolic links are copied and never followed; sockets are left out; of several names of one file each
 * becomes a file. On failure errno says why, and `to` has a part of it.
 */
bool copy_folder(int from, int to);
