#include "daemon/libcurl.h"

#include <dlfcn.h>
#include <stdbool.h>

#include "base/util.h"

/* That of OpenSSL, of GnuTLS: no TLS is spoken here, either does. */
static const char *const names[] = {"libcurl.so.4", "libcurl-gnutls.so.4"};

static int look_up(void *library, struct libcurl *ret, struct err *e)
{
        const struct {
                const char *name;
                void *to; /* a pointer to a function, in which dlsym's void * fits (POSIX) */
        } functions[] = {
                {"curl_global_init", &ret->global_init},
                {"curl_easy_init", &ret->easy_init},
                {"curl_easy_cleanup", &ret->easy_cleanup},
                {"curl_easy_setopt", &ret->easy_setopt},
                {"curl_easy_getinfo", &ret->easy_getinfo},
                {"curl_easy_pause", &ret->easy_pause},
                {"curl_easy_strerror", &ret->easy_strerror},
                {"curl_slist_append", &ret->slist_append},
                {"curl_slist_free_all", &ret->slist_free_all},
                {"curl_multi_init", &ret->multi_init},
                {"curl_multi_cleanup", &ret->multi_cleanup},
                {"curl_multi_setopt", &ret->multi_setopt},
                {"curl_multi_add_handle", &ret->multi_add_handle},
                {"curl_multi_remove_handle", &ret->multi_remove_handle},
                {"curl_multi_assign", &ret->multi_assign},
                {"curl_multi_socket_action", &ret->multi_socket_action},
                {"curl_multi_info_read", &ret->multi_info_read},
        };

        for (size_t i = 0; i < ARRAY_SIZE(functions); i++) {
                void *found = dlsym(library, functions[i].name);
                if (!found)
                        return err_set(e, STATUS_FAILED_PRECONDITION,
                                       "the installed libcurl has no %s", functions[i].name);
                *(void **)functions[i].to = found;
        }
        return 0;
}

int libcurl_load(const struct libcurl **ret, struct err *e)
{
        static struct libcurl loaded;
        static bool is_loaded;
        void *library = NULL;

        *ret = &loaded;
        if (is_loaded)
                return 0;
        for (size_t i = 0; !library && i < ARRAY_SIZE(names); i++)
                library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        if (!library)
                return err_set(e, STATUS_FAILED_PRECONDITION,
                               "engine docker needs libcurl, which is not installed; install the "
                               "package libcurl4");
        int r = look_up(library, &loaded, e);
        if (r < 0) {
                (void)dlclose(library); /* nothing of it is in use */
                return r;
        }
        /* No TLS, and no other library's set-up either. */
        if (loaded.global_init(CURL_GLOBAL_NOTHING) != CURLE_OK)
                return err_set(e, STATUS_INTERNAL, "libcurl cannot be set up");
        is_loaded = true;
        return 0;
}
