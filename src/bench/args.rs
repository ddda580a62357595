//! The command line of `sekisho bench`.

use std::{net::SocketAddr, time::Duration};

use clap::{Args, Subcommand};
use sekisho_bench::throughput::Direction;

use super::{
    path::PathArgs,
    quantity::{carried, message, rate, size},
    wan::WanArgs,
};
use crate::cli::duration;

/// The two ends, and what may stand between.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Answer every kind of load, until Ctrl-C
    #[command(
        after_help = "It sends as much as any client asks for: listen where only those who may ask \
        can come.\n\nExamples:\n  sekisho bench server\n  sekisho bench server --listen 10.0.0.2:5201"
    )]
    Server(ServerArgs),
    /// Send load to a server, directly or through whatever stands between, and count what arrives
    #[command(
        after_help = "Streams are counted by their receiver; if the sender's count differs, that \
        is an error. --json prints iperf3's field names.\n\nExit codes: 0 done, 1 it failed, or \
        bytes or connections were lost.\n\nExamples:\n  \
        sekisho bench client 127.0.0.1:5201                         one stream, 10 s\n  \
        sekisho bench client 127.0.0.1:5201 -P 8 -t 30s -R --json   eight from the server\n  \
        sekisho bench client 127.0.0.1:5201 -n 64GiB --verify       every byte compared\n  \
        sekisho bench client 127.0.0.1:5201 --requests -P 128       latency of small messages\n  \
        sekisho bench client 127.0.0.1:5201 --connects              new connections\n  \
        sekisho bench client 127.0.0.1:5201 --idle 4000 --carry 1MiB --pid 1234"
    )]
    Client(ClientArgs),
    /// What limits a stream to a host (window, loss, rate, CPU, application), and what lifts it
    #[command(
        after_help = "One stream for --duration, the kernel's figures of it at both ends meanwhile, and one \
        limit by name: window here or there, loss, rate, CPU here or there, a slow reader, a slow sender. \
        The far end is `sekisho bench server`, directly or behind gates, or `iperf3 -s`, which tells \
        nothing of its end: what then looks alike from here is said.\n\n\
        --watch sends nothing and looks at connections that are there, of any program. Seen from the \
        sender's host it tells most; root sees the programs too.\n\n\
        Exit codes: 0 a limit was named, 1 it could not be measured, or what was seen does not say, 2 the \
        command line makes no sense.\n\nExamples:\n  \
        sekisho bench path osaka.example:5201\n  \
        sekisho bench path osaka.example:5201 --reverse --duration 30s --plot path.svg\n  \
        sekisho bench path 127.0.0.1:7201                       through a gate of this host\n  \
        sekisho bench path osaka.example:5201 -C bbr --buffer 64MiB\n  \
        sekisho bench path osaka.example:5201 --iperf3 --json\n  \
        sekisho bench path osaka.example:2811 --watch           what limits others' transfers"
    )]
    Path(PathArgs),
    /// A long path on this machine: delay, rate, queue, loss and reordering between two network
    /// namespaces
    #[command(
        after_help = "Every packet passes through this process, by two TUN devices: no netem is \
        needed. It needs root. A packet meets MTU, queue, rate, loss, delay, reordering, in this order. \
        Without --rate nothing waits in a queue. Namespaces that it made are removed at the end.\n\n\
        Signals: SIGUSR1 prints the counters, SIGTERM and Ctrl-C end it.\n\nExit codes: 0 done, 1 it \
        failed, or a device went away, 2 the path makes no sense.\n\nExamples:\n  \
        sekisho bench wan --between tokyo,osaka --rtt 22ms --rate 4G\n  \
        sekisho bench wan --between a,b --rtt 20ms --rate 2G --loss 0.01% --seed 7 --time 60s --json\n  \
        sekisho bench wan --between a,b --rtt 5ms --burst 0.01%,8 --reorder 5%,2ms --jitter 1ms\n  \
        sekisho bench wan --between a,b --addresses 10.9.0.1/30,10.9.0.2/30,fd00::1/64,fd00::2/64\n  \
        sekisho bench wan --ceiling\n\n\
        Then, in other shells:\n  \
        ip netns exec osaka iperf3 -s\n  ip netns exec tokyo iperf3 -c 10.99.0.2"
    )]
    Wan(Box<WanArgs>),
}

/// The server's.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5201")]
    pub(super) listen: SocketAddr,
}

/// The client's.
#[derive(Debug, Args)]
pub(crate) struct ClientArgs {
    /// The server, or a proxy before it
    #[arg(value_name = "HOST:PORT")]
    pub(super) server: String,
    /// Connections at the same time [default: 1; 16 for requests, connects and opening idle ones]
    #[arg(short = 'P', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) parallel: Option<u16>,
    /// How long it lasts
    #[arg(short, long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(super) time: Duration,
    /// Print one JSON document
    #[arg(long)]
    pub(super) json: bool,

    /// The server sends
    #[arg(short = 'R', long, help_heading = "Streams")]
    pub(super) reverse: bool,
    /// Both send at the same time, on each connection
    #[arg(long, help_heading = "Streams", conflicts_with = "reverse")]
    pub(super) bidir: bool,
    /// Send so much on each stream instead of for a time
    #[arg(short = 'n', long, value_name = "SIZE", help_heading = "Streams", value_parser = size)]
    pub(super) bytes: Option<u64>,
    /// Bytes of one write
    #[arg(short = 'l', long, value_name = "SIZE", help_heading = "Streams",
        default_value = "128KiB", value_parser = message)]
    pub(super) block: u32,
    /// Bits per second of each stream, as in 500M or 10G
    #[arg(short = 'b', long, value_name = "RATE", help_heading = "Streams", value_parser = rate)]
    pub(super) rate: Option<u64>,
    /// Between two reports
    #[arg(short, long, value_name = "TIME", help_heading = "Streams",
        default_value = "1s", value_parser = duration)]
    pub(super) interval: Duration,
    /// Compare every byte that arrives
    #[arg(long, help_heading = "Streams")]
    pub(super) verify: bool,
    /// Congestion control of both ends, such as cubic or bbr [default: the host's]
    #[arg(short = 'C', long, value_name = "NAME", help_heading = "Streams")]
    pub(super) congestion: Option<String>,

    /// Requests and responses on connections that stay open, one in flight on each
    #[arg(long, help_heading = "Instead of streams", group = "kind")]
    pub(super) requests: bool,
    /// New connections: each gets one response and is closed
    #[arg(long, help_heading = "Instead of streams", group = "kind")]
    pub(super) connects: bool,
    /// Hold so many connections, then ask each whether it still answers
    #[arg(long, value_name = "N", help_heading = "Instead of streams", group = "kind",
        value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) idle: Option<u32>,
    /// Bytes of a request
    #[arg(long, value_name = "SIZE", help_heading = "Instead of streams",
        default_value = "100", value_parser = message)]
    pub(super) request_size: u32,
    /// Bytes of a response
    #[arg(long, value_name = "SIZE", help_heading = "Instead of streams",
        default_value = "200", value_parser = message)]
    pub(super) response_size: u32,
    /// What each idle connection carries first, both ways
    #[arg(long, value_name = "SIZE", help_heading = "Instead of streams", default_value = "0",
        requires = "idle", value_parser = carried)]
    pub(super) carry: u32,
    /// How long idle connections are held before memory is read
    #[arg(long, value_name = "TIME", help_heading = "Instead of streams",
        default_value = "3s", requires = "idle", value_parser = duration)]
    pub(super) hold: Duration,
    /// A process whose memory is read before and while they are held; may be given several times
    #[arg(
        long,
        value_name = "PID",
        help_heading = "Instead of streams",
        requires = "idle"
    )]
    pub(super) pid: Vec<u32>,
}

impl ClientArgs {
    pub(super) const fn direction(&self) -> Direction {
        if self.bidir {
            Direction::Both
        } else if self.reverse {
            Direction::Reverse
        } else {
            Direction::Forward
        }
    }
}
