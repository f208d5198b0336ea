// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "martlet_duckdb.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

const martlet_duckdb_api *martlet_duckdb_bind(void *handle, const char **missing) {
    *missing = NULL;
    martlet_duckdb_api *api = calloc(1, sizeof(martlet_duckdb_api));
    if (api == NULL) {
        *missing = "memory";
        return NULL;
    }
#define MARTLET_DUCKDB_LOOKUP(result, name, parameters)                                                                \
    *(void **)&api->name = dlsym(handle, "duckdb_" #name);                                                             \
    if (*(void **)&api->name == NULL && *missing == NULL) *missing = "duckdb_" #name;
    MARTLET_DUCKDB_FUNCTIONS(MARTLET_DUCKDB_LOOKUP)
    if (*missing != NULL) {
        free(api);
        return NULL;
    }
    return api;
}

int martlet_memfd_create(const char *name) {
    return memfd_create(name, MFD_CLOEXEC);
}

void martlet_set_thread_name(const char *name) {
    pthread_setname_np(pthread_self(), name);
}
