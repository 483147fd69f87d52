#include "idle.h"

#include "files.h"
#include "guest.h"

void settle_guest(void)
{
	/* kcompactd looks twice a second whether memory is fragmented. Without this it still compacts when kswapd or an
	 * allocation asks for it. */
	write_text(guest.proc, "sys/vm/compaction_proactiveness", "0");
	/* Each table of neighbours wakes every 5 s to probe the entries flagged `managed`: there are none. An hour. */
	write_text(guest.proc, "sys/net/ipv4/neigh/default/interval_probe_time_ms", "3600000");
	write_text(guest.proc, "sys/net/ipv6/neigh/default/interval_probe_time_ms", "3600000");
}
