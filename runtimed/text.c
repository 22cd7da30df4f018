#include "runtimed/text.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"

static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */
#define REPLACEMENT_LEN (sizeof(replacement) - 1)

/* How many bytes the first character takes; 0: it is none. */
static size_t character(const uint8_t *s, size_t n)
{
        size_t len = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;

        if (s[0] >= 0x20 && s[0] < 0x80)
                return 1;
        return len <= n && str_is_utf8(s, len) ? len : 0;
}

char *text_of(const void *bytes, size_t n, size_t max, uint64_t *ret_omitted)
{
        const uint8_t *s = bytes;
        /* Each byte may become three. */
        char *text = malloc(MIN(n * REPLACEMENT_LEN, max) + 1);
        size_t used = 0, i = 0;

        if (!text)
                return NULL;
        while (i < n) {
                size_t len = character(s + i, n - i);
                const void *from = len ? (const void *)(s + i) : replacement;
                size_t add = len ? len : REPLACEMENT_LEN;
                if (used + add > max)
                        break;
                memcpy(text + used, from, add);
                used += add;
                i += len ? len : 1;
        }
        text[used] = '\0';
        if (ret_omitted)
                *ret_omitted = n - i;
        return text;
}
