#include "daemon/seccomp.h"

#include <errno.h>
#include <linux/sched.h>
#include <sys/personality.h>
#include <sys/socket.h>

#include "base/util.h"

/* What is in no table below answers ENOSYS, as on an older kernel: libc and language runtimes then
 * take the older call. That is how clone3 must answer, since a filter cannot see its flags (they
 * lie behind a pointer), while those of clone are checked here. */
#define DEFAULT_ERRNO ENOSYS

/* Only the native call table. The 32-bit one would be a second kernel surface whose socketcall
 * hides the arguments of socket from a filter, and gVisor has none either. */
#if defined(__x86_64__)
#define ARCHITECTURE "SCMP_ARCH_X86_64"
#elif defined(__aarch64__)
#define ARCHITECTURE "SCMP_ARCH_AARCH64"
#else
#error "name this machine's libseccomp architecture"
#endif

/* Names that a machine or its libseccomp does not know are skipped by the runtime: AArch64 has none
 * of the older calls, such as open, fork and dup2. */
static const char *const allowed[] = {
        /* processes and threads */
        "fork", "vfork", "execve", "execveat", "exit", "exit_group", "wait4", "waitid", "getpid",
        "getppid", "gettid", "getpgid", "getpgrp", "getsid", "setpgid", "setsid", "set_tid_address",
        "set_robust_list", "get_robust_list", "set_thread_area", "get_thread_area", "arch_prctl",
        "prctl", "rseq", "membarrier", "futex", "futex_waitv", "futex_wait", "futex_wake",
        "futex_requeue", "pidfd_open", "pidfd_send_signal", "process_mrelease",

        /* scheduling and limits of one's own processes */
        "sched_yield", "sched_getaffinity", "sched_setaffinity", "sched_getattr", "sched_setattr",
        "sched_getparam", "sched_setparam", "sched_getscheduler", "sched_setscheduler",
        "sched_get_priority_max", "sched_get_priority_min", "sched_rr_get_interval", "getpriority",
        "setpriority", "ioprio_get", "ioprio_set", "getrlimit", "setrlimit", "prlimit64",
        "getrusage", "times", "getcpu",

        /* debuggers and tracers; the kernel lets them reach processes of the same user only */
        "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd",

        /* users and groups: without capabilities a process changes only among its own */
        "getuid", "geteuid", "getgid", "getegid", "getgroups", "getresuid", "getresgid", "setuid",
        "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid",
        "setgroups", "capget", "capset", "umask",

        /* signals */
        "kill", "tkill", "tgkill", "pause", "alarm", "rt_sigaction", "rt_sigprocmask",
        "rt_sigreturn", "rt_sigpending", "rt_sigqueueinfo", "rt_sigsuspend", "rt_sigtimedwait",
        "rt_tgsigqueueinfo", "sigaltstack", "signalfd", "signalfd4", "restart_syscall",

        /* memory */
        "brk", "mmap", "munmap", "mremap", "mprotect", "madvise", "process_madvise", "msync",
        "mincore", "mlock", "mlock2", "mlockall", "munlock", "munlockall", "mseal", "cachestat",
        "remap_file_pages", "memfd_create", "pkey_alloc", "pkey_free", "pkey_mprotect",
        "map_shadow_stack", "get_mempolicy", "set_mempolicy", "set_mempolicy_home_node", "mbind",

        /* opening and describing files */
        "open", "openat", "openat2", "creat", "close", "close_range", "dup", "dup2", "dup3",
        "fcntl", "flock", "ioctl", "access", "faccessat", "faccessat2", "stat", "fstat", "lstat",
        "newfstatat", "statx", "statfs", "fstatfs", "readlink", "readlinkat", "getdents",
        "getdents64", "getcwd", "chdir", "fchdir",

        /* reading and writing */
        "read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2",
        "pwritev2", "lseek", "sendfile", "splice", "tee", "vmsplice", "copy_file_range",
        "readahead", "fadvise64", "sync", "syncfs", "fsync", "fdatasync", "sync_file_range",
        "io_setup", "io_submit", "io_cancel", "io_getevents", "io_pgetevents", "io_destroy",

        /* changing files */
        "mkdir", "mkdirat", "rmdir", "mknod", "mknodat", "link", "linkat", "symlink", "symlinkat",
        "unlink", "unlinkat", "rename", "renameat", "renameat2", "truncate", "ftruncate",
        "fallocate", "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown",
        "fchownat", "utime", "utimes", "futimesat", "utimensat", "getxattr", "lgetxattr",
        "fgetxattr", "getxattrat", "setxattr", "lsetxattr", "fsetxattr", "setxattrat", "listxattr",
        "llistxattr", "flistxattr", "listxattrat", "removexattr", "lremovexattr", "fremovexattr",
        "removexattrat", "inotify_init", "inotify_init1", "inotify_add_watch", "inotify_rm_watch",

        /* pipes, waiting for descriptors */
        "pipe", "pipe2", "eventfd", "eventfd2", "poll", "ppoll", "select", "pselect6",
        "epoll_create", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2",

        /* sockets; which families socket makes is decided below */
        "socketpair", "bind", "listen", "accept", "accept4", "connect", "shutdown", "getsockname",
        "getpeername", "getsockopt", "setsockopt", "sendto", "recvfrom", "sendmsg", "recvmsg",
        "sendmmsg", "recvmmsg",

        /* System V and POSIX messages, semaphores, shared memory: of the own IPC namespace */
        "shmget", "shmat", "shmdt", "shmctl", "semget", "semop", "semtimedop", "semctl", "msgget",
        "msgsnd", "msgrcv", "msgctl", "mq_open", "mq_unlink", "mq_timedsend", "mq_timedreceive",
        "mq_notify", "mq_getsetattr",

        /* time */
        "time", "gettimeofday", "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep",
        "adjtimex", "getitimer", "setitimer", "timer_create", "timer_settime", "timer_gettime",
        "timer_getoverrun", "timer_delete", "timerfd_create", "timerfd_settime", "timerfd_gettime",

        /* the system, read only */
        "uname", "sysinfo", "getrandom",

        /* a program that confines itself further */
        "seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"};

/* Calls that programs try and can do without, or that say best what went wrong when refused. The
 * capabilities that most of them need are gone too; this keeps their code out of reach as well. */
static const char *const refused[] = {
        /* mounts and the root directory */
        "mount", "umount2", "pivot_root", "chroot", "fsopen", "fsconfig", "fsmount", "fspick",
        "move_mount", "open_tree", "mount_setattr", "quotactl", "quotactl_fd", "swapon", "swapoff",

        /* namespaces; clone is decided below */
        "unshare", "setns",

        /* handles that pass by the directory tree, events of a whole file system */
        "name_to_handle_at", "open_by_handle_at", "fanotify_init", "fanotify_mark",

        /* large surfaces in the kernel with a history of privilege escalation */
        "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter",
        "io_uring_register", "modify_ldt",

        /* keyrings: they know no namespace */
        "add_key", "request_key", "keyctl",

        /* the host as a whole: kernel, modules, clock, names, hardware, accounting, log */
        "kexec_load", "kexec_file_load", "reboot", "init_module", "finit_module", "delete_module",
        "settimeofday", "clock_settime", "clock_adjtime", "sethostname", "setdomainname", "ioperm",
        "iopl", "acct", "syslog", "vhangup", "kcmp", "move_pages", "migrate_pages"};

/* Local, Internet, and netlink, which getifaddrs(3) needs. The others (vsock, which reaches the
 * hypervisor; the kernel's ciphers; raw packets; field buses) end at the filter. */
static const int socket_families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};

static const unsigned namespace_flags[] = {CLONE_NEWNS,  CLONE_NEWCGROUP, CLONE_NEWUTS,
                                           CLONE_NEWIPC, CLONE_NEWUSER,   CLONE_NEWPID,
                                           CLONE_NEWNET};

/* What setarch(8) and gdb ask for: plain Linux, without address randomisation, as a 32-bit machine;
 * and the question which one it is. */
static const unsigned personalities[] = {PER_LINUX, ADDR_NO_RANDOMIZE, PER_LINUX32, 0xffffffff};

static json_t *name_list(const char *const *names, size_t n)
{
        json_t *list = json_array();

        for (size_t i = 0; i < n; i++)
                if (json_array_append_new(list, json_string(names[i])) < 0) {
                        json_decref(list);
                        return NULL;
                }
        return list;
}

static json_t *allow(const char *const *names, size_t n)
{
        return json_pack("{s:o, s:s}", "names", name_list(names, n), "action", "SCMP_ACT_ALLOW");
}

static json_t *refuse(const char *const *names, size_t n)
{
        return json_pack("{s:o, s:s, s:i}", "names", name_list(names, n), "action",
                         "SCMP_ACT_ERRNO", "errnoRet", EPERM);
}

static json_t *allow_first_argument(const char *name, unsigned value)
{
        return json_pack("{s:[s], s:s, s:[{s:i, s:I, s:s}]}", "names", name, "action",
                         "SCMP_ACT_ALLOW", "args", "index", 0, "value", (json_int_t)value, "op",
                         "SCMP_CMP_EQ");
}

/* The rest of the families; those between the allowed ones are long dead and say ENOSYS. */
static json_t *refuse_families_above(int family)
{
        return json_pack("{s:[s], s:s, s:i, s:[{s:i, s:i, s:s}]}", "names", "socket", "action",
                         "SCMP_ACT_ERRNO", "errnoRet", EAFNOSUPPORT, "args", "index", 0, "value",
                         family, "op", "SCMP_CMP_GT");
}

static unsigned all_namespace_flags(void)
{
        unsigned all = 0;

        for (size_t i = 0; i < ARRAY_SIZE(namespace_flags); i++)
                all |= namespace_flags[i];
        return all;
}

static json_t *allow_clone_without(unsigned flags)
{
        return json_pack("{s:[s], s:s, s:[{s:i, s:I, s:i, s:s}]}", "names", "clone", "action",
                         "SCMP_ACT_ALLOW", "args", "index", 0, "value", (json_int_t)flags,
                         "valueTwo", 0, "op", "SCMP_CMP_MASKED_EQ");
}

static json_t *refuse_clone_with(unsigned flag)
{
        return json_pack("{s:[s], s:s, s:i, s:[{s:i, s:I, s:I, s:s}]}", "names", "clone", "action",
                         "SCMP_ACT_ERRNO", "errnoRet", EPERM, "args", "index", 0, "value",
                         (json_int_t)flag, "valueTwo", (json_int_t)flag, "op",
                         "SCMP_CMP_MASKED_EQ");
}

static json_t *rules(void)
{
        json_t *list = json_array();
        int failed = 0;

        failed |= json_array_append_new(list, allow(allowed, ARRAY_SIZE(allowed)));
        failed |= json_array_append_new(list, refuse(refused, ARRAY_SIZE(refused)));
        for (size_t i = 0; i < ARRAY_SIZE(socket_families); i++)
                failed |= json_array_append_new(
                        list, allow_first_argument("socket", (unsigned)socket_families[i]));
        failed |= json_array_append_new(list, refuse_families_above(AF_NETLINK));
        for (size_t i = 0; i < ARRAY_SIZE(personalities); i++)
                failed |= json_array_append_new(
                        list, allow_first_argument("personality", personalities[i]));
        failed |= json_array_append_new(list, allow_clone_without(all_namespace_flags()));
        for (size_t i = 0; i < ARRAY_SIZE(namespace_flags); i++)
                failed |= json_array_append_new(list, refuse_clone_with(namespace_flags[i]));
        if (failed) {
                json_decref(list);
                return NULL;
        }
        return list;
}

json_t *seccomp_profile(void)
{
        return json_pack("{s:s, s:i, s:[s], s:o}", "defaultAction", "SCMP_ACT_ERRNO",
                         "defaultErrnoRet", DEFAULT_ERRNO, "architectures", ARCHITECTURE,
                         "syscalls", rules());
}
