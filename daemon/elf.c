#include "daemon/elf.h"

#include <elf.h>
#include <string.h>

bool elf_is_static(const char *bytes, size_t n)
{
        Elf64_Ehdr header;
        Elf64_Phdr program;

        if (n < sizeof(header))
                return false;
        memcpy(&header, bytes, sizeof(header));
        if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
            header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_phentsize != sizeof(program) ||
            header.e_phoff > n || header.e_phnum > (n - header.e_phoff) / sizeof(program))
                return false;
        for (size_t i = 0; i < header.e_phnum; i++) {
                memcpy(&program, bytes + header.e_phoff + i * sizeof(program), sizeof(program));
                if (program.p_type == PT_INTERP)
                        return false;
        }
        return true;
}
