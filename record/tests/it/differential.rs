//! Random sends, splits and key changes between our record layer and rustls'.

use proptest::prelude::*;
use sekisho_record::{Alert, Backend, Layout, Role};

use crate::oracle::{Link, Setup};

#[derive(Clone, Debug)]
enum Step {
    OursSends(usize, usize),
    OracleSends(usize),
    OracleRekeys,
    ToOurs(usize, bool),
    ToOracle(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let length = prop_oneof![1_usize..200, 1_usize..40_000];
    let step = prop_oneof![
        (length.clone(), prop_oneof![1_usize..50, Just(16_384)]).prop_map(|(length, size)| {
            // Of one byte a record, not too many.
            Step::OursSends(length.min(size * 40), size)
        }),
        length.clone().prop_map(Step::OracleSends),
        Just(Step::OracleRekeys),
        (length.clone(), any::<bool>()).prop_map(|(count, merge)| Step::ToOurs(count, merge)),
        length.prop_map(Step::ToOracle),
    ];
    proptest::collection::vec(step, 1..40)
}

fn setups() -> impl Strategy<Value = Setup> {
    (
        any::<bool>(),
        any::<bool>(),
        0_usize..3,
        5_u64..60,
        5_u64..60,
    )
        .prop_map(|(client, ring, suite, theirs, ours)| Setup {
            role: if client { Role::Client } else { Role::Server },
            backend: if ring { Backend::Ring } else { Backend::AwsLc },
            suite,
            theirs,
            ours,
        })
}

/// Bytes that differ from those at any other place nearby.
fn text(begin: usize, length: usize) -> Vec<u8> {
    (begin..begin + length)
        .map(|at| u8::try_from((at ^ (at >> 8).wrapping_mul(31)) & 0xff).unwrap())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn what_either_sends_the_other_gets_whatever_the_pieces(setup in setups(), steps in steps()) {
        let mut link = Link::new(setup);
        let (mut sent, mut received) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::OursSends(length, size) => {
                    let text = text(sent.len(), length);
                    link.ours_sends(&text, size);
                    sent.extend(text);
                }
                Step::OracleSends(length) => {
                    let text = text(received.len() + 7, length);
                    link.oracle_sends(&text);
                    received.extend(text);
                }
                // rustls asks for ours with it.
                Step::OracleRekeys => link.oracle.refresh_traffic_keys().unwrap(),
                Step::ToOurs(count, merge) => {
                    link.deliver_to_ours(count, if merge { Layout::Merge } else { Layout::Keep });
                }
                Step::ToOracle(count) => link.deliver_to_oracle(count),
            }
            prop_assert!(sent.starts_with(&link.oracle_got));
            prop_assert!(received.starts_with(&link.ours_got));
        }
        link.settle();
        prop_assert_eq!(&link.oracle_got, &sent);
        prop_assert_eq!(&link.ours_got, &received);
        // Each direction has its own end.
        link.oracle.send_close_notify();
        link.deliver_to_oracle(0);
        link.settle();
        prop_assert!(link.ours.is_closed());
        link.ours_sends(b"after their end", 100);
        link.ours.close_notify(&mut link.to_oracle).unwrap();
        link.deliver_to_oracle(usize::MAX);
        prop_assert!(link.oracle_got.ends_with(b"after their end"));
    }
}

pub(crate) const PLAIN: Setup = Setup {
    role: Role::Server,
    backend: Backend::AwsLc,
    suite: 0,
    theirs: u64::MAX,
    ours: u64::MAX / 2,
};

#[test]
fn every_suite_is_spoken_both_ways_with_either_library() {
    for suite in 0..3 {
        for backend in Backend::ALL {
            let mut link = Link::new(Setup {
                suite,
                backend,
                ..PLAIN
            });
            assert_eq!(link.ours.role(), Role::Server);
            link.ours_sends(b"to rustls", 4);
            link.oracle_sends(b"to us");
            link.settle();
            assert_eq!(link.oracle_got, b"to rustls");
            assert_eq!(link.ours_got, b"to us");
        }
    }
}

#[test]
fn rustls_understands_our_alert() {
    for role in [Role::Server, Role::Client] {
        let mut link = Link::new(Setup { role, ..PLAIN });
        let mut bytes = Vec::new();
        link.ours.alert(Alert::ACCESS_DENIED, &mut bytes).unwrap();
        link.oracle.read_tls(&mut bytes.as_slice()).unwrap();
        let error = link.oracle.process_new_packets().unwrap_err();
        let denied = rustls::AlertDescription::AccessDenied;
        assert_eq!(error, rustls::Error::AlertReceived(denied));
    }
}
