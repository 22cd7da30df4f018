#include "runtimed/footprint.h"

#include <link.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

/* Code and constants, never what was written to: that would be lost. */
static int release_segments(struct dl_phdr_info *info, size_t size, void *data)
{
        uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

        (void)size, (void)data;
        for (int i = 0; i < info->dlpi_phnum; i++) {
                const ElfW(Phdr) *h = &info->dlpi_phdr[i];
                if (h->p_type != PT_LOAD || h->p_flags & PF_W)
                        continue;
                uintptr_t begin = (info->dlpi_addr + h->p_vaddr + page - 1) & ~(page - 1);
                uintptr_t end = (info->dlpi_addr + h->p_vaddr + h->p_memsz) & ~(page - 1);
                if (begin < end) /* what fails saves nothing */
                        (void)madvise((void *)begin, end - begin, MADV_DONTNEED);
        }
        return 1; /* the first is the program itself */
}

void footprint_release(void)
{
        (void)malloc_trim(0);
        (void)dl_iterate_phdr(release_segments, NULL); /* what it returned */
}
