#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_folder(const char *path)
{
	struct stat about;
	return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

static bool make_each(char *path, mode_t mode)
{
	for (char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		int failed = mkdir(path, 0755) && errno != EEXIST;
		*slash = '/';
		if (failed)
			return false;
	}
	return mkdir(path, mode) == 0 || (errno == EEXIST && is_folder(path));
}

bool make_folders(const char *path, mode_t mode)
{
	char copy[PATH_MAX];
	if (is_folder(path))
		return true;
	size_t length = strlen(path);
	if (length == 0 || length >= sizeof copy) {
		errno = length ? ENAMETOOLONG : ENOENT;
		return false;
	}
	memcpy(copy, path, length + 1);
	while (length > 1 && copy[length - 1] == '/')
		copy[--length] = '\0';
	return make_each(copy, mode);
}

bool make_parents(const char *path)
{
	char copy[PATH_MAX];
	const char *slash = strrchr(path, '/');
	if (!slash || slash == path)
		return true;
	size_t length = (size_t)(slash - path);
	if (length >= sizeof copy)
		return false;
	memcpy(copy, path, length);
	copy[length] = '\0';
	return make_folders(copy, 0755);
}

ssize_t read_small(int dir, const char *path, char *text, size_t size)
{
	int fd = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return -1;
	struct stat about;
	if (fstat(fd, &about) || !S_ISREG(about.st_mode)) {
		close(fd);
		return -1;
	}
	size_t have = 0;
	while (have < size - 1) {
		ssize_t count = read(fd, text + have, size - 1 - have);
		if (count <= 0)
			break;
		have += (size_t)count;
	}
	close(fd);
	text[have] = '\0';
	return (ssize_t)have;
}

ssize_t read_line(int dir, const char *path, char *text, size_t size)
{
	ssize_t length = read_small(dir, path, text, size);
	if (length < 0)
		return length;
	text[strcspn(text, "\n")] = '\0';
	return (ssize_t)strlen(text);
}

bool write_small(int dir, const char *path, const void *data, size_t length)
{
	int fd = openat(dir, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0644);
	if (fd < 0)
		return false;
	const char *at = data;
	bool good = true;
	do {
		ssize_t count = write(fd, at, length);
		if (count < 0) {
			good = false;
			break;
		}
		at += count;
		length -= (size_t)count;
	} while (length);
	int saved = errno;
	close(fd);
	errno = saved;
	return good;
}

bool write_text(int dir, const char *path, const char *text)
{
	return write_small(dir, path, text, strlen(text));
}
