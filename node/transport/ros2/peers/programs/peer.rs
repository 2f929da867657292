//! A program on RustDDS that does what it is told on standard input and says what happened on standard output, in the language of
//! peer.cpp: a foreign peer as a node of ros2-client is one, which sends requests without a related identity. RustDDS tells no
//! user data of participants and sends none of its own. `make peers` builds it beside the sources that STLLM_PEER_SOURCES names.
//! Usage: peer DOMAIN; it uses 127.0.0.1 alone.

use rustdds::{
    bytes::Bytes,
    dds::qos::QosPolicyId,
    no_key::{DataWriter, Decode, DefaultDecoder, DeserializerAdapter, SerializerAdapter, SimpleDataReader},
    policy::{Durability, History, Reliability},
    DataReaderStatus, DataWriterStatus, DomainParticipant, DomainParticipantBuilder, Duration, QosPolicies, QosPolicyBuilder, RTPSEntity, RepresentationIdentifier,
    SampleIdentity, StatusEvented, TopicKind, WriteOptionsBuilder, GUID,
};
use std::{
    collections::HashMap,
    convert::Infallible,
    io::{BufRead, Write},
    net::IpAddr,
    sync::{
        atomic::{AtomicU16, Ordering},
        mpsc,
    },
    time::{Duration as Time, Instant},
};

/// The encapsulation of what is written next: RustDDS asks the type, not the value.
static ENCAPSULATION: AtomicU16 = AtomicU16::new(1);

/// CDR with its header of four bytes.
struct Raw(Vec<u8>);
struct Codec;

#[derive(Clone)]
struct Decoder;

impl SerializerAdapter<Raw> for Codec {
    type Error = Infallible;
    fn output_encoding() -> RepresentationIdentifier {
        RepresentationIdentifier::from_bytes(&ENCAPSULATION.load(Ordering::SeqCst).to_be_bytes()).unwrap()
    }
    fn to_bytes(v: &Raw) -> Result<Bytes, Infallible> {
        Ok(Bytes::copy_from_slice(v.0.get(4..).unwrap_or(&[])))
    }
}

impl DeserializerAdapter<Raw> for Codec {
    type Error = Infallible;
    type Decoded = Raw;
    fn supported_encodings() -> &'static [RepresentationIdentifier] {
        &[RepresentationIdentifier::CDR_LE, RepresentationIdentifier::CDR_BE]
    }
    fn transform_decoded(d: Raw) -> Raw {
        d
    }
}

impl DefaultDecoder<Raw> for Codec {
    type Decoder = Decoder;
    const DECODER: Decoder = Decoder;
}

impl Decode<'_, Raw> for Decoder {
    type Error = Infallible;
    fn decode_bytes(self, input: &[u8], encoding: RepresentationIdentifier) -> Result<Raw, Infallible> {
        let mut b = Vec::with_capacity(input.len() + 4);
        b.extend_from_slice(&encoding.to_bytes());
        b.extend_from_slice(&[0, 0]);
        b.extend_from_slice(input);
        Ok(Raw(b))
    }
}

fn hex(b: &[u8]) -> String {
    if b.is_empty() {
        return "-".into();
    }
    let digits = b"0123456789abcdef";
    let mut s = String::with_capacity(2 * b.len());
    for c in b {
        s.push(digits[(c >> 4) as usize] as char);
        s.push(digits[(c & 15) as usize] as char);
    }
    s
}

fn unhex(s: &str) -> Vec<u8> {
    let digit = |c: u8| if c <= b'9' { c - b'0' } else { c - b'a' + 10 };
    s.as_bytes().chunks_exact(2).map(|p| digit(p[0]) << 4 | digit(p[1])).collect()
}

/// The number of a policy in DDS.
fn policy(p: QosPolicyId) -> i32 {
    match p {
        QosPolicyId::Durability => 2,
        QosPolicyId::Deadline => 4,
        QosPolicyId::Liveliness => 8,
        QosPolicyId::Reliability => 11,
        _ => 0,
    }
}

enum End {
    Reader(SimpleDataReader<Raw, Codec>),
    Writer(DataWriter<Raw, Codec>),
}

fn quality(reliability: &str, durability: &str, depth: &str) -> QosPolicies {
    QosPolicyBuilder::new()
        .reliability(if reliability == "rel" { Reliability::Reliable { max_blocking_time: Duration::from_secs(10) } } else { Reliability::BestEffort })
        .durability(if durability == "tl" { Durability::TransientLocal } else { Durability::Volatile })
        .history(History::KeepLast { depth: depth.parse().expect("depth") })
        .build()
}

fn make(participant: &DomainParticipant, w: &[&str]) -> End {
    let qos = quality(w[4], w[5], w[6]);
    let topic = participant.create_topic(w[2].into(), w[3].into(), &qos, TopicKind::NoKey).expect("topic");
    if w[0] == "reader" {
        let s = participant.create_subscriber(&qos).expect("subscriber");
        let r = s.create_simple_datareader_no_key(&topic, Some(qos)).expect("reader");
        say(&format!("guid {} {}", w[1], hex(&r.guid().to_bytes())));
        return End::Reader(r);
    }
    let p = participant.create_publisher(&qos).expect("publisher");
    let r = p.create_datawriter_no_key(&topic, Some(qos)).expect("writer");
    say(&format!("guid {} {}", w[1], hex(&r.guid().to_bytes())));
    End::Writer(r)
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|_| out.flush()).expect("standard output");
}

fn write(id: &str, w: &DataWriter<Raw, Codec>, data: Vec<u8>) {
    say(&format!("writing {id} 0"));
    ENCAPSULATION.store(u16::from_be_bytes([data.first().copied().unwrap_or(0), data.get(1).copied().unwrap_or(1)]), Ordering::SeqCst);
    match w.write_with_options(Raw(data), WriteOptionsBuilder::new().build()) {
        Ok(i) => say(&format!("wrote {id} {}", i64::from(i.sequence_number))),
        Err(_) => say(&format!("error write of {id}")),
    }
}

/// What a reader or a writer has to tell.
fn look(id: &str, e: &End) {
    match e {
        End::Reader(r) => {
            while let Some(s) = r.try_recv_status() {
                match s {
                    DataReaderStatus::SubscriptionMatched { current, .. } => say(&format!("matched {id} {}", current.count())),
                    DataReaderStatus::RequestedIncompatibleQos { last_policy_id, .. } => say(&format!("incompatible {id} {}", policy(last_policy_id))),
                    _ => {}
                }
            }
            r.drain_read_notifications();
            while let Ok(Some(c)) = r.try_take_one() {
                let i = c.related_sample_identity().unwrap_or(SampleIdentity { writer_guid: GUID::from_bytes([0; 16]), sequence_number: 0i64.into() });
                say(&format!(
                    "sample {id} {} {} {} {} {}",
                    hex(&c.writer_guid.to_bytes()),
                    i64::from(c.sequence_number),
                    hex(&i.writer_guid.to_bytes()),
                    i64::from(i.sequence_number),
                    hex(&c.sample.0)
                ));
            }
        }
        End::Writer(w) => {
            while let Some(s) = w.try_recv_status() {
                match s {
                    DataWriterStatus::PublicationMatched { current, .. } => say(&format!("matched {id} {}", current.count())),
                    DataWriterStatus::OfferedIncompatibleQos { last_policy_id, .. } => say(&format!("incompatible {id} {}", policy(last_policy_id))),
                    _ => {}
                }
            }
        }
    }
}

/// User data as RustDDS gives it: still a sequence of CDR, of which Fast DDS is known to write little-endian ones.
fn content(user: &[u8]) -> &[u8] {
    match user {
        [a, b, c, d, rest @ ..] => rest.get(..u32::from_le_bytes([*a, *b, *c, *d]) as usize).unwrap_or(user),
        _ => user,
    }
}

/// Says what has come to the graph and what has gone.
fn graph(participant: &DomainParticipant, known: &mut HashMap<[u8; 16], String>) {
    let mut now = HashMap::new();
    let mut add = |g: GUID, kind: &str, topic: &str, typ: &str, q: QosPolicies, user: &[u8]| {
        let reliable = matches!(q.reliability(), Some(Reliability::Reliable { .. }));
        let durable = matches!(q.durability(), Some(d) if d != Durability::Volatile);
        let text = format!(
            "{kind} here {topic} {typ} {} {} {}",
            if reliable { "rel" } else { "be" },
            if durable { "tl" } else { "vol" },
            hex(content(user))
        );
        now.insert(g.to_bytes(), text);
    };
    for d in participant.discovered_readers() {
        let s = &d.subscription_topic_data;
        add(s.key(), "reader", s.topic_name(), s.type_name(), s.qos(), &d.user_data);
    }
    for d in participant.discovered_writers() {
        let p = &d.publication_topic_data;
        add(p.key, "writer", &p.topic_name, &p.type_name, p.qos(), &d.user_data);
    }
    for (g, text) in &now {
        if known.get(g) != Some(text) {
            say(&format!("endpoint {} {text}", hex(g)));
        }
    }
    for (g, text) in known.iter() {
        if !now.contains_key(g) {
            say(&format!("endpoint {} {}", hex(g), text.replacen(" here ", " gone ", 1)));
        }
    }
    *known = now;
}

fn main() {
    let domain = std::env::args().nth(1).and_then(|s| s.parse().ok()).expect("usage: peer DOMAIN");
    let participant = DomainParticipantBuilder::new(domain)
        .with_only_networks(["127.0.0.1".parse::<IpAddr>().unwrap()])
        .socket_receive_buffer_size(8 << 20)
        .build()
        .expect("participant");
    say(&format!("guid participant {}", hex(&participant.guid().to_bytes())));
    let (told, tell) = mpsc::channel::<String>();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if told.send(line).is_err() {
                return;
            }
        }
    });
    let mut ends: HashMap<String, End> = HashMap::new();
    let mut known = HashMap::new();
    let mut looked = Instant::now();
    loop {
        match tell.recv_timeout(Time::from_millis(1)) {
            Ok(line) => {
                let w: Vec<&str> = line.split_whitespace().collect();
                match w.as_slice() {
                    ["writer" | "reader", id, _, _, _, _, _, _] => {
                        let e = make(&participant, &w);
                        ends.insert((*id).into(), e);
                    }
                    ["write" | "raw", id, data] => {
                        if let Some(End::Writer(e)) = ends.get(*id) {
                            write(id, e, unhex(if *data == "-" { "" } else { data }));
                        }
                    }
                    ["request", id, _, data] => {
                        if let Some(End::Writer(e)) = ends.get(*id) {
                            write(id, e, unhex(data));
                        }
                    }
                    ["close", id] => {
                        ends.remove(*id);
                    }
                    ["type", ..] | [] => {} // types' definitions are for peers that have a codec
                    _ => say(&format!("error what is {:.80}", line)),
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
        for (id, e) in &ends {
            look(id, e);
        }
        if looked.elapsed() > Time::from_millis(50) {
            graph(&participant, &mut known);
            looked = Instant::now();
        }
    }
    // Its threads tell the others that the ends, then the participant are gone; nobody waits for them.
    drop(ends);
    std::thread::sleep(Time::from_millis(300));
    drop(participant);
    std::thread::sleep(Time::from_millis(300));
}
