//! A process that a test started, with what it says.

use std::{
    io::{BufRead as _, BufReader, Read},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::wait::{PATIENCE, until};

/// Lines that are shown of a process where a test has failed.
const SHOWN: usize = 50;

/// A running process. It is killed when dropped; where the test has failed, what it said is shown.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    output: Arc<Output>,
}

#[derive(Debug, Default)]
struct Output {
    said: Mutex<Said>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Said {
    lines: Vec<String>,
    /// Pipes that are still open.
    open: usize,
}

impl Process {
    /// Starts a process that reads nothing.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::spawn(command.stdin(Stdio::null()))
    }

    /// Starts a process whose standard input stays open until it is taken.
    pub(crate) fn start_with_input(command: &mut Command) -> Self {
        Self::spawn(command.stdin(Stdio::piped()))
    }

    fn spawn(command: &mut Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let output = Arc::new(Output::default());
        output.said.lock().unwrap().open = 2;
        follow(child.stdout.take().unwrap(), &output);
        follow(child.stderr.take().unwrap(), &output);
        Self {
            name,
            stdin: child.stdin.take(),
            child,
            output,
        }
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its standard input, to be written to and closed.
    pub(crate) fn input(&mut self) -> ChildStdin {
        self.stdin.take().expect("started with input")
    }

    /// The first line from `from` on for which there is an answer, and where the next one stands.
    /// Waits for it.
    pub(crate) fn line<T>(
        &self,
        what: &str,
        from: usize,
        mut ask: impl FnMut(&str) -> Option<T>,
    ) -> (T, usize) {
        let mut said = self.output.said.lock().unwrap();
        let mut next = from;
        loop {
            while let Some(line) = said.lines.get(next) {
                next += 1;
                if let Some(answer) = ask(line) {
                    return (answer, next);
                }
            }
            if said.open == 0 {
                drop(said);
                panic!("{} ended without: {what}", self.name);
            }
            let (guard, waited) = self.output.more.wait_timeout(said, PATIENCE).unwrap();
            said = guard;
            if waited.timed_out() {
                drop(said);
                panic!("{} did not say in time: {what}", self.name);
            }
        }
    }

    /// Waits for a line that contains `text`.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        self.line(text, 0, |line| line.contains(text).then(|| line.to_owned()))
            .0
    }

    /// Whether it has closed its output, which it does at its end.
    pub(crate) fn has_ended(&self) -> bool {
        self.output.said.lock().unwrap().open == 0
    }

    /// All it has said.
    pub(crate) fn said(&self) -> String {
        self.output.said.lock().unwrap().lines.join("\n")
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id()).unwrap();
        kill(Pid::from_raw(id), signal).unwrap();
    }

    /// Waits for its end, of itself; returns all it said.
    pub(crate) fn ended(&mut self) -> (ExitStatus, String) {
        let what = format!("the end of {}", self.name);
        let status = until(&what, || self.child.try_wait().unwrap());
        until("the end of its output", || self.has_ended().then_some(()));
        (status, self.said())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already cannot be killed; it is gone either way.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let said = self.output.said.lock().unwrap();
            let last = &said.lines[said.lines.len().saturating_sub(SHOWN)..];
            eprintln!("---- {} said last:\n{}\n----", self.name, last.join("\n"));
        }
    }
}

fn follow(pipe: impl Read + Send + 'static, output: &Arc<Output>) {
    let output = Arc::clone(output);
    thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            output.said.lock().unwrap().lines.push(line);
            output.more.notify_all();
        }
        output.said.lock().unwrap().open -= 1;
        output.more.notify_all();
    });
}
