#define _GNU_SOURCE
#include "volumes.h"

#include "copy.h"
#include "files.h"
#include "guest.h"
#include "log.h"
#include "power.h"
#include "prepare.h"
#include "root.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { FIELD_VOLUME = 16, READ_ONLY = 1, FILL = 2 };

static struct volume {
	int root; /* its root folder, wherever it is mounted */
	unsigned flags;
	char *target;
} volumes[VOLUME_SLOTS];
static size_t volume_count;

static bool open_volume(const struct disk *disk, struct volume *volume, size_t number)
{
	char point[32];
	snprintf(point, sizeof point, "/v/%zu", number);
	mkdir_quiet("/v");
	mkdir_quiet(point);
	errno = ENODEV;
	if (!disk->name[0] || mount(disk->device, point, "ext4", MS_NOATIME, "discard"))
		return false;
	volume->root = open(point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* A folder for what a repair finds, which programs that want an empty folder take for data. */
	if (volume->root >= 0)
		unlinkat(volume->root, "lost+found", AT_REMOVEDIR);
	return volume->root >= 0;
}

bool open_volumes(const uint8_t *payload, size_t length, char *what, size_t size)
{
	struct field_cursor cursor = fields_of(payload, length);
	for (struct field field; next_field(&cursor, &field);) {
		if (field.tag != FIELD_VOLUME)
			continue;
		snprintf(what, size, "reading the volumes");
		errno = EINVAL;
		if (volume_count == VOLUME_SLOTS || field.length < 3 || field.value[0] >= VOLUME_SLOTS)
			return false;
		struct volume *volume = &volumes[volume_count];
		const struct field target = { .value = field.value + 2, .length = field.length - 2 };
		volume->flags = field.value[1];
		volume->target = field_text(&target);
		if (!volume->target)
			return false;
		snprintf(what, size, "mounting the volume for %s", volume->target);
		if (!open_volume(&prepared.volumes[field.value[0]], volume, volume_count))
			return false;
		volume_count += 1;
	}
	return true;
}

static bool is_empty(int folder)
{
	int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *entries = fd >= 0 ? fdopendir(fd) : NULL;
	if (!entries)
		return false;
	bool empty = true;
	for (struct dirent *entry; empty && (entry = readdir(entries));)
		empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
	closedir(entries);
	return empty;
}

/* With the folder's own owner and rights: a program that runs as someone else may write there as in the image. */
static bool fill(const struct volume *volume)
{
	int from = open(volume->target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (from < 0)
		return errno == ENOENT;
	bool good = copy_folder(from, volume->root);
	int error = errno;
	close(from);
	errno = error;
	return good;
}

static bool place_volume(const struct volume *volume, char *what, size_t size)
{
	snprintf(what, size, "filling the volume at %s", volume->target);
	if ((volume->flags & FILL) && is_empty(volume->root) && !fill(volume))
		return false;
	snprintf(what, size, "mounting the volume at %s", volume->target);
	if (!make_folders(volume->target, 0755) ||
	    syscall(SYS_move_mount, volume->root, "", AT_FDCWD, volume->target, 4 /* MOVE_MOUNT_F_EMPTY_PATH */))
		return false;
	return !(volume->flags & READ_ONLY) || mount(NULL, volume->target, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOATIME, NULL) == 0;
}

bool place_volumes(char *what, size_t size)
{
	for (size_t i = 0; i < volume_count; i++)
		if (!place_volume(&volumes[i], what, size))
			return false;
	return true;
}

void sync_disks(void)
{
	if (guest.data_disk >= 0 && syncfs(guest.data_disk))
		log_line("flushing the writable disk: %s", strerror(errno));
	for (size_t i = 0; i < volume_count; i++)
		if (syncfs(volumes[i].root))
			log_line("flushing the volume at %s: %s", volumes[i].target, strerror(errno));
}

void close_volumes(void)
{
	for (size_t i = 0; i < volume_count; i++)
		retire_disk(volumes[i].root, volumes[i].target);
}
