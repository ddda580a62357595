//! A folder with a directory, and those who keep it.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use sekisho_testkit::TestCa;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::node::SEKISHO;

/// A directory in `fed`, with all keys in `keys`.
pub(super) struct Keeper {
    folder: TempDir,
}

impl Keeper {
    /// Two of three institutions, two of three registrars, one host.
    pub(super) fn new(bins: usize) -> Self {
        let keeper = Self::empty();
        keeper.ok(&format!("init @/fed --new-keys @/keys --bins {bins}"));
        keeper
    }

    pub(super) fn empty() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command with its words; `@` stands for the folder.
    pub(super) fn command(&self, line: &str) -> Command {
        let folder = self.folder.path().to_str().unwrap();
        let mut command = Command::new(SEKISHO);
        command.arg("directory");
        command.args(line.split(' ').map(|word| word.replace('@', folder)));
        command
    }

    pub(super) fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// What it says, of a command that does what it should.
    pub(super) fn ok(&self, line: &str) -> Value {
        self.said(line, 0)
    }

    /// What it says, with this exit code.
    pub(super) fn said(&self, line: &str, code: i32) -> Value {
        let output = self.run(&format!("{line} --json"));
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line}: {error}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{line}: {error}"))
    }

    /// What is told, of a command that ends with this code.
    pub(super) fn refused(&self, line: &str, code: i32) -> String {
        let output = self.run(line);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{line}: {error}");
        error
    }

    /// The bundle of a site, as SPIFFE JSON.
    pub(super) fn bundle(&self, name: &str, sequence: u64) {
        let bundle = TestCa::new(name).bundle(name);
        let bundle = bundle.with_hints(Some(sequence), None).to_json();
        fs::write(self.file(&format!("{name}.json")), bundle.to_string()).unwrap();
    }

    /// A request of a new member.
    pub(super) fn request(&self, name: &str) -> Value {
        self.bundle(name, 1);
        self.ok(&format!(
            "member request --id {name} --data @/{name} --bundle @/{name}.json \
             --service mdx=gate.{name}:9443 --out @/{name}.request"
        ))
    }

    /// A new member with these marks.
    pub(super) fn join(&self, name: &str, marks: &str) {
        self.request(name);
        for registrar in 1..=2 {
            self.ok(&format!(
                "member admit @/{name}.request @/fed --key @/keys/registrar-{registrar}.key --yes{marks}"
            ));
        }
    }

    /// By two registrars.
    pub(super) fn both(&self, line: &str) -> Value {
        self.ok(&format!("{line} --key @/keys/registrar-1.key"));
        self.ok(&format!("{line} --key @/keys/registrar-3.key"))
    }

    pub(super) fn host(&self) {
        self.ok("host @/fed --key @/keys/host.key");
    }

    /// The next root, by two institutions, with these options.
    pub(super) fn rotate_root(&self, options: &str) {
        let keys = "--key @/keys/institution-1.key --key @/keys/institution-2.key";
        self.ok(&format!("root propose @/fed {keys}{options}"));
        self.ok("root publish @/fed");
    }

    /// The descriptor of a member, as it lies in the folder.
    pub(super) fn descriptor(&self, name: &str) -> String {
        let end = format!(".td-{name}.json");
        let said = self.ok(&format!("member show {name} @/fed"));
        let files = fs::read_dir(self.file("fed/targets")).unwrap();
        let mut files = files.map(|file| file.unwrap().path());
        let file = files.find(|file| {
            let is_of_it = file.to_str().unwrap().ends_with(&end);
            let text = || fs::read(file).unwrap();
            is_of_it && serde_json::from_slice::<Value>(&text()).unwrap() == said["descriptor"]
        });
        fs::read_to_string(file.unwrap()).unwrap()
    }
}
