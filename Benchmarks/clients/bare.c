// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

// One record at a time with as little as possible in between: every command prints one line of JSON.
//   bare single HOST PORT TOPIC COUNT SIZE    a Produce request by a blocking socket, its answer, the next
//   bare floor DIRECTORY COUNT SIZE           the same against a server that only writes, flushes and answers
//   bare flush DIRECTORY COUNT SIZE           writes and flushes, without a server

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { WARM_UP = 200, ANSWER_BYTES = 64 };

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int ascending(const void *left, const void *right) {
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

static void print_percentiles(int64_t *times, long count) {
    qsort(times, count, sizeof *times, ascending);
    printf(
        "{\"count\": %ld, \"p50\": %.4f, \"p95\": %.4f, \"p99\": %.4f, \"max\": %.4f}\n", count, times[count / 2] / 1e6, times[count * 95 / 100] / 1e6,
        times[count * 99 / 100] / 1e6, times[count - 1] / 1e6);
}

// MARK: A Produce request

struct bytes {
    uint8_t *start;
    size_t count;
};

static void put(struct bytes *bytes, int64_t value, int width) {
    for (int shift = (width - 1) * 8; shift >= 0; shift -= 8) bytes->start[bytes->count++] = (uint8_t)((uint64_t)value >> shift);
}

static void put_varint(struct bytes *bytes, int64_t value) {
    uint64_t zigzag = ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
    for (; zigzag >= 0x80; zigzag >>= 7) bytes->start[bytes->count++] = (uint8_t)(zigzag | 0x80);
    bytes->start[bytes->count++] = (uint8_t)zigzag;
}

static void set(struct bytes *bytes, size_t place, int64_t value) {
    struct bytes there = {bytes->start + place, 0};
    put(&there, value, 4);
}

static uint32_t crc32c(const uint8_t *bytes, size_t count) {
    uint32_t crc = ~0u;
    for (size_t index = 0; index < count; index++) {
        crc ^= bytes[index];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (0x82f63b78u & -(crc & 1));
    }
    return ~crc;
}

static void put_batch(struct bytes *to, size_t size) {
    struct bytes record = {malloc(size + 32), 0};
    put(&record, 0, 1), put_varint(&record, 0), put_varint(&record, 0), put_varint(&record, -1), put_varint(&record, (int64_t)size);
    memset(record.start + record.count, 'x', size), record.count += size;
    put_varint(&record, 0);
    put(to, 0, 8);
    size_t length_place = to->count;
    put(to, 0, 4), put(to, -1, 4), put(to, 2, 1);
    size_t checksum_place = to->count;
    put(to, 0, 4);
    size_t checked = to->count;
    put(to, 0, 2), put(to, 0, 4), put(to, 1700000000000, 8), put(to, 1700000000000, 8), put(to, -1, 8), put(to, -1, 2), put(to, -1, 4), put(to, 1, 4);
    put_varint(to, (int64_t)record.count);
    memcpy(to->start + to->count, record.start, record.count), to->count += record.count;
    set(to, length_place, (int64_t)(to->count - length_place - 4));
    set(to, checksum_place, crc32c(to->start + checked, to->count - checked));
    free(record.start);
}

// Produce version 7, acks=all.
static struct bytes request(const char *topic, size_t size) {
    struct bytes made = {malloc(size + 512), 0};
    put(&made, 0, 4), put(&made, 0, 2), put(&made, 7, 2), put(&made, 1, 4), put(&made, -1, 2), put(&made, -1, 2), put(&made, -1, 2), put(&made, 30000, 4);
    put(&made, 1, 4), put(&made, (int64_t)strlen(topic), 2);
    memcpy(made.start + made.count, topic, strlen(topic)), made.count += strlen(topic);
    put(&made, 1, 4), put(&made, 0, 4);
    size_t length_place = made.count;
    put(&made, 0, 4);
    put_batch(&made, size);
    set(&made, length_place, (int64_t)(made.count - length_place - 4));
    set(&made, 0, (int64_t)(made.count - 4));
    return made;
}

// MARK: One at a time

static void send_all(int socket, const uint8_t *bytes, size_t count) {
    for (ssize_t sent; count > 0; bytes += sent, count -= (size_t)sent)
        if ((sent = write(socket, bytes, count)) <= 0) fail("send");
}

static void receive_all(int socket, uint8_t *bytes, size_t count) {
    for (ssize_t got; count > 0; bytes += got, count -= (size_t)got)
        if ((got = read(socket, bytes, count)) <= 0) fail("receive");
}

static int connected(const char *host, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) fail("address");
    int made = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (connect(made, (struct sockaddr *)&address, sizeof address) != 0) fail("connect");
    setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return made;
}

static void exchange(int socket, struct bytes question, long count, bool is_kafka, size_t name_bytes) {
    int64_t *times = malloc(sizeof *times * (size_t)count);
    uint8_t answer[4096];
    for (long index = -WARM_UP; index < count; index++) {
        int64_t start = now();
        send_all(socket, question.start, question.count);
        if (is_kafka) {
            receive_all(socket, answer, 4);
            size_t length = (size_t)answer[0] << 24 | answer[1] << 16 | answer[2] << 8 | answer[3];
            if (length > sizeof answer) fail("answer");
            receive_all(socket, answer, length);
            // Correlation, topics, name, partitions, index, then the error.
            const uint8_t *error = answer + 4 + 4 + 2 + name_bytes + 4 + 4;
            if (error[0] || error[1]) fprintf(stderr, "the record was refused with error %d\n", error[0] << 8 | error[1]), exit(1);
        } else {
            receive_all(socket, answer, ANSWER_BYTES);
        }
        if (index >= 0) times[index] = now() - start;
    }
    print_percentiles(times, count);
}

static int new_file(const char *directory) {
    char path[4096];
    snprintf(path, sizeof path, "%s/bare.data", directory);
    int made = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (made < 0) fail(path);
    unlink(path);
    return made;
}

struct server {
    int socket, file;
    size_t size;
};

static void *serve(void *context) {
    struct server *server = context;
    uint8_t bytes[65536] = {0};
    off_t end = 0;
    while (server->size > 0) {
        receive_all(server->socket, bytes, server->size);
        if (pwrite(server->file, bytes, server->size, end) < 0 || fdatasync(server->file) != 0) fail("write");
        end += (off_t)server->size;
        send_all(server->socket, bytes, ANSWER_BYTES);
    }
    return NULL;
}

static void floor_of_all(const char *directory, long count, size_t size) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (bind(listener, (struct sockaddr *)&address, length) != 0 || listen(listener, 1) != 0) fail("listen");
    getsockname(listener, (struct sockaddr *)&address, &length);
    int client = connected("127.0.0.1", ntohs(address.sin_port));
    struct server server = {.socket = accept(listener, NULL, NULL), .file = new_file(directory)};
    setsockopt(server.socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct bytes question = request("bare", size);
    server.size = question.count;
    pthread_t thread;
    pthread_create(&thread, NULL, serve, &server);
    exchange(client, question, count, false, 0);
}

static void flush(const char *directory, long count, size_t size) {
    int64_t *times = malloc(sizeof *times * (size_t)count);
    char *bytes = calloc(1, size);
    int file = new_file(directory);
    for (long index = 0; index < count; index++) {
        int64_t start = now();
        if (pwrite(file, bytes, size, (off_t)(index * (long)size)) < 0 || fdatasync(file) != 0) fail("write");
        times[index] = now() - start;
    }
    print_percentiles(times, count);
}

int main(int count, char **arguments) {
    const char *command = count > 1 ? arguments[1] : "";
    if (!strcmp(command, "single") && count == 7) {
        size_t size = (size_t)atol(arguments[6]);
        exchange(connected(arguments[2], atoi(arguments[3])), request(arguments[4], size), atol(arguments[5]), true, strlen(arguments[4]));
    } else if (!strcmp(command, "floor") && count == 5) {
        floor_of_all(arguments[2], atol(arguments[3]), (size_t)atol(arguments[4]));
    } else if (!strcmp(command, "flush") && count == 5) {
        flush(arguments[2], atol(arguments[3]), (size_t)atol(arguments[4]));
    } else {
        fprintf(stderr, "usage: single|floor|flush, see the source\n");
        return 1;
    }
    fflush(stdout);
    _Exit(0);
}
