#define _GNU_SOURCE
#include "power.h"

#include "guest.h"
#include "log.h"
#include "port.h"
#include "volumes.h"

#include <errno.h>
#include <linux/fs.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

_Noreturn void power_off(void)
{
	reboot(RB_POWER_OFF);
	reboot(RB_AUTOBOOT); /* no way to power off: QEMU runs with -no-reboot and ends all the same */
	for (;;)
		pause();
}

/* Collects every killed process; one stuck in the kernel is not waited for longer than 3 s. */
static void collect_all(void)
{
	sigset_t children;
	sigemptyset(&children);
	sigaddset(&children, SIGCHLD);
	uint64_t deadline = boottime_ns() + 3000000000u;
	for (pid_t pid; (pid = waitpid(-1, NULL, WNOHANG)) >= 0 && boottime_ns() < deadline;) {
		struct timespec wait = { .tv_nsec = 100000000 };
		if (pid == 0)
			sigtimedwait(&children, NULL, &wait);
	}
}

void retire_disk(int root, const char *name)
{
	if (syncfs(root))
		log_line("flushing %s: %s", name, strerror(errno));
	if (fchdir(root) == 0 && mount(NULL, ".", NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0)
		return;
	/* Something still writes (a swap file, a loop device): freezing leaves the same clean journal. */
	int error = errno;
	if (ioctl(root, (int)FIFREEZE, 0))
		log_line("%s stays writable: %s, %s", name, strerror(error), strerror(errno));
}

_Noreturn void end_machine(void)
{
	guest.phase = PHASE_ENDING;
	kill(-1, SIGKILL);
	collect_all();
	close_volumes();
	if (guest.data_disk >= 0)
		retire_disk(guest.data_disk, "the writable disk");
	send_message(M_SYNCED, 0, NULL, 0);
	flush_port(2000);
	power_off();
}
