//! An action client on ros2-client and RustDDS, with the messages of stllm_msgs/Ask in its own codec: a foreign peer for the tests
//! of ../. `make peers` builds it beside the sources that STLLM_PEER_SOURCES names.
//! Usage: asker DOMAIN ACTION enhanced|cyclone TEXT [cancel]; it prints one event a line and ends after the result.

use futures::{pin_mut, FutureExt, StreamExt};
use ros2_client::{
    action::{ActionClientQosPolicies, GoalStatusEnum},
    builtin_interfaces,
    qos::*,
    ActionTypeName, Context, Message, Name, NodeName, NodeOptions, QosProfile, ServiceMapping,
};
use rustdds::DomainParticipantBuilder;
use serde::{Deserialize, Serialize};
use smol::Timer;
use std::{net::IpAddr, time::Duration};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Header {
    sec: i32,
    nanosec: u32,
    frame_id: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Question {
    header: Header,
    id: String,
    text: String,
    task: String,
    deadline: f64,
    choices: Vec<String>,
}
impl Message for Question {}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct StageTime {
    stage: String,
    seconds: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct PlanStep {
    text: String,
    parsed: bool,
    verb: String,
    object: String,
    target: String,
    direction: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct FrameEvidence {
    stamp_ns: i64,
    weight: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct RegionEvidence {
    x: f64,
    y: f64,
    z: f64,
    radius: f64,
    weight: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Answer {
    header: Header,
    id: String,
    question: String,
    text: String,
    task: String,
    label: String,
    error_code: u16,
    error_message: String,
    finish_reason: String,
    window_start_ns: i64,
    window_end_ns: i64,
    frames: u32,
    map_stamp_ns: i64,
    map_id: String,
    model_id: String,
    prompt_tokens: u32,
    new_tokens: u32,
    times: Vec<StageTime>,
    plan: Vec<PlanStep>,
    frame_evidence: Vec<FrameEvidence>,
    region_evidence: Vec<RegionEvidence>,
}
impl Message for Answer {}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Feedback {
    stage: String,
    new_tokens: u32,
    delta: String,
}
impl Message for Feedback {}

fn quality(durability: Durability) -> QosProfile {
    QosProfile::publisher_default().history(History::KeepLast { depth: 100 }).durability(durability)
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, domain, action, mapping, text, rest @ ..] = args.as_slice() else {
        panic!("usage: asker DOMAIN ACTION enhanced|cyclone TEXT [cancel]")
    };
    let mapping = if mapping == "cyclone" { ServiceMapping::Cyclone } else { ServiceMapping::Enhanced };
    let participant = DomainParticipantBuilder::new(domain.parse().expect("domain"))
        .with_only_networks(["127.0.0.1".parse::<IpAddr>().unwrap()])
        .build()
        .expect("participant");
    let context = Context::from_domain_participant(participant).expect("context");
    let mut node = context.new_node(NodeName::new("/", "asker").unwrap(), NodeOptions::new()).expect("node");
    smol::spawn(node.spinner().expect("spinner").spin()).detach();
    let client = node
        .create_action_client::<Question, Answer, Feedback>(
            mapping,
            &Name::parse(action).expect("action name"),
            &ActionTypeName::new("stllm_msgs", "Ask"),
            ActionClientQosPolicies {
                goal_service: quality(Durability::Volatile),
                result_service: quality(Durability::Volatile),
                cancel_service: quality(Durability::Volatile),
                feedback_subscription: quality(Durability::Volatile),
                status_subscription: quality(Durability::TransientLocal),
            },
        )
        .expect("action client");
    smol::block_on(async {
        // The server may be seen by one of the five ends before the others; a first request that meets nobody is lost.
        client.goal_client().wait_for_service(&node).await;
        println!("found");
        let goal = Question { id: "q7".into(), text: text.clone(), deadline: 12.5, choices: vec!["left".into(), "right".into()], ..Question::default() };
        let (id, _) = loop {
            Timer::after(Duration::from_millis(500)).await;
            let sent = client.async_send_goal(goal.clone()).fuse();
            let late = FutureExt::fuse(Timer::after(Duration::from_secs(5)));
            pin_mut!(sent, late);
            futures::select! {
                s = sent => match s {
                    Ok((id, answer)) => { println!("accepted {}", answer.accepted); if answer.accepted { break (id, answer) } else { return } }
                    Err(e) => println!("goal error {e:?}"),
                },
                _ = late => println!("goal without an answer"),
            }
        };
        let feedback = client.feedback_stream(id);
        let statuses = client.all_statuses_stream();
        let result = client.async_request_result(id).fuse();
        pin_mut!(feedback, statuses, result);
        let mut cancelled = rest.is_empty();
        loop {
            futures::select! {
                f = feedback.select_next_some() => match f {
                    Ok(f) => {
                        println!("feedback {} {} {:?}", f.stage, f.new_tokens, f.delta);
                        if !cancelled {
                            cancelled = true;
                            match client.async_cancel_goal(id, builtin_interfaces::Time::ZERO).await {
                                Ok(c) => println!("cancel {:?} of {} goals", c.return_code, c.goals_canceling.len()),
                                Err(e) => println!("cancel error {e:?}"),
                            }
                        }
                    }
                    Err(e) => println!("feedback error {e:?}"),
                },
                s = statuses.select_next_some() => match s {
                    Ok(s) => for g in s.status_list.iter().filter(|g| g.goal_info.goal_id == id) { println!("status {:?}", g.status) },
                    Err(e) => println!("status error {e:?}"),
                },
                r = result => {
                    match r {
                        Ok((status, answer)) => println!("result {status:?} {}{answer:?}", if status == GoalStatusEnum::Succeeded { "ok " } else { "" }),
                        Err(e) => println!("result error {e:?}"),
                    }
                    return;
                }
            }
        }
    });
}
