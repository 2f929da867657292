// A program on CycloneDDS in C that does what it is told on standard input and says what happened on standard output, in the
// language of peer.cpp: a foreign peer as a node of rmw_cyclonedds_cpp is one, which has its own codec, too. Samples come with a
// sequence number of 0 and no related identity: rmw_cyclonedds has both in the payload. Usage: peer DOMAIN, with CYCLONEDDS_URI set.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dds/dds.h>
#include <dds/ddsi/ddsi_keyhash.h>
#include <dds/ddsi/ddsi_serdata.h>
#include <dds/ddsi/ddsi_sertype.h>
#include <dds/ddsi/q_radmin.h>

static pthread_mutex_t out = PTHREAD_MUTEX_INITIALIZER;

static void hex(FILE *f, const void *data, size_t n) {
	static const char digits[] = "0123456789abcdef";
	const unsigned char *b = data;
	if (n == 0) fputc('-', f);
	for (size_t i = 0; i < n; i++) {
		putc_unlocked(digits[b[i] >> 4], f);
		putc_unlocked(digits[b[i] & 15], f);
	}
}

typedef struct {
	size_t size;
	unsigned char *data;
} bytes;

static bytes unhex(const char *s) {
	bytes b = {0, NULL};
	if (strcmp(s, "-") == 0) return b;
	b.size = strlen(s) / 2;
	b.data = malloc(b.size + 1);
	for (size_t i = 0; i < b.size; i++) {
		char c = s[2 * i], d = s[2 * i + 1];
		b.data[i] = (unsigned char)((c <= '9' ? c - '0' : c - 'a' + 10) << 4 | (d <= '9' ? d - '0' : d - 'a' + 10));
	}
	return b;
}

// A sample that is whole CDR, header included; a C "sample" is a struct bytes.
typedef struct {
	struct ddsi_serdata base;
	size_t size;
	unsigned char data[];
} raw;

static raw *raw_new(const struct ddsi_sertype *type, enum ddsi_serdata_kind kind, size_t size) {
	raw *d = malloc(sizeof *d + size + 4);
	ddsi_serdata_init(&d->base, type, kind);
	d->base.hash = type->serdata_basehash;
	d->size = size;
	memset(d->data + size, 0, 4);
	return d;
}
static bool raw_eqkey(const struct ddsi_serdata *a, const struct ddsi_serdata *b) { return (void)a, (void)b, true; }
static uint32_t raw_size(const struct ddsi_serdata *d) { return (uint32_t)((const raw *)d)->size; }
static struct ddsi_serdata *raw_from_ser(const struct ddsi_sertype *type, enum ddsi_serdata_kind kind, const struct nn_rdata *f, size_t size) {
	raw *d = raw_new(type, kind, size);
	for (uint32_t at = 0; f; f = f->nextfrag)
		if (f->maxp1 > at) {  // fragments may overlap
			const unsigned char *from = NN_RMSG_PAYLOADOFF(f->rmsg, NN_RDATA_PAYLOAD_OFF(f));
			memcpy(d->data + at, from + (at - f->min), f->maxp1 - at);
			at = f->maxp1;
		}
	return &d->base;
}
static struct ddsi_serdata *raw_from_iov(const struct ddsi_sertype *type, enum ddsi_serdata_kind kind, ddsrt_msg_iovlen_t n, const ddsrt_iovec_t *v, size_t size) {
	raw *d = raw_new(type, kind, size);
	size_t at = 0;
	for (ddsrt_msg_iovlen_t i = 0; i < n && at < size; i++) {
		size_t part = v[i].iov_len < size - at ? v[i].iov_len : size - at;
		memcpy(d->data + at, v[i].iov_base, part);
		at += part;
	}
	return &d->base;
}
static struct ddsi_serdata *raw_from_keyhash(const struct ddsi_sertype *type, const struct ddsi_keyhash *k) { return (void)k, &raw_new(type, SDK_KEY, 0)->base; }
static struct ddsi_serdata *raw_from_sample(const struct ddsi_sertype *type, enum ddsi_serdata_kind kind, const void *sample) {
	const bytes *b = sample;
	if (kind != SDK_DATA) return &raw_new(type, kind, 0)->base;
	raw *d = raw_new(type, kind, b->size);
	memcpy(d->data, b->data, b->size);
	return &d->base;
}
static void raw_to_ser(const struct ddsi_serdata *d, size_t off, size_t n, void *to) { memcpy(to, ((const raw *)d)->data + off, n); }
static struct ddsi_serdata *raw_to_ref(const struct ddsi_serdata *d, size_t off, size_t n, ddsrt_iovec_t *ref) {
	ref->iov_base = ((raw *)d)->data + off;  // up to 3 bytes beyond the size: zeros
	ref->iov_len = n;
	return ddsi_serdata_ref(d);
}
static void raw_unref(struct ddsi_serdata *d, const ddsrt_iovec_t *ref) { (void)ref, ddsi_serdata_unref(d); }
static bool raw_to_sample(const struct ddsi_serdata *d, void *sample, void **p, void *end) { return (void)d, (void)sample, (void)p, (void)end, false; }
static struct ddsi_serdata *raw_to_untyped(const struct ddsi_serdata *d) {
	raw *u = raw_new(d->type, SDK_KEY, 0);
	u->base.type = NULL;
	return &u->base;
}
static bool raw_untyped(const struct ddsi_sertype *t, const struct ddsi_serdata *d, void *s, void **p, void *end) { return (void)t, (void)d, (void)s, (void)p, (void)end, true; }
static void raw_free(struct ddsi_serdata *d) { free(d); }
static size_t raw_print(const struct ddsi_sertype *t, const struct ddsi_serdata *d, char *to, size_t n) { return (void)t, (size_t)snprintf(to, n, "%zu bytes", ((const raw *)d)->size); }
static void raw_keyhash(const struct ddsi_serdata *d, struct ddsi_keyhash *k, bool md5) { (void)d, (void)md5, memset(k, 0, sizeof *k); }
static const struct ddsi_serdata_ops raw_ops = {
	.eqkey = raw_eqkey, .get_size = raw_size, .from_ser = raw_from_ser, .from_ser_iov = raw_from_iov, .from_keyhash = raw_from_keyhash,
	.from_sample = raw_from_sample, .to_ser = raw_to_ser, .to_ser_ref = raw_to_ref, .to_ser_unref = raw_unref, .to_sample = raw_to_sample,
	.to_untyped = raw_to_untyped, .untyped_to_sample = raw_untyped, .free = raw_free, .print = raw_print, .get_keyhash = raw_keyhash,
};
static void type_free(struct ddsi_sertype *t) { ddsi_sertype_fini(t), free(t); }
static void type_zero(const struct ddsi_sertype *t, void *s, size_t n) { (void)t, memset(s, 0, n * sizeof(bytes)); }
static void type_realloc(void **p, const struct ddsi_sertype *t, void *old, size_t was, size_t n) {
	(void)t, (void)was;
	bytes *b = realloc(old, n * sizeof(bytes));
	for (size_t i = 0; i < n; i++) p[i] = b + i;
}
static void type_free_samples(const struct ddsi_sertype *t, void **p, size_t n, dds_free_op_t op) {
	(void)t;
	if (n > 0 && op & DDS_FREE_ALL_BIT) free(p[0]);
}
static bool type_equal(const struct ddsi_sertype *a, const struct ddsi_sertype *b) { return (void)a, (void)b, true; }
static uint32_t type_hash(const struct ddsi_sertype *t) { return (void)t, 0; }
static const struct ddsi_sertype_ops type_ops = {
	.version = ddsi_sertype_v0, .free = type_free, .zero_samples = type_zero, .realloc_samples = type_realloc, .free_samples = type_free_samples,
	.equal = type_equal, .hash = type_hash,
};

// What there is, by the name that the other side chose.
typedef struct {
	char id[32], topic[256], type[256];
	dds_entity_t entity;
} thing;
static thing ends[4096], topics[4096];
static int n_ends, n_topics;

static dds_entity_t must(dds_entity_t e, const char *what) {
	if (e >= 0) return e;
	printf("error %s: %s\n", what, dds_strretcode(-e));
	exit(1);
}

static thing *find(const char *id) {
	for (int i = n_ends - 1; i >= 0; i--)
		if (ends[i].entity > 0 && strcmp(ends[i].id, id) == 0) return &ends[i];
	printf("error no %s\n", id);
	exit(1);
}

static dds_entity_t topic(dds_entity_t participant, const char *name, const char *type) {
	for (int i = 0; i < n_topics; i++)
		if (strcmp(topics[i].topic, name) == 0 && strcmp(topics[i].type, type) == 0) return topics[i].entity;
	struct ddsi_sertype *t = calloc(1, sizeof *t);
	ddsi_sertype_init(t, type, &type_ops, &raw_ops, true);
	t->allowed_data_representation = DDS_DATA_REPRESENTATION_FLAG_XCDR1;
	thing *n = &topics[n_topics++];
	snprintf(n->topic, sizeof n->topic, "%s", name);
	snprintf(n->type, sizeof n->type, "%s", type);
	return n->entity = must(dds_create_topic_sertype(participant, name, &t, NULL, NULL, NULL), "topic");
}

static void say_guid(const char *id, dds_entity_t e) {
	dds_guid_t g;
	must(dds_get_guid(e, &g), "guid");
	pthread_mutex_lock(&out);
	printf("guid %s ", id);
	hex(stdout, g.v, 16);
	printf("\n");
	pthread_mutex_unlock(&out);
}

static void say(const char *what, const char *id, long long n) {
	pthread_mutex_lock(&out);
	printf("%s %s %lld\n", what, id, n);
	pthread_mutex_unlock(&out);
}
static void on_pub(dds_entity_t e, const dds_publication_matched_status_t s, void *id) { (void)e, say("matched", id, s.current_count); }
static void on_sub(dds_entity_t e, const dds_subscription_matched_status_t s, void *id) { (void)e, say("matched", id, s.current_count); }
static void on_offered(dds_entity_t e, const dds_offered_incompatible_qos_status_t s, void *id) { (void)e, say("incompatible", id, s.last_policy_id); }
static void on_requested(dds_entity_t e, const dds_requested_incompatible_qos_status_t s, void *id) { (void)e, say("incompatible", id, s.last_policy_id); }

static void on_data(dds_entity_t reader, void *id) {
	struct ddsi_serdata *d;
	dds_sample_info_t info;
	pthread_mutex_lock(&out);  // taken and said in one, so that two threads keep the order
	while (dds_takecdr(reader, &d, 1, &info, DDS_ANY_STATE) == 1) {
		if (info.valid_data) {
			const raw *r = (const raw *)d;
			printf("sample %s %032d 0 %032d 0 ", (char *)id, 0, 0);
			hex(stdout, r->data, r->size);
			printf("\n");
		}
		ddsi_serdata_unref(d);
	}
	pthread_mutex_unlock(&out);
}

static void say_user(const dds_qos_t *q) {
	void *u = NULL;
	size_t n = 0;
	if (q && dds_qget_userdata(q, &u, &n)) hex(stdout, u, n);
	else printf("-");
	dds_free(u);
	printf("\n");
}

static void on_participant(dds_entity_t reader, void *arg) {
	(void)arg;
	void *p[1] = {NULL};
	dds_sample_info_t info;
	while (dds_take(reader, p, &info, 1, 1) == 1) {
		const dds_builtintopic_participant_t *d = p[0];
		pthread_mutex_lock(&out);
		printf("participant ");
		hex(stdout, d->key.v, 16);
		printf(info.instance_state == DDS_IST_ALIVE ? " - here " : " - gone ");
		say_user(info.valid_data ? d->qos : NULL);
		pthread_mutex_unlock(&out);
		dds_return_loan(reader, p, 1);
		p[0] = NULL;
	}
}

static void on_endpoint(dds_entity_t reader, void *kind) {
	void *p[1] = {NULL};
	dds_sample_info_t info;
	while (dds_take(reader, p, &info, 1, 1) == 1) {
		const dds_builtintopic_endpoint_t *d = p[0];
		dds_reliability_kind_t reliable = DDS_RELIABILITY_BEST_EFFORT;
		dds_durability_kind_t durable = DDS_DURABILITY_VOLATILE;
		bool all = info.valid_data && d->qos && d->topic_name && d->type_name;
		if (all) dds_qget_reliability(d->qos, &reliable, NULL), dds_qget_durability(d->qos, &durable);
		pthread_mutex_lock(&out);
		printf("endpoint ");
		hex(stdout, d->key.v, 16);
		printf(" %s %s %s %s %s %s ", (char *)kind, info.instance_state == DDS_IST_ALIVE ? "here" : "gone", all ? d->topic_name : "-", all ? d->type_name : "-",
		       reliable == DDS_RELIABILITY_RELIABLE ? "rel" : "be", durable >= DDS_DURABILITY_TRANSIENT_LOCAL ? "tl" : "vol");
		say_user(all ? d->qos : NULL);
		pthread_mutex_unlock(&out);
		dds_return_loan(reader, p, 1);
		p[0] = NULL;
	}
}

static void watch(dds_entity_t participant, dds_entity_t what, void (*take)(dds_entity_t, void *), const char *kind) {
	dds_listener_t *l = dds_create_listener((void *)kind);
	dds_lset_data_available(l, take);
	must(dds_create_reader(participant, what, NULL, l), "builtin reader");
	dds_delete_listener(l);
}

static void make(dds_entity_t participant, const char *verb, char *w[]) {  // ID TOPIC TYPE rel|be tl|vol DEPTH USERHEX
	thing *t = &ends[n_ends++];
	snprintf(t->id, sizeof t->id, "%s", w[0]);
	dds_qos_t *q = dds_create_qos();
	int depth = atoi(w[5]);
	bytes user = unhex(w[6]);
	dds_qset_reliability(q, strcmp(w[3], "rel") == 0 ? DDS_RELIABILITY_RELIABLE : DDS_RELIABILITY_BEST_EFFORT, DDS_SECS(1));
	dds_qset_history(q, DDS_HISTORY_KEEP_LAST, depth);
	if (strcmp(w[4], "tl") == 0) {  // what a late reader gets is bounded by the durability service
		dds_qset_durability(q, DDS_DURABILITY_TRANSIENT_LOCAL);
		dds_qset_durability_service(q, 0, DDS_HISTORY_KEEP_LAST, depth, DDS_LENGTH_UNLIMITED, DDS_LENGTH_UNLIMITED, DDS_LENGTH_UNLIMITED);
	}
	if (user.size) dds_qset_userdata(q, user.data, user.size);
	dds_listener_t *l = dds_create_listener(t->id);
	dds_entity_t on = topic(participant, w[1], w[2]);
	// The name goes out before the listener's first word.
	if (strcmp(verb, "writer") == 0) {
		t->entity = must(dds_create_writer(participant, on, q, NULL), "writer");
		dds_lset_publication_matched(l, on_pub);
		dds_lset_offered_incompatible_qos(l, on_offered);
	} else {
		t->entity = must(dds_create_reader(participant, on, q, NULL), "reader");
		dds_lset_subscription_matched(l, on_sub);
		dds_lset_requested_incompatible_qos(l, on_requested);
		dds_lset_data_available(l, on_data);
	}
	say_guid(t->id, t->entity);
	must(dds_set_listener(t->entity, l), "listener");
	if (strcmp(verb, "writer") == 0) {  // what happened before there was a listener
		dds_publication_matched_status_t m;
		if (dds_get_publication_matched_status(t->entity, &m) == 0 && m.current_count > 0) say("matched", t->id, m.current_count);
		dds_offered_incompatible_qos_status_t i;
		if (dds_get_offered_incompatible_qos_status(t->entity, &i) == 0 && i.total_count > 0) say("incompatible", t->id, i.last_policy_id);
	} else {
		dds_subscription_matched_status_t m;
		if (dds_get_subscription_matched_status(t->entity, &m) == 0 && m.current_count > 0) say("matched", t->id, m.current_count);
		dds_requested_incompatible_qos_status_t i;
		if (dds_get_requested_incompatible_qos_status(t->entity, &i) == 0 && i.total_count > 0) say("incompatible", t->id, i.last_policy_id);
		on_data(t->entity, t->id);
	}
	dds_delete_listener(l);
	dds_delete_qos(q);
	free(user.data);
}

int main(int argc, char **argv) {
	static char buffer[1 << 16];
	setvbuf(stdout, buffer, _IOLBF, sizeof buffer);
	dds_qos_t *q = dds_create_qos();
	dds_qset_userdata(q, "enclave=/;", 10);
	dds_entity_t participant = must(dds_create_participant((dds_domainid_t)atoi(argc > 1 ? argv[1] : "0"), q, NULL), "participant");
	dds_delete_qos(q);
	say_guid("participant", participant);
	watch(participant, DDS_BUILTIN_TOPIC_DCPSPARTICIPANT, on_participant, "");
	watch(participant, DDS_BUILTIN_TOPIC_DCPSPUBLICATION, on_endpoint, "writer");
	watch(participant, DDS_BUILTIN_TOPIC_DCPSSUBSCRIPTION, on_endpoint, "reader");
	char *line = NULL;
	size_t room = 0;
	while (getline(&line, &room, stdin) > 0) {
		char *w[9] = {0};
		int n = 0;
		for (char *p = strtok(line, " \n"); p && n < 9; p = strtok(NULL, " \n")) w[n++] = p;
		if (n == 8 && (strcmp(w[0], "writer") == 0 || strcmp(w[0], "reader") == 0)) {
			make(participant, w[0], w + 1);
		} else if (n == 3 && (strcmp(w[0], "write") == 0 || strcmp(w[0], "raw") == 0)) {
			bytes b = unhex(w[2]);
			say("writing", w[1], 0);
			must(dds_write(find(w[1])->entity, &b), "write");
			free(b.data);
			say("wrote", w[1], 0);
		} else if (n == 2 && strcmp(w[0], "close") == 0) {
			thing *t = find(w[1]);
			dds_delete(t->entity);
			t->entity = 0;
		} else if (n == 0 || strcmp(w[0], "type") != 0) {  // types' definitions are for peers that have a codec
			pthread_mutex_lock(&out);
			printf("error what is %.80s\n", n ? w[0] : "this");
			pthread_mutex_unlock(&out);
		}
	}
	dds_delete(participant);
	return 0;
}
