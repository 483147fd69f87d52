#define _GNU_SOURCE
#include "copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Images are strangers': folders in folders without end must not end the stack. */
enum { DEPTH_MAX = 200, ATTRIBUTES_MAX = 65536 };

static bool copy_attributes(int from, int to)
{
	static char names[ATTRIBUTES_MAX], value[ATTRIBUTES_MAX];
	ssize_t length = flistxattr(from, names, sizeof names);
	if (length < 0)
		return errno == ENOTSUP;
	for (const char *name = names; name < names + length; name += strlen(name) + 1) {
		ssize_t size = fgetxattr(from, name, value, sizeof value);
		/* Such as the overlay's own: not everything that is shown can be set. */
		if (size >= 0 && fsetxattr(to, name, value, (size_t)size, 0) && errno != ENOTSUP && errno != EPERM)
			return false;
	}
	return true;
}

/* Owner before mode: a change of owner takes the set-user-id bit away. Attributes after the owner: so does it with capabilities. */
static bool copy_facts(int from, int to, const struct stat *about)
{
	const struct timespec times[2] = { about->st_atim, about->st_mtim };
	return fchown(to, about->st_uid, about->st_gid) == 0 && fchmod(to, about->st_mode & 07777) == 0 &&
	       copy_attributes(from, to) && futimens(to, times) == 0;
}

static bool copy_content(int from, int to)
{
	for (ssize_t count; (count = sendfile(to, from, NULL, 1 << 20)) != 0;)
		if (count < 0)
			return false;
	return true;
}

static bool copy_file(int from_folder, int to_folder, const char *name, const struct stat *about)
{
	int from = openat(from_folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	int to = from < 0 ? -1 : openat(to_folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	bool good = to >= 0 && copy_content(from, to) && copy_facts(from, to, about);
	int error = errno;
	if (from >= 0)
		close(from);
	if (to >= 0)
		close(to);
	errno = error;
	return good;
}

static bool copy_link(int from_folder, int to_folder, const char *name, const struct stat *about)
{
	char target[PATH_MAX];
	ssize_t length = readlinkat(from_folder, name, target, sizeof target - 1);
	if (length < 0)
		return false;
	target[length] = '\0';
	return symlinkat(target, to_folder, name) == 0 &&
	       fchownat(to_folder, name, about->st_uid, about->st_gid, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool copy_device(int to_folder, const char *name, const struct stat *about)
{
	return mknodat(to_folder, name, about->st_mode, about->st_rdev) == 0 &&
	       fchownat(to_folder, name, about->st_uid, about->st_gid, AT_SYMLINK_NOFOLLOW) == 0 &&
	       fchmodat(to_folder, name, about->st_mode & 07777, 0) == 0;
}

static bool copy_at_depth(int from, int to, int depth);

static bool copy_subfolder(int from_folder, int to_folder, const char *name, int depth)
{
	int from = openat(from_folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int to = from < 0 || mkdirat(to_folder, name, 0700) ? -1 : openat(to_folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	bool good = to >= 0 && copy_at_depth(from, to, depth + 1);
	int error = errno;
	if (from >= 0)
		close(from);
	if (to >= 0)
		close(to);
	errno = error;
	return good;
}

static bool copy_entry(int from, int to, const char *name, int depth)
{
	struct stat about;
	if (fstatat(from, name, &about, AT_SYMLINK_NOFOLLOW))
		return false;
	switch (about.st_mode & S_IFMT) {
	case S_IFDIR:
		return copy_subfolder(from, to, name, depth);
	case S_IFREG:
		return copy_file(from, to, name, &about);
	case S_IFLNK:
		return copy_link(from, to, name, &about);
	case S_IFSOCK:
		return true;
	default:
		return copy_device(to, name, &about);
	}
}

static bool copy_at_depth(int from, int to, int depth)
{
	struct stat about;
	errno = ELOOP;
	if (depth > DEPTH_MAX || fstat(from, &about))
		return false;
	int fd = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *entries = fd >= 0 ? fdopendir(fd) : NULL;
	if (!entries)
		return false;
	bool good = true;
	for (struct dirent *entry; good && (entry = readdir(entries));)
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			good = copy_entry(from, to, entry->d_name, depth);
	int error = errno;
	closedir(entries);
	errno = error;
	return good && copy_facts(from, to, &about);
}

bool copy_folder(int from, int to)
{
	return copy_at_depth(from, to, 0);
}
