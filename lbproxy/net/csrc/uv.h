/* libuv, as uvloop's library exports it. */
#ifndef LBPROXY_UV_H
#define LBPROXY_UV_H

#include <stdbool.h>
#include <stddef.h>

struct uv {
    size_t (*handle_size)(int type);
    int (*prepare_init)(void *loop, void *handle);
    int (*prepare_start)(void *handle, void (*callback)(void *handle));
    int (*idle_init)(void *loop, void *handle);
    int (*idle_start)(void *handle, void (*callback)(void *handle));
    int (*idle_stop)(void *handle);
    void (*close)(void *handle, void (*callback)(void *handle));
    void (*unref)(void *handle);
    int (*backend_fd)(const void *loop);
    int (*backend_timeout)(const void *loop);
    void (*update_time)(void *loop);
};

enum { UV_IDLE = 6, UV_PREPARE = 9 }; /* of enum uv_handle_type; fixed since libuv 1.0 */

extern struct uv uv;

/* Fills in `uv` from the library at `path`, which is loaded; false if it lacks anything. */
bool find_uv(const char *path);

#endif
