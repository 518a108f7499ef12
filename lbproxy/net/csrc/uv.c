#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "uv.h"

#include <dlfcn.h>
#include <string.h>

struct uv uv;

bool find_uv(const char *path)
{
    struct {
        const char *name;
        void *into;
    } wanted[] = {
        {"uv_handle_size", &uv.handle_size},         {"uv_prepare_init", &uv.prepare_init},
        {"uv_prepare_start", &uv.prepare_start},     {"uv_idle_init", &uv.idle_init},
        {"uv_idle_start", &uv.idle_start},           {"uv_idle_stop", &uv.idle_stop},
        {"uv_close", &uv.close},                     {"uv_unref", &uv.unref},
        {"uv_backend_fd", &uv.backend_fd},           {"uv_backend_timeout", &uv.backend_timeout},
        {"uv_update_time", &uv.update_time},
    };
    void *library = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
    bool found = library;
    for (size_t i = 0; found && i < sizeof wanted / sizeof *wanted; i++) {
        void *function = dlsym(library, wanted[i].name);
        memcpy(wanted[i].into, &function, sizeof function);
        found = function;
    }
    return found;
}
