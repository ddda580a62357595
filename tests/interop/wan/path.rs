//! A path that a test made, and programs at its ends.

use std::{
    cell::Cell,
    collections::HashMap,
    ffi::OsString,
    path::{self, PathBuf},
    process::{self, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{
    Process,
    node::SEKISHO,
    program::{find, is_root, skip},
    wait::until,
};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// The programs that a test needs.
pub(crate) struct Tools(HashMap<String, PathBuf>);

/// The programs, where all that a path needs is there too.
pub(crate) fn needs(programs: &[&str]) -> Option<Tools> {
    let mut tools = HashMap::new();
    for program in programs.iter().chain(&["ip", "sysctl"]) {
        tools.insert((*program).to_owned(), find(program)?);
    }
    if !is_root("network namespaces and TUN devices") {
        return None;
    }
    if !path::Path::new("/dev/net/tun").exists() {
        skip(
            "no /dev/net/tun here; `modprobe tun` gets it, or `--device /dev/net/tun` of a container",
        );
        return None;
    }
    Some(Tools(tools))
}

impl Tools {
    /// Where one of them is.
    pub(crate) fn place<'a>(&'a self, program: &'a str) -> &'a path::Path {
        // Ours has a place, the others have been looked for.
        let found = self.0.get(program).map(PathBuf::as_path);
        found.unwrap_or_else(|| path::Path::new(program))
    }

    /// To run one of them here.
    pub(crate) fn command(&self, program: &str) -> Command {
        Command::new(self.place(program))
    }

    /// Runs `ip`, which must do it.
    pub(crate) fn ip(&self, arguments: &[&str]) -> String {
        let (status, said) = Process::start(Command::new(self.place("ip")).args(arguments)).ended();
        assert!(status.success(), "ip {arguments:?}: {said}");
        said
    }
}

/// `sekisho bench wan`, between two namespaces.
pub(crate) struct Path<'a> {
    tools: &'a Tools,
    pub(crate) names: [String; 2],
    pub(crate) process: Process,
    start: Value,
    is_over: bool,
    /// Lines that were read.
    read: Cell<usize>,
}

impl<'a> Path<'a> {
    /// Starts it with these options, between namespaces that it makes.
    pub(crate) fn start(tools: &'a Tools, options: &str, more: &[&str]) -> Self {
        Self::between(tools, names(), options, more)
    }

    /// The same, between namespaces that were there before.
    pub(crate) fn start_in_made(tools: &'a Tools, options: &str) -> Self {
        let names = names();
        for name in &names {
            tools.ip(&["netns", "add", name]);
        }
        Self::between(tools, names, options, &[])
    }

    fn between(tools: &'a Tools, names: [String; 2], options: &str, more: &[&str]) -> Self {
        let process = Process::start(
            Command::new(SEKISHO)
                .args(["bench", "wan", "--json", "--between", &names.join(",")])
                .args(options.split(' '))
                .args(more),
        );
        let event = |line: &str| event("start", line);
        let (start, read) = process.line("that it carries", 0, event);
        Self {
            tools,
            names,
            process,
            start,
            is_over: false,
            read: Cell::new(read),
        }
    }

    /// The device at an end.
    pub(crate) fn device(&self, host: usize) -> String {
        self.start["ends"][host]["device"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// What runs a program at an end, which stands first.
    pub(super) fn words(&self, host: usize, words: &[&str]) -> Vec<OsString> {
        let (program, arguments) = words.split_first().unwrap();
        let mut all: Vec<OsString> = vec![self.tools.place("ip").into()];
        all.extend(["netns", "exec", &self.names[host]].map(OsString::from));
        all.push(self.tools.place(program).into());
        all.extend(arguments.iter().map(OsString::from));
        all
    }

    fn command(&self, host: usize, words: &[&str]) -> Command {
        let words = self.words(host, words);
        let (program, arguments) = words.split_first().unwrap();
        let mut command = Command::new(program);
        command.args(arguments);
        command
    }

    /// Runs a program at an end, which must do it.
    pub(crate) fn run(&self, host: usize, words: &[&str]) -> String {
        let (status, said) = Process::start(&mut self.command(host, words)).ended();
        assert!(status.success(), "{words:?}: {said}");
        said
    }

    /// Runs a program at an end, whatever comes of it.
    pub(crate) fn try_run(&self, host: usize, words: &[&str]) -> String {
        Process::start(&mut self.command(host, words)).ended().1
    }

    /// Starts a program at an end.
    pub(crate) fn start_at(&self, host: usize, words: &[&str]) -> Process {
        Process::start(&mut self.command(host, words))
    }

    /// iperf3's server at the far end.
    pub(crate) fn server(&self) -> Process {
        let server = self.start_at(1, &["iperf3", "-s", "--forceflush"]);
        server.wait_for("Server listening");
        server
    }

    /// What iperf3 measures from the near end.
    pub(crate) fn iperf3(&self, arguments: &[&str]) -> Value {
        // The server is busy for a moment after a test.
        until("a measurement", || {
            let words = [
                &["iperf3", "-c", "10.99.0.2", "-J", "--get-server-output"],
                arguments,
            ];
            let (_, said) = Process::start(&mut self.command(0, &words.concat())).ended();
            let report: Value = serde_json::from_str(&said).unwrap();
            match report["error"].as_str() {
                Some(error) if error.contains("busy") => None,
                Some(error) => panic!("iperf3: {error}"),
                None => Some(report),
            }
        })
    }

    /// Asks for the counters.
    pub(crate) fn counters(&self) -> Value {
        self.process.signal(Signal::SIGUSR1);
        let event = |line: &str| event("counters", line);
        let (counters, read) = self.process.line("counters", self.read.get(), event);
        self.read.set(read);
        counters
    }

    /// Waits for its end, of itself.
    pub(crate) fn ended(&mut self) -> (ExitStatus, String) {
        self.is_over = true;
        self.process.ended()
    }

    /// Ends it; its last counters.
    pub(crate) fn end(self) -> Value {
        self.end_by(Signal::SIGTERM)
    }

    pub(crate) fn end_by(mut self, signal: Signal) -> Value {
        self.process.signal(signal);
        let (status, said) = self.ended();
        assert_eq!(status.code(), Some(0), "{said}");
        let end = said.lines().find_map(|line| event("end", line));
        end.unwrap_or_else(|| panic!("{said}"))
    }
}

/// A test that has failed leaves no namespaces either.
impl Drop for Path<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.process.signal(Signal::SIGTERM);
        self.process.ended();
        for name in &self.names {
            // Those that it had made are gone.
            let _ = self
                .tools
                .command("ip")
                .args(["netns", "del", name])
                .stderr(Stdio::null())
                .status();
        }
    }
}

/// The exit code of `sekisho bench wan` with these options, which ends by itself, and what it said.
pub(crate) fn said(options: &str) -> (Option<i32>, String) {
    let mut command = Command::new(SEKISHO);
    command.args(["bench", "wan"]).args(options.split(' '));
    let (status, said) = Process::start(&mut command).ended();
    (status.code(), said)
}

/// Names that nobody has.
fn names() -> [String; 2] {
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    ["a", "b"].map(|side| format!("sekishowan{}x{number}{side}", process::id()))
}

fn event(name: &str, line: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(line).ok()?;
    (value["event"] == name).then_some(value)
}
