#include "idle.h"

#include "files.h"
#include "guest.h"

void settle_guest(void)
{
	/* kcompactd looks twice a second whether memory is fragmented. Without this it still compacts when kswapd or an
	 * allocation asks for it. */
	write_text(guest.proc, "sys/vm/compaction_proactiveness", "0");
	/* The lockup detector's timer: every 24 s instead of every 4, a stuck processor is named after 120 s instead of
	 * 20. On a host with more VMs than processors 20 s name the host's load. */
	write_text(guest.proc, "sys/kernel/watchdog_thresh", "60");
}
