/* What `doctor` looks at without making anything: the host, the daemon's own files and limits. Each
 * check is a row of a table and a function that blocks, for a thread of its own: the disk that it
 * asks about may hang. */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/statvfs.h>

#include "base/err.h"
#include "daemon/finding.h"
#include "daemon/registry.h"

/* What the checks are about: a copy, for a thread may come too late, when the configuration and the
 * daemon have gone. */
struct doctor_subject {
        char socket[PATH_MAX], data_dir[PATH_MAX], state_dir[PATH_MAX];
        char instance_lock[PATH_MAX]; /* "" for none */
        char image[PATH_MAX];         /* the default one's reference */
        char runtimed[PATH_MAX];
        char conflist[PATH_MAX];    /* network.conflist; "" for none */
        char plugins[8 * PATH_MAX]; /* network.plugins, each with a line feed at its end */
        char subnets[256];          /* network.subnets, likewise */
        bool networks;              /* sandboxes have one where their creator does not say */
        bool overlays;              /* likewise a root file system that they may write */
        char instance[ID_LEN + 1];  /* "" for none */
        int idmap;                  /* as struct registry has it */
        bool docker;                /* images and networks are Docker's */
        uint64_t memory, nofile;    /* of a sandbox, where its creator does not say */
        /* Where the kernel tells of itself: static strings, which tests change. */
        const char *proc, *cgroup;
};
/* INVALID_ARGUMENT: a path of the configuration is longer than any can be. */
int doctor_subject_init(struct doctor_subject *s, const struct registry *r, struct err *e);

struct doctor_check {
        const char *id, *why;
        void (*run)(const struct doctor_subject *s, struct finding *f); /* f is initialised */
};
/* NULL: there is no check of that number. */
const struct doctor_check *doctor_check(size_t i);

/* --- doctor_checks_kernel.c ---------------------------------------------------------------- */

void doctor_check_kernel(const struct doctor_subject *s, struct finding *f);
void doctor_check_namespaces(const struct doctor_subject *s, struct finding *f);
void doctor_check_seccomp(const struct doctor_subject *s, struct finding *f);
void doctor_check_cgroups(const struct doctor_subject *s, struct finding *f);
void doctor_check_memory(const struct doctor_subject *s, struct finding *f);
void doctor_check_nofile(const struct doctor_subject *s, struct finding *f);
void doctor_check_files(const struct doctor_subject *s, struct finding *f);
void doctor_check_pids(const struct doctor_subject *s, struct finding *f);
void doctor_check_inotify(const struct doctor_subject *s, struct finding *f);
void doctor_check_clock(const struct doctor_subject *s, struct finding *f);

/* Open files that one process may have, now and at most, and what a sandbox shall have. */
void doctor_judge_nofile(uint64_t soft, uint64_t hard, uint64_t for_sandboxes, struct finding *f);
/* A table of the kernel's: warns from 80 % on, fails from 95 % on. */
void doctor_judge_use(const char *what, const char *sysctl, uint64_t used, uint64_t max,
                      struct finding *f);

/* --- doctor_checks_files.c ----------------------------------------------------------------- */

void doctor_check_socket(const struct doctor_subject *s, struct finding *f);
void doctor_check_directories(const struct doctor_subject *s, struct finding *f);
void doctor_check_data_disk(const struct doctor_subject *s, struct finding *f);
void doctor_check_state_disk(const struct doctor_subject *s, struct finding *f);
void doctor_check_locks(const struct doctor_subject *s, struct finding *f);
void doctor_check_runtimed(const struct doctor_subject *s, struct finding *f);
void doctor_check_image(const struct doctor_subject *s, struct finding *f);
void doctor_check_overlay(const struct doctor_subject *s, struct finding *f);

/* How much room a disk must have: below warn, below fail. */
struct doctor_floor {
        uint64_t warn_bytes, fail_bytes, warn_inodes, fail_inodes;
};
void doctor_judge_disk(const char *path, const struct statvfs *disk,
                       const struct doctor_floor *floor, struct finding *f);
/* Nobody but root may change a file, by itself or by the directories that lead to it. */
void doctor_judge_path(const char *path, struct finding *f);

/* --- doctor_checks_network.c --------------------------------------------------------------- */

void doctor_check_plugins(const struct doctor_subject *s, struct finding *f);
void doctor_check_packet_filter(const struct doctor_subject *s, struct finding *f);
/* The host's routes, through which those addresses may be other machines'. */
void doctor_check_subnets(const struct doctor_subject *s, struct finding *f);
/* Other programs' tables of nftables, iptables' among them. */
void doctor_check_forward(const struct doctor_subject *s, struct finding *f);
