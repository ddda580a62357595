//! What is said of figures.

use super::QUEUE;
use crate::path::summary::Summary;

/// A queue that stands, so long that full buffers are its consequence.
pub(super) fn queue(sender: &Summary) -> Option<String> {
    let (least, middle) = (sender.min_rtt?, sender.rtt?.middle);
    (middle > least * QUEUE + 0.001).then(|| {
        format!(
            "the round trip stands at {:.1} ms, and was {:.1} ms: what is sent waits in a queue",
            middle * 1e3,
            least * 1e3
        )
    })
}

/// What a round trip carries, as a share of the window.
pub(super) fn tightness(sender: &Summary) -> f64 {
    let window = sender.send_window.map_or(0.0, |spread| spread.middle);
    let trip = sender.mean_rtt.unwrap_or_default();
    let carried = sender.sent_bits_per_second / 8.0 * trip;
    if window > 0.0 { carried / window } else { 0.0 }
}

pub(super) fn in_flight(sender: &Summary) -> String {
    let under = sender.in_flight.map_or(0.0, |spread| spread.middle);
    let trip = sender.rtt.map_or(0.0, |rtt| rtt.middle);
    format!(
        "{} under way in a round trip of {:.1} ms",
        kibibytes(under),
        trip * 1e3
    )
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

pub(super) fn kibibytes(bytes: f64) -> String {
    format!("{:.0} KiB", bytes / 1024.0)
}

pub(super) fn gigabits(rate: f64) -> String {
    if rate < 1e9 {
        format!("{:.1} Mb/s", rate / 1e6)
    } else {
        format!("{:.2} Gb/s", rate / 1e9)
    }
}
