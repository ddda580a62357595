//! Against a bus in this process, and against a real dbus-daemon where one is installed, with a
//! stand-in for systemd (Debian: dbus, python3-dbus, python3-gi).

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
};

use super::*;

/// The answer to the question with this serial, as little-endian bytes.
fn answer(kind: u8, reply_to: u32, error: Option<&str>, signature: &str, body: &[u8]) -> Vec<u8> {
    let mut fields = vec![5, 1, b'u', 0];
    fields.extend(reply_to.to_le_bytes());
    if let Some(error) = error {
        fields.extend([4, 1, b's', 0]);
        fields.extend(u32::try_from(error.len()).unwrap().to_le_bytes());
        fields.extend(error.as_bytes());
        fields.push(0);
        fields.resize(fields.len().next_multiple_of(8), 0);
    }
    fields.extend([8, 1, b'g', 0, u8::try_from(signature.len()).unwrap()]);
    fields.extend(signature.as_bytes());
    fields.push(0);
    let mut message = vec![b'l', kind, 0, 1];
    message.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
    message.extend(7u32.to_le_bytes());
    message.extend(u32::try_from(fields.len()).unwrap().to_le_bytes());
    message.extend(fields);
    message.resize(message.len().next_multiple_of(8), 0);
    message.extend(body);
    message
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = u32::try_from(text.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes.push(0);
    bytes
}

fn variant(value: &str) -> Vec<u8> {
    [vec![1, b's', 0, 0], text(value)].concat()
}

/// Accepts one connection and lets it say who it is.
async fn accept(listener: &UnixListener) -> UnixStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"\r\n") {
        said.push(stream.read_u8().await.unwrap());
    }
    let uid = nix::unistd::geteuid().to_string();
    let hexadecimal: String = uid.bytes().map(|digit| format!("{digit:02x}")).collect();
    assert_eq!(
        said,
        format!("\0AUTH EXTERNAL {hexadecimal}\r\n").as_bytes()
    );
    stream.write_all(b"OK 1234deadbeef\r\n").await.unwrap();
    let mut begin = [0; 7];
    stream.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"BEGIN\r\n");
    stream
}

/// Reads one question and writes these answers to it.
async fn serve(stream: &mut UnixStream, answers: &[Vec<u8>]) -> Vec<u8> {
    let mut start = [0; message::START];
    stream.read_exact(&mut start).await.unwrap();
    let mut rest = vec![0; message::rest(&start).unwrap()];
    stream.read_exact(&mut rest).await.unwrap();
    for answer in answers {
        stream.write_all(answer).await.unwrap();
    }
    rest
}

/// One conversation as systemd's; the first question has this serial.
async fn unit_of(stream: &mut UnixStream, serial: u32, id: &str) {
    let path = text("/org/freedesktop/systemd1/unit/x");
    // A signal, and an answer to somebody else's question, before ours.
    let others = [
        answer(4, 99, None, "s", &text(":1.7")),
        answer(2, 98, None, "u", &[0; 4]),
    ];
    serve(
        stream,
        &[
            others[0].clone(),
            others[1].clone(),
            answer(2, serial, None, "o", &path),
        ],
    )
    .await;
    serve(stream, &[answer(2, serial + 1, None, "v", &variant(id))]).await;
    serve(
        stream,
        &[answer(2, serial + 2, None, "v", &variant("/etc/x"))],
    )
    .await;
}

fn attestor(socket: &Path) -> Systemd {
    Systemd::new(SystemdSpec { bus: socket.into() })
}

#[tokio::test]
async fn a_bus_that_went_away_is_connected_to_again_and_one_that_stays_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("bus");
    let listener = UnixListener::bind(&socket).unwrap();
    let bus = tokio::spawn(async move {
        let mut stream = accept(&listener).await;
        serve(&mut stream, &[answer(2, 1, None, "s", &text(":1.1"))]).await;
        unit_of(&mut stream, 2, "first.service").await;
        unit_of(&mut stream, 5, "second.service").await;
        drop(stream);
        let mut stream = accept(&listener).await;
        serve(&mut stream, &[answer(2, 1, None, "s", &text(":1.2"))]).await;
        unit_of(&mut stream, 2, "third.service").await;
    });
    let systemd = attestor(&socket);
    for name in ["first", "second", "third"] {
        assert_eq!(
            systemd.attest(7).await.unwrap(),
            [
                format!("id:{name}.service"),
                "fragment_path:/etc/x".to_owned()
            ]
        );
    }
    bus.await.unwrap();
}

#[tokio::test]
async fn who_is_in_no_unit_has_no_selectors_and_other_refusals_are_errors() {
    for (name, found) in [
        (NO_UNIT, true),
        ("org.freedesktop.DBus.Error.ServiceUnknown", false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("bus");
        let listener = UnixListener::bind(&socket).unwrap();
        let bus = tokio::spawn(async move {
            let mut stream = accept(&listener).await;
            serve(&mut stream, &[answer(2, 1, None, "s", &text(":1.1"))]).await;
            serve(&mut stream, &[answer(3, 2, Some(name), "s", &text("no"))]).await;
            stream
        });
        let systemd = attestor(&socket);
        match systemd.unit(7).await {
            Ok(values) => assert!(found && values.is_empty()),
            Err(error) => {
                assert!(!found && matches!(&error, BusError::Refused(told) if told == name));
            }
        }
        // A refusal is an answer: the connection is as good as before.
        assert!(systemd.bus.lock().await.is_some());
        bus.await.unwrap();
    }
}

#[tokio::test]
async fn senseless_answers_are_errors_and_their_connection_is_not_kept() {
    let long = [&[b'l', 2, 0, 1][..], &u32::MAX.to_le_bytes(), &[0; 8]].concat();
    for (bad, usable) in [
        (b"GET / HTTP/1.1\r\n".to_vec(), false),
        (long, false),
        (answer(2, 2, None, "s", &text("no path")), true),
        (answer(2, 2, None, "o", &text("no path")), true),
        (answer(2, 2, None, "o", &[9, 0, 0, 0, b'/', 0]), true),
        (answer(1, 2, None, "o", &text("/a")), true),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("bus");
        let listener = UnixListener::bind(&socket).unwrap();
        let bus = tokio::spawn(async move {
            let mut stream = accept(&listener).await;
            serve(&mut stream, &[answer(2, 1, None, "s", &text(":1.1"))]).await;
            serve(&mut stream, &[bad]).await;
            stream
        });
        let systemd = attestor(&socket);
        let error = systemd.unit(7).await.unwrap_err();
        assert!(matches!(error, BusError::Malformed), "{error}");
        assert_eq!(systemd.bus.lock().await.is_some(), usable);
        bus.await.unwrap();
    }
}

#[tokio::test]
async fn no_bus_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let error = attestor(&dir.path().join("none"))
        .unit(7)
        .await
        .unwrap_err();
    assert!(matches!(error, BusError::Io(_)), "{error}");
}

/// Ended when dropped.
struct Program(Child);

impl Program {
    /// Starts it and waits for its first line.
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "{command:?} says nothing");
        Self(child)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn daemon(socket: &Path) -> Program {
    Program::start(
        Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--nopidfile", "--print-address=1"])
            .arg(format!("--address=unix:path={}", socket.display())),
    )
}

/// systemd's interface, by libdbus: our own process is in a unit, and no other.
fn stand_in(socket: &Path) -> Program {
    Program::start(
        Command::new("/usr/bin/python3")
            .args(["-c", include_str!("tests/systemd.py")])
            .arg(std::process::id().to_string())
            .env(
                "DBUS_SESSION_BUS_ADDRESS",
                format!("unix:path={}", socket.display()),
            ),
    )
}

#[tokio::test]
async fn a_real_bus_tells_the_unit_also_after_a_restart() {
    let modules = Command::new("/usr/bin/python3")
        .args(["-c", "import dbus, gi"])
        .stderr(Stdio::null())
        .status();
    let stand_in_runs = modules.is_ok_and(|status| status.success());
    let is_there = sekisho_testkit::program::is_there;
    // Nothing is called "python3-dbus": so the second asks for the packages.
    if !is_there("dbus-daemon", "dbus")
        || !(stand_in_runs || is_there("python3-dbus", "python3-dbus python3-gi"))
    {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("bus");
    let systemd = attestor(&socket);
    let own = std::process::id().cast_signed();
    for _ in 0..2 {
        let bus = daemon(&socket);
        let service = stand_in(&socket);
        assert_eq!(
            systemd.attest(own).await.unwrap(),
            [
                "id:tests.service",
                "fragment_path:/etc/systemd/system/tests.service"
            ]
        );
        assert_eq!(systemd.attest(1).await.unwrap(), [""; 0]);
        drop((service, bus));
    }
    // systemd alone has gone, then the bus.
    let bus = daemon(&socket);
    let error = systemd.unit(own).await.unwrap_err();
    assert!(matches!(error, BusError::Refused(_)), "{error}");
    drop(bus);
    assert!(matches!(systemd.unit(own).await, Err(BusError::Io(_))));
}
