#define _GNU_SOURCE
#include "root.h"

#include "files.h"
#include "guest.h"
#include "log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/blkpg.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* In the initramfs: /l/N layer N, /d the writable disk, /c the files bound over /etc, /r the overlay. Short names:
 * the overlay's option string is one page, and 127 layers must fit. */

void mkdir_quiet(const char *path)
{
	mkdir(path, 0755);
}

/* ---- disks ---- */

static bool find_disk(const char *serial, char *name, size_t size)
{
	char path[NAME_MAX + 32], text[32];
	int fd = openat(guest.sys, "block", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *disks = fd >= 0 ? fdopendir(fd) : NULL;
	bool found = false;
	for (struct dirent *entry; disks && !found && (entry = readdir(disks));) {
		if (strncmp(entry->d_name, "vd", 2) != 0)
			continue;
		snprintf(path, sizeof path, "block/%s/serial", entry->d_name);
		if (read_line(guest.sys, path, text, sizeof text) > 0 && strcmp(text, serial) == 0) {
			snprintf(name, size, "%s", entry->d_name);
			found = true;
		}
	}
	if (disks)
		closedir(disks);
	else if (fd >= 0)
		close(fd);
	if (!found)
		errno = ENODEV;
	return found;
}

static bool add_partition(int disk, int number, const struct layer *layer)
{
	/* Sectors to bytes must not overflow the kernel's signed numbers. */
	if (layer->first_sector > INT64_MAX / 1024 || layer->sectors > INT64_MAX / 1024 || layer->sectors == 0) {
		errno = EINVAL;
		return false;
	}
	struct blkpg_partition partition = { .start = (long long)layer->first_sector * 512,
					     .length = (long long)layer->sectors * 512,
					     .pno = number };
	struct blkpg_ioctl_arg request = { .op = BLKPG_ADD_PARTITION, .datalen = sizeof partition, .data = &partition };
	return ioctl(disk, BLKPG, &request) == 0;
}

static bool mount_layers(const struct root_plan *plan, char *what, size_t size)
{
	char name[NAME_MAX + 1], device[NAME_MAX + 32], point[32];
	mkdir_quiet("/l");
	if (plan->layer_count == 0) {
		mkdir_quiet("/l/0"); /* the overlay needs one lower folder, empty */
		return true;
	}
	snprintf(what, size, "finding the root disk");
	if (!find_disk("root", name, sizeof name))
		return false;
	snprintf(device, sizeof device, "/dev/%s", name);
	int disk = open(device, O_RDONLY | O_CLOEXEC);
	if (disk < 0)
		return false;
	bool good = true;
	for (size_t i = 0; good && i < plan->layer_count; i++) {
		snprintf(what, size, "layer %zu", i);
		good = add_partition(disk, (int)i + 1, &plan->layers[i]);
		snprintf(device, sizeof device, "/dev/%s%zu", name, i + 1);
		snprintf(point, sizeof point, "/l/%zu", i);
		mkdir_quiet(point);
		good = good && mount(device, point, "erofs", MS_RDONLY | MS_NOATIME, NULL) == 0;
	}
	int error = errno;
	close(disk);
	errno = error;
	return good;
}

/* The overlay shows the upper folder's own owner and mode at "/": on a fresh disk those of the image's root. */
static void copy_root_attributes(const struct root_plan *plan)
{
	char top[32];
	struct stat about;
	snprintf(top, sizeof top, "/l/%zu", plan->layer_count ? plan->layer_count - 1 : 0);
	if (stat(top, &about) || chown("/d/u", about.st_uid, about.st_gid) || chmod("/d/u", about.st_mode & 07777))
		log_line("root folder: %s", strerror(errno));
}

static bool mount_data(const struct root_plan *plan, char *what, size_t size)
{
	char name[NAME_MAX + 1], device[NAME_MAX + 32];
	snprintf(what, size, "finding the writable disk");
	if (!find_disk("data", name, sizeof name))
		return false;
	snprintf(what, size, "mounting the writable disk");
	snprintf(device, sizeof device, "/dev/%s", name);
	mkdir_quiet("/d");
	if (mount(device, "/d", "ext4", MS_NOATIME, "discard"))
		return false;
	mkdir_quiet("/d/w");
	if (mkdir("/d/u", 0755) == 0)
		copy_root_attributes(plan);
	guest.data_disk = open("/d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return guest.data_disk >= 0;
}

static bool mount_overlay(const struct root_plan *plan, char *what, size_t size)
{
	static char options[4096];
	size_t count = plan->layer_count ? plan->layer_count : 1;
	size_t length = (size_t)snprintf(options, sizeof options,
					 "upperdir=/d/u,workdir=/d/w,index=off,metacopy=off,redirect_dir=off,xino=off,lowerdir=");
	for (size_t i = count; i-- > 0;) /* the overlay wants the topmost first */
		length += (size_t)snprintf(options + length, sizeof options - length, i ? "%zu:" : "%zu", i);
	snprintf(what, size, "mounting the overlay");
	mkdir_quiet("/r");
	if (chdir("/l") || mount("overlay", "/r", "overlay", 0, options))
		return false;
	return true;
}

/* ---- files bound over /etc ---- */

static bool write_bound_files(const struct root_plan *plan, char *what, size_t size)
{
	snprintf(what, size, "writing /etc files");
	mkdir_quiet("/c");
	/* Its own small file system: a bind mount of an initramfs file would show the initramfs in statfs. */
	if (mount("tmpfs", "/c", "tmpfs", MS_NOSUID | MS_NODEV, "size=4m,mode=0755"))
		return false;
	char hostname[sizeof guest.hostname + 1];
	snprintf(hostname, sizeof hostname, "%s\n", guest.hostname);
	return write_text(-1, "/c/hostname", hostname) &&
	       write_small(-1, "/c/hosts", plan->hosts.value, plan->hosts.length) &&
	       write_small(-1, "/c/resolv.conf", plan->resolv_conf.value, plan->resolv_conf.length);
}

/* From here on "/" is the image's root: its symlinks resolve inside it. A step that fails on a strange image (a loop
 * of symlinks, a file in place of /etc) is logged, not fatal: the process may do without. */
static void make_file(const char *path)
{
	/* Follows a dangling symlink by hand, to make the folders on its way: images ship /etc/resolv.conf as a
	 * symlink into /run. A circle of symlinks is replaced. */
	enum { HOPS_MAX = 8 };
	char at[PATH_MAX], link[PATH_MAX], next[2 * PATH_MAX];
	int hops = 0;
	snprintf(at, sizeof at, "%s", path);
	for (ssize_t length; hops < HOPS_MAX && (length = readlink(at, link, sizeof link - 1)) > 0; hops++) {
		link[length] = '\0';
		char *slash = strrchr(at, '/');
		if (link[0] == '/')
			snprintf(next, sizeof next, "%s", link);
		else
			snprintf(next, sizeof next, "%.*s/%s", slash ? (int)(slash - at) : 0, at, link);
		if (strlen(next) >= sizeof at)
			return;
		memcpy(at, next, strlen(next) + 1);
		make_parents(at);
	}
	if (hops == HOPS_MAX) {
		unlink(path);
		snprintf(at, sizeof at, "%s", path);
	}
	make_parents(at);
	int fd = open(at, O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0644);
	if (fd >= 0)
		close(fd);
}

static void bind_over(int from, const char *name, const char *target)
{
	struct stat about;
	char source[64];
	if (stat(target, &about))
		make_file(target);
	snprintf(source, sizeof source, "%s", name);
	if (fchdir(from) || mount(source, target, NULL, MS_BIND, NULL))
		log_line("%s: %s", target, strerror(errno));
	if (chdir("/"))
		log_line("/: %s", strerror(errno));
}

/* ---- inside ---- */

static bool switch_root(char *what, size_t size)
{
	snprintf(what, size, "switching root");
	return chdir("/r") == 0 && mount(".", "/", NULL, MS_MOVE, NULL) == 0 && chroot(".") == 0 && chdir("/") == 0;
}

static bool mount_at(const char *type, const char *target, unsigned long flags, const char *options, char *what,
		     size_t size)
{
	snprintf(what, size, "mounting %s", target);
	return make_folders(target, 0755) && mount(type, target, type, flags, options) == 0;
}

static void link_device(const char *target, const char *path)
{
	unlink(path);
	if (symlink(target, path))
		log_line("%s: %s", path, strerror(errno));
}

static bool mount_system(const struct root_plan *plan, char *what, size_t size)
{
	const unsigned long plain = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	char shm[64];
	uint64_t shm_bytes = plan->shm_bytes ? plan->shm_bytes : 64u << 20; /* Docker's default */
	snprintf(shm, sizeof shm, "mode=1777,size=%llu", (unsigned long long)shm_bytes);
	if (!mount_at("proc", "/proc", plain, NULL, what, size) ||
	    !mount_at("sysfs", "/sys", plain, NULL, what, size) ||
	    !mount_at("devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=0755", what, size) ||
	    !mount_at("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5", what,
		      size) ||
	    !mount_at("tmpfs", "/dev/shm", plain, shm, what, size))
		return false;
	guest.pts = open("/dev/pts", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!mount_at("mqueue", "/dev/mqueue", plain, NULL, what, size))
		log_line("%s: %s", what, strerror(errno));
	if (!mount_at("cgroup2", "/sys/fs/cgroup", plain, NULL, what, size))
		log_line("%s: %s", what, strerror(errno));
	link_device("pts/ptmx", "/dev/ptmx");
	link_device("/proc/self/fd", "/dev/fd");
	link_device("/proc/self/fd/0", "/dev/stdin");
	link_device("/proc/self/fd/1", "/dev/stdout");
	link_device("/proc/self/fd/2", "/dev/stderr");
	return true;
}

static const struct option {
	const char *name;
	unsigned long set, clear;
} mount_options[] = {
	{ "ro", MS_RDONLY, 0 },		{ "rw", 0, MS_RDONLY },
	{ "noexec", MS_NOEXEC, 0 },	{ "exec", 0, MS_NOEXEC },
	{ "nosuid", MS_NOSUID, 0 },	{ "suid", 0, MS_NOSUID },
	{ "nodev", MS_NODEV, 0 },	{ "dev", 0, MS_NODEV },
	{ "noatime", MS_NOATIME, 0 },	{ "relatime", MS_RELATIME, 0 },
	{ "nodiratime", MS_NODIRATIME, 0 }, { "sync", MS_SYNCHRONOUS, 0 },
	{ "defaults", 0, 0 },		{ "async", 0, MS_SYNCHRONOUS },
};

/* Splits `options` into flags and what the file system itself reads, which stays in `rest`. Docker's defaults for
 * --tmpfs come first. */
static unsigned long parse_options(char *options, char *rest, size_t size)
{
	unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	size_t length = 0;
	rest[0] = '\0';
	for (char *save = NULL, *word = strtok_r(options, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		bool known = false;
		for (size_t i = 0; i < sizeof mount_options / sizeof *mount_options; i++)
			if (strcmp(word, mount_options[i].name) == 0) {
				flags = (flags | mount_options[i].set) & ~mount_options[i].clear;
				known = true;
			}
		if (!known && length + strlen(word) + 2 < size)
			length += (size_t)snprintf(rest + length, size - length, length ? ",%s" : "%s", word);
	}
	return flags;
}

static bool mount_tmpfs(const struct field *field, char *what, size_t size)
{
	char rest[1024];
	char *target = field_text(field);
	if (!target)
		return false;
	size_t length = strlen(target);
	char *options = length < field->length ? target + length + 1 : target + length;
	unsigned long flags = parse_options(options, rest, sizeof rest);
	snprintf(what, size, "mounting tmpfs at %s", target);
	bool good = make_folders(target, 0755) && mount("tmpfs", target, "tmpfs", flags, rest) == 0;
	int error = errno;
	free(target);
	errno = error;
	return good;
}

static bool mount_wishes(const struct root_plan *plan, char *what, size_t size)
{
	struct field_cursor cursor = fields_of(plan->payload, plan->payload_length);
	for (struct field field; next_field(&cursor, &field);) {
		if (field.tag == 8 && !mount_tmpfs(&field, what, size))
			return false;
		if (field.tag != 13)
			continue;
		char *folder = field_text(&field);
		if (folder && *folder && !make_folders(folder, 0755))
			log_line("working folder %s: %s", folder, strerror(errno));
		free(folder);
	}
	return true;
}

bool build_root(const struct root_plan *plan, char *what, size_t size)
{
	if (!mount_layers(plan, what, size) || !mount_data(plan, what, size) || !mount_overlay(plan, what, size) ||
	    !write_bound_files(plan, what, size))
		return false;
	int files = open("/c", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (files < 0 || !switch_root(what, size))
		return false;
	if (!mount_system(plan, what, size))
		return false;
	bind_over(files, "hostname", "/etc/hostname");
	bind_over(files, "hosts", "/etc/hosts");
	bind_over(files, "resolv.conf", "/etc/resolv.conf");
	close(files);
	if (!mount_wishes(plan, what, size))
		return false;
	snprintf(what, size, "making the root read-only");
	return !plan->read_only || mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) == 0;
}
