/* Small file chores shared by the set-up steps. Nothing here blocks on a hostile image's FIFOs or devices. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* `mkdir -p`; true when `path` is a folder afterwards. */
bool make_folders(const char *path, mode_t mode);
/* `mkdir -p` of everything above the last slash. */
bool make_parents(const char *path);
/* Up to `size - 1` bytes of a regular, sysfs or procfs file and a NUL; the number of bytes, or -1. `dir` as openat. */
ssize_t read_small(int dir, const char *path, char *text, size_t size);
/* As read_small, without the line's end. */
ssize_t read_line(int dir, const char *path, char *text, size_t size);
bool write_small(int dir, const char *path, const void *data, size_t length);
bool write_text(int dir, const char *path, const char *text);
