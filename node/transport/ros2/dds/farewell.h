// What others say of their leaving, made readable for Fast DDS.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>

#include <fastdds/rtps/transport/ChainingTransport.h>
#include <fastdds/rtps/transport/ChainingTransportDescriptor.h>

namespace farewell {

// A datagram's submessages: kind, flags, length, content (RTPS 2.3, 8.3.3 and 9.4.5).
enum : uint8_t { PAD = 0x01, ACKNACK = 0x06, INFO_TS = 0x09, DATA = 0x15 };
enum : uint8_t { LITTLE = 1, INLINE_QOS = 2, DATA_FLAG = 4, KEY_FLAG = 8 };
constexpr size_t HEADER = 20, SUBHEADER = 4, GUID = 16;

inline uint16_t u16(const uint8_t *b, bool little) { return little ? b[0] | b[1] << 8 : b[0] << 8 | b[1]; }
inline void put16(uint8_t *b, uint16_t v, bool little) { b[little ? 0 : 1] = v & 255, b[little ? 1 : 0] = v >> 8; }

// The builtin writers that tell of participants, writers and readers.
inline bool builtin(const uint8_t *entity) {
	static const uint8_t ids[][4] = {{0, 1, 0, 0xc2}, {0, 0, 3, 0xc2}, {0, 0, 4, 0xc2}};
	for (auto &id : ids)
		if (memcmp(entity, id, 4) == 0) return true;
	return false;
}

// Parameters begin at multiples of 4 bytes, as submessages do, whatever the length before them; Fast DDS reads both so.
inline size_t aligned(size_t n) { return (n + 3) & ~size_t{3}; }

// The GUID in a key: a list of parameters that has it under the id of a participant's (0x50) or an endpoint's (0x5a), or plain CDR.
inline const uint8_t *guid(const uint8_t *p, size_t n, uint16_t wanted) {
	if (n < 4 || p[0] != 0) return nullptr;
	if (p[1] < 2) return n == 4 + GUID ? p + 4 : nullptr;
	if (p[1] > 3) return nullptr;
	bool little = p[1] == 3;
	for (size_t at = 4; at + 4 <= n;) {
		uint16_t id = u16(p + at, little), size = u16(p + at + 2, little);
		at += 4;
		if (id == 1 || at + size > n) return nullptr;
		if (id == wanted && size == GUID) return p + at;
		at += aligned(size);
	}
	return nullptr;
}

// payload is where the content of a DATA submessage has its payload; 0: it has none, or at a place that is against the standard (a
// distance under 16, which Fast DDS takes for 16, or one that is no multiple of 4, behind which no PAD could begin).
inline size_t payload(const uint8_t *c, size_t n, uint8_t flags) {
	bool little = flags & LITTLE;
	uint16_t distance = u16(c + 2, little);
	if (distance < 16 || distance > 0x7fff || distance % 4 != 0) return 0;
	size_t at = 4 + distance;
	if (flags & INLINE_QOS) {
		for (;;) {
			if (at + 4 > n) return 0;
			uint16_t id = u16(c + at, little), size = u16(c + at + 2, little);
			at += 4;
			if (id == 1) break;
			at += aligned(size);
		}
	}
	return at < n ? at : 0;
}

// readable changes a datagram so that the key of what has left is its GUID and no more. CycloneDDS and RustDDS send it as a list of
// parameters, for which Fast DDS 2.9 has no room (MessageReceiver::proc_Submsg_Data), so that a reader or a writer of theirs would
// stay matched as long as its participant lives, and that one until its lease is over. The lengths stay: the rest becomes a PAD.
// It returns how many submessages it has changed; -1: this is no RTPS, or a submessage is longer than the datagram (those before it
// are read all the same). On the way it calls acknowledged(prefix, reader, writer) for each reader that acknowledges something to a
// writer: the reader's GUID prefix and the two entity ids.
template <class F> int readable(uint8_t *b, size_t n, F &&acknowledged) {
	int changed = 0;
	if (n < HEADER || memcmp(b, "RTPS", 4) != 0) return -1;
	for (size_t at = HEADER; at + SUBHEADER <= n;) {
		uint8_t *s = b + at, *c = s + SUBHEADER;
		uint8_t kind = s[0], flags = s[1];
		bool little = flags & LITTLE;
		size_t size = u16(s + 2, little), rest = n - at - SUBHEADER;
		if (size == 0 && kind != PAD && kind != INFO_TS) size = rest;  // to the end
		if (size > rest) return -1;
		if (kind == ACKNACK && size >= 8) acknowledged(b + 8, c, c + 4);
		if (kind == DATA && (flags & (DATA_FLAG | KEY_FLAG)) == KEY_FLAG && size >= 20 && builtin(c + 8)) {
			size_t from = payload(c, size, flags);
			if (from != 0 && size - from >= GUID + SUBHEADER && from + GUID <= 0xffff && size - from - GUID - SUBHEADER <= 0xffff) {
				if (const uint8_t *g = guid(c + from, size - from, c[9] == 1 ? 0x50 : 0x5a)) {
					memmove(c + from, g, GUID);
					put16(s + 2, static_cast<uint16_t>(from + GUID), little);
					uint8_t *pad = c + from + GUID;
					pad[0] = PAD, pad[1] = LITTLE;
					put16(pad + 2, static_cast<uint16_t>(size - from - GUID - SUBHEADER), true);
					changed++;
				}
			}
		}
		at += SUBHEADER + aligned(size);
	}
	return changed;
}

using namespace eprosima::fastdds::rtps;
using eprosima::fastrtps::rtps::Locator_t;
using eprosima::fastrtps::rtps::LocatorsIterator;
using eprosima::fastrtps::rtps::octet;
using eprosima::fastrtps::rtps::SenderResource;

// Transport is another one behind which datagrams are made readable. What is none is told, with where it came from, and so is who
// acknowledges: Fast DDS keeps that to itself.
class Transport : public ChainingTransport {
	using Garbage = std::function<void(const Locator_t &from, size_t size)>;
	using Acknowledged = std::function<void(const uint8_t *prefix, const uint8_t *reader, const uint8_t *writer)>;
	struct Descriptor : ChainingTransportDescriptor {
		Garbage garbage;
		Acknowledged acknowledged;
		Descriptor(std::shared_ptr<TransportDescriptorInterface> low, Garbage g, Acknowledged a)
		    : ChainingTransportDescriptor(low), garbage(std::move(g)), acknowledged(std::move(a)) {}
		TransportInterface *create_transport() const override { return new Transport(*this); }
	};
	Descriptor descriptor;

public:
	explicit Transport(const Descriptor &d) : ChainingTransport(d), descriptor(d) {}
	static std::shared_ptr<ChainingTransportDescriptor> over(std::shared_ptr<TransportDescriptorInterface> low, Garbage garbage, Acknowledged acknowledged) {
		return std::make_shared<Descriptor>(low, std::move(garbage), std::move(acknowledged));
	}
	TransportDescriptorInterface *get_configuration() override { return &descriptor; }
	bool send(SenderResource *low, const octet *data, uint32_t size, LocatorsIterator *begin, LocatorsIterator *end,
	          const std::chrono::steady_clock::time_point &until) override {
		return low->send(data, size, begin, end, until);
	}
	void receive(TransportReceiverInterface *next, const octet *data, uint32_t size, const Locator_t &local, const Locator_t &remote) override {
		if (readable(const_cast<octet *>(data), size, descriptor.acknowledged) < 0) descriptor.garbage(remote, size);  // a ChainingTransport may change it
		next->OnDataReceived(data, size, local, remote);
	}
};

}  // namespace farewell
