//! What a peer must not do on a lane: refused or bounded, counted, with a reason; never a byte out of
//! place.

use std::time::Duration;

use sekisho_certs::{Clock, SystemClock};
use sekisho_lanes::{FIRST_WINDOW, Frame, Limited, StreamId, frame::Purpose};
use sekisho_proxy::endpoint::spec::Listen;
use sekisho_testkit::wait::wait_for;

use super::raw::{Came, Raw, STREAM, frame};
use crate::harness::{SOON, World, list, policy};

const ACCEPT: Frame<'_> = Frame::Accept { lanes: 16 };
const DENIED: Frame<'_> = Frame::Deny {
    reason: "not_accepted",
};
const BAD: Frame<'_> = Frame::Reset {
    reason: "bad_frame",
};

async fn opened(world: &World) -> Raw {
    let mut raw = Raw::dial(world, "/front").await;
    raw.open(Purpose::New).await;
    assert_eq!(raw.word().await, frame(ACCEPT));
    raw
}

/// Waits until a stream has lost so many lanes.
async fn lost(world: &World, count: u64) {
    wait_for("it is noticed", SOON, || {
        let all = world.proxy.registry().snapshot();
        let lost = |live: &sekisho_proxy::live::Live| {
            let lanes = live.details().lanes();
            lanes.is_some_and(|lanes| lanes.lost == count)
        };
        all.iter().any(|live| lost(live))
    })
    .await;
}

async fn data(raw: &mut Raw, offset: u64, text: &[u8]) {
    raw.send(Frame::Data { offset, text }).await;
}

#[tokio::test]
async fn a_stream_of_a_peer_of_no_code_of_ours() {
    let world = World::with_gate(|_| {}).await;
    let mut one = opened(&world).await;
    let mut other = Raw::dial(&world, "/front").await;
    other.open(Purpose::Join).await;
    assert_eq!(other.word().await, frame(ACCEPT));
    data(&mut other, 3, b"def").await;
    data(&mut one, 0, b"abc").await;
    // The echo's answer, by whichever lane.
    let answer = tokio::select! {
        word = one.word() => word,
        word = other.word() => word,
    };
    let Came::Frame(text) = &answer else {
        panic!("{answer:?}");
    };
    assert!(
        text.starts_with("Data { offset: 0, text: [97, 98, 99"),
        "{text}"
    );
}

#[tokio::test]
async fn a_lane_of_another_identity_does_not_join_and_learns_nothing() {
    let world = World::with_gate(|spec| {
        if let Listen::Mtls { accept, .. } = &mut spec.listen {
            *accept = list(&["spiffe://a.example/front", "spiffe://a.example/other"]);
        }
    })
    .await;
    let mut own = opened(&world).await;
    let mut other = Raw::dial(&world, "/other").await;
    other.open(Purpose::Join).await;
    assert_eq!(other.word().await, frame(DENIED));
    assert_eq!(other.word().await, Came::End);
    // A stream that is not there is answered in the same way.
    let mut other = Raw::dial(&world, "/other").await;
    let stream = StreamId([8; 16]);
    other.open_as(stream, Purpose::Join, "back.b.example").await;
    assert_eq!(other.word().await, frame(DENIED));
    // And so is another endpoint's, and a name that is taken.
    let mut wrong = Raw::dial(&world, "/front").await;
    wrong
        .open_as(STREAM, Purpose::Join, "other.b.example")
        .await;
    assert_eq!(wrong.word().await, frame(DENIED));
    let mut taken = Raw::dial(&world, "/other").await;
    taken.open(Purpose::New).await;
    assert_eq!(taken.word().await, frame(DENIED));
    world.until("refused", "not_accepted", 4).await;
    data(&mut own, 0, b"x").await;
    let Came::Frame(text) = own.word().await else {
        panic!("it ended");
    };
    assert_eq!(text, "Data { offset: 0, text: [120] }");
}

#[tokio::test]
async fn a_lane_is_allowed_by_its_own_address_when_it_comes_and_later() {
    let world = World::new().await;
    let apply = |rules: &str| world.apply(&[world.receiving("back")], Some(&policy(rules)));
    let only = |addresses: &str| {
        format!(
            "default allow := false\nallow if input.attributes.source.address.socketAddress.address in \
             {{{addresses}}}"
        )
    };
    apply(&only(r#""127.0.0.1", "127.0.0.2""#));
    let mut one = opened(&world).await;
    let join = async |last: u8| {
        let mut lane = Raw::dial_from(&world, "/front", [127, 0, 0, last].into()).await;
        lane.open(Purpose::Join).await;
        let word = lane.word().await;
        (lane, word)
    };
    let (mut other, word) = join(2).await;
    assert_eq!(word, frame(ACCEPT));
    let denied = Frame::Deny {
        reason: "policy_denied",
    };
    assert_eq!(join(3).await.1, frame(denied));
    data(&mut other, 0, b"abc").await;
    let mut all = String::new();
    // By whichever lane.
    tokio::select! {
        Came::Frame(text) = one.word() => all += &text,
        Came::Frame(text) = other.word() => all += &text,
    }
    assert!(all.contains("text: [97, 98, 99]"), "{all}");
    // The lane goes, and the stream stays.
    apply(&only(r#""127.0.0.1""#));
    let gone = loop {
        match other.word().await {
            Came::Frame(_) => {}
            gone => break gone,
        }
    };
    assert!(matches!(gone, Came::Alert(_) | Came::End), "{gone:?}");
    assert_eq!(join(2).await.1, frame(denied));
    data(&mut one, 3, b"d").await;
    one.send(Frame::Fin { length: 4 }).await;
    loop {
        match one.word().await {
            Came::Frame(text) if text.starts_with("Data") => all += &text,
            last => break assert_eq!(last, frame(Frame::Fin { length: 4 }), "after {all}"),
        }
    }
    assert!(all.contains("Data { offset: 3, text: [100] }"), "{all}");
    // And when the stream's own address goes, all of it.
    apply(&only(r#""127.0.0.2""#));
    world.until("allowed", "policy_denied", 1).await;
}

#[tokio::test]
async fn a_decision_for_a_lane_lasts_as_long_as_the_policy_says() {
    let world = World::new().await;
    let back = world.receiving("back");
    world.apply(
        std::slice::from_ref(&back),
        Some(&policy("default allow := true")),
    );
    let mut one = opened(&world).await;
    let mut other = Raw::dial_from(&world, "/front", [127, 0, 0, 2].into()).await;
    other.open(Purpose::Join).await;
    assert_eq!(other.word().await, frame(ACCEPT));
    // Allowed once more when the policy changes, and not any more when that decision is over.
    let rules = "default allow := {\"allowed\": true, \"ttl\": \"1h\"}\nallow := {\"allowed\": \
                 time.now_ns() < @END@, \"ttl\": \"100ms\"} if \
                 input.attributes.source.address.socketAddress.address == \"127.0.0.2\"";
    let end = Clock::now(&SystemClock) + Duration::from_millis(300);
    let end = end.duration_since(std::time::UNIX_EPOCH).unwrap();
    let rules = rules.replace("@END@", &end.as_nanos().to_string());
    world.apply(&[back], Some(&policy(&rules)));
    let gone = other.word().await;
    assert!(matches!(gone, Came::Alert(_) | Came::End), "{gone:?}");
    data(&mut one, 0, b"x").await;
    let Came::Frame(text) = one.word().await else {
        panic!("it ended");
    };
    assert_eq!(text, "Data { offset: 0, text: [120] }");
}

#[tokio::test]
async fn a_peer_has_only_so_many_further_lanes() {
    let world = World::with_gate(|spec| spec.limits.lanes = 2).await;
    let mut lanes = vec![opened(&world).await];
    for _ in 0..2 {
        let mut lane = Raw::dial(&world, "/front").await;
        lane.open(Purpose::Join).await;
        assert_eq!(lane.word().await, frame(ACCEPT));
        lanes.push(lane);
    }
    let mut more = Raw::dial(&world, "/front").await;
    more.open(Purpose::Join).await;
    assert_eq!(more.word().await, frame(DENIED));
    world.until("refused", "limit", 1).await;
    // Connections of their own are not among them.
    let mut new = Raw::dial(&world, "/front").await;
    new.open_as(StreamId([9; 16]), Purpose::New, "back.b.example")
        .await;
    assert_eq!(new.word().await, frame(ACCEPT));
    // One that goes makes room.
    lanes.pop();
    lost(&world, 1).await;
    let mut lane = Raw::dial(&world, "/front").await;
    lane.open(Purpose::Join).await;
    assert_eq!(lane.word().await, frame(ACCEPT));
}

#[tokio::test]
async fn a_lane_is_one_of_the_connections_of_its_endpoint() {
    let world = World::with_gate(|spec| spec.limits.connections = 2).await;
    let _one = opened(&world).await;
    let mut other = Raw::dial(&world, "/front").await;
    other.open(Purpose::Join).await;
    assert_eq!(other.word().await, frame(ACCEPT));
    assert!(world.dial("/front").await.is_err());
    world.until("refused", "limit", 1).await;
    drop(other);
    lost(&world, 1).await;
    world.dial("/front").await.unwrap();
}

#[tokio::test]
async fn a_lane_that_is_left_is_one_of_the_stream_until_it_is_closed() {
    let world = World::with_gate(|_| {}).await;
    let mut one = opened(&world).await;
    let mut other = Raw::dial(&world, "/front").await;
    other.open(Purpose::Join).await;
    assert_eq!(other.word().await, frame(ACCEPT));
    data(&mut other, 0, b"abc").await;
    other.send(Frame::Leave).await;
    // It is answered, and then closed; the echo may have come by either lane.
    let mut all = String::new();
    loop {
        match other.word().await {
            Came::Frame(text) => all += &text,
            last => break assert_eq!(last, Came::End, "after {all}"),
        }
    }
    assert!(all.ends_with("Leave"), "{all}");
    drop(other);
    data(&mut one, 3, b"d").await;
    one.send(Frame::Fin { length: 4 }).await;
    loop {
        match one.word().await {
            Came::Frame(text) if text.starts_with("Data") => all += &text,
            last => break assert_eq!(last, frame(Frame::Fin { length: 4 }), "after {all}"),
        }
    }
    // Nothing is confirmed here, so that a piece may come once more; in its place it is each time.
    assert!(
        all.contains("Data { offset: 0, text: [97, 98, 99] }"),
        "{all}"
    );
    assert!(all.contains("Data { offset: 3, text: [100] }"), "{all}");
}

/// What is sent on a stream of one lane ends it.
async fn breaks(what: &str, send: impl AsyncFnOnce(&mut Raw)) {
    let world = World::with_gate(|_| {}).await;
    let mut raw = opened(&world).await;
    send(&mut raw).await;
    let mut last = raw.word().await;
    while matches!(&last, Came::Frame(text) if text.starts_with("Data")) {
        last = raw.word().await;
    }
    assert_eq!(last, frame(BAD), "{what}");
    drop(raw);
    world.until("allowed", "bad_frame", 1).await;
    wait_for("nothing is kept", SOON, || world.proxy.memory().held() == 0).await;
}

#[tokio::test]
async fn what_breaks_the_rules_ends_the_stream() {
    breaks("a piece that overlaps", async |raw| {
        data(raw, 3, b"defg").await;
        data(raw, 5, b"fgh").await;
    })
    .await;
    breaks("beyond the window", async |raw| {
        data(raw, FIRST_WINDOW, b"x").await;
    })
    .await;
    breaks("an end that moves", async |raw| {
        raw.send(Frame::Fin { length: 5 }).await;
        raw.send(Frame::Fin { length: 6 }).await;
    })
    .await;
    breaks("a confirmation of nothing", async |raw| {
        let (received, limit) = (1, FIRST_WINDOW);
        raw.send(Frame::Ack {
            received,
            limit,
            limited: Limited::No,
        })
        .await;
    })
    .await;
    breaks("a second opening", async |raw| {
        raw.open(Purpose::Join).await;
    })
    .await;
    breaks("an answer to nothing", async |raw| {
        raw.send(ACCEPT).await;
    })
    .await;
    breaks("data behind LEAVE", async |raw| {
        let mut bytes = Vec::new();
        let (offset, text) = (0, &b"x"[..]);
        Frame::Leave.encode(&mut bytes);
        Frame::Data { offset, text }.encode(&mut bytes);
        raw.send_bytes(&bytes).await;
    })
    .await;
    breaks("a type that is not known", async |raw| {
        raw.send_bytes(&[77, 0, 0, 0]).await;
    })
    .await;
    breaks("small pieces without end", async |raw| {
        let mut bytes = Vec::new();
        for piece in 0..5000 {
            let (offset, text) = (1 + 2 * piece, &b"x"[..]);
            Frame::Data { offset, text }.encode(&mut bytes);
        }
        raw.send_bytes(&bytes).await;
    })
    .await;
}

#[tokio::test]
async fn words_between_pieces_that_are_kept_cost_a_bounded_amount_of_memory() {
    const RECORD: usize = 1 << 14;
    const PIECE: usize = 8190;
    let world = World::with_gate(|_| {}).await;
    let mut raw = opened(&world).await;
    // Frames of a later version, which are skipped: so many bytes of them.
    let words = |bytes: &mut Vec<u8>, mut count: usize| {
        while count > 0 {
            let length = count.min(1024) - 4;
            bytes.extend([128, 0]);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            bytes.resize(bytes.len() + length, 0);
            count -= length + 4;
        }
    };
    // The first byte comes last.
    let (mut offset, mut most) = (1, 0);
    while offset + (PIECE as u64) < FIRST_WINDOW {
        let mut bytes = Vec::new();
        let text = &[7; PIECE];
        Frame::Data { offset, text }.encode(&mut bytes);
        let rest = RECORD - bytes.len();
        words(&mut bytes, rest);
        words(&mut bytes, 31 * RECORD);
        raw.send_bytes(&bytes).await;
        offset += PIECE as u64;
        most = most.max(world.proxy.memory().held());
    }
    // Twice what is kept and 2 MiB, and chunks of half a MiB of which nothing is: 64 MiB came.
    assert!(most < 8 << 20, "{most}");
    // Words are no offence: the stream goes on.
    data(&mut raw, 0, b"x").await;
    raw.send(Frame::Fin { length: offset }).await;
    let end = loop {
        match raw.word().await {
            Came::Frame(text) if text.starts_with("Data") => {}
            end => break end,
        }
    };
    assert_eq!(end, frame(Frame::Fin { length: offset }));
}

#[tokio::test]
async fn the_same_piece_again_is_dropped() {
    let world = World::with_gate(|_| {}).await;
    let mut raw = opened(&world).await;
    for _ in 0..3 {
        data(&mut raw, 0, b"abc").await;
        data(&mut raw, 6, b"g").await;
    }
    data(&mut raw, 3, b"def").await;
    raw.send(Frame::Fin { length: 7 }).await;
    let mut all = String::new();
    loop {
        match raw.word().await {
            Came::Frame(text) if text.starts_with("Data") => all += &text,
            other => {
                assert_eq!(other, frame(Frame::Fin { length: 7 }), "after {all}");
                break;
            }
        }
    }
    let count = |digits: &str| all.matches(digits).count();
    assert_eq!((count("97"), count("98"), count("103")), (1, 1, 1), "{all}");
}

#[tokio::test]
async fn a_lane_that_does_not_begin_as_one_is_refused() {
    let world = World::with_gate(|_| {}).await;
    let mut raw = Raw::dial(&world, "/front").await;
    data(&mut raw, 0, b"x").await;
    let denied = Frame::Deny {
        reason: "bad_frame",
    };
    assert_eq!(raw.word().await, frame(denied));
    let mut raw = Raw::dial(&world, "/front").await;
    raw.send_bytes(b"GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(raw.word().await, frame(denied));
    world.until("refused", "bad_frame", 2).await;
    assert_eq!(world.echo.accepted(), 0, "nothing was dialled");
}

#[tokio::test]
async fn a_lane_without_an_opening_is_given_up_in_time() {
    let world = World::with_gate(|spec| {
        spec.timeouts.handshake = Duration::from_millis(500);
    })
    .await;
    let mut raw = Raw::dial(&world, "/front").await;
    assert_eq!(raw.word().await, Came::Alert("AccessDenied".into()));
    world.until("refused", "handshake_timeout", 1).await;
}

#[tokio::test]
async fn a_denial_says_why() {
    let world = World::new().await;
    let policy = policy("default allow := false");
    world.apply(&[world.receiving("back")], Some(&policy));
    let mut raw = Raw::dial(&world, "/front").await;
    raw.open(Purpose::New).await;
    let denied = Frame::Deny {
        reason: "policy_denied",
    };
    assert_eq!(raw.word().await, frame(denied));
    assert_eq!(raw.word().await, Came::End);
}

#[tokio::test]
async fn a_service_that_is_not_there_is_told_of() {
    let world = World::with_gate(|spec| {
        spec.forward = crate::harness::plain(&["127.0.0.1:1".parse().unwrap()]);
    })
    .await;
    let mut raw = Raw::dial(&world, "/front").await;
    raw.open(Purpose::New).await;
    let denied = Frame::Deny {
        reason: "upstream_unreachable",
    };
    assert_eq!(raw.word().await, frame(denied));
}
