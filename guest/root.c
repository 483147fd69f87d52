#define _GNU_SOURCE
#include "root.h"

#include "files.h"
#include "guest.h"
#include "log.h"
#include "prepare.h"
#include "volumes.h"

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
#include <sys/syscall.h>
#include <unistd.h>

/* In the initramfs: /l/N layer N, /d the writable disk, /c the files bound over /etc, /r the overlay. Short names:
 * the overlay's option string is one page, and 127 layers must fit. */

/* Docker's default, and what the tmpfs was made with. */
#define SHM_BYTES (64u << 20)

void mkdir_quiet(const char *path)
{
	mkdir(path, 0755);
}

/* ---- disks ---- */

static bool is_there(const struct disk *disk)
{
	errno = ENODEV;
	return disk->name[0] != '\0';
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
	char device[NAME_MAX + 32], point[32];
	if (plan->layer_count == 0) {
		mkdir_quiet("/l/0"); /* the overlay needs one lower folder, empty */
		return true;
	}
	snprintf(what, size, "finding the root disk");
	if (!is_there(&prepared.root))
		return false;
	/* One layer is the disk from its first sector: no partition, which costs as much as the mount. */
	if (plan->layer_count == 1 && plan->layers[0].first_sector == 0) {
		snprintf(what, size, "layer 0");
		mkdir_quiet("/l/0");
		return mount(prepared.root.device, "/l/0", "erofs", MS_RDONLY | MS_NOATIME, NULL) == 0;
	}
	int disk = open(prepared.root.device, O_RDONLY | O_CLOEXEC);
	if (disk < 0)
		return false;
	bool good = true;
	for (size_t i = 0; good && i < plan->layer_count; i++) {
		snprintf(what, size, "layer %zu", i);
		good = add_partition(disk, (int)i + 1, &plan->layers[i]);
		snprintf(device, sizeof device, "%s%zu", prepared.root.device, i + 1);
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
	snprintf(what, size, "finding the writable disk");
	if (!is_there(&prepared.data))
		return false;
	snprintf(what, size, "mounting the writable disk");
	if (mount(prepared.data.device, "/d", "ext4", MS_NOATIME, "discard"))
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
	if (chdir("/l") || mount("overlay", "/r", "overlay", 0, options))
		return false;
	return true;
}

/* ---- files bound over /etc ---- */

/* Files that are bound only where an image has their like: a fork's are there already, and get its own contents. */
static bool write_again(const char *name, const struct field *field)
{
	return !field->length || faccessat(prepared.files, name, F_OK, 0) ||
	       write_small(prepared.files, name, field->value, field->length);
}

bool write_bound_files(const struct root_plan *plan, char *what, size_t size)
{
	snprintf(what, size, "writing /etc files");
	char hostname[sizeof guest.hostname + 1];
	snprintf(hostname, sizeof hostname, "%s\n", guest.hostname);
	return write_text(prepared.files, "hostname", hostname) &&
	       write_small(prepared.files, "hosts", plan->hosts.value, plan->hosts.length) &&
	       write_small(prepared.files, "resolv.conf", plan->resolv_conf.value, plan->resolv_conf.length) &&
	       write_again("machine-id", &plan->machine_id) && write_again("product_uuid", &plan->product_uuid);
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

static void bind_over(const char *name, const char *target)
{
	if (fchdir(prepared.files) || mount(name, target, NULL, MS_BIND, NULL))
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

/* A mount made aside, with all below it, goes to its place: "/" is the image's root now. */
static bool move_into(int mounted, const char *target, char *what, size_t size)
{
	snprintf(what, size, "mounting %s", target);
	return make_folders(target, 0755) &&
	       syscall(SYS_move_mount, mounted, "", AT_FDCWD, target, 4 /* MOVE_MOUNT_F_EMPTY_PATH */) == 0;
}

static bool move_system(const struct root_plan *plan, char *what, size_t size)
{
	char shm[64];
	if (!move_into(prepared.proc, "/proc", what, size) || !move_into(prepared.sys, "/sys", what, size) ||
	    !move_into(prepared.dev, "/dev", what, size))
		return false;
	if (!plan->shm_bytes || plan->shm_bytes == SHM_BYTES)
		return true;
	snprintf(what, size, "resizing /dev/shm");
	snprintf(shm, sizeof shm, "mode=1777,size=%llu", (unsigned long long)plan->shm_bytes);
	return mount("tmpfs", "/dev/shm", "tmpfs", MS_REMOUNT | MS_NOSUID | MS_NODEV | MS_NOEXEC, shm) == 0;
}

static void bind_field(const struct field *field, const char *name, const char *target)
{
	if (!field->length || access(target, F_OK))
		return;
	if (write_small(prepared.files, name, field->value, field->length))
		bind_over(name, target);
	else
		log_line("%s: %s", target, strerror(errno));
}

/* What tells one machine from another beside its name. An image without these files does not get them. */
static void bind_identity(const struct root_plan *plan)
{
	bind_field(&plan->machine_id, "machine-id", "/etc/machine-id");
	bind_field(&plan->product_uuid, "product_uuid", "/sys/devices/virtual/dmi/id/product_uuid");
}

static void bind_file(const char *name, const char *target)
{
	struct stat about;
	if (stat(target, &about))
		make_file(target);
	bind_over(name, target);
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
	    !write_bound_files(plan, what, size) || !open_volumes(plan->payload, plan->payload_length, what, size))
		return false;
	if (!switch_root(what, size) || !move_system(plan, what, size))
		return false;
	bind_file("hostname", "/etc/hostname");
	bind_file("hosts", "/etc/hosts");
	bind_file("resolv.conf", "/etc/resolv.conf");
	bind_identity(plan);
	if (!place_volumes(what, size) || !mount_wishes(plan, what, size))
		return false;
	snprintf(what, size, "making the root read-only");
	return !plan->read_only || mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) == 0;
}
