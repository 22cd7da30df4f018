/* Looks for what is wrong with this host and says how to repair it: first what can be seen at once
 * (doctor_checks.h), then the database, then every runtime, by its version and by a sandbox that is
 * made, tried and thrown away (doctor_trial.h). docs/doctor.md describes every finding.
 *
 * What hangs is a finding, and holds up neither the loop nor the examination for longer than its
 * own deadline. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/err.h"
#include "daemon/finding.h"
#include "daemon/registry.h"

/* Of a whole examination, for those who have no reason for another. */
#define DOCTOR_TIMEOUT_MS 60000

struct doctor;
LIST_HEAD(doctor_list, doctor);

struct doctor_options {
        unsigned timeout_ms;
        uint32_t owner; /* of the sandboxes that are tried: a uid of the host */
        bool ask_name_servers;
};

struct doctor_ops {
        void (*on_finding)(void *data, const struct finding *f);
        /* Once, last of all. */
        void (*on_done)(void *data);
};

/* Begins; nothing is called back before the return, and all within its timeout. It stays in `list`
 * until the last thing that it had begun has come to its end. */
int doctor_new(struct registry *r, const struct doctor_options *options,
               const struct doctor_ops *ops, void *data, struct doctor_list *list,
               struct doctor **ret, struct err *e);
/* Before on_done: nothing is called back any more, and what was made is removed. */
void doctor_abandon(struct doctor *d);

/* When the loop has ended: those whose last answer will not come any more. */
void doctor_list_done(struct doctor_list *list);
