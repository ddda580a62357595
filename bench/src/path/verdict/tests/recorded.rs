//! Verdicts by samples of connections over `sekisho bench wan`, as `sekisho bench path --json` wrote them.

use serde::Deserialize;

use super::super::*;

#[derive(Deserialize)]
struct Recorded {
    limit: Limit,
    sender: Side,
    congestion: Ends<String>,
    samples: Ends<Vec<Sample>>,
}

#[derive(Deserialize)]
struct Ends<T> {
    here: T,
    there: T,
}

fn judged(text: &str) {
    let recorded: Recorded = serde_json::from_str(text).unwrap();
    let Ends { here, there } = &recorded.samples;
    let is_here = recorded.sender == Side::Here;
    let (sender, receiver) = if is_here {
        (here, there)
    } else {
        (there, here)
    };
    let congestion = if is_here {
        &recorded.congestion.here
    } else {
        &recorded.congestion.there
    };
    let observed = Observed {
        sender_is: recorded.sender,
        sender,
        receiver,
        reader: &[],
        receiver_process: None,
        sender_sysctls: None,
        receiver_sysctls: None,
        congestion,
        asked: None,
        is_eager: false,
        is_whole: true,
        opened_here: true,
        is_fixed: false,
    };
    let found = judge(&observed);
    assert_eq!(found.limit, recorded.limit, "{found:#?}");
}

macro_rules! recorded {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            judged(include_str!(concat!("recorded/", stringify!($name), ".json")));
        }
    )*};
}

recorded!(cpu_here loss rate rate_bbr slow_reader slow_sender window_here window_there);
