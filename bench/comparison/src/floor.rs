//! The floor: what the kernel asks of any proxy in user space. It copies, in a blocking thread for
//! each direction, and knows nothing of what it copies.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use anyhow::Context as _;
use nix::{
    fcntl::{FcntlArg, SpliceFFlags, fcntl, splice},
    sys::socket::{Backlog, listen as set_backlog},
    unistd::pipe,
};

/// Copies for every connection to `listen`, until it is killed.
pub(crate) fn run(
    listen: SocketAddr,
    connect: SocketAddr,
    buffer: usize,
    by_splice: bool,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| listen.to_string())?;
    serve(&listener, connect, buffer, by_splice)
}

fn serve(
    listener: &TcpListener,
    connect: SocketAddr,
    buffer: usize,
    by_splice: bool,
) -> anyhow::Result<()> {
    set_backlog(listener, Backlog::new(4096)?)?;
    for client in listener.incoming() {
        let client = client?;
        // Here and not in the thread: iperf3's server wants connections in the order they came.
        let Ok(server) = TcpStream::connect(connect) else {
            continue;
        };
        // Either end may break off.
        thread::spawn(move || relay(client, server, buffer, by_splice));
    }
    Ok(())
}

fn relay(client: TcpStream, server: TcpStream, buffer: usize, by_splice: bool) -> io::Result<()> {
    let (client, server) = (Arc::new(client), Arc::new(server));
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let back = (Arc::clone(&server), Arc::clone(&client));
    thread::spawn(move || one_way(&back.0, &back.1, buffer, by_splice));
    one_way(&client, &server, buffer, by_splice);
    Ok(())
}

fn one_way(from: &TcpStream, to: &TcpStream, buffer: usize, by_splice: bool) {
    let outcome = if by_splice {
        pass(from, to, buffer)
    } else {
        copy(from, to, buffer)
    };
    let how = if outcome.is_ok() {
        Shutdown::Write
    } else {
        Shutdown::Both
    };
    let _ = to.shutdown(how);
}

fn copy(mut from: &TcpStream, mut to: &TcpStream, buffer: usize) -> io::Result<()> {
    let mut buffer = vec![0; buffer];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(buffer.get(..count).unwrap_or_default())?;
    }
}

fn pass(from: &TcpStream, to: &TcpStream, size: usize) -> io::Result<()> {
    let (read, write) = pipe()?;
    // Where the host allows less, it is what it is.
    let _ = fcntl(
        &write,
        FcntlArg::F_SETPIPE_SZ(i32::try_from(size).unwrap_or(i32::MAX)),
    );
    let flags = SpliceFFlags::SPLICE_F_MOVE;
    loop {
        let mut held = splice(from, None, &write, None, size, flags)?;
        if held == 0 {
            return Ok(());
        }
        while held > 0 {
            held -= splice(&read, None, to, None, held, flags)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use sekisho_bench::{
        server::Server,
        throughput::{Direction, Throughput},
    };

    use super::*;

    #[test]
    fn both_ways_of_copying_pass_every_byte_in_both_directions() {
        let server = Server::start(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        for by_splice in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let connect = server.address();
            thread::spawn(move || serve(&listener, connect, 64 << 10, by_splice));
            let plan = Throughput {
                streams: 2,
                direction: Direction::Both,
                bytes: Some(1_000_001),
                verify: true,
                ..Throughput::new(address)
            };
            let outcome = plan.run(|_| {}).unwrap();
            assert_eq!(outcome.forward().map(|way| way.bytes), Some(2_000_002));
            assert_eq!(outcome.reverse().map(|way| way.bytes), Some(2_000_002));
        }
    }
}
