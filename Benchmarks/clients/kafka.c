// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

// A client of librdkafka that measures: every command prints one line of JSON.
//   kafka produce BROKER TOPIC COUNT SIZE [setting=value …]    all at once, acks=all; time until the last is acknowledged
//   kafka single  BROKER TOPIC COUNT SIZE                      one at a time; with mock for BROKER the client alone
//   kafka consume BROKER TOPIC PARTITIONS COUNT                from the first record on
//   kafka waiting BROKER TOPIC RATE SECONDS SIZE               from produce() to a consumer that waits

#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
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

// Bytes that no compression on the way could shorten.
static char *payload(size_t size) {
    char *bytes = malloc(size);
    uint64_t state = 88172645463325252u;
    for (size_t index = 0; index < size; index++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        bytes[index] = (char)state;
    }
    return bytes;
}

static long delivered;
static int64_t started_at, acknowledged_after;

static void on_delivery(rd_kafka_t *client, const rd_kafka_message_t *message, void *context) {
    (void)client, (void)context;
    if (message->err) fail("a record was refused", rd_kafka_err2str(message->err));
    delivered++;
    acknowledged_after = now() - started_at;
}

static rd_kafka_t *client(rd_kafka_type_t type, const char *broker, const char **settings, int count) {
    char why[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    // "mock" is a broker inside the client, without disk and network: what is measured then is the client.
    int is_mock = !strcmp(broker, "mock");
    rd_kafka_conf_set(conf, is_mock ? "test.mock.num.brokers" : "bootstrap.servers", is_mock ? "1" : broker, NULL, 0);
    if (type == RD_KAFKA_PRODUCER) rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    for (int index = 0; index < count; index++) {
        char name[128];
        const char *equals = strchr(settings[index], '=');
        if (!equals || equals - settings[index] >= (long)sizeof name) fail("not a setting", settings[index]);
        snprintf(name, sizeof name, "%.*s", (int)(equals - settings[index]), settings[index]);
        if (rd_kafka_conf_set(conf, name, equals + 1, why, sizeof why) != RD_KAFKA_CONF_OK) fail("setting", why);
    }
    rd_kafka_t *made = rd_kafka_new(type, conf, why, sizeof why);
    if (!made) fail("client", why);
    return made;
}

static void produce(char **arguments, int count) {
    long records = atol(arguments[2]);
    size_t size = atol(arguments[3]);
    const char *settings[32] = {"acks=all", "queue.buffering.max.messages=2000000", "queue.buffering.max.kbytes=1048576"};
    int given = 3;
    for (int index = 4; index < count && given < 32; index++) settings[given++] = arguments[index];
    rd_kafka_t *producer = client(RD_KAFKA_PRODUCER, arguments[0], settings, given);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(producer, arguments[1], NULL);
    char *bytes = payload(size);
    // The connection and the topic's metadata are there before the clock starts.
    delivered = -1;
    rd_kafka_produce(topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, bytes, size, NULL, 0, NULL);
    rd_kafka_flush(producer, 30000);
    if (delivered != 0) fail("produce", "the first record was not acknowledged within 30 s");
    started_at = now();
    for (long index = 0; index < records; index++) {
        while (rd_kafka_produce(topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, bytes, size, NULL, 0, NULL) != 0) rd_kafka_poll(producer, 10);
        if (index % 1000 == 0) rd_kafka_poll(producer, 0);
    }
    while (delivered < records && rd_kafka_outq_len(producer) > 0) rd_kafka_poll(producer, 100);
    if (delivered != records) fail("produce", "not every record was acknowledged");
    printf("{\"records\": %ld, \"bytes\": %ld, \"seconds\": %.6f}\n", records, (long)(records * size), acknowledged_after / 1e9);
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(producer);
}

static void single(char **arguments) {
    long records = atol(arguments[2]);
    size_t size = atol(arguments[3]);
    const char *settings[] = {"acks=all", "linger.ms=0", "socket.nagle.disable=true"};
    rd_kafka_t *producer = client(RD_KAFKA_PRODUCER, arguments[0], settings, 3);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(producer, arguments[1], NULL);
    char *bytes = payload(size);
    int64_t *times = malloc(records * sizeof *times);
    delivered = 0;
    for (long index = -200; index < records; index++) {  // The first two hundred only warm up.
        long wanted = delivered + 1;
        started_at = now();
        if (rd_kafka_produce(topic, 0, RD_KAFKA_MSG_F_COPY, bytes, size, NULL, 0, NULL) != 0) fail("produce", rd_kafka_err2str(rd_kafka_last_error()));
        while (delivered < wanted) rd_kafka_poll(producer, 1000);
        if (index >= 0) times[index] = acknowledged_after;
    }
    print_percentiles(times, records);
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(producer);
}

static void consume(char **arguments) {
    int partitions = atoi(arguments[2]);
    long wanted = atol(arguments[3]), found = 0, bytes = 0;
    const char *settings[] = {"queued.max.messages.kbytes=262144", "queued.min.messages=1000000", "fetch.message.max.bytes=4194304", "check.crcs=false"};
    rd_kafka_t *consumer = client(RD_KAFKA_CONSUMER, arguments[0], settings, 4);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(consumer, arguments[1], NULL);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(consumer);
    static rd_kafka_message_t *messages[10000];
    int64_t start = now();
    for (int partition = 0; partition < partitions; partition++) rd_kafka_consume_start_queue(topic, partition, RD_KAFKA_OFFSET_BEGINNING, queue);
    while (found < wanted) {
        ssize_t count = rd_kafka_consume_batch_queue(queue, 20000, messages, 10000);
        if (count <= 0) fail("consume", "nothing came for 20 s");
        for (ssize_t index = 0; index < count; index++) {
            if (messages[index]->err && messages[index]->err != RD_KAFKA_RESP_ERR__PARTITION_EOF) fail("consume", rd_kafka_message_errstr(messages[index]));
            if (!messages[index]->err) found++, bytes += messages[index]->len;
            rd_kafka_message_destroy(messages[index]);
        }
    }
    printf("{\"records\": %ld, \"bytes\": %ld, \"seconds\": %.6f}\n", found, bytes, (now() - start) / 1e9);
    fflush(stdout);
    _Exit(0);  // What was fetched beyond need not be thrown away one by one.
}

struct reader {
    rd_kafka_t *consumer;
    rd_kafka_topic_t *topic;
    int64_t *times;
    long wanted, found;
};

static atomic_bool is_reading;

static void *read_waiting(void *context) {
    struct reader *reader = context;
    while (reader->found < reader->wanted) {
        rd_kafka_message_t *message = rd_kafka_consume(reader->topic, 0, 20000);
        if (!message) fail("waiting", "nothing came for 20 s");
        if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) atomic_store(&is_reading, true);
        else if (message->err) fail("waiting", rd_kafka_message_errstr(message));
        else {
            int64_t sent;
            memcpy(&sent, message->payload, sizeof sent);
            reader->times[reader->found++] = now() - sent;
        }
        rd_kafka_message_destroy(message);
    }
    return NULL;
}

static void waiting(char **arguments) {
    long rate = atol(arguments[2]), records = rate * atol(arguments[3]);
    size_t size = atol(arguments[4]);
    const char *producing[] = {"acks=all", "linger.ms=0", "socket.nagle.disable=true"};
    const char *consuming[] = {"enable.partition.eof=true", "fetch.wait.max.ms=500", "socket.nagle.disable=true"};
    rd_kafka_t *producer = client(RD_KAFKA_PRODUCER, arguments[0], producing, 3);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(producer, arguments[1], NULL);
    struct reader reader = {.consumer = client(RD_KAFKA_CONSUMER, arguments[0], consuming, 3), .wanted = records, .times = malloc(records * sizeof(int64_t))};
    reader.topic = rd_kafka_topic_new(reader.consumer, arguments[1], NULL);
    rd_kafka_consume_start(reader.topic, 0, RD_KAFKA_OFFSET_END);
    pthread_t thread;
    pthread_create(&thread, NULL, read_waiting, &reader);
    while (!atomic_load(&is_reading)) rd_kafka_poll(producer, 10);
    char *bytes = payload(size);
    int64_t next = now();
    for (long index = 0; index < records; index++) {
        int64_t pause;
        while ((pause = next - now()) > 0) {
            struct timespec time = {.tv_nsec = pause > 900000 ? 900000 : pause};
            nanosleep(&time, NULL);
        }
        next += 1000000000 / rate;
        int64_t sent = now();
        memcpy(bytes, &sent, sizeof sent);
        if (rd_kafka_produce(topic, 0, RD_KAFKA_MSG_F_COPY, bytes, size, NULL, 0, NULL) != 0) fail("produce", rd_kafka_err2str(rd_kafka_last_error()));
        rd_kafka_poll(producer, 0);
    }
    rd_kafka_flush(producer, 30000);
    pthread_join(thread, NULL);
    // The first second, in which connections settle, does not count.
    print_percentiles(reader.times + rate, records - rate);
    fflush(stdout);
    _Exit(0);
}

int main(int count, char **arguments) {
    const char *command = count > 1 ? arguments[1] : "";
    if (!strcmp(command, "produce") && count >= 6) produce(arguments + 2, count - 2);
    else if (!strcmp(command, "single") && count == 6) single(arguments + 2);
    else if (!strcmp(command, "consume") && count == 6) consume(arguments + 2);
    else if (!strcmp(command, "waiting") && count == 7) waiting(arguments + 2);
    else fail("usage", "produce|single|consume|waiting, see the source");
    return 0;
}
