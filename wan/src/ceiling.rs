//! What the emulator carries on this machine when it is asked for nothing: no delay, no rate.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    process,
    time::{Duration, Instant},
};

use sekisho_bench::{server::Server, throughput::Throughput};

use crate::{
    emulator::{Emulator, End, Plan},
    error::Error,
    namespace::inside,
    settings::Settings,
};

const ENDS: [[u8; 4]; 2] = [[10, 99, 255, 1], [10, 99, 255, 2]];
const PREFIX: u8 = 30;
const LEAST: Duration = Duration::from_millis(10);
/// IPv4's and UDP's headers.
const HEADERS: u16 = 28;

/// What was measured, load and emulator sharing the machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ceiling {
    /// One TCP stream, with offload, in bits per second of what arrived.
    pub stream: f64,
    /// Its congestion control: cubic, where that can be had.
    pub congestion: &'static str,
    /// UDP packets of the MTU that arrived, per second: each is read and written by itself.
    pub packets: f64,
}

/// Measures each for `time`, in two network namespaces of its own.
///
/// # Errors
/// Those of [`Emulator::start`]; [`Error::Ceiling`].
pub fn measure(mtu: u16, time: Duration) -> Result<Ceiling, Error> {
    // Less would measure nothing.
    let time = time.max(LEAST);
    let name = |side: char| format!("wan{}ceiling{side}", process::id());
    let names = ['a', 'b'].map(name);
    let settings = Settings {
        mtu,
        ..Settings::default()
    };
    let end = |index: usize| {
        let address = ENDS.get(index).copied().unwrap_or_default();
        let network = ipnet::Ipv4Net::new(address.into(), PREFIX);
        network.map(|network| End {
            namespace: names.get(index).cloned(),
            addresses: vec![network.into()],
        })
    };
    let wrong = |error: String| Error::Ceiling(error);
    let ends = [end(0), end(1)].map(|end| end.map_err(|error| wrong(error.to_string())));
    let [one, other] = ends;
    let plan = Plan {
        ends: [one?, other?],
        settings: [settings; 2],
        seed: 0,
    };
    let emulator = Emulator::start(&plan)?;
    let [client, service] = &names;
    let (stream, congestion) =
        stream(client, service, time).map_err(|error| wrong(format!("a stream: {error}")))?;
    let before = emulator.counters()[0].delivered;
    flood(client, mtu, time).map_err(|error| wrong(format!("packets: {error}")))?;
    let packets = (emulator.counters()[0].delivered - before) as f64 / time.as_secs_f64();
    emulator.stop()?;
    Ok(Ceiling {
        stream,
        congestion,
        packets,
    })
}

fn stream(client: &str, service: &str, time: Duration) -> io::Result<(f64, &'static str)> {
    let [_, address] = ENDS.map(|address| SocketAddr::from((address, 5201)));
    let server = inside(service, move || Server::start(address))?;
    let run = |congestion: Option<&str>| {
        let plan = Throughput {
            time,
            congestion: congestion.map(str::to_owned),
            ..Throughput::new(address)
        };
        inside(client, move || plan.run(|_| {}))
    };
    let (outcome, congestion) = match run(Some("cubic")) {
        Ok(outcome) => (outcome, "cubic"),
        Err(_) => (run(None)?, "the host's"),
    };
    // From where it can be reached, since it is told so by a connection.
    inside(service, move || {
        drop(server);
        Ok(())
    })?;
    let way = outcome
        .forward()
        .ok_or_else(|| io::Error::other("nothing was sent"))?;
    Ok((way.bits_per_second(), congestion))
}

/// Sends more packets than can be carried, to nobody.
fn flood(client: &str, mtu: u16, time: Duration) -> io::Result<()> {
    let [here, there] = ENDS.map(|address| SocketAddr::from((address, 5202)));
    inside(client, move || {
        let socket = UdpSocket::bind(here)?;
        socket.connect(there)?;
        let payload = vec![0; usize::from(mtu - HEADERS)];
        let start = Instant::now();
        while start.elapsed() < time {
            match socket.send(&payload) {
                Ok(_) => {}
                // The far end has no such port, and says so.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    })
}
