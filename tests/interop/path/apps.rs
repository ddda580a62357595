//! Applications that are slow, watched from outside.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{defaults, found, names, short};
use crate::wan::path::{Path, needs};

const APPLICATION: &str = "10.99.0.2:7000";
const BLOCK: usize = 32 * 1024;
const PACE: Duration = Duration::from_millis(10);

/// One moves bytes from the first host to the second.
struct Application {
    streams: [TcpStream; 2],
    threads: Vec<JoinHandle<()>>,
    _stop: Vec<Sender<()>>,
}

/// Moves a block each turn, as fast as it goes or at a pace, until the connection ends.
fn moves(
    is_paced: bool,
    mut one: impl FnMut(&mut [u8]) -> io::Result<usize> + Send + 'static,
) -> (Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = mpsc::channel();
    let thread = thread::spawn(move || {
        let mut block = vec![0; BLOCK];
        let pace = if is_paced { PACE } else { Duration::ZERO };
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(pace) {
            if !matches!(one(&mut block), Ok(count) if count > 0) {
                break;
            }
        }
    });
    (stop, thread)
}

impl Application {
    fn start(path: &Path<'_>, is_slow_sender: bool, is_slow_reader: bool) -> Self {
        let [here, there] = path.names.clone();
        let listener = sekisho_wan::inside(&there, || TcpListener::bind(APPLICATION)).unwrap();
        let sender = sekisho_wan::inside(&here, || TcpStream::connect(APPLICATION)).unwrap();
        let (reader, _) = listener.accept().unwrap();
        // bbr paces itself by a slow reader, and leaves its buffer half empty.
        sekisho_bench::congestion::choose(&sender, Some("cubic")).unwrap();
        let streams = [sender.try_clone().unwrap(), reader.try_clone().unwrap()];
        let (mut writes, mut reads) = (sender, reader);
        let writing = moves(is_slow_sender, move |block| writes.write(block));
        let reading = moves(is_slow_reader, move |block| reads.read(block));
        let (stop, threads) = [writing, reading].into_iter().unzip();
        Self {
            streams,
            threads,
            _stop: stop,
        }
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        for stream in &self.streams {
            let _ = stream.shutdown(Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn watched(path: &Path<'_>, host: usize) -> serde_json::Value {
    let found = found(path, host, &[APPLICATION, "--watch", "-t", "3s"]);
    let all = found["connections"].as_array().unwrap();
    assert_eq!(all.len(), 1, "{found:#}");
    all[0].clone()
}

#[test]
fn a_slow_reader() {
    let Some(tools) = needs(&[]) else { return };
    let path = Path::start(&tools, "--rtt 10ms --rate 200M", &[]);
    defaults(&path);
    let application = Application::start(&path, false, true);
    // The receiver's host sees its queue.
    let there = names("slow_reader", || watched(&path, 1));
    assert_eq!(there["side"], "here", "{}", short(&there));
    assert!(there["program"]["name"].is_string(), "{}", short(&there));
    // The sender's host sees the window only, and says what it cannot tell apart.
    let here = watched(&path, 0);
    let same = ["window_there", "slow_reader"];
    let limit = here["limit"].as_str().unwrap();
    assert!(same.contains(&limit), "{}", short(&here));
    let others = here["or"].as_array().unwrap();
    assert!(
        limit == "slow_reader" || others.iter().any(|one| one == "slow_reader"),
        "{}",
        short(&here)
    );
    drop(application);
}

#[test]
fn a_slow_sender() {
    let Some(tools) = needs(&[]) else { return };
    let path = Path::start(&tools, "--rtt 10ms --rate 200M", &[]);
    defaults(&path);
    let application = Application::start(&path, true, false);
    let here = names("slow_sender", || watched(&path, 0));
    assert_eq!(here["side"], "here", "{}", short(&here));
    drop(application);
    // Both as fast as they can: something else.
    let application = Application::start(&path, false, false);
    let here = watched(&path, 0);
    assert_ne!(here["limit"], "slow_sender", "{}", short(&here));
    drop(application);
}
