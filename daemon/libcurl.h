/* libcurl, loaded when the engine is Docker and not before: with the thirty libraries that it
 * brings along it would cost every other daemon 9 MiB of resident memory. */
#pragma once

#include <curl/curl.h>

#include "base/err.h"

/* Its functions, each with the prototype of curl.h. */
struct libcurl {
        __typeof__(curl_global_init) *global_init;
        __typeof__(curl_easy_init) *easy_init;
        __typeof__(curl_easy_cleanup) *easy_cleanup;
        __typeof__(curl_easy_setopt) *easy_setopt;
        __typeof__(curl_easy_getinfo) *easy_getinfo;
        __typeof__(curl_easy_pause) *easy_pause;
        __typeof__(curl_easy_strerror) *easy_strerror;
        __typeof__(curl_slist_append) *slist_append;
        __typeof__(curl_slist_free_all) *slist_free_all;
        __typeof__(curl_multi_init) *multi_init;
        __typeof__(curl_multi_cleanup) *multi_cleanup;
        __typeof__(curl_multi_setopt) *multi_setopt;
        __typeof__(curl_multi_add_handle) *multi_add_handle;
        __typeof__(curl_multi_remove_handle) *multi_remove_handle;
        __typeof__(curl_multi_assign) *multi_assign;
        __typeof__(curl_multi_socket_action) *multi_socket_action;
        __typeof__(curl_multi_info_read) *multi_info_read;
};

/* Stays loaded once it is. FAILED_PRECONDITION, with the package to install: it is not there.
 * Blocks: before the loop runs. */
int libcurl_load(const struct libcurl **ret, struct err *e);
