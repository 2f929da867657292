"""Writes the golden messages that the tests of msgs compare with: filled at random from a seed and encoded by
implementations that are not ours.

  genpy (ROS 1):  catkin-build ../stllm_msgs, put its Python folder on PYTHONPATH, then
                  /usr/bin/python3 golden.py ros1 > ros1.txt
  rosbags (CDR):  pip install rosbags==0.11.9 numpy, then
                  python3 golden.py cdr > cdr.txt

One message a line: type, MD5 sum (ROS 1) or "-", bytes in hex.

And the type hashes that ROS 2's own generator gives to the published definitions and to ../stllm_msgs:

  rosidl:         check out ros2/{rosidl,rcl_interfaces,common_interfaces,geometry2,rmw_dds_common,unique_identifier_msgs}
                  and ros/bond_core (branch ros2) into DIR; pip install empy==3.3.4 lark; python3 golden.py rosidl DIR | grep RIHS01 > rosidl.txt
"""
import glob
import importlib
import os
import random
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
RANGES = {"byte": (0, 127), "char": (0, 127), "int8": (-128, 127), "uint8": (0, 255), "int16": (-2**15, 2**15 - 1),
          "uint16": (0, 2**16 - 1), "int32": (-2**31, 2**31 - 1), "uint32": (0, 2**32 - 1), "int64": (-2**63, 2**63 - 1),
          "uint64": (0, 2**64 - 1)}
EACH = 3  # messages a type


def scalar(rnd, typ):
    if typ in RANGES:
        return rnd.randint(*RANGES[typ])
    if typ == "bool":
        return rnd.random() < 0.5
    if typ in ("float32", "float64"):
        return rnd.randint(-2**20, 2**20) / 256.0
    if typ == "string":
        return rnd.choice(["", "map", "camera_optical", "tür", "a longer text, with blanks"])[: 200]
    raise ValueError(typ)


def ros1():
    import genpy

    def fill(rnd, cls):
        m = cls()
        for name, typ in zip(cls.__slots__, cls._slot_types):
            setattr(m, name, value(rnd, typ))
        return m

    def one(rnd, typ):
        if typ == "time":
            return genpy.Time(rnd.randint(0, 2**31 - 1), rnd.randint(0, 10**9 - 1))
        if typ == "duration":
            return genpy.Duration(rnd.randint(0, 2**30), rnd.randint(0, 10**9 - 1))
        if "/" in typ:
            return fill(rnd, genpy.message.get_message_class(typ))
        v = scalar(rnd, typ)
        return v

    def value(rnd, typ):
        m = re.fullmatch(r"(.*)\[(\d*)\]", typ)
        if not m:
            return one(rnd, typ)
        n = int(m[2]) if m[2] else rnd.randint(0, 3)
        v = [one(rnd, m[1]) for _ in range(n)]
        return bytes(v) if m[1] in ("uint8", "char") else v

    packages = ["std_msgs", "geometry_msgs", "sensor_msgs", "tf2_msgs", "nav_msgs", "visualization_msgs",
                "diagnostic_msgs", "rosgraph_msgs", "stllm_msgs"]
    import io
    for pkg in packages:
        mod = importlib.import_module(pkg + ".msg")
        classes = [getattr(mod, n) for n in sorted(dir(mod)) if hasattr(getattr(mod, n), "_md5sum")]
        emit(io, fill, classes)
    for pkg in ["std_srvs", "stllm_msgs"]:
        mod = importlib.import_module(pkg + ".srv")
        classes = []
        for n in sorted(dir(mod)):
            c = getattr(mod, n)
            if hasattr(c, "_request_class"):
                print(c._type, c._md5sum, "-")
                classes += [c._request_class, c._response_class]
        emit(io, fill, classes)


def emit(io, fill, classes):
    for c in classes:
        rnd = random.Random(c._type)
        for _ in range(EACH):
            b = io.BytesIO()
            fill(rnd, c).serialize(b)
            print(c._type, c._md5sum, b.getvalue().hex() or "-")


def cdr():
    import numpy as np
    from rosbags.interfaces import Nodetype
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.EMPTY)
    types = {}

    def add(name, text):
        types.update(get_types_from_msg(text, name))

    for path in sorted(glob.glob(HERE + "/../interfaces/ros2/*.txt")):
        pkg = os.path.basename(path)[:-4]
        for part in ("\n" + open(path, encoding="utf8").read()).split("\n=== ")[1:]:
            head, _, body = part.partition("\n")
            define(add, pkg, head.strip(), body)
    for path in sorted(glob.glob(HERE + "/../stllm_msgs/*/*.*")):
        kind = path.rsplit(".", 1)[1]
        name = os.path.basename(path)[: -len(kind) - 1]
        define(add, "stllm_msgs", kind + "/" + name, open(path, encoding="utf8").read())
    store.register(types)

    def one(rnd, desc):
        kind, arg = desc
        if kind == Nodetype.BASE:
            name, bound = arg
            name = {"octet": "byte"}.get(name, name)
            return scalar(rnd, name)
        if kind == Nodetype.NAME:
            return fill(rnd, arg)
        raise ValueError(desc)

    def value(rnd, desc):
        kind, arg = desc
        if kind not in (Nodetype.ARRAY, Nodetype.SEQUENCE):
            return one(rnd, desc)
        item, n = arg
        n = n if kind == Nodetype.ARRAY else rnd.randint(0, min(n or 3, 3))
        v = [one(rnd, item) for _ in range(n)]
        if item[0] == Nodetype.BASE and item[1][0] != "string":
            name = {"octet": "uint8", "byte": "uint8", "char": "uint8"}.get(item[1][0], item[1][0])
            return np.array(v, dtype=np.dtype(name))
        return v

    def fill(rnd, name):
        consts, fields = store.fielddefs[name]
        return store.types[name](**{n: 0 if n.startswith("structure_needs") else value(rnd, d) for n, d in fields})

    for name in sorted(types):
        if name.endswith("_Event"):
            continue
        rnd = random.Random(name)
        for _ in range(EACH):
            print(name.replace("/srv/msg/", "/srv/"), "-", bytes(store.serialize_cdr(fill(rnd, name), name)).hex())


def rosidl(src):
    import json
    import tempfile
    from pathlib import Path

    for p in ("rosidl_adapter", "rosidl_parser", "rosidl_pycommon", "rosidl_generator_type_description", "rosidl_cli"):
        sys.path.insert(0, f"{src}/rosidl/{p}")
    import rosidl_generator_type_description as generator
    from rosidl_adapter.action import convert_action_to_idl
    from rosidl_adapter.msg import convert_msg_to_idl
    from rosidl_adapter.srv import convert_srv_to_idl

    convert = {"msg": convert_msg_to_idl, "srv": convert_srv_to_idl, "action": convert_action_to_idl}
    # In the order of their dependencies, with the part that is ours of each.
    packages = ["builtin_interfaces", "service_msgs", "unique_identifier_msgs", "std_msgs", "geometry_msgs",
                "sensor_msgs", "tf2_msgs", "nav_msgs", "visualization_msgs", "diagnostic_msgs", "std_srvs",
                "action_msgs", "rcl_interfaces", "lifecycle_msgs", "rosgraph_msgs", "rmw_dds_common", "bond", "stllm_msgs"]
    roots = {os.path.basename(d[:-1]): Path(d) for d in glob.glob(f"{src}/*/*/")}
    roots["unique_identifier_msgs"] = Path(src) / "unique_identifier_msgs"
    roots["stllm_msgs"] = Path(HERE).parent / "stllm_msgs"
    ours = {"stllm_msgs": None}
    for path in glob.glob(HERE + "/../interfaces/ros2/*.txt"):
        ours[os.path.basename(path)[:-4]] = set(re.findall(r"(?m)^=== \w+/(\w+)", open(path, encoding="utf8").read()))
    out, includes, hashes = Path(tempfile.mkdtemp()), [], {}
    for pkg in packages:
        root, folder = roots[pkg].absolute(), out / pkg
        tuples = []
        for kind in ("msg", "srv", "action"):
            for f in sorted((root / kind).glob("*." + kind)):
                convert[kind](root, pkg, f.relative_to(root), folder / kind)
                tuples.append(f"{folder}:{kind}/{f.stem}.idl")
        args = out / (pkg + ".json")
        args.write_text(json.dumps({"package_name": pkg, "output_dir": str(folder), "idl_tuples": tuples, "include_paths": includes}))
        generator.generate_type_hash(str(args))
        includes.append(f"{pkg}:{folder}")
        for j in folder.glob("**/*.json"):
            for h in json.loads(j.read_text())["type_hashes"]:
                hashes[h["type_name"]] = h["hash_string"]
    for name in sorted(hashes):
        pkg, _, short = name.split("/")
        if ours[pkg] is None or short.split("_")[0] in ours[pkg]:
            print(name, hashes[name])


def define(add, pkg, head, body):
    """Definitions that rosbags reads are messages: services and actions are taken apart here."""
    kind, name = head.split("/")
    # Types of the same package by their full names, which rosbags needs outside of messages.
    body = re.sub(r"(?m)^([A-Z]\w*)(?=[\[ ])", pkg + r"/msg/\1", body)
    parts = re.split(r"(?m)^---\s*$", body)
    suffixes = {"msg": [""], "srv": ["_Request", "_Response"], "action": ["_Goal", "_Result", "_Feedback"]}[kind]
    for suffix, text in zip(suffixes, parts):
        add(f"{pkg}/{kind}/{name}{suffix}", text)
    if kind == "action":
        full = f"{pkg}/action/{name}"
        add(full + "_SendGoal_Request", f"unique_identifier_msgs/UUID goal_id\n{full}_Goal goal\n")
        add(full + "_SendGoal_Response", "bool accepted\nbuiltin_interfaces/Time stamp\n")
        add(full + "_GetResult_Request", "unique_identifier_msgs/UUID goal_id\n")
        add(full + "_GetResult_Response", f"int8 status\n{full}_Result result\n")
        add(full + "_FeedbackMessage", f"unique_identifier_msgs/UUID goal_id\n{full}_Feedback feedback\n")


if __name__ == "__main__":
    {"ros1": ros1, "cdr": cdr, "rosidl": rosidl}[sys.argv[1]](*sys.argv[2:])
