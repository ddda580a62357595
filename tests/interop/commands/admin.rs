//! An authority, and its administrator.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::{Process, World, node::SEKISHO, wait::until};

/// An authority, and commands that ask it.
pub(super) struct Admin {
    pub(super) world: World,
    pub(super) authority: Process,
}

impl Admin {
    pub(super) fn start() -> Self {
        Self::start_of("a.example")
    }

    /// The authority of another site.
    pub(super) fn start_of(site: &str) -> Self {
        let world = World::new();
        world.write(
            "authority.yaml",
            &format!("site: {site}\nauthority: {{data: data, socket: api.sock}}\n"),
        );
        let mut command = Command::new(SEKISHO);
        command
            .args(["authority", "-c"])
            .arg(world.file("authority.yaml"));
        let authority = Process::start(&mut command);
        let admin = Self { world, authority };
        until("an authority that answers", || {
            (admin.run("ca show").status.code() == Some(0)).then_some(())
        });
        admin
    }

    /// Runs a command with its words; `@` stands for the folder.
    pub(super) fn run(&self, line: &str) -> Output {
        let folder = self.world.name("");
        let words = line.split(' ').map(|word| word.replace('@', &folder));
        let mut command = Command::new(SEKISHO);
        command
            .args(words)
            .arg("--socket")
            .arg(self.world.file("api.sock"));
        command.output().unwrap()
    }

    /// The same, with standard input.
    pub(super) fn fed(&self, line: &str, input: &str) -> Output {
        use std::io::Write as _;
        let mut command = Command::new(SEKISHO);
        command.args(line.split(' '));
        command.arg("--socket").arg(self.world.file("api.sock"));
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        child.wait_with_output().unwrap()
    }

    /// What a command prints that succeeds.
    pub(super) fn text(&self, line: &str) -> String {
        let output = self.run(line);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{line}: {told}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(super) fn json(&self, line: &str) -> Value {
        let output = self.run(&format!("{line} --json"));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_str(&text).unwrap()
    }

    /// What a command complains of that ends with this code.
    pub(super) fn refused(&self, line: &str, code: i32) -> String {
        let output = self.run(line);
        assert_eq!(output.status.code(), Some(code), "{line}");
        String::from_utf8(output.stderr).unwrap()
    }
}
