//! One stream, as fast as it goes.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::{congestion, service::COUNT};

/// Bytes of one write.
const BLOCK: usize = 128 * 1024;
/// How long the other end may take to say what arrived.
const ANSWER: Duration = Duration::from_secs(30);

/// What a stream carried.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Bytes that arrived, by the receiver's count.
    pub bytes: u64,
    /// From the first byte sent to the receiver's answer.
    pub time: Duration,
    /// The sender's congestion control.
    pub congestion: String,
}

impl Measured {
    /// Bits per second that arrived.
    #[must_use]
    pub fn bits_per_second(&self) -> f64 {
        let bytes = Duration::from_secs(self.bytes).as_secs_f64();
        bytes * 8.0 / self.time.as_secs_f64().max(1e-9)
    }
}

/// Sends to a [`crate::service::Service`] for `time`, through whatever stands between; `progress`
/// is told the time passed.
///
/// # Errors
/// When the connection fails, or the receiver counted other than what was sent: the stream was not
/// carried whole.
pub fn send(
    address: SocketAddr,
    time: Duration,
    mut progress: impl FnMut(Duration),
) -> io::Result<Measured> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    // Refused where the administrator does not allow it; the figure says so.
    let _ = congestion::choose(&stream, Some("cubic"));
    let congestion = congestion::of(&stream);
    let block: Vec<u8> = (0..=u8::MAX).cycle().take(BLOCK).collect();
    stream.write_all(&[COUNT])?;
    let started = Instant::now();
    let mut sent = 0;
    let mut told = Duration::ZERO;
    loop {
        let passed = started.elapsed();
        if passed >= time {
            break;
        }
        if passed - told > Duration::from_millis(50) {
            progress(passed);
            told = passed;
        }
        stream.write_all(&block)?;
        sent += BLOCK as u64;
    }
    stream.shutdown(Shutdown::Write)?;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer)?;
    let bytes = u64::from_be_bytes(answer);
    if bytes != sent {
        return Err(io::Error::other(format!(
            "{sent} bytes were sent and {bytes} arrived"
        )));
    }
    Ok(Measured {
        bytes,
        time: started.elapsed(),
        congestion,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Service;

    #[test]
    fn what_is_sent_is_counted_where_it_arrives() {
        let service = Service::start("127.0.0.1:0".parse().unwrap()).unwrap();
        let measured = send(service.address(), Duration::from_millis(50), |_| {}).unwrap();
        assert!(measured.bytes > 0);
        assert_eq!(measured.bytes, service.bytes());
        assert_eq!(service.accepted(), 1);
    }
}
