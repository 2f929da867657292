// A program on Fast DDS that does what it is told on standard input, one command a line, and says what happened on standard
// output: a foreign peer for the tests of ../, as a node of rmw_fastrtps_cpp is one. Usage: peer DOMAIN [open]; without "open" it
// uses 127.0.0.1 alone. Payloads are hex of whole CDR.
//   writer|reader|counter ID TOPIC TYPE rel|be tl|vol DEPTH USERHEX|-     write ID HEX     request WRITER READER HEX     close ID     type …
//   stream ID COUNT PERIOD_US HEX    publishes HEX again and again with the time in the place of its header's stamp
//   report ID                        of a counter, a reader that says nothing: count ID SAMPLES BYTES MEAN_US MAX_US of the way from the stamp
// It says: guid ID HEX, matched ID N, wrote ID SEQUENCE, sample ID WRITER SEQUENCE RELATED RSEQUENCE HEX, incompatible ID POLICY,
// participant GUID VENDOR here|gone USERHEX, endpoint GUID writer|reader here|gone TOPIC TYPE rel|be tl|vol USERHEX.
#include <chrono>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
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

using namespace eprosima::fastdds::dds;
using namespace eprosima::fastrtps::rtps;
typedef std::vector<unsigned char> Bytes;

static std::mutex out;
static void say(const std::string &s) {
	std::lock_guard<std::mutex> lock(out);
	fwrite(s.data(), 1, s.size(), stdout);
	fputc('\n', stdout);
	fflush(stdout);
}

template <class It> static std::string hex(It begin, It end) {
	static const char digits[] = "0123456789abcdef";
	std::string s;
	s.reserve(2 * (end - begin));
	for (; begin != end; ++begin) {
		s += digits[static_cast<unsigned char>(*begin) >> 4];
		s += digits[static_cast<unsigned char>(*begin) & 15];
	}
	return s.empty() ? "-" : s;
}
static Bytes bytes(const std::string &s) {
	auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
	Bytes b;
	if (s == "-") return b;
	b.reserve(s.size() / 2);
	for (size_t i = 0; i + 1 < s.size(); i += 2) b.push_back(static_cast<unsigned char>(digit(s[i]) << 4 | digit(s[i + 1])));
	return b;
}
static std::string name(const GUID_t &g) {
	unsigned char b[16];
	memcpy(b, g.guidPrefix.value, 12);
	memcpy(b + 12, g.entityId.value, 4);
	return hex(b, b + 16);
}

struct Raw : TopicDataType {
	explicit Raw(const std::string &n) {
		setName(n.c_str());
		m_typeSize = 1024;
		m_isGetKeyDefined = false;
		auto_fill_type_object(false);
		auto_fill_type_information(false);
	}
	bool serialize(void *d, SerializedPayload_t *p) override {
		auto b = static_cast<Bytes *>(d);
		if (p->max_size < b->size()) return false;
		memcpy(p->data, b->data(), b->size());
		p->length = static_cast<uint32_t>(b->size());
		p->encapsulation = CDR_LE;
		return true;
	}
	bool deserialize(SerializedPayload_t *p, void *d) override {
		static_cast<Bytes *>(d)->assign(p->data, p->data + p->length);
		return true;
	}
	std::function<uint32_t()> getSerializedSizeProvider(void *d) override {
		return [d] { return static_cast<uint32_t>(static_cast<Bytes *>(d)->size()); };
	}
	void *createData() override { return new Bytes; }
	void deleteData(void *d) override { delete static_cast<Bytes *>(d); }
	bool getKey(void *, InstanceHandle_t *, bool) override { return false; }
};

struct Graph : DomainParticipantListener {
	void on_participant_discovery(DomainParticipant *, ParticipantDiscoveryInfo &&i) override {
		bool gone = i.status == ParticipantDiscoveryInfo::REMOVED_PARTICIPANT || i.status == ParticipantDiscoveryInfo::DROPPED_PARTICIPANT;
		char vendor[16];
		snprintf(vendor, sizeof vendor, "%d.%d", i.info.m_VendorId[0], i.info.m_VendorId[1]);
		auto &u = i.info.m_userData.data_vec();
		say("participant " + name(i.info.m_guid) + " " + vendor + (gone ? " gone " : " here ") + hex(u.begin(), u.end()));
	}
	template <class I> void endpoint(const char *kind, bool gone, const I &i) {
		auto u = i.m_qos.m_userData.data_vec();
		say("endpoint " + name(i.guid()) + " " + kind + (gone ? " gone " : " here ") + i.topicName().to_string() + " " + i.typeName().to_string() +
		    (i.m_qos.m_reliability.kind == RELIABLE_RELIABILITY_QOS ? " rel" : " be") +
		    (i.m_qos.m_durability.kind >= TRANSIENT_LOCAL_DURABILITY_QOS ? " tl " : " vol ") + hex(u.begin(), u.end()));
	}
	void on_publisher_discovery(DomainParticipant *, WriterDiscoveryInfo &&i) override { endpoint("writer", i.status == WriterDiscoveryInfo::REMOVED_WRITER, i.info); }
	void on_subscriber_discovery(DomainParticipant *, ReaderDiscoveryInfo &&i) override { endpoint("reader", i.status == ReaderDiscoveryInfo::REMOVED_READER, i.info); }
};

struct Writer : DataWriterListener {
	std::string id;
	DataWriter *w = nullptr;
	void on_publication_matched(DataWriter *, const PublicationMatchedStatus &s) override { say("matched " + id + " " + std::to_string(s.current_count)); }
	void on_offered_incompatible_qos(DataWriter *, const OfferedIncompatibleQosStatus &s) override { say("incompatible " + id + " " + std::to_string(s.last_policy_id)); }
};
// now in ns since the epoch.
static int64_t now() {
	return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

struct Reader : DataReaderListener {
	std::string id;
	DataReader *r = nullptr;
	bool quiet = false;
	std::mutex counting;
	int64_t samples = 0, size = 0, sum = 0, longest = 0;
	void count(const Bytes &b) {
		uint32_t stamp[2] = {0, 0};
		if (b.size() >= 12) memcpy(stamp, b.data() + 4, 8);
		int64_t way = now() - (stamp[0] * 1000000000LL + stamp[1]);
		std::lock_guard<std::mutex> lock(counting);
		samples++, size += static_cast<int64_t>(b.size()), sum += way;
		if (way > longest) longest = way;
	}
	void report() {
		std::lock_guard<std::mutex> lock(counting);
		say("count " + id + " " + std::to_string(samples) + " " + std::to_string(size) + " " + std::to_string(samples ? sum / samples / 1000 : 0) + " " + std::to_string(longest / 1000));
	}
	void on_subscription_matched(DataReader *, const SubscriptionMatchedStatus &s) override { say("matched " + id + " " + std::to_string(s.current_count)); }
	void on_requested_incompatible_qos(DataReader *, const RequestedIncompatibleQosStatus &s) override { say("incompatible " + id + " " + std::to_string(s.last_policy_id)); }
	void on_data_available(DataReader *reader) override {
		Bytes b;
		SampleInfo i;
		while (reader->take_next_sample(&b, &i) == ReturnCode_t::RETCODE_OK)
			if (i.valid_data && quiet)
				count(b);
			else if (i.valid_data)
				say("sample " + id + " " + name(i.sample_identity.writer_guid()) + " " + std::to_string(i.sample_identity.sequence_number().to64long()) + " " +
				    name(i.related_sample_identity.writer_guid()) + " " + std::to_string(static_cast<int64_t>(i.related_sample_identity.sequence_number().to64long())) + " " + hex(b.begin(), b.end()));
	}
};

template <class Q> static void apply(Q &q, const std::string &rel, const std::string &durable, int depth, const std::string &user) {
	q.reliability().kind = rel == "rel" ? RELIABLE_RELIABILITY_QOS : BEST_EFFORT_RELIABILITY_QOS;
	q.durability().kind = durable == "tl" ? TRANSIENT_LOCAL_DURABILITY_QOS : VOLATILE_DURABILITY_QOS;
	q.history().depth = depth;
	q.endpoint().history_memory_policy = PREALLOCATED_WITH_REALLOC_MEMORY_MODE;
	q.data_sharing().off();
	q.user_data().data_vec(bytes(user));
}

int main(int argc, char **argv) {
	std::ios::sync_with_stdio(false);
	const uint32_t domain = argc > 1 ? static_cast<uint32_t>(atoi(argv[1])) : 0;
	DomainParticipantQos q = PARTICIPANT_QOS_DEFAULT;
	const std::string user = "enclave=/;";
	q.user_data().data_vec(std::vector<octet>(user.begin(), user.end()));
	q.transport().use_builtin_transports = false;
	auto udp = std::make_shared<eprosima::fastdds::rtps::UDPv4TransportDescriptor>();
	if (argc > 2 && std::string(argv[2]) == "open")
		q.wire_protocol().builtin.metatrafficUnicastLocatorList.push_back(Locator_t());  // in place of multicast
	else
		udp->interfaceWhiteList.push_back("127.0.0.1");
	udp->sendBufferSize = udp->receiveBufferSize = 8 << 20;
	q.transport().user_transports.push_back(udp);
	for (uint32_t i = 0; i < 10; i++) {
		Locator_t l;
		l.kind = LOCATOR_KIND_UDPv4;
		IPLocator::setIPv4(l, 127, 0, 0, 1);
		l.port = 7410 + 250 * domain + 2 * i;
		q.wire_protocol().builtin.initialPeersList.push_back(l);
	}
	// A peer that is killed is forgotten by others after its lease, which is rmw's 20 s otherwise.
	q.wire_protocol().builtin.discovery_config.leaseDuration = {5, 0};
	q.wire_protocol().builtin.discovery_config.leaseDuration_announcementperiod = {1, 0};
	Graph graph;
	auto *p = DomainParticipantFactory::get_instance()->create_participant(domain, q, &graph, StatusMask::none());
	if (!p) return say("error no participant"), 1;
	auto *pub = p->create_publisher(PUBLISHER_QOS_DEFAULT);
	auto *sub = p->create_subscriber(SUBSCRIBER_QOS_DEFAULT);
	std::map<std::string, std::unique_ptr<Writer>> writers;
	std::map<std::string, std::unique_ptr<Reader>> readers;
	auto topic = [&](const std::string &t, const std::string &type) {
		if (auto *old = dynamic_cast<Topic *>(p->lookup_topicdescription(t))) return old;
		TypeSupport(new Raw(type)).register_type(p);
		return p->create_topic(t, type, TOPIC_QOS_DEFAULT);
	};
	say("guid participant " + name(p->guid()));
	for (std::string line; std::getline(std::cin, line);) {
		std::istringstream in(line);
		std::string verb, id, t, type, rel, durable, data;
		int depth;
		in >> verb >> id;
		if (verb == "writer" && in >> t >> type >> rel >> durable >> depth >> data) {
			auto w = std::make_unique<Writer>();
			w->id = id;
			auto wq = DATAWRITER_QOS_DEFAULT;
			apply(wq, rel, durable, depth, data);
			wq.publish_mode().kind = ASYNCHRONOUS_PUBLISH_MODE;
			w->w = pub->create_datawriter(topic(t, type), wq, w.get());
			if (!w->w) return say("error no writer"), 1;
			say("guid " + id + " " + name(w->w->guid()));
			writers[id] = std::move(w);
		} else if ((verb == "reader" || verb == "counter") && in >> t >> type >> rel >> durable >> depth >> data) {
			auto r = std::make_unique<Reader>();
			r->id = id;
			r->quiet = verb == "counter";
			auto rq = DATAREADER_QOS_DEFAULT;
			apply(rq, rel, durable, depth, data);
			r->r = sub->create_datareader(topic(t, type), rq, r.get());
			if (!r->r) return say("error no reader"), 1;
			say("guid " + id + " " + name(r->r->guid()));
			readers[id] = std::move(r);
		} else if ((verb == "write" || verb == "raw") && in >> data) {
			Bytes b = bytes(data);
			say("writing " + id + " 0");
			WriteParams params;
			if (!writers.at(id)->w->write(&b, params)) say("error not written on " + id);
			say("wrote " + id + " " + std::to_string(params.sample_identity().sequence_number().to64long()));
		} else if (verb == "request" && in >> t >> data) {  // the way of rmw_fastrtps: the identity names the reader of responses
			Bytes b = bytes(data);
			WriteParams params;
			params.related_sample_identity().writer_guid() = readers.at(t)->r->guid();
			if (!writers.at(id)->w->write(&b, params)) say("error not written on " + id);
			say("wrote " + id + " " + std::to_string(params.sample_identity().sequence_number().to64long()));
		} else if (verb == "stream") {
			int64_t count = 0, period = 0;
			in >> count >> period >> data;
			Bytes b = bytes(data);
			auto *w = writers.at(id)->w;
			std::thread([=]() mutable {
				for (int64_t i = 0, start = now(); i < count; i++) {
					while (now() < start + i * period * 1000) std::this_thread::sleep_for(std::chrono::microseconds(200));
					int64_t t = now();
					uint32_t stamp[2] = {static_cast<uint32_t>(t / 1000000000), static_cast<uint32_t>(t % 1000000000)};
					memcpy(b.data() + 4, stamp, 8);
					if (!w->write(&b)) say("error not written on " + id);
				}
				say("wrote " + id + " " + std::to_string(count));
			}).detach();
		} else if (verb == "report") {
			readers.at(id)->report();
		} else if (verb == "close") {
			if (writers.count(id)) pub->delete_datawriter(writers[id]->w), writers.erase(id);
			if (readers.count(id)) sub->delete_datareader(readers[id]->r), readers.erase(id);
		} else if (verb != "type") {
			say("error what is " + line.substr(0, 80));
		}
	}
	p->delete_contained_entities();
	DomainParticipantFactory::get_instance()->delete_participant(p);
	return 0;
}
