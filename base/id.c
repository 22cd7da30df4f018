#include "base/id.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";

int id_new(char ret[ID_LEN + 1])
{
        uint8_t random[10];
        struct timespec now;

        if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
                return -errno;
        if (clock_gettime(CLOCK_REALTIME, &now) < 0)
                return -errno;
        uint64_t ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
        for (int i = 9; i >= 0; i--, ms >>= 5)
                ret[i] = digits[ms & 31];
        for (size_t i = 0; i < 16; i++) { /* 80 bits, five at a time */
                size_t bit = i * 5, byte = bit / 8;
                unsigned pair = (unsigned)random[byte] << 8 | (byte < 9 ? random[byte + 1] : 0);
                ret[10 + i] = digits[pair >> (11 - bit % 8) & 31];
        }
        ret[ID_LEN] = '\0';
        return 0;
}

bool id_is_valid(const char *s)
{
        return strlen(s) == ID_LEN && strspn(s, digits) == ID_LEN;
}

bool name_is_valid(const char *s)
{
        size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-");
        return n >= 1 && n <= NAME_MAX_LEN && s[n] == '\0' && s[0] != '-' && s[n - 1] != '-' &&
               !id_is_valid(s);
}
