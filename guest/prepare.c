#define _GNU_SOURCE
#include "prepare.h"

#include "files.h"
#include "giveback.h"
#include "guest.h"
#include "log.h"
#include "modules.h"
#include "net.h"
#include "root.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

struct prepared prepared = { .proc = -1, .sys = -1, .dev = -1, .cgroup = -1, .files = -1 };

bool mount_early(void)
{
	mkdir_quiet("/proc");
	mkdir_quiet("/sys");
	mkdir_quiet("/dev");
	bool good = mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0;
	good &= mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0;
	good &= mount("dev", "/dev", "devtmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755") == 0;
	guest.proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	guest.sys = open("/sys", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return good && guest.proc >= 0 && guest.sys >= 0;
}

static void note_disk(const char *name)
{
	char path[NAME_MAX + 32], serial[32];
	snprintf(path, sizeof path, "block/%s/serial", name);
	if (strlen(name) > NAME_MAX - 8 || read_line(guest.sys, path, serial, sizeof serial) <= 0)
		return;
	struct disk *disk = strcmp(serial, "root") == 0 ? &prepared.root :
			    strcmp(serial, "data") == 0 ? &prepared.data : NULL;
	if (strncmp(serial, "volume", 6) == 0 && serial[6] >= '0' && serial[6] < '0' + VOLUME_SLOTS && !serial[7])
		disk = &prepared.volumes[serial[6] - '0'];
	if (!disk)
		return;
	snprintf(disk->name, sizeof disk->name, "%s", name);
	snprintf(disk->device, sizeof disk->device, "/dev/%s", name);
}

static void find_disks(void)
{
	int fd = openat(guest.sys, "block", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *disks = fd >= 0 ? fdopendir(fd) : NULL;
	for (struct dirent *entry; disks && (entry = readdir(disks));)
		if (strncmp(entry->d_name, "vd", 2) == 0)
			note_disk(entry->d_name);
	if (disks)
		closedir(disks);
	else if (fd >= 0)
		close(fd);
}

static bool mount_aside(const char *type, const char *target, unsigned long flags, const char *options)
{
	mkdir_quiet(target);
	if (mount(type, target, type, flags, options) == 0)
		return true;
	log_line("mounting %s: %s", target, strerror(errno));
	return false;
}

static void link_device(const char *target, const char *path)
{
	unlink(path);
	if (symlink(target, path))
		log_line("%s: %s", path, strerror(errno));
}

/* devtmpfs is one file system however often it is mounted: links and folders made here are there in every view. */
static void mount_system(void)
{
	const unsigned long plain = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	mkdir_quiet("/s");
	mount_aside("proc", "/s/proc", plain, NULL);
	mount_aside("sysfs", "/s/sys", plain, NULL);
	mount_aside("devtmpfs", "/s/dev", MS_NOSUID | MS_NOEXEC, "mode=0755");
	mount_aside("devpts", "/s/dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5");
	mount_aside("tmpfs", "/s/dev/shm", plain, "mode=1777,size=64m");
	mount_aside("mqueue", "/s/dev/mqueue", plain, NULL);
	mount_aside("cgroup2", "/s/sys/fs/cgroup", plain, NULL);
	/* Its own small file system: a bind mount of an initramfs file would show the initramfs in statfs. */
	mount_aside("tmpfs", "/c", MS_NOSUID | MS_NODEV, "size=4m,mode=0755");
	link_device("pts/ptmx", "/s/dev/ptmx");
	link_device("/proc/self/fd", "/s/dev/fd");
	link_device("/proc/self/fd/0", "/s/dev/stdin");
	link_device("/proc/self/fd/1", "/s/dev/stdout");
	link_device("/proc/self/fd/2", "/s/dev/stderr");
	if (!reopen_prepared())
		log_line("opening the prepared mounts: %s", strerror(errno));
}

bool reopen_prepared(void)
{
	prepared.proc = open("/s/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	prepared.sys = open("/s/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	prepared.dev = open("/s/dev", O_PATH | O_DIRECTORY | O_CLOEXEC);
	prepared.cgroup = open("/s/sys/fs/cgroup", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	prepared.files = open("/c", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	guest.pts = open("/s/dev/pts", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return prepared.proc >= 0 && prepared.sys >= 0 && prepared.dev >= 0 && prepared.files >= 0 && guest.pts >= 0;
}

void prepare_machine(void)
{
	load_modules();
	report_small_blocks();
	find_disks();
	mount_system();
	for (const char *const *folder = (const char *const[]){ "/l", "/d", "/r", NULL }; *folder; folder++)
		mkdir_quiet(*folder);
	ready_link(guest.sys, guest.proc);
	if (!bring_loopback_up())
		log_line("loopback: %s", strerror(errno));
}
