#!/usr/bin/env python3
"""Drives a managed node as nav2's lifecycle manager and `ros2 param` would, over CycloneDDS (PyPI cyclonedds): another DDS
implementation, other code, the service mapping of rmw_cyclonedds. Prints what it was answered and told, one JSON list a line.

Usage: manager.py NODE SECONDS [broken], with ROS_DOMAIN_ID and CYCLONEDDS_URI set. broken is for a node whose model cannot be loaded.
"""
import sys
import time

import cyclonedds.idl.types as t

from ros import *

State = struct("lifecycle_msgs/State", id=t.uint8, label=str)
Transition = struct("lifecycle_msgs/Transition", id=t.uint8, label=str)
TransitionDescription = struct("lifecycle_msgs/TransitionDescription", transition=Transition, start_state=State, goal_state=State)
TransitionEvent = struct("lifecycle_msgs/TransitionEvent", timestamp=t.uint64, transition=Transition, start_state=State, goal_state=State)
Value = struct("rcl_interfaces/ParameterValue", type=t.uint8, bool_value=bool, integer_value=t.int64, double_value=t.float64,
               string_value=str, byte_array_value=t.sequence[t.uint8], bool_array_value=t.sequence[bool],
               integer_array_value=t.sequence[t.int64], double_array_value=t.sequence[t.float64], string_array_value=t.sequence[str])
Parameter = struct("rcl_interfaces/Parameter", name=str, value=Value)
ParameterEvent = struct("rcl_interfaces/ParameterEvent", stamp=Time, node=str, new_parameters=t.sequence[Parameter],
                        changed_parameters=t.sequence[Parameter], deleted_parameters=t.sequence[Parameter])
FloatRange = struct("rcl_interfaces/FloatingPointRange", from_value=t.float64, to_value=t.float64, step=t.float64)
IntRange = struct("rcl_interfaces/IntegerRange", from_value=t.int64, to_value=t.int64, step=t.uint64)
Descriptor = struct("rcl_interfaces/ParameterDescriptor", name=str, type=t.uint8, description=str, additional_constraints=str,
                    read_only=bool, dynamic_typing=bool, floating_point_range=t.sequence[FloatRange, 1], integer_range=t.sequence[IntRange, 1])
Result = struct("rcl_interfaces/SetParametersResult", successful=bool, reason=str)
ListResult = struct("rcl_interfaces/ListParametersResult", names=t.sequence[str], prefixes=t.sequence[str])
Log = struct("rcl_interfaces/Log", stamp=Time, level=t.uint8, name=str, msg=str, file=str, function=str, line=t.uint32)
Status = struct("bond/Status", header=Header, id=str, instance_id=str, active=bool, heartbeat_timeout=t.float32, heartbeat_period=t.float32)

SERVICES = {
    "change_state": pair("lifecycle_msgs/ChangeState", {"transition": Transition}, {"success": bool}),
    "get_state": pair("lifecycle_msgs/GetState", None, {"current_state": State}),
    "get_available_states": pair("lifecycle_msgs/GetAvailableStates", None, {"available_states": t.sequence[State]}),
    "get_available_transitions": pair("lifecycle_msgs/GetAvailableTransitions", None, {"available_transitions": t.sequence[TransitionDescription]}),
    "list_parameters": pair("rcl_interfaces/ListParameters", {"prefixes": t.sequence[str], "depth": t.uint64}, {"result": ListResult}),
    "get_parameters": pair("rcl_interfaces/GetParameters", {"names": t.sequence[str]}, {"values": t.sequence[Value]}),
    "get_parameter_types": pair("rcl_interfaces/GetParameterTypes", {"names": t.sequence[str]}, {"types": t.sequence[t.uint8]}),
    "describe_parameters": pair("rcl_interfaces/DescribeParameters", {"names": t.sequence[str]}, {"descriptors": t.sequence[Descriptor]}),
    "set_parameters": pair("rcl_interfaces/SetParameters", {"parameters": t.sequence[Parameter]}, {"results": t.sequence[Result]}),
    "set_parameters_atomically": pair("rcl_interfaces/SetParametersAtomically", {"parameters": t.sequence[Parameter]}, {"result": Result}),
}
SERVICES["get_transition_graph"] = SERVICES["get_available_transitions"]


def parameter(name, v):
    typ = {bool: 1, int: 2, float: 3, str: 4}[type(v)]
    return Parameter(name, Value(typ, v if typ == 1 else False, v if typ == 2 else 0, v if typ == 3 else 0.0, v if typ == 4 else "", [], [], [], [], []))


def plain(v):
    return [None, v.bool_value, v.integer_value, v.double_value, v.string_value][v.type] if v.type < 5 else f"type {v.type}"


told += [
    (reader(f"rt/{node}/transition_event", TransitionEvent), lambda s: say("event", s.start_state.label, s.transition.label, s.goal_state.label)),
    (reader("rt/parameter_events", ParameterEvent), lambda s: say("parameters", s.node, len(s.new_parameters), [[p.name, plain(p.value)] for p in s.changed_parameters])),
    (reader("rt/rosout", Log, transient=True), lambda s: say("log", s.level, s.name, s.msg)),
    (reader("/".join(["rt", *node.split("/")[:-1], "bond"]), Status), lambda s: say("bond", s.id, s.active)),
]

client = {name: Client(name, kinds) for name, kinds in SERVICES.items()}
state = lambda: client["get_state"]().current_state.label


def change(number, label=""):
    say("change", number, client["change_state"](Transition(number, label)).success, [state()])


if sys.argv[3:] == ["broken"]:
    say("state", state())
    change(1)
    change(3)  # not from here
    change(0, "configure")
    change(5)
    wait = min(end, time.monotonic() + 5)
    while time.monotonic() < wait and not said >= {"event", "log", "finalized"}:
        listen()
        time.sleep(0.02)
    say("end")
    sys.exit()

say("state", state())
say("states", [[s.id, s.label] for s in client["get_available_states"]().available_states])
say("transitions", [[d.transition.id, d.transition.label, d.goal_state.label] for d in client["get_available_transitions"]().available_transitions])
say("graph", len(client["get_transition_graph"]().available_transitions))
names = client["list_parameters"]([], 0).result.names
say("names", names)
say("values", [plain(v) for v in client["get_parameters"](["frames", "fixed_frame", "nonsense", "do_sample", "top_p"]).values])
say("types", list(client["get_parameter_types"](names).types))
say("descriptors", [[d.name, d.type, d.read_only, d.dynamic_typing, [[r.from_value, r.to_value] for r in list(d.integer_range) + list(d.floating_point_range)]]
                    for d in client["describe_parameters"](["frames", "tf_timeout", "model"]).descriptors])
each = client["set_parameters"]([parameter("frames", 4), parameter("frames", 4.5), parameter("top_p", 2.0), parameter("model", "x"), parameter("top_p", 0.5)]).results
say("set", [[r.successful, r.reason] for r in each])
all_ = client["set_parameters_atomically"]([parameter("frames", 9), parameter("top_p", -1.0)]).result
say("atomically", all_.successful, all_.reason)
say("values", [plain(v) for v in client["get_parameters"](["frames", "top_p"]).values])
change(3)  # not from here
change(1)
change(3)
time.sleep(0.6)
listen()
change(4)
change(2)
change(0, "configure")
change(6)
wait = min(end, time.monotonic() + 5)  # a reader that was matched late gets what it missed with the writer's next heartbeat
while time.monotonic() < wait and not said >= {"event", "parameters", "log", "bond", "finalized"}:
    listen()
    time.sleep(0.02)
say("end")
