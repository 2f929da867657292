// A C face for the part of Fast DDS 2.x that the ROS 2 transport needs: raw payloads, sample identities, discovery.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
	int reliable, transient_local, depth;
	int by_topic;  // of writers: liveliness MANUAL_BY_TOPIC without a lease, for dds_writer_heartbeat
	const char *user_data;  // endpoint USER_DATA, may be NULL
} dds_qos;

typedef struct {
	uint8_t writer[16];
	int64_t sequence;
	uint8_t related[16];  // all zero: none
	int64_t related_sequence;
	int64_t source_ns;
	uint8_t vendor[2];
	int valid;
	const uint8_t *data;  // with the encapsulation header; valid until the next take on the same reader
	size_t size;
} dds_sample;

enum { DDS_MATCHED = 1, DDS_INCOMPATIBLE = 2 };
enum { DDS_PARTICIPANT = 1, DDS_WRITER = 2, DDS_READER = 3 };

typedef struct {
	int kind;  // DDS_PARTICIPANT, DDS_WRITER or DDS_READER
	int removed;
	uint8_t guid[16];
	uint8_t vendor[2];
	const char *topic, *type;  // endpoints
	const uint8_t *user_data;
	size_t user_data_size;
	int reliable, transient_local;
} dds_discovery;

typedef struct dds_participant dds_participant;
typedef struct dds_writer dds_writer;
typedef struct dds_reader dds_reader;

int dds_farewell(uint8_t *datagram, size_t size);  // farewell.h's readable, for tests

// All functions return NULL or a negative number on failure; those that make something put a sentence into error (which has room
// for 256 bytes).
// handle is given back in the callbacks (stllm_dds_*), which are implemented in Go.
dds_participant *dds_participant_new(uintptr_t handle, int domain, const char *name, const char *user_data,
                                     const char **interfaces, int n_interfaces, const char **peers, int n_peers,
                                     int multicast, int loopback, int off, char *error);
void dds_participant_delete(dds_participant *p);
void dds_participant_guid(dds_participant *p, uint8_t *guid);

dds_writer *dds_writer_new(dds_participant *p, uintptr_t handle, const char *topic, const char *type, dds_qos qos, char *error);
int dds_writer_write(dds_writer *w, const void *data, size_t size, const uint8_t *related, int64_t related_sequence,
                     int64_t *sequence);
void dds_writer_guid(dds_writer *w, uint8_t *guid);
int dds_writer_matched(dds_writer *w, const uint8_t *reader_guid);  // 1: this reader has matched
int dds_writer_unacknowledged(dds_writer *w);                       // 0: every matched reader has everything
int dds_writer_acknowledged(dds_writer *w, const uint8_t *reader_guid);  // 1: and has acknowledged something; by_topic writers only
int dds_writer_heartbeat(dds_writer *w);                            // 0: sent
void dds_writer_delete(dds_writer *w);

dds_reader *dds_reader_new(dds_participant *p, uintptr_t handle, const char *topic, const char *type, dds_qos qos, char *error);
int dds_reader_take(dds_reader *r, dds_sample *out);  // 1: taken, 0: nothing there
void dds_reader_guid(dds_reader *r, uint8_t *guid);
void dds_reader_delete(dds_reader *r);

#ifdef __cplusplus
}
#endif
