#!/usr/bin/env python3
"""Asks a node over CycloneDDS (PyPI cyclonedds) on its topics, services and action. Prints what came, one JSON list a line.

Usage: asker.py NODE SECONDS, with ROS_DOMAIN_ID and CYCLONEDDS_URI set.
"""
import time

import cyclonedds.idl.types as t

from ros import *

String = struct("std_msgs/String", data=str)
Question = struct("stllm_msgs/Question", header=Header, id=str, text=str, task=str, deadline=t.float64, choices=t.sequence[str])
Point = struct("geometry_msgs/Point", x=t.float64, y=t.float64, z=t.float64)
StageTime = struct("stllm_msgs/StageTime", stage=str, seconds=t.float64)
PlanStep = struct("stllm_msgs/PlanStep", text=str, parsed=bool, verb=str, object=str, target=str, direction=str)
FrameEvidence = struct("stllm_msgs/FrameEvidence", stamp_ns=t.int64, weight=t.float64)
RegionEvidence = struct("stllm_msgs/RegionEvidence", position=Point, radius=t.float64, weight=t.float64)
Answer = struct("stllm_msgs/Answer", header=Header, id=str, question=str, text=str, task=str, label=str, error_code=t.uint16, error_message=str,
                finish_reason=str, window_start_ns=t.int64, window_end_ns=t.int64, frames=t.uint32, map_stamp_ns=t.int64, map_id=str, model_id=str,
                prompt_tokens=t.uint32, new_tokens=t.uint32, times=t.sequence[StageTime], plan=t.sequence[PlanStep],
                frame_evidence=t.sequence[FrameEvidence], region_evidence=t.sequence[RegionEvidence])
ID = t.array[t.uint8, 16]
UUID = struct("unique_identifier_msgs/UUID", uuid=ID)
GoalInfo = struct("action_msgs/GoalInfo", goal_id=UUID, stamp=Time)
GoalStatus = struct("action_msgs/GoalStatus", goal_info=GoalInfo, status=t.int8)
GoalStatusArray = struct("action_msgs/GoalStatusArray", status_list=t.sequence[GoalStatus])
Goal = struct("stllm_msgs/Ask_Goal", "action", question=Question)
Result = struct("stllm_msgs/Ask_Result", "action", answer=Answer)
Feedback = struct("stllm_msgs/Ask_Feedback", "action", stage=str, new_tokens=t.uint32, delta=str)
FeedbackMessage = struct("stllm_msgs/Ask_FeedbackMessage", "action", goal_id=UUID, feedback=Feedback)

now = Time(0, 0)
stages, pieces = [], []


def fed(s):
    stages.append(s.feedback.stage)
    pieces.append(s.feedback.delta)


answers = []
told += [
    (reader(f"rt/{node}/answer", Answer), answers.append),
    (reader(f"rt/{node}/ask_action/_action/feedback", FeedbackMessage), fed),
    (reader(f"rt/{node}/ask_action/_action/status", GoalStatusArray, transient=True),
     lambda s: say("status", *[[g.goal_info.goal_id.uuid[0], g.status] for g in s.status_list])),
]
text = DataWriter(participant, Topic(participant, f"rt/{node}/question_text", String, qos=qos()), qos=qos())
ask = Client("ask", pair("stllm_msgs/Ask", {"question": Question}, {"answer": Answer}))
plan = Client("plan", pair("stllm_msgs/PlanAction", {"goal": str, "deadline": t.float64}, {"success": bool, "message": str, "steps": t.sequence[PlanStep], "answer": Answer}))
clear = Client("clear_window", pair("std_srvs/Trigger", None, {"success": bool, "message": str}))
send = Client("ask_action/_action/send_goal", pair("stllm_msgs/Ask_SendGoal", {"goal_id": UUID, "goal": Goal}, {"accepted": bool, "stamp": Time}, "action"))
get = Client("ask_action/_action/get_result", pair("stllm_msgs/Ask_GetResult", {"goal_id": UUID}, {"status": t.int8, "result": Result}, "action"))
cancel = Client("ask_action/_action/cancel_goal", pair("action_msgs/CancelGoal", {"goal_info": GoalInfo}, {"return_code": t.int8, "goals_canceling": t.sequence[GoalInfo]}))


def question(words):
    return Question(Header(now, ""), "", words, "", 0.0, [])


def uuid(n):
    return UUID([n] + [7] * 15)


def short(a):
    return [a.question, a.error_code, a.error_message, a.frames, bool(a.text), a.finish_reason]


while time.monotonic() < end and not (text.get_matched_subscriptions() and told[0][0].get_matched_publications()):
    time.sleep(0.02)
text.write(String("where is the sink?"))
while time.monotonic() < end and not answers:
    listen()
    time.sleep(0.01)
say("topic", *map(short, answers))
say("service", short(ask(question("where is the table?")).answer))
planned = plan("make a cup of tea", 0.0)
say("plan", planned.success, planned.answer.error_code, planned.answer.frames > 0, bool(planned.answer.text), planned.answer.task, len(planned.steps))
say("plan says", planned.message, planned.answer.text, [[s.text, s.parsed, s.verb, s.object] for s in planned.steps])
say("goal", send(uuid(1), Goal(question("where is the stove?"))).accepted)
done = get(uuid(1))
listen()
say("result", done.status, short(done.result.answer), "".join(pieces) == done.result.answer.text, sorted(set(stages)))
say("cancel", cancel(GoalInfo(uuid(9), now)).return_code, cancel(GoalInfo(uuid(1), now)).return_code)
say("unknown", get(uuid(9)).status)
# Two at once: the second waits for the first.
say("queued", *[send(uuid(n), Goal(question(f"where is the sink, {n}?"))).accepted for n in (2, 3)])
say("results", *[[r.status, r.result.answer.question, r.result.answer.error_code] for r in (get(uuid(3)), get(uuid(2)))])
say("cleared", clear().success)
say("empty", short(ask(question("and now?")).answer)[1])
say("end")
