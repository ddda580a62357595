//! Streams: a thread each, two where both ends send.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::atomic::AtomicU64,
    thread,
};

use crate::{
    congestion,
    header::{Header, Mode, Report},
    path,
    transfer::{self, Direction},
};

/// Serves a connection whose header has been read.
pub(super) fn serve(stream: TcpStream, header: Header) {
    let work = move || {
        // A client that breaks off is the client's matter: it misses the report.
        let _ = match header.mode {
            Mode::PathUp | Mode::PathDown => path::serve::serve(&stream, &header),
            _ => whole(&stream, &header),
        };
    };
    // Without a thread the connection closes, and the client says so.
    let _ = thread::Builder::new()
        .name("bench-stream".into())
        .spawn(work);
}

fn whole(mut stream: &TcpStream, header: &Header) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    let name = Some(header.congestion.as_str()).filter(|name| !name.is_empty());
    congestion::choose(stream, name)?;
    let nobody = AtomicU64::new(0);
    let send = || transfer::send(stream, header, Direction::Down, &AtomicU64::new(0));
    let receive = || transfer::receive(stream, header, Direction::Up, false, &nobody);
    let report = match header.mode {
        Mode::Download => Report {
            sent: send()?,
            ..Report::default()
        },
        _ => thread::scope(|scope| {
            let sending = (header.mode == Mode::Both).then(|| scope.spawn(send));
            let received = receive()?;
            let sent = sending.map_or(Ok(0), |sending| {
                let panicked = |_| Err(io::Error::other("a sending thread panicked"));
                sending.join().unwrap_or_else(panicked)
            })?;
            io::Result::Ok(Report {
                sent,
                received: received.bytes,
                damaged_at: received.damaged_at,
            })
        })?,
    };
    stream.write_all(&report.encode())?;
    stream.shutdown(Shutdown::Write)?;
    // Closing with bytes unread would reset, and take the report along.
    while stream.read(&mut [0; 4096])? > 0 {}
    Ok(())
}
