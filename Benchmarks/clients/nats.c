// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

// A client of NATS JetStream that measures: every command prints one line of JSON.
//   nats publish URL SUBJECT COUNT SIZE PENDING    asynchronously, into a new stream in files; time until the last is acknowledged
//   nats consume URL SUBJECT COUNT                 what a stream holds, pushed without acknowledgements

#include <nats/nats.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(natsStatus status, const char *what) {
    if (status == NATS_OK) return;
    fprintf(stderr, "%s: %s\n", what, natsStatus_GetText(status));
    exit(1);
}

static jsCtx *connect_to(const char *url, natsConnection **connection, int pending) {
    jsCtx *stream;
    jsOptions options;
    jsOptions_Init(&options);
    options.PublishAsync.MaxPending = pending;
    natsOptions *connecting;
    check(natsOptions_Create(&connecting), "options");
    check(natsOptions_SetURL(connecting, url), "url");
    // Set before anything can arrive: what goes over the limit is dropped, and never comes again.
    check(natsOptions_SetMaxPendingMsgs(connecting, 2000000), "limit");
    check(natsConnection_Connect(connection, connecting), "connect");
    natsOptions_Destroy(connecting);
    check(natsConnection_JetStream(&stream, *connection, &options), "JetStream");
    return stream;
}

static void publish(char **arguments) {
    natsConnection *connection;
    long records = atol(arguments[2]);
    int size = atoi(arguments[3]);
    jsCtx *stream = connect_to(arguments[0], &connection, atoi(arguments[4]));
    jsStreamConfig config;
    jsStreamConfig_Init(&config);
    const char *subjects[] = {arguments[1]};
    config.Name = arguments[1];
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    config.Storage = js_FileStorage;
    check(js_AddStream(NULL, stream, &config, NULL, NULL), "stream");
    char *bytes = malloc(size);
    uint64_t state = 88172645463325252u;
    for (int index = 0; index < size; index++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        bytes[index] = (char)state;
    }
    jsPubOptions waiting;
    jsPubOptions_Init(&waiting);
    waiting.MaxWait = 60000;
    int64_t start = nats_NowInNanoSeconds();
    for (long index = 0; index < records; index++) check(js_PublishAsync(stream, arguments[1], bytes, size, NULL), "publish");
    check(js_PublishAsyncComplete(stream, &waiting), "acknowledgements");
    double seconds = (nats_NowInNanoSeconds() - start) / 1e9;
    natsMsgList refused;
    check(js_PublishAsyncGetPendingList(&refused, stream) == NATS_NOT_FOUND ? NATS_OK : NATS_ERR, "records that were not acknowledged");
    printf("{\"records\": %ld, \"bytes\": %ld, \"seconds\": %.6f}\n", records, records * size, seconds);
}

static void consume(char **arguments) {
    natsConnection *connection;
    natsSubscription *subscription;
    long wanted = atol(arguments[2]), bytes = 0;
    jsCtx *stream = connect_to(arguments[0], &connection, 0);
    jsSubOptions options;
    jsSubOptions_Init(&options);
    options.Config.AckPolicy = js_AckNone;
    options.Config.DeliverPolicy = js_DeliverAll;
    int64_t start = nats_NowInNanoSeconds();
    check(js_SubscribeSync(&subscription, stream, arguments[1], NULL, &options, NULL), "subscribe");
    for (long index = 0; index < wanted; index++) {
        natsMsg *message;
        check(natsSubscription_NextMsg(&message, subscription, 20000), "next message");
        bytes += natsMsg_GetDataLength(message);
        natsMsg_Destroy(message);
    }
    printf("{\"records\": %ld, \"bytes\": %ld, \"seconds\": %.6f}\n", wanted, bytes, (nats_NowInNanoSeconds() - start) / 1e9);
}

int main(int count, char **arguments) {
    if (count == 7 && !strcmp(arguments[1], "publish")) publish(arguments + 2);
    else if (count == 5 && !strcmp(arguments[1], "consume")) consume(arguments + 2);
    else {
        fprintf(stderr, "usage: publish|consume, see the source\n");
        return 2;
    }
    return 0;
}
