//go:build fastdds

#include "shim.h"

#include "farewell.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <fastdds/dds/domain/DomainParticipant.hpp>
#include <fastdds/dds/domain/DomainParticipantFactory.hpp>
#include <fastdds/dds/domain/DomainParticipantListener.hpp>
#include <fastdds/dds/publisher/DataWriter.hpp>
#include <fastdds/dds/publisher/DataWriterListener.hpp>
#include <fastdds/dds/publisher/Publisher.hpp>
#include <fastdds/dds/subscriber/DataReader.hpp>
#include <fastdds/dds/subscriber/DataReaderListener.hpp>
#include <fastdds/dds/subscriber/SampleInfo.hpp>
#include <fastdds/dds/subscriber/Subscriber.hpp>
#include <fastdds/dds/topic/Topic.hpp>
#include <fastdds/dds/topic/TypeSupport.hpp>
#include <fastdds/rtps/common/WriteParams.h>
#include <fastdds/rtps/transport/UDPv4TransportDescriptor.h>
#include <fastrtps/xmlparser/XMLProfileManager.h>

using namespace eprosima::fastdds::dds;
using namespace eprosima::fastrtps::rtps;
namespace frtps = eprosima::fastdds::rtps;

extern "C" {
// In Go.
void stllm_dds_discovered(uintptr_t handle, dds_discovery *d);
void stllm_dds_data(uintptr_t handle);
void stllm_dds_status(uintptr_t handle, int status, int count, int policy);
void stllm_dds_garbage(uintptr_t handle, char *from, size_t size);
}

namespace {

// Payload is what goes through Fast DDS for one sample: a view on the way out, bytes of its own on the way in.
struct Payload {
	const uint8_t *data = nullptr;
	size_t size = 0;
	std::vector<uint8_t> own;
};

// RawType hands CDR bytes through as they are. Fast DDS strips nothing from the payload: the header is part of it.
class RawType : public TopicDataType {
public:
	explicit RawType(const char *name) {
		setName(name);
		m_typeSize = 1024;  // only a start: the history reallocates (PREALLOCATED_WITH_REALLOC)
		m_isGetKeyDefined = false;
		auto_fill_type_object(false);
		auto_fill_type_information(false);
	}
	bool serialize(void *data, SerializedPayload_t *out) override {
		auto *p = static_cast<Payload *>(data);
		if (out->max_size < p->size) return false;
		memcpy(out->data, p->data, p->size);
		out->length = static_cast<uint32_t>(p->size);
		out->encapsulation = CDR_LE;
		return true;
	}
	bool deserialize(SerializedPayload_t *in, void *data) override {
		auto *p = static_cast<Payload *>(data);
		p->own.assign(in->data, in->data + in->length);
		return true;
	}
	std::function<uint32_t()> getSerializedSizeProvider(void *data) override {
		return [data] { return static_cast<uint32_t>(static_cast<Payload *>(data)->size); };
	}
	void *createData() override { return new Payload(); }
	void deleteData(void *data) override { delete static_cast<Payload *>(data); }
	bool getKey(void *, InstanceHandle_t *, bool) override { return false; }
};

void put(const GUID_t &g, uint8_t *out) {
	memcpy(out, g.guidPrefix.value, 12);
	memcpy(out + 12, g.entityId.value, 4);
}

GUID_t guid(const uint8_t *in) {
	GUID_t g;
	memcpy(g.guidPrefix.value, in, 12);
	memcpy(g.entityId.value, in + 12, 4);
	return g;
}

void fail(char *error, const char *what) { snprintf(error, 256, "%s", what); }

// The vendor id is the first two bytes of a GUID prefix in every implementation we meet (eProsima 1.15, Cyclone 1.16).
void vendor(const GUID_t &g, uint8_t *out) { memcpy(out, g.guidPrefix.value, 2); }

template <class Q> void apply(Q &q, const dds_qos &f) {
	q.reliability().kind = f.reliable ? RELIABLE_RELIABILITY_QOS : BEST_EFFORT_RELIABILITY_QOS;
	if (f.by_topic) q.liveliness().kind = MANUAL_BY_TOPIC_LIVELINESS_QOS;
	q.durability().kind = f.transient_local ? TRANSIENT_LOCAL_DURABILITY_QOS : VOLATILE_DURABILITY_QOS;
	q.history().kind = KEEP_LAST_HISTORY_QOS;
	q.history().depth = f.depth;
	q.resource_limits().max_samples = 0;  // depth is the bound
	q.resource_limits().max_instances = 1;
	q.resource_limits().max_samples_per_instance = f.depth;
	q.endpoint().history_memory_policy = PREALLOCATED_WITH_REALLOC_MEMORY_MODE;
	q.data_sharing().off();
	if (f.user_data) {
		std::string s(f.user_data);
		q.user_data().data_vec(std::vector<octet>(s.begin(), s.end()));
	}
}

class ParticipantEvents : public DomainParticipantListener {
public:
	explicit ParticipantEvents(uintptr_t h) : handle(h) {}
	void on_participant_discovery(DomainParticipant *, ParticipantDiscoveryInfo &&info) override {
		dds_discovery d{};
		d.kind = DDS_PARTICIPANT;
		d.removed = info.status == ParticipantDiscoveryInfo::REMOVED_PARTICIPANT ||
		            info.status == ParticipantDiscoveryInfo::DROPPED_PARTICIPANT;
		put(info.info.m_guid, d.guid);
		memcpy(d.vendor, info.info.m_VendorId.data(), 2);
		auto data = info.info.m_userData.data_vec();
		d.user_data = data.data();
		d.user_data_size = data.size();
		stllm_dds_discovered(handle, &d);
	}
	void on_publisher_discovery(DomainParticipant *, WriterDiscoveryInfo &&info) override {
		endpoint(DDS_WRITER, info.status == WriterDiscoveryInfo::REMOVED_WRITER, info.info);
	}
	void on_subscriber_discovery(DomainParticipant *, ReaderDiscoveryInfo &&info) override {
		endpoint(DDS_READER, info.status == ReaderDiscoveryInfo::REMOVED_READER, info.info);
	}

private:
	template <class Info> void endpoint(int kind, bool removed, const Info &info) {
		dds_discovery d{};
		d.kind = kind;
		d.removed = removed;
		put(info.guid(), d.guid);
		vendor(info.guid(), d.vendor);
		std::string topic = info.topicName().to_string(), type = info.typeName().to_string();
		d.topic = topic.c_str();
		d.type = type.c_str();
		auto data = info.m_qos.m_userData.data_vec();
		d.user_data = data.data();
		d.user_data_size = data.size();
		d.reliable = info.m_qos.m_reliability.kind == RELIABLE_RELIABILITY_QOS;
		d.transient_local = info.m_qos.m_durability.kind >= TRANSIENT_LOCAL_DURABILITY_QOS;
		stllm_dds_discovered(handle, &d);
	}
	uintptr_t handle;
};

class WriterEvents : public DataWriterListener {
public:
	explicit WriterEvents(uintptr_t h) : handle(h) {}
	void on_publication_matched(DataWriter *, const PublicationMatchedStatus &s) override {
		{
			std::lock_guard<std::mutex> lock(mutex);
			const GUID_t &g = iHandle2GUID(s.last_subscription_handle);
			if (s.current_count_change > 0) {
				auto e = std::find(early.begin(), early.end(), g);
				readers.emplace(g, e != early.end());
				if (e != early.end()) early.erase(e);
			} else {
				readers.erase(g);
			}
		}
		stllm_dds_status(handle, DDS_MATCHED, s.current_count, 0);
	}
	void on_offered_incompatible_qos(DataWriter *, const OfferedIncompatibleQosStatus &s) override {
		stllm_dds_status(handle, DDS_INCOMPATIBLE, s.total_count, s.last_policy_id);
	}
	bool matched(const GUID_t &g) {
		std::lock_guard<std::mutex> lock(mutex);
		return readers.count(g) > 0;
	}
	void acknowledge(const GUID_t &g) {
		std::lock_guard<std::mutex> lock(mutex);
		auto r = readers.find(g);
		if (r != readers.end()) {
			r->second = true;
		} else if (std::find(early.begin(), early.end(), g) == early.end()) {
			early.push_back(g);
			if (early.size() > EARLY) early.pop_front();
		}
	}
	bool acknowledged(const GUID_t &g) {
		std::lock_guard<std::mutex> lock(mutex);
		auto r = readers.find(g);
		return r != readers.end() && r->second;
	}

private:
	uintptr_t handle;
	std::mutex mutex;
	std::map<GUID_t, bool> readers;  // those that have matched, and whether they have acknowledged anything
	// Readers that acknowledged before this side had matched them, which they need not do again; the oldest goes, as some have left.
	std::deque<GUID_t> early;
	static constexpr size_t EARLY = 256;
};

// Writers are those of a participant that want to know who acknowledges.
class Writers {
public:
	void add(const EntityId_t &id, WriterEvents *w) {
		std::lock_guard<std::mutex> lock(mutex);
		writers[id] = w;
	}
	void remove(const EntityId_t &id) {
		std::lock_guard<std::mutex> lock(mutex);
		writers.erase(id);
	}
	void acknowledge(const uint8_t *prefix, const uint8_t *reader, const uint8_t *writer) {
		EntityId_t id;
		memcpy(id.value, writer, 4);
		std::lock_guard<std::mutex> lock(mutex);
		auto w = writers.find(id);
		if (w == writers.end()) return;
		GUID_t g;
		memcpy(g.guidPrefix.value, prefix, 12);
		memcpy(g.entityId.value, reader, 4);
		w->second->acknowledge(g);
	}

private:
	std::mutex mutex;
	std::map<EntityId_t, WriterEvents *> writers;
};

class ReaderEvents : public DataReaderListener {
public:
	explicit ReaderEvents(uintptr_t h) : handle(h) {}
	void on_data_available(DataReader *) override { stllm_dds_data(handle); }
	void on_subscription_matched(DataReader *, const SubscriptionMatchedStatus &s) override {
		stllm_dds_status(handle, DDS_MATCHED, s.current_count, 0);
	}
	void on_requested_incompatible_qos(DataReader *, const RequestedIncompatibleQosStatus &s) override {
		stllm_dds_status(handle, DDS_INCOMPATIBLE, s.total_count, s.last_policy_id);
	}
	// Lost samples are found by their numbers when others are taken: see gaps.go. One that is rejected (which keep-last does not
	// do) is sent again to a reliable reader, and leaves its number out otherwise.

private:
	uintptr_t handle;
};

}  // namespace

struct dds_participant {
	DomainParticipant *dp = nullptr;
	Publisher *pub = nullptr;
	Subscriber *sub = nullptr;
	std::unique_ptr<ParticipantEvents> events;
	std::mutex mutex;  // topics are looked up and made by several goroutines
	// Fast DDS 2.9 keeps a pointer into its list of writers with a liveliness of their own, and uses it outside of the list's lock
	// (LivelinessManager::assert_liveliness): the list must not grow or shrink meanwhile. No callback takes this lock.
	std::mutex liveliness;
	std::shared_ptr<Writers> writers = std::make_shared<Writers>();  // its transport has it too

	Topic *topic(const char *name, const char *type) {
		std::lock_guard<std::mutex> lock(mutex);
		if (auto *t = dynamic_cast<Topic *>(dp->lookup_topicdescription(name)))
			return t->get_type_name() == type ? t : nullptr;
		TypeSupport support(new RawType(type));
		support.register_type(dp);
		return dp->create_topic(name, type, TOPIC_QOS_DEFAULT);
	}
};

struct dds_writer {
	dds_participant *p;
	DataWriter *dw;
	std::unique_ptr<WriterEvents> events;
	bool by_topic;

	// listed is held while the participant's list of such writers changes or is used.
	std::unique_lock<std::mutex> listed() {
		return by_topic ? std::unique_lock<std::mutex>(p->liveliness) : std::unique_lock<std::mutex>();
	}
};

struct dds_reader {
	dds_participant *p;
	DataReader *dr;
	std::unique_ptr<ReaderEvents> events;
	Payload payload;
};

extern "C" {

int dds_farewell(uint8_t *datagram, size_t size) { return farewell::readable(datagram, size, [](const uint8_t *, const uint8_t *, const uint8_t *) {}); }

dds_participant *dds_participant_new(uintptr_t handle, int domain, const char *name, const char *user_data,
                                     const char **interfaces, int n_interfaces, const char **peers, int n_peers,
                                     int multicast, int loopback, int off, char *error) {
	// Between participants of one process Fast DDS calls from one into the other, under locks of both: deleting an endpoint of one
	// while the other acknowledges could lock for ever (seen with 2.9). They speak over UDP as all others do. It is a setting of
	// the library and must be made before the first participant.
	static std::once_flag apart;
	std::call_once(apart, [] {
		eprosima::fastrtps::LibrarySettingsAttributes settings;
		settings.intraprocess_delivery = eprosima::fastrtps::INTRAPROCESS_OFF;
		eprosima::fastrtps::xmlparser::XMLProfileManager::library_settings(settings);
	});
	DomainParticipantQos q = PARTICIPANT_QOS_DEFAULT;
	q.name(name);
	std::string s(user_data);
	q.user_data().data_vec(std::vector<octet>(s.begin(), s.end()));
	// UDP alone: shared memory between different versions of Fast DDS is not safe.
	q.transport().use_builtin_transports = false;
	auto udp = std::make_shared<frtps::UDPv4TransportDescriptor>();
	for (int i = 0; i < n_interfaces; i++) udp->interfaceWhiteList.emplace_back(interfaces[i]);
	udp->sendBufferSize = udp->receiveBufferSize = 8 << 20;
	auto p = std::make_unique<dds_participant>();
	auto told = [writers = p->writers](const uint8_t *prefix, const uint8_t *reader, const uint8_t *writer) { writers->acknowledge(prefix, reader, writer); };
	q.transport().user_transports.push_back(farewell::Transport::over(udp, [handle](const Locator_t &from, size_t size) {
		stllm_dds_garbage(handle, const_cast<char *>((IPLocator::toIPv4string(from) + ":" + std::to_string(IPLocator::getPhysicalPort(from))).c_str()), size);
	}, told));
	auto &builtin = q.wire_protocol().builtin;
	builtin.readerHistoryMemoryPolicy = PREALLOCATED_WITH_REALLOC_MEMORY_MODE;  // endpoints that tell more of themselves than 5000 bytes
	builtin.writerHistoryMemoryPolicy = PREALLOCATED_WITH_REALLOC_MEMORY_MODE;
	if (off) builtin.discovery_config.discoveryProtocol = DiscoveryProtocol_t::NONE;
	if (loopback) {
		// This address reaches us from every program on this machine, whichever interfaces it uses itself, and from no other.
		Locator_t l;
		l.kind = LOCATOR_KIND_UDPv4;
		IPLocator::setIPv4(l, 127, 0, 0, 1);
		builtin.metatrafficUnicastLocatorList.push_back(l);
		q.wire_protocol().default_unicast_locator_list.push_back(l);
	} else if (!multicast) {
		builtin.metatrafficUnicastLocatorList.push_back(Locator_t());  // a list that is not empty keeps the multicast one empty
	}
	// Without unicast peers discovery goes by multicast as usual; with them both ways are tried.
	const uint32_t base = 7400 + 250 * domain;
	for (int i = 0; i < n_peers; i++) {
		for (uint32_t id = 0; id < 32; id++) {  // the participant ids that a host hands out first
			Locator_t l;
			l.kind = LOCATOR_KIND_UDPv4;
			if (!IPLocator::setIPv4(l, std::string(peers[i]))) {
				fail(error, "a peer is not an IPv4 address");
				return nullptr;
			}
			l.port = base + 10 + 2 * id;
			builtin.initialPeersList.push_back(l);
		}
	}
	if (n_peers > 0 && multicast) {
		Locator_t l;
		l.kind = LOCATOR_KIND_UDPv4;
		IPLocator::setIPv4(l, 239, 255, 0, 1);
		l.port = base;
		builtin.initialPeersList.push_back(l);
	}
	p->events = std::make_unique<ParticipantEvents>(handle);
	p->dp = DomainParticipantFactory::get_instance()->create_participant(domain, q, p->events.get(), StatusMask::none());
	if (!p->dp) {
		fail(error, "Fast DDS made no participant (is the domain's port range taken?)");
		return nullptr;
	}
	p->pub = p->dp->create_publisher(PUBLISHER_QOS_DEFAULT);
	p->sub = p->dp->create_subscriber(SUBSCRIBER_QOS_DEFAULT);
	if (!p->pub || !p->sub) {
		fail(error, "Fast DDS made no publisher or subscriber");
		dds_participant_delete(p.release());
		return nullptr;
	}
	return p.release();
}

void dds_participant_delete(dds_participant *p) {
	p->dp->set_listener(nullptr);
	p->dp->delete_contained_entities();
	DomainParticipantFactory::get_instance()->delete_participant(p->dp);
	delete p;
}

void dds_participant_guid(dds_participant *p, uint8_t *out) { put(p->dp->guid(), out); }

dds_writer *dds_writer_new(dds_participant *p, uintptr_t handle, const char *topic, const char *type, dds_qos qos, char *error) {
	Topic *t = p->topic(topic, type);
	if (!t) {
		fail(error, "the topic exists in this participant with another type");
		return nullptr;
	}
	auto q = DATAWRITER_QOS_DEFAULT;
	apply(q, qos);
	q.publish_mode().kind = ASYNCHRONOUS_PUBLISH_MODE;  // big samples are sent in fragments, which needs it
	// A reliable writer whose history is full waits for acknowledgement; the wait is bounded here.
	q.reliability().max_blocking_time = {0, 100 * 1000 * 1000};
	// What a reader missed it asks for again after a heartbeat; Fast DDS's 3 s are long for a first request or a map.
	q.reliable_writer_qos().times.heartbeatPeriod = {0, 100 * 1000 * 1000};
	auto w = std::make_unique<dds_writer>();
	w->p = p;
	w->by_topic = qos.by_topic;
	w->events = std::make_unique<WriterEvents>(handle);
	auto lock = w->listed();
	w->dw = p->pub->create_datawriter(t, q, w->events.get());
	if (!w->dw) {
		fail(error, "Fast DDS made no writer (contradicting QoS?)");
		return nullptr;
	}
	if (w->by_topic) p->writers->add(w->dw->guid().entityId, w->events.get());
	return w.release();
}

int dds_writer_write(dds_writer *w, const void *data, size_t size, const uint8_t *related, int64_t related_sequence,
                     int64_t *sequence) {
	Payload p;
	p.data = static_cast<const uint8_t *>(data);
	p.size = size;
	WriteParams params;
	if (related) {
		params.related_sample_identity().writer_guid() = guid(related);
		params.related_sample_identity().sequence_number().high = static_cast<int32_t>(related_sequence >> 32);
		params.related_sample_identity().sequence_number().low = static_cast<uint32_t>(related_sequence);
	}
	if (!w->dw->write(&p, params)) return -1;
	if (sequence) *sequence = static_cast<int64_t>(params.sample_identity().sequence_number().to64long());
	return 0;
}

void dds_writer_guid(dds_writer *w, uint8_t *out) { put(w->dw->guid(), out); }
int dds_writer_matched(dds_writer *w, const uint8_t *reader) { return w->events->matched(guid(reader)); }
int dds_writer_acknowledged(dds_writer *w, const uint8_t *reader) { return w->events->acknowledged(guid(reader)); }
int dds_writer_unacknowledged(dds_writer *w) {
	return w->dw->wait_for_acknowledgments({0, 0}) == ReturnCode_t::RETCODE_OK ? 0 : 1;
}
int dds_writer_heartbeat(dds_writer *w) {
	if (!w->by_topic) return -1;  // Fast DDS sends none for it
	auto lock = w->listed();
	return w->dw->assert_liveliness() == ReturnCode_t::RETCODE_OK ? 0 : -1;
}
void dds_writer_delete(dds_writer *w) {
	w->dw->set_listener(nullptr);
	w->p->writers->remove(w->dw->guid().entityId);
	{
		auto lock = w->listed();
		w->p->pub->delete_datawriter(w->dw);
	}
	delete w;
}

dds_reader *dds_reader_new(dds_participant *p, uintptr_t handle, const char *topic, const char *type, dds_qos qos, char *error) {
	Topic *t = p->topic(topic, type);
	if (!t) {
		fail(error, "the topic exists in this participant with another type");
		return nullptr;
	}
	auto q = DATAREADER_QOS_DEFAULT;
	apply(q, qos);
	auto r = std::make_unique<dds_reader>();
	r->p = p;
	r->events = std::make_unique<ReaderEvents>(handle);
	r->dr = p->sub->create_datareader(t, q, r->events.get());
	if (!r->dr) {
		fail(error, "Fast DDS made no reader (contradicting QoS?)");
		return nullptr;
	}
	return r.release();
}

int dds_reader_take(dds_reader *r, dds_sample *out) {
	SampleInfo info;
	if (r->dr->take_next_sample(&r->payload, &info) != ReturnCode_t::RETCODE_OK) return 0;
	memset(out, 0, sizeof *out);
	put(info.sample_identity.writer_guid(), out->writer);
	vendor(info.sample_identity.writer_guid(), out->vendor);
	out->sequence = static_cast<int64_t>(info.sample_identity.sequence_number().to64long());
	if (info.related_sample_identity.writer_guid() != GUID_t::unknown()) {
		put(info.related_sample_identity.writer_guid(), out->related);
		out->related_sequence = static_cast<int64_t>(info.related_sample_identity.sequence_number().to64long());
	}
	out->source_ns = info.source_timestamp.to_ns();
	out->valid = info.valid_data;
	out->data = r->payload.own.data();
	out->size = r->payload.own.size();
	return 1;
}

void dds_reader_guid(dds_reader *r, uint8_t *out) { put(r->dr->guid(), out); }
void dds_reader_delete(dds_reader *r) {
	r->dr->set_listener(nullptr);
	r->p->sub->delete_datareader(r->dr);
	delete r;
}

}  // extern "C"
