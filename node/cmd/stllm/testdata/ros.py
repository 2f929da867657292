"""A ROS 2 participant over CycloneDDS (PyPI cyclonedds) for the programs beside this file: types as IDL classes, topics, and
services in the mapping of rmw_cyclonedds. ROS_DOMAIN_ID and CYCLONEDDS_URI are set by the test; the programs' arguments are
NODE SECONDS.
"""
import json
import os
import sys
import time
import types
from dataclasses import dataclass

import cyclonedds.idl.annotations as annotate
import cyclonedds.idl.types as t
from cyclonedds.core import Policy, Qos
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration


def struct(name, kind="msg", /, **fields):
    pkg, short = name.split("/")
    body = {"__annotations__": fields, "__module__": __name__}
    made = types.new_class(short, (IdlStruct,), {"typename": f"{pkg}.{kind}.dds_.{short}_"}, lambda ns: ns.update(body))
    return annotate.final(dataclass(made))


def pair(name, request, response, kind="srv"):
    """Request and response with the header that rmw_cyclonedds puts before them."""
    head = {"client": t.uint64, "sequence": t.int64}
    return (struct(name + "_Request", kind, **head, **(request or {"structure_needs_at_least_one_member": t.uint8})),
            struct(name + "_Response", kind, **head, **response))


Time = struct("builtin_interfaces/Time", sec=t.int32, nanosec=t.uint32)
Header = struct("std_msgs/Header", stamp=Time, frame_id=str)

node, end = sys.argv[1].strip("/"), time.monotonic() + float(sys.argv[2])
participant = DomainParticipant(int(os.environ.get("ROS_DOMAIN_ID", 0)), qos=Qos(Policy.Userdata(b"enclave=/;")))
me = int.from_bytes(participant.guid.bytes[:8], "little") & (2**63 - 1)
tag = "".join(f"{b:02x}." for b in participant.guid.bytes)[:-1]
told = []  # (reader, function) of the topics that are listened to, also while a call waits


said = set()


def say(*words):
    said.update(w for w in (words[0], words[-1]) if isinstance(w, str))
    print(json.dumps(words), flush=True)


def qos(depth=100, transient=False, user=None):
    policies = [Policy.Reliability.Reliable(duration(seconds=1)), Policy.Durability.TransientLocal if transient else Policy.Durability.Volatile,
                Policy.History.KeepLast(depth), Policy.DataRepresentation(use_cdrv0_representation=True)]
    return Qos(*policies, *([Policy.Userdata(user.encode())] if user else []))


def reader(name, kind, **kw):
    return DataReader(participant, Topic(participant, name, kind, qos=qos(**kw)), qos=qos(**kw))


def samples(r):
    return [s for s in r.take(200) if not hasattr(s, "sample_info") or s.sample_info.valid_data]


def listen():
    for r, take in told:
        for s in samples(r):
            take(s)


class Client:
    def __init__(self, name, kinds):
        self.name, (self.request, response) = name, kinds
        user = f"clientid={tag};"
        self.reader = reader(f"rr/{node}/{name}Reply", response, user=user)
        topic = Topic(participant, f"rq/{node}/{name}Request", self.request, qos=qos(user=user))
        self.writer = DataWriter(participant, topic, qos=qos(user=user))
        self.number = 0

    def __call__(self, *fields):
        while time.monotonic() < end and not (self.writer.get_matched_subscriptions() and self.reader.get_matched_publications()):
            time.sleep(0.02)
        # A server that is seen need not have seen us: the first question may be lost and is asked again.
        while time.monotonic() < end:
            self.number += 1
            self.writer.write(self.request(me, self.number, *(fields or (0,))))
            again = min(end, time.monotonic() + (3 if self.number == 1 else 20))
            while time.monotonic() < again:
                for s in samples(self.reader):
                    if s.client == me and s.sequence == self.number:
                        return s
                listen()
                time.sleep(0.002)
        sys.exit(f"no answer from {self.name}")
