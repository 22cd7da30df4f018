/* The lines of code that log are of no use to an operator. */
#define SD_JOURNAL_SUPPRESS_LOCATION

#include "daemon/journal.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include "base/str.h"

#define SOCKET      "/run/systemd/journal/socket" /* https://systemd.io/JOURNAL_NATIVE_PROTOCOL/ */
#define MESSAGE_MAX 2100                          /* a line of base/log.c */
#define FIELD_MAX   (32 + 256)

static struct iovec to_iovec(char *text)
{
        return (struct iovec){.iov_base = text, .iov_len = strlen(text)};
}

int journal_send(int priority, const char *text, const struct log_field *fields, size_t n)
{
        char message[MESSAGE_MAX], level[32], others[LOG_FIELDS_MAX][FIELD_MAX];
        struct iovec iov[2 + LOG_FIELDS_MAX];
        int used = 0;

        if (access(SOCKET, W_OK) < 0) /* of that sd_journal_sendv says nothing */
                return -errno;
        (void)str_format(message, sizeof(message), "MESSAGE=%s", text); /* cut on purpose */
        (void)str_format(level, sizeof(level), "PRIORITY=%d", priority);
        iov[used++] = to_iovec(message);
        iov[used++] = to_iovec(level);
        for (size_t i = 0; i < n && i < LOG_FIELDS_MAX; i++) {
                if (!fields[i].value)
                        continue;
                (void)str_format(others[i], sizeof(others[i]), "%s=%s", fields[i].name,
                                 fields[i].value); /* cut on purpose */
                iov[used++] = to_iovec(others[i]);
        }
        return sd_journal_sendv(iov, used);
}
