/* systemd's journal, for lines with fields (base/log.h). */
#pragma once

#include "base/log.h"

/* For log_set_journal. Fields have at most 256 bytes each, longer ones are cut. A journal that does
 * not read holds up the caller, as standard error would. */
int journal_send(int priority, const char *text, const struct log_field *fields, size_t n);
