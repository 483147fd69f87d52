#include "modules.h"

#include "files.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void load_module(const char *name)
{
	char path[128];
	snprintf(path, sizeof path, "/modules/%s", name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		log_line("module %s: %s", name, strerror(errno));
		return;
	}
	if (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST)
		log_line("module %s: %s", name, strerror(errno));
	close(fd);
	unlink(path);
}

void load_modules(void)
{
	char order[4096];
	if (read_small(-1, "/modules/order", order, sizeof order) < 0)
		return;
	for (char *save = NULL, *name = strtok_r(order, "\n", &save); name; name = strtok_r(NULL, "\n", &save))
		load_module(name);
}
