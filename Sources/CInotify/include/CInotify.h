// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

#ifndef MARTLET_CINOTIFY_H
#define MARTLET_CINOTIFY_H

#include <stdint.h>
#include <sys/types.h>

/* Swift's Glibc module leaves out <sys/xattr.h>, ppoll and pipe2, and its fcntl overlay has no leases. */

ssize_t martlet_list_attributes(int descriptor, char *names, size_t size);
ssize_t martlet_list_attributes_at(const char *path, char *names, size_t size);
ssize_t martlet_get_attribute(int descriptor, const char *name, void *value, size_t size);
ssize_t martlet_get_attribute_at(const char *path, const char *name, void *value, size_t size);
int martlet_set_attribute(int descriptor, const char *name, const void *value, size_t size);
int martlet_remove_attribute(int descriptor, const char *name);

/* Whether somebody has the open file open for writing: 1 yes, 0 no, -1 cannot be told (errno says why). */
int martlet_is_open_for_writing(int descriptor);

/* Makes a pipe whose ends neither block nor survive exec. */
int martlet_make_pipe(int ends[2]);

/* Waits until one of two descriptors can be read (bit 0 and bit 1 of the result) or `nanoseconds` have passed; a negative second
   descriptor is left out, a negative time waits for ever. */
int martlet_wait_readable(int first, int second, int64_t nanoseconds);

#endif
