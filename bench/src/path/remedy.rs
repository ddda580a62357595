//! What lifts a limit, with the size it takes.

use super::{
    summary::Summary,
    sysctl::Sysctls,
    verdict::{Limit, Observed, Side, Verdict},
};

/// Of a send buffer and of a receive buffer, the share that is payload under way: the kernel charges what
/// it costs to keep the packets, and of a receive buffer it offers half. With Linux's defaults, 4 MiB and
/// 6 MiB, both come to about 3.3 MB in a round trip.
pub const WINDOW_SHARE: (f64, f64) = (0.8, 0.5);

/// What a limit of the window is worth lifting to, in bits per second, where the load did not ask for less.
const WANTED: f64 = 10e9;
/// Windows of TCP end here (RFC 7323, section 2.3).
const LARGEST: u64 = 1 << 30;
const MEBIBYTE: u64 = 1 << 20;

/// The buffer for so many bits per second at such a round trip, in seconds: twice the bandwidth-delay
/// product, for half of a buffer is payload; a power of two of mebibytes, at most 1 GiB.
#[must_use]
pub fn buffer_for(rate: f64, rtt: f64) -> u64 {
    let bytes = (rate * rtt / 8.0 * 2.0).max(0.0);
    let mut size = MEBIBYTE;
    while (size as f64) < bytes && size < LARGEST {
        size *= 2;
    }
    size
}

/// Adds what lifts the limit.
pub(super) fn add(observed: &Observed<'_>, end: &Summary, mut verdict: Verdict) -> Verdict {
    let sender = observed.sender_is;
    let rtt = end
        .min_rtt
        .or_else(|| end.rtt.map(|rtt| rtt.middle))
        .unwrap_or_default();
    let rate = end.sent_bits_per_second.max(end.received_bits_per_second);
    let wanted = observed.asked.map_or(WANTED, |asked| asked as f64);
    let wanted = wanted.max(rate * 4.0);
    let size = buffer_for(wanted, rtt);
    match verdict.limit {
        Limit::WindowHere | Limit::WindowThere => {
            let side = verdict.side.unwrap_or(Side::Here);
            let is_sender = side == sender;
            verdict.needed_bytes = Some(size);
            verdict.remedies = window(observed, side, is_sender, size, (wanted, rtt));
        }
        Limit::Loss => verdict.remedies = loss(observed),
        Limit::Rate => {
            verdict.remedies = vec![
                "the line carries no more: larger windows, lanes and other congestion control do not \
                 help"
                    .into(),
            ];
        }
        Limit::SlowReader => {
            verdict.remedies = vec![format!(
                "the program that reads {}, not the path: `ss -tnpi` there shows its Recv-Q and its name",
                verdict.side.unwrap_or(Side::There).word()
            )];
        }
        Limit::SlowSender => {
            verdict.remedies = vec![format!(
                "the program that sends {}, not the path, which would carry more",
                verdict.side.unwrap_or(Side::Here).word()
            )];
        }
        Limit::CpuHere | Limit::CpuThere | Limit::Undecided => {}
    }
    verdict
}

fn window(
    observed: &Observed<'_>,
    side: Side,
    is_sender: bool,
    size: u64,
    (wanted, rtt): (f64, f64),
) -> Vec<String> {
    let place = side.word();
    let sysctls = if is_sender {
        observed.sender_sysctls
    } else {
        observed.receiver_sysctls
    };
    let key = place_of(observed, side);
    let text = mebibytes(size);
    let mut remedies = Vec::new();
    if is_sender && observed.is_fixed {
        remedies.push(
            "the program has set the buffer itself (SO_SNDBUF): without that the kernel tunes it"
                .into(),
        );
    }
    let (name, values) = if is_sender {
        ("tcp_wmem", sysctls.and_then(|found| found.tcp_wmem))
    } else {
        ("tcp_rmem", sysctls.and_then(|found| found.tcp_rmem))
    };
    let default = if is_sender {
        [4096, 16_384, 0]
    } else {
        [4096, 131_072, 0]
    };
    let [least, first, most] = values.unwrap_or(default);
    let now = if most > 0 {
        format!(", now {most}")
    } else {
        String::new()
    };
    if most < size {
        remedies.push(format!(
            "{place}: sysctl -w net.ipv4.{name}=\"{least} {first} {size}\" ({text} for {:.0} Gb/s in a round \
             trip of {:.1} ms{now})",
            wanted / 1e9,
            rtt * 1e3
        ));
    }
    remedies.push(format!(
        "{place}, through sekisho: path: {{{key}: {{buffers: {text}}}}} where it may (CAP_NET_ADMIN), else \
         path: {{{key}: {{lanes: auto}}}}, which needs no privileges"
    ));
    remedies
}

fn loss(observed: &Observed<'_>) -> Vec<String> {
    let side = observed.sender_is;
    let place = side.word();
    let key = place_of(observed, side);
    let mut remedies = Vec::new();
    if !observed.congestion.starts_with("bbr") {
        remedies.push(format!(
            "{place}, through sekisho: path: {{{key}: {{congestion: bbr}}}}, which does not take a lost packet \
             for a full line"
        ));
        let knows = |list: fn(&Sysctls) -> &Vec<String>| {
            let list = observed.sender_sysctls.map(list);
            list.is_none_or(|list| list.iter().any(|name| name == "bbr"))
        };
        if !knows(|found| &found.available) {
            remedies.push(format!("{place}: modprobe tcp_bbr"));
        }
        if !knows(|found| &found.allowed) {
            remedies.push(format!(
                "{place}: sysctl -w net.ipv4.tcp_allowed_congestion_control=\"reno cubic bbr\""
            ));
        }
    }
    remedies.push(format!(
        "{place}, through sekisho: path: {{{key}: {{lanes: 4}}}}: a loss slows one lane only"
    ));
    remedies
        .push("and find what loses packets: `ip -s link`, optics, a policer, a short queue".into());
    remedies
}

/// Of a CPU that is full.
pub(super) fn cpu(end: &Summary) -> Vec<String> {
    let waited = end.cpu_wait.unwrap_or_default();
    if waited > end.cpu_run.unwrap_or_default() {
        return vec![
            "others have the core: give the program more of it (nice, cgroup's cpu.max, pinning)"
                .into(),
        ];
    }
    vec![
        "a faster core, or more streams: one thread moves one stream; through sekisho lanes share it out \
         over workers"
            .into(),
    ]
}

/// The side of sekisho's endpoint that has this end of the path.
const fn place_of(observed: &Observed<'_>, side: Side) -> &'static str {
    match (observed.opened_here, side) {
        (true, Side::Here) | (false, Side::There) => "forward",
        (true, Side::There) | (false, Side::Here) => "listen",
    }
}

fn mebibytes(size: u64) -> String {
    format!("{}MiB", size / MEBIBYTE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_twice_the_bandwidth_delay_product() {
        // 10 Gb/s in 22 ms are 27.5 MB.
        assert_eq!(buffer_for(10e9, 0.022), 64 << 20);
        assert_eq!(buffer_for(1e9, 0.0001), 1 << 20);
        assert_eq!(buffer_for(1e15, 1.0), 1 << 30);
        assert_eq!(buffer_for(f64::NAN, 1.0), 1 << 20);
    }
}
