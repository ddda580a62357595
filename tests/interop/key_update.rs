//! New keys in the midst of a connection, as OpenSSL asks for them: the commands `k` (for its own
//! direction) and `K` (for both) of `s_client` and `s_server`.

use std::{
    io::{BufRead as _, BufReader, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    path::Path,
    process::{ChildStdin, Command},
};

use crate::support::{
    Node, Process, Upstream, World, openssl, pair, ports, program::program, wait::PATIENCE,
};

const ROUNDS: usize = 6;
const LINES: usize = 40;

/// Lines of digits and nothing else: OpenSSL takes letters at the beginning for commands.
fn lines(round: usize) -> Vec<String> {
    let line = |number| format!("{:09}{}", round * LINES + number, "0123456789".repeat(99));
    (0..LINES).map(line).collect()
}

/// Writes lines.
fn write(to: &mut impl Write, lines: &[String]) {
    to.write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
    to.flush().unwrap();
}

/// An OpenSSL that takes commands.
struct OpenSsl {
    process: Process,
    input: ChildStdin,
    /// Lines it has said.
    seen: usize,
    /// What it says when it has sent a KeyUpdate.
    renewed: &'static str,
}

impl OpenSsl {
    fn new(mut process: Process, renewed: &'static str) -> Self {
        let input = process.input();
        Self {
            process,
            input,
            seen: 0,
            renewed,
        }
    }

    /// It prints these lines, among what it says itself, in their order.
    fn prints(&mut self, lines: &[String]) {
        /// Said by `s_server` where it has to wait, in the midst of a line if need be.
        const WAITS: &str = "Read BLOCK";
        for expected in lines {
            let mut begun = String::new();
            loop {
                let (piece, next) = self.process.line("a line of data", self.seen, |line| {
                    let (text, whole) = match line.strip_suffix(WAITS) {
                        Some(text) => (text, false),
                        None => (line, true),
                    };
                    let data = text.bytes().all(|byte| byte.is_ascii_digit());
                    let long = begun.len() + text.len() > 500;
                    (data && (long || !whole)).then(|| (text.to_owned(), whole))
                });
                self.seen = next;
                let (text, whole) = piece;
                begun.push_str(&text);
                if whole {
                    break;
                }
            }
            assert_eq!(begun, *expected);
        }
    }

    /// Renews keys: an even round its own, an odd one both directions'. All it was given before
    /// must have come out at the other end, or the letter is no command.
    fn renews(&mut self, round: usize) {
        let command = if round.is_multiple_of(2) {
            "k\n"
        } else {
            "K\n"
        };
        let said = self.process.said();
        let before = said.matches(self.renewed).count();
        self.input.write_all(command.as_bytes()).unwrap();
        let mut count = 0;
        self.process.line(self.renewed, 0, |line| {
            count += line.matches(self.renewed).count();
            (count > before).then_some(())
        });
    }
}

#[test]
fn openssl_as_a_client_renews_keys_and_all_data_is_intact() {
    let program = program!("openssl");
    let world = World::new();
    let upstream = Upstream::echo();
    let (node, listen) = pair::gate(&world, &upstream, "");
    world.issue(&world.a, "front");
    let process = openssl::client(&program, &world, listen, Some("front"), &["-tls1_3"]);
    let mut client = OpenSsl::new(process, "KEYUPDATE");
    for round in 0..ROUNDS {
        let lines = lines(round);
        write(&mut client.input, &lines);
        client.prints(&lines);
        client.renews(round);
    }
    let last = lines(ROUNDS);
    write(&mut client.input, &last);
    client.prints(&last);
    drop(client.input);
    let line = node.closed();
    assert_eq!(line["client_id"], "spiffe://a.example/front");
}

#[test]
fn openssl_as_a_server_renews_keys_and_all_data_is_intact() {
    let program = program!("openssl");
    let world = World::new();
    let (listen, forward) = (ports::free(), ports::free());
    world.issue(&world.b, "back");
    let process = serve(&program, &world, forward);
    let mut server = OpenSsl::new(process, "SSL_do_handshake -> 1");
    server.process.wait_for("ACCEPT");
    let endpoints = pair::sending(&world, listen, forward);
    let node = Node::start(&world, "a.example", &endpoints);
    let mut stream = TcpStream::connect(listen).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap()).lines();
    for round in 0..=ROUNDS {
        let lines = lines(round);
        write(&mut stream, &lines);
        server.prints(&lines);
        write(&mut server.input, &lines);
        for expected in &lines {
            assert_eq!(&answers.next().unwrap().unwrap(), expected);
        }
        if round < ROUNDS {
            server.renews(round);
        }
    }
    // Its own commands for the end leave out close_notify.
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(answers.next().is_none(), "more came");
    drop((stream, answers));
    let line = node.closed();
    assert_eq!(line["upstream_id"], "spiffe://b.example/back");
}

/// A server that answers as `/back` of b.example to one client, of a.example.
fn serve(program: &Path, world: &World, address: SocketAddr) -> Process {
    // Part of what it says would wait in its buffer.
    let mut command = Command::new("stdbuf");
    command.arg("-oL").arg(program);
    command.args(["s_server", "-tls1_3", "-naccept", "1"]);
    command.args(["-accept", &address.to_string()]);
    command.arg("-cert").arg(world.file("back.pem"));
    command.arg("-key").arg(world.file("back.key"));
    command.arg("-CAfile").arg(world.file("a.example.pem"));
    command.args(["-Verify", "1", "-verify_return_error"]);
    Process::start_with_input(&mut command)
}
