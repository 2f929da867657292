#!/usr/bin/env python3
"""A program on CycloneDDS (PyPI cyclonedds) that does what it is told on standard input and says what happened on standard
output, in the language of peer.cpp: a foreign peer as a node of rmw_cyclonedds_cpp is one. It reads and writes messages with
CycloneDDS's own codec, by types that it makes from the interface texts it is given:
  type NAME HEX      NAME as in DDS ("std_msgs::msg::dds_::String_"), HEX of the text with all that it refers to
Samples come with a sequence number of 0 and no related identity: rmw_cyclonedds has both in the payload.

Usage: peer.py DOMAIN, with CYCLONEDDS_URI set.
"""
import re
import select
import sys
import types
from dataclasses import dataclass

import cyclonedds.idl.annotations as annotate
import cyclonedds.idl.types as t
from cyclonedds.builtin import (BuiltinDataReader, BuiltinTopicDcpsParticipant, BuiltinTopicDcpsPublication,
                                BuiltinTopicDcpsSubscription)
from cyclonedds.core import InstanceState, Policy, Qos
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration

PRIMITIVES = {"bool": bool, "byte": t.uint8, "char": t.uint8, "string": str, "float32": t.float32, "float64": t.float64,
              **{f"{u}int{n}": getattr(t, f"{u}int{n}") for u in ("", "u") for n in (8, 16, 32, 64)}}


def say(*words):
    print(*words, flush=True)


def make(name, text):
    """The struct of a type; name "std_msgs::msg::dds_::String_"."""
    parts = re.split(r"\n=+\nMSG: ", "\n" + text)
    texts = {}
    for part in parts[1:]:
        head, _, body = part.partition("\n")
        texts[head.strip()] = body
    made = {}

    def field(kind, pkg):
        array = re.fullmatch(r"(.+)\[(<=)?(\d*)\]", kind)
        if array:
            inner, bounded, size = field(array[1], pkg), array[2], array[3]
            if not size:
                return t.sequence[inner]
            return t.sequence[inner, int(size)] if bounded else t.array[inner, int(size)]
        if kind.startswith("string<="):
            return t.bounded_str[int(kind[8:])]
        if kind in PRIMITIVES:
            return PRIMITIVES[kind]
        full = kind if "/" in kind else pkg + "/" + kind
        if full not in made:
            package, short = full.split("/")
            made[full] = struct(f"{package}.msg.dds_.{short}_", texts[full], package)
        return made[full]

    def struct(dds, body, pkg):
        fields = {}
        for line in body.splitlines():
            line = line.split("#")[0].strip()
            if not line or re.match(r"[^=<]+\s+[A-Z][A-Z0-9_]*\s*=", line):
                continue  # constants are not on the wire
            kind, member = line.split()[:2]
            fields[member] = field(kind, pkg)
        if not fields:
            fields["structure_needs_at_least_one_member"] = t.uint8
        body = {"__annotations__": fields, "__module__": __name__}
        return annotate.final(dataclass(types.new_class(dds.split(".")[-1], (IdlStruct,), {"typename": dds}, lambda ns: ns.update(body))))

    return struct(name.replace("::", "."), parts[0], name.split("::")[0])


def qos(reliable, durable, depth, user):
    p = [Policy.Reliability.Reliable(duration(seconds=1)) if reliable == "rel" else Policy.Reliability.BestEffort,
         Policy.Durability.TransientLocal if durable == "tl" else Policy.Durability.Volatile, Policy.History.KeepLast(int(depth)),
         Policy.DataRepresentation(use_cdrv0_representation=True)]
    if durable == "tl":  # what a late reader gets is bounded by this policy, whose own depth is 1
        p.append(Policy.DurabilityService(0, Policy.History.KeepLast(int(depth)), -1, -1, -1))
    if user != "-":
        p.append(Policy.Userdata(bytes.fromhex(user)))
    return Qos(*p)


def user_data(q):
    return next((bytes(p.data) for p in q if type(p).__name__.endswith("Userdata")), b"").hex() or "-"


class Peer:
    def __init__(self, domain):
        self.participant = DomainParticipant(domain, qos=Qos(Policy.Userdata(b"enclave=/;")))
        self.kinds, self.topics, self.writers, self.readers, self.matched, self.policies, self.known = {}, {}, {}, {}, {}, {}, {}
        self.builtin = [("participant", BuiltinDataReader(self.participant, BuiltinTopicDcpsParticipant)),
                        ("writer", BuiltinDataReader(self.participant, BuiltinTopicDcpsPublication)),
                        ("reader", BuiltinDataReader(self.participant, BuiltinTopicDcpsSubscription))]
        say("guid participant", self.participant.guid.bytes.hex())

    def leave(self):
        """Takes the participant back with all it has, so that others hear of it: cyclonedds does not at the process's end."""
        self.participant._delete(self.participant._ref)

    def topic(self, name, kind):
        key = name, kind
        if key not in self.topics:
            self.topics[key] = Topic(self.participant, name, self.kinds[kind], qos=Qos(Policy.DataRepresentation(use_cdrv0_representation=True)))
        return self.topics[key]

    def told(self, line):
        verb, id, *rest = line.split()
        if verb == "type" and id in self.kinds:
            pass  # topics that are there have its class
        elif verb == "type":
            self.kinds[id] = make(id, bytes.fromhex(rest[0].replace("-", "")).decode())
        elif verb in ("writer", "reader"):
            name, kind, *quality = rest
            ends, make_end = (self.writers, DataWriter) if verb == "writer" else (self.readers, DataReader)
            ends[id] = make_end(self.participant, self.topic(name, kind), qos=qos(*quality)), self.kinds[kind]
            say("guid", id, ends[id][0].guid.bytes.hex())
        elif verb in ("write", "request"):
            writer, kind = self.writers[id]
            sample = kind.deserialize(bytes.fromhex(rest[-1]))
            say("writing", id, 0)
            writer.write(sample)
            say("wrote", id, 0)
        elif verb == "close":
            (self.writers if id in self.writers else self.readers).pop(id)
        else:
            say("error what is", line[:80])

    def look(self):
        busy = False
        for id, (reader, _) in self.readers.items():
            for s in reader.take(20):
                if isinstance(s, IdlStruct):
                    busy = True
                    say("sample", id, "0" * 32, 0, "0" * 32, 0, s.serialize().hex())
        for id, (writer, _) in self.writers.items():
            self.count(id, len(writer.get_matched_subscriptions()))
            self.refused(id, writer.get_offered_incompatible_qos_status())
        for id, (reader, _) in self.readers.items():
            self.count(id, len(reader.get_matched_publications()))
            self.refused(id, reader.get_requested_incompatible_qos_status())
        for kind, reader in self.builtin:
            for s in reader.take(200):
                self.discovered(kind, s)
        return busy

    def count(self, id, n):
        if self.matched.get(id, 0) != n:
            self.matched[id] = n
            say("matched", id, n)

    def refused(self, id, status):
        if self.policies.get(id, 0) != status.total_count:
            self.policies[id] = status.total_count
            say("incompatible", id, status.last_policy_id)

    def discovered(self, kind, s):
        key = getattr(s, "key", None)
        if key is None:
            return
        here = s.sample_info.instance_state == InstanceState.Alive and s.sample_info.valid_data
        if not here:
            before = self.known.pop((kind, key), None)
            if before:
                say(*before[:3], "gone", *before[4:])
            return
        guid = key.bytes.hex()
        if kind == "participant":
            words = ("participant", guid, "-", "here", user_data(s.qos))
        else:
            durable = Policy.Durability.TransientLocal in s.qos
            reliable = not any(p == Policy.Reliability.BestEffort for p in s.qos)
            words = ("endpoint", guid, kind, "here", s.topic_name, s.type_name, "rel" if reliable else "be", "tl" if durable else "vol", user_data(s.qos))
        if self.known.get((kind, key)) != words:
            self.known[kind, key] = words
            say(*words)


peer = Peer(int(sys.argv[1]))
pending, pause = b"", 0.0
while True:
    while select.select([sys.stdin], [], [], pause)[0]:
        got = sys.stdin.buffer.raw.read(1 << 20)
        if not got:
            peer.leave()
            sys.exit(0)
        *lines, pending = (pending + got).split(b"\n")
        for line in lines:
            try:
                peer.told(line.decode())
            except Exception as e:  # told to the test
                say("error", repr(e), "at", line[:80])
        pause = 0
    pause = 0 if peer.look() else 0.005
