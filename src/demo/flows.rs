//! The three flows that are allowed, measured.

use std::{net::SocketAddr, time::Duration};

use indicatif::ProgressBar;
use sekisho_bench::stream;
use serde_json::Value;

use super::{report::Flow, sites::Sites};

/// A flow of the paper.
pub(super) struct Plan {
    from: &'static str,
    to: &'static str,
    sender: SocketAddr,
    service: SocketAddr,
}

impl Plan {
    pub(super) fn title(&self) -> String {
        format!("{} -> {}", self.from, self.to)
    }
}

/// Who sends to whom.
pub(super) fn plans(sites: &Sites) -> Vec<Plan> {
    let pairs = [
        ("osaka", "hokkaido"),
        ("kyushu", "hokkaido"),
        ("hokkaido", "tokyo"),
    ];
    let plan = |(from, to)| -> anyhow::Result<Plan> {
        Ok(Plan {
            from,
            to,
            sender: sites.of(from)?.sender()?,
            service: sites.of(to)?.service()?.address(),
        })
    };
    pairs
        .into_iter()
        .filter_map(|pair| plan(pair).ok())
        .collect()
}

/// Sends for `time` directly, then for as long through the two sekishos.
pub(super) fn measure(
    sites: &Sites,
    plan: &Plan,
    time: Duration,
    bar: &ProgressBar,
) -> anyhow::Result<Flow> {
    let show = |offset: Duration, what: &'static str| {
        bar.set_message(what);
        move |passed: Duration| {
            let at = u64::try_from((offset + passed).as_millis()).unwrap_or(u64::MAX);
            bar.set_position(at);
        }
    };
    let direct = stream::send(plan.service, time, show(Duration::ZERO, "direct"))?;
    let receiver = sites.of(plan.to)?;
    let since = receiver.log_length()?;
    let sent = stream::send(plan.sender, time, show(time, "through sekisho"));
    let (outcome, measured) = match sent {
        Ok(measured) => ("allowed", Some(measured)),
        Err(_) => ("refused", None),
    };
    let carried = |line: &Value| {
        let bytes = line.get("bytes_to_upstream").and_then(Value::as_u64);
        measured
            .as_ref()
            .is_none_or(|measured| bytes >= Some(measured.bytes))
    };
    let line = receiver.access(since, carried)?;
    let text = |name: &str| {
        line.get(name)
            .and_then(Value::as_str)
            .map(ToOwned::to_owned)
    };
    Ok(Flow {
        from: plan.from.into(),
        to: plan.to.into(),
        what: "one stream".into(),
        expected: "allowed",
        outcome,
        reason: text("reason"),
        wanted_reason: None,
        peer: text("client_id"),
        bits_per_second: measured.as_ref().map(stream::Measured::bits_per_second),
        direct_bits_per_second: Some(direct.bits_per_second()),
        congestion: Some(direct.congestion),
        upstream_connections: None,
        without_defect: None,
    })
}
