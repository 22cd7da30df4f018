#include "tests/torture/journal_vfs.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <pthread.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/str.h"
#include "base/util.h"

#define SECTOR 512

enum file { FILE_DB, FILE_WAL, FILE_JOURNAL, FILES };
static const char *const suffixes[FILES] = {"", "-wal", "-journal"};

enum step_kind { STEP_WRITE, STEP_TRUNCATE, STEP_SYNC, STEP_REMOVE };

struct step {
        enum step_kind kind;
        enum file file;
        size_t offset, n; /* of a truncation: offset is the new size */
        unsigned char *bytes;
        bool lasting; /* of a removal: the directory was synced */
};

struct image {
        bool exists;
        unsigned char *bytes;
        size_t n, allocated;
};

static struct {
        pthread_mutex_t mutex;
        bool recording;
        char path[256];
        struct image before[FILES]; /* as the files were when it began */
        struct step *steps;
        size_t n, allocated;
} journal = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void record(struct step step, const void *bytes)
{
        (void)pthread_mutex_lock(&journal.mutex); /* cannot fail for this kind */
        if (journal.recording) {
                if (journal.n == journal.allocated) {
                        journal.allocated = MAX(journal.allocated * 2, (size_t)1024);
                        journal.steps = realloc(journal.steps,
                                                journal.allocated * sizeof(journal.steps[0]));
                        assert_non_null(journal.steps);
                }
                if (bytes) {
                        step.bytes = malloc(step.n);
                        assert_non_null(step.bytes);
                        memcpy(step.bytes, bytes, step.n);
                }
                journal.steps[journal.n++] = step;
        }
        (void)pthread_mutex_unlock(&journal.mutex);
}

/* Which of the files it is; -1: none. */
static int file_of(const char *name)
{
        size_t n = strlen(journal.path);

        if (!name || strncmp(name, journal.path, n) != 0)
                return -1;
        for (int i = 0; i < FILES; i++) {
                if (str_eq(name + n, suffixes[i]))
                        return i;
        }
        return -1;
}

/* --- the shim ------------------------------------------------------------------------------ */

static sqlite3_vfs *below;

struct shim_file {
        sqlite3_file base;
        int file; /* -1: not written down */
        sqlite3_file *real;
};

#define REAL(f)              (((struct shim_file *)(f))->real)
#define PASS(f, method, ...) (REAL(f)->pMethods->method(REAL(f), ##__VA_ARGS__))

static int shim_close(sqlite3_file *f)
{
        return PASS(f, xClose);
}

static int shim_read(sqlite3_file *f, void *bytes, int n, sqlite3_int64 offset)
{
        return PASS(f, xRead, bytes, n, offset);
}

static int shim_write(sqlite3_file *f, const void *bytes, int n, sqlite3_int64 offset)
{
        int file = ((struct shim_file *)f)->file;
        int code = PASS(f, xWrite, bytes, n, offset);

        if (code == SQLITE_OK && file >= 0)
                record((struct step){.kind = STEP_WRITE,
                                     .file = (enum file)file,
                                     .offset = (size_t)offset,
                                     .n = (size_t)n},
                       bytes);
        return code;
}

static int shim_truncate(sqlite3_file *f, sqlite3_int64 size)
{
        int file = ((struct shim_file *)f)->file;
        int code = PASS(f, xTruncate, size);

        if (code == SQLITE_OK && file >= 0)
                record((struct step){.kind = STEP_TRUNCATE,
                                     .file = (enum file)file,
                                     .offset = (size_t)size},
                       NULL);
        return code;
}

static int shim_sync(sqlite3_file *f, int flags)
{
        int file = ((struct shim_file *)f)->file;

        (void)flags; /* nothing here is slow enough to need the real one */
        if (file >= 0)
                record((struct step){.kind = STEP_SYNC, .file = (enum file)file}, NULL);
        return SQLITE_OK;
}

static int shim_file_size(sqlite3_file *f, sqlite3_int64 *size)
{
        return PASS(f, xFileSize, size);
}

static int shim_lock(sqlite3_file *f, int lock)
{
        return PASS(f, xLock, lock);
}

static int shim_unlock(sqlite3_file *f, int lock)
{
        return PASS(f, xUnlock, lock);
}

static int shim_check_reserved_lock(sqlite3_file *f, int *out)
{
        return PASS(f, xCheckReservedLock, out);
}

static int shim_file_control(sqlite3_file *f, int op, void *arg)
{
        return PASS(f, xFileControl, op, arg);
}

static int shim_sector_size(sqlite3_file *f)
{
        return PASS(f, xSectorSize);
}

static int shim_device_characteristics(sqlite3_file *f)
{
        return PASS(f, xDeviceCharacteristics);
}

static int shim_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **out)
{
        return PASS(f, xShmMap, page, size, extend, out);
}

static int shim_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
        return PASS(f, xShmLock, offset, n, flags);
}

static void shim_shm_barrier(sqlite3_file *f)
{
        PASS(f, xShmBarrier);
}

static int shim_shm_unmap(sqlite3_file *f, int delete)
{
        return PASS(f, xShmUnmap, delete);
}

/* Version 2: without memory-mapped pages, which nobody asked for. */
static const sqlite3_io_methods shim_methods = {
        .iVersion = 2,
        .xClose = shim_close,
        .xRead = shim_read,
        .xWrite = shim_write,
        .xTruncate = shim_truncate,
        .xSync = shim_sync,
        .xFileSize = shim_file_size,
        .xLock = shim_lock,
        .xUnlock = shim_unlock,
        .xCheckReservedLock = shim_check_reserved_lock,
        .xFileControl = shim_file_control,
        .xSectorSize = shim_sector_size,
        .xDeviceCharacteristics = shim_device_characteristics,
        .xShmMap = shim_shm_map,
        .xShmLock = shim_shm_lock,
        .xShmBarrier = shim_shm_barrier,
        .xShmUnmap = shim_shm_unmap,
};

static int shim_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *f, int flags,
                     int *out_flags)
{
        struct shim_file *shim = (struct shim_file *)f;

        (void)vfs;
        shim->file = file_of(name);
        shim->real = (sqlite3_file *)(shim + 1);
        int code = below->xOpen(below, name, shim->real, flags, out_flags);
        shim->base.pMethods = code == SQLITE_OK ? &shim_methods : NULL;
        return code;
}

static int shim_delete(sqlite3_vfs *vfs, const char *name, int sync_directory)
{
        int file = file_of(name);
        int code = below->xDelete(below, name, sync_directory);

        (void)vfs;
        if (code == SQLITE_OK && file >= 0)
                record((struct step){.kind = STEP_REMOVE,
                                     .file = (enum file)file,
                                     .lasting = sync_directory != 0},
                       NULL);
        return code;
}

static void image_read(struct image *image, const char *db_path, const char *suffix)
{
        char path[300], *bytes;

        assert_true(str_format(path, sizeof(path), "%s%s", db_path, suffix));
        image->exists = io_read_file(path, 64 * MiB, &bytes, &image->n, NULL) == 0;
        if (image->exists)
                image->bytes = (unsigned char *)bytes;
        image->allocated = image->n;
}

/* --- recording ----------------------------------------------------------------------------- */

void journal_begin(const char *db_path)
{
        static sqlite3_vfs shim;

        if (!below) {
                below = sqlite3_vfs_find("unix");
                assert_non_null(below);
                shim = *below; /* what is not replaced below looks at no file */
                shim.zName = "journal";
                shim.szOsFile = (int)sizeof(struct shim_file) + below->szOsFile;
                shim.xOpen = shim_open;
                shim.xDelete = shim_delete;
                assert_int_equal(sqlite3_vfs_register(&shim, 1), SQLITE_OK);
        }
        assert_true(str_format(journal.path, sizeof(journal.path), "%s", db_path));
        for (int i = 0; i < FILES; i++)
                image_read(&journal.before[i], db_path, suffixes[i]);
        journal.recording = true;
}

void journal_end(void)
{
        journal.recording = false;
}

void journal_free(void)
{
        for (size_t i = 0; i < journal.n; i++)
                free(journal.steps[i].bytes);
        for (int i = 0; i < FILES; i++) {
                free(journal.before[i].bytes);
                journal.before[i] = (struct image){0};
        }
        free(journal.steps);
        journal.steps = NULL;
        journal.n = journal.allocated = 0;
}

size_t journal_length(void)
{
        (void)pthread_mutex_lock(&journal.mutex);
        size_t n = journal.n;
        (void)pthread_mutex_unlock(&journal.mutex);
        return n;
}

/* --- replaying ----------------------------------------------------------------------------- */

struct journal_replay {
        size_t next;                /* step */
        struct image synced[FILES]; /* what is surely there */
        size_t *pending[FILES];     /* steps since; room for all */
        size_t n_pending[FILES];
};

static void image_resize(struct image *image, size_t n)
{
        if (n > image->allocated) {
                image->allocated = MAX(n, image->allocated * 2);
                image->bytes = realloc(image->bytes, image->allocated);
                assert_non_null(image->bytes);
        }
        if (n > image->n)
                memset(image->bytes + image->n, 0, n - image->n);
        image->n = n;
}

static void image_copy(const struct image *from, struct image *to)
{
        image_resize(to, from->n);
        if (from->n > 0)
                memcpy(to->bytes, from->bytes, from->n);
        to->exists = from->exists;
}

/* https://prng.di.unimi.it/splitmix64.c */
static uint64_t next_random(uint64_t *seed)
{
        uint64_t z = *seed += UINT64_C(0x9e3779b97f4a7c15);

        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        return z ^ z >> 31;
}

/* Of a write that is torn, some sectors; their size may be there before their bytes are. */
static void tear(struct image *image, const struct step *step, uint64_t *seed)
{
        size_t end = step->offset + step->n;

        for (size_t at = step->offset; at < end;) {
                size_t stop = MIN(end, (at / SECTOR + 1) * SECTOR);
                uint64_t random = next_random(seed);
                if (random & 1) {
                        image_resize(image, MAX(image->n, stop));
                        if (random & 6)
                                memcpy(image->bytes + at, step->bytes + (at - step->offset),
                                       stop - at);
                }
                at = stop;
        }
}

static void apply(struct image *image, const struct step *step)
{
        switch (step->kind) {
        case STEP_WRITE:
                image_resize(image, MAX(image->n, step->offset + step->n));
                memcpy(image->bytes + step->offset, step->bytes, step->n);
                image->exists = true;
                break;
        case STEP_TRUNCATE:
                image_resize(image, step->offset);
                image->exists = true;
                break;
        case STEP_REMOVE:
                image_resize(image, 0);
                image->exists = false;
                break;
        case STEP_SYNC:
                break;
        }
}

/* A third of what is not synced is there, a third is not, a third of the writes is torn. */
static void apply_randomly(struct image *image, const struct step *step, uint64_t *seed)
{
        switch (next_random(seed) % 3) {
        case 0:
                apply(image, step);
                break;
        case 1:
                if (step->kind == STEP_WRITE) {
                        image->exists = true;
                        tear(image, step, seed);
                }
                break;
        default:
                break;
        }
}

struct journal_replay *journal_replay_new(void)
{
        struct journal_replay *r = calloc(1, sizeof(*r));

        assert_non_null(r);
        for (int i = 0; i < FILES; i++) {
                image_copy(&journal.before[i], &r->synced[i]);
                r->pending[i] = calloc(journal.n + 1, sizeof(size_t));
                assert_non_null(r->pending[i]);
        }
        return r;
}

bool journal_replay_step(struct journal_replay *r)
{
        if (r->next == journal.n)
                return false;
        const struct step *step = &journal.steps[r->next];
        struct image *synced = &r->synced[step->file];
        size_t *pending = r->pending[step->file], *n = &r->n_pending[step->file];

        if (step->kind != STEP_SYNC)
                pending[(*n)++] = r->next;
        if (step->kind == STEP_SYNC || step->lasting) {
                for (size_t i = 0; i < *n; i++)
                        apply(synced, &journal.steps[pending[i]]);
                *n = 0;
        }
        r->next++;
        return true;
}

bool journal_replay_is_pending(const struct journal_replay *r)
{
        for (int i = 0; i < FILES; i++) {
                if (r->n_pending[i] > 0)
                        return true;
        }
        return false;
}

void journal_replay_write(const struct journal_replay *r, const char *db_path,
                          enum journal_loss loss, uint64_t seed)
{
        for (int i = 0; i < FILES; i++) {
                struct image image = {0};
                char path[300];

                image_copy(&r->synced[i], &image);
                for (size_t k = 0; k < r->n_pending[i]; k++) {
                        const struct step *step = &journal.steps[r->pending[i][k]];
                        if (loss == LOSS_NONE)
                                apply(&image, step);
                        else if (loss == LOSS_RANDOM)
                                apply_randomly(&image, step, &seed);
                }
                assert_true(str_format(path, sizeof(path), "%s%s", db_path, suffixes[i]));
                if (image.exists)
                        assert_int_equal(io_write_in_place(path, image.bytes, image.n, 0600, NULL),
                                         0);
                else
                        (void)unlink(path); /* may not be there */
                free(image.bytes);
        }
}

void journal_replay_free(struct journal_replay *r)
{
        for (int i = 0; i < FILES; i++) {
                free(r->synced[i].bytes);
                free(r->pending[i]);
        }
        free(r);
}
