// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "CInotify.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

ssize_t martlet_list_attributes(int descriptor, char *names, size_t size) {
    return flistxattr(descriptor, names, size);
}

ssize_t martlet_list_attributes_at(const char *path, char *names, size_t size) {
    return llistxattr(path, names, size);
}

ssize_t martlet_get_attribute(int descriptor, const char *name, void *value, size_t size) {
    return fgetxattr(descriptor, name, value, size);
}

ssize_t martlet_get_attribute_at(const char *path, const char *name, void *value, size_t size) {
    return lgetxattr(path, name, value, size);
}

int martlet_set_attribute(int descriptor, const char *name, const void *value, size_t size) {
    return fsetxattr(descriptor, name, value, size, 0);
}

int martlet_remove_attribute(int descriptor, const char *name) {
    return fremovexattr(descriptor, name);
}

int martlet_is_open_for_writing(int descriptor) {
    // Should somebody open the file for writing while the lease is held, the kernel sends a signal: by default SIGIO, which would
    // end the process. SIGURG is ignored by default.
    if (fcntl(descriptor, F_SETSIG, SIGURG) != 0) return -1;
    if (fcntl(descriptor, F_SETLEASE, F_RDLCK) != 0) return errno == EAGAIN ? 1 : -1;
    (void)fcntl(descriptor, F_SETLEASE, F_UNLCK);
    return 0;
}

int martlet_make_pipe(int ends[2]) {
    return pipe2(ends, O_NONBLOCK | O_CLOEXEC);
}

int martlet_wait_readable(int first, int second, int64_t nanoseconds) {
    struct pollfd descriptors[2] = {{.fd = first, .events = POLLIN}, {.fd = second, .events = POLLIN}};
    struct timespec time = {.tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000};
    if (ppoll(descriptors, 2, nanoseconds < 0 ? NULL : &time, NULL) <= 0) return 0;
    return (descriptors[0].revents ? 1 : 0) | (descriptors[1].revents ? 2 : 0);
}
