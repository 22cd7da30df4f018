/* What the tests want to happen in a sandbox, and a shell cannot do, or not fast enough. Static, so
 * that it runs there.
 *
 *   inside print FILE SIZE      prints FILE, of at most 1 MiB, again and again; the first 8 bytes
 *                               are each time replaced by its number, from 0, as a little-endian
 *                               word; SIZE bytes in all
 *   inside spawn PROGRAM        for each line that it reads, runs PROGRAM to its end and prints how
 *                               many microseconds that took
 *   inside eat SIZE             uses so much memory, then sleeps
 *   inside zombies N BATCH      makes N orphans that have ended, BATCH at once
 *   inside comets N             N processes that ignore SIGTERM, each replaced by a child of its
 * own in a session of its own, on and on
 */
#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t number(const char *s)
{
        return strtoull(s, NULL, 10);
}

static void print(const char *path, uint64_t size)
{
        static uint8_t block[1 << 20];
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t length = fd < 0 ? -1 : read(fd, block, sizeof(block));

        if (length < 8)
                err(1, "%s", path);
        for (uint64_t i = 0; size > 0; i++) {
                memcpy(block, &i, sizeof(i));
                size_t want = size < (uint64_t)length ? size : (size_t)length;
                size -= want;
                for (size_t have = 0; have < want;) {
                        ssize_t n = write(STDOUT_FILENO, block + have, want - have);
                        if (n < 0)
                                err(1, "write");
                        have += (size_t)n;
                }
        }
}

static uint64_t now_us(void)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void spawn(const char *program)
{
        char line[16];

        while (fgets(line, sizeof(line), stdin)) {
                uint64_t began = now_us();
                int status = -1;
                pid_t child = vfork();
                if (child == 0) {
                        (void)execlp(program, program, NULL);
                        _exit(127);
                }
                if (child < 0 || waitpid(child, &status, 0) < 0 || status != 0)
                        errx(1, "%s: wait status %#x", program, (unsigned)status);
                printf("%llu\n", (unsigned long long)(now_us() - began));
                (void)fflush(stdout);
        }
}

static void eat(uint64_t size)
{
        uint8_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (p == MAP_FAILED)
                err(1, "mmap");
        for (uint64_t i = 0; i < size; i += 4096)
                p[i] = 1;
        for (;;)
                (void)pause();
}

/* Children of a process that has ended without looking at them. */
static void zombies(uint64_t n, uint64_t batch)
{
        for (; n > 0; n -= batch < n ? batch : n) {
                pid_t parent = fork();
                if (parent < 0)
                        err(1, "fork");
                if (parent > 0) {
                        (void)waitpid(parent, NULL, 0);
                        continue;
                }
                for (uint64_t i = 0; i < (batch < n ? batch : n); i++) {
                        /* Those before it may not have been reaped yet. */
                        pid_t child;
                        while ((child = vfork()) < 0)
                                (void)usleep(1000);
                        if (child == 0)
                                _exit(0);
                }
                _exit(0);
        }
        printf("done\n");
}

static void comets(uint64_t n)
{
        (void)signal(SIGTERM, SIG_IGN);
        (void)signal(SIGCHLD, SIG_IGN);
        for (uint64_t i = 0; i < n; i++)
                if (fork() == 0)
                        for (;;) {
                                pid_t child = fork();
                                if (child > 0)
                                        _exit(0);
                                if (child == 0)
                                        (void)setsid();
                                (void)usleep(500);
                        }
        printf("ready\n");
        (void)fflush(stdout);
        for (;;)
                (void)pause();
}

static void bomb(void)
{
        (void)signal(SIGCHLD, SIG_IGN);
        for (;;)
                if (fork() < 0)
                        (void)usleep(1000);
}

int main(int argc, char **argv)
{
        const char *what = argc > 2 ? argv[1] : "";

        if (strcmp(what, "print") == 0 && argc == 4)
                print(argv[2], number(argv[3]));
        else if (strcmp(what, "spawn") == 0)
                spawn(argv[2]);
        else if (strcmp(what, "eat") == 0)
                eat(number(argv[2]));
        else if (strcmp(what, "zombies") == 0 && argc == 4)
                zombies(number(argv[2]), number(argv[3]));
        else if (strcmp(what, "comets") == 0)
                comets(number(argv[2]));
        else if (strcmp(what, "bomb") == 0)
                bomb();
        else
                errx(2, "usage: see tests/e2e/inside.c");
        return 0;
}
