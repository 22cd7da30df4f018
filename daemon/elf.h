/* Programs as files. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* True when the kernel runs it alone: an ELF program of this machine's word size that asks for no
 * dynamic loader. n: of the whole file, or of its beginning with the headers. */
bool elf_is_static(const char *bytes, size_t n);
