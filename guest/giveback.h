/* Memory that is free here is the host's. See decisions/0015. */
#pragma once

/* The kernel names free memory to the host in blocks that it can give back; once, early. */
void report_small_blocks(void);
/* Waits until what is free has been named, so that machines made of this one need not do it again. */
void rehearse_giving_back(void);
