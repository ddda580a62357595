//! An authority follows directories that others have made, at a static web server.

use std::{
    fs,
    net::SocketAddr,
    process::{Command, Output},
};

use serde_json::{Value, json};

use super::{keeper::Keeper, others::others};
use crate::support::{Process, node::SEKISHO, wait::until};

/// A site with an entry that names `tokyo.example`, in a folder of its own.
struct Site<'a> {
    keeper: &'a Keeper,
    folder: String,
    _process: Process,
}

impl<'a> Site<'a> {
    /// Follows what is served there, from the first root of the folder `root`.
    fn start(keeper: &'a Keeper, name: &str, address: SocketAddr, root: &str) -> Self {
        let folder = format!("site-{name}");
        fs::create_dir_all(keeper.file(&folder)).unwrap();
        let root = keeper.file(&format!("{root}/metadata/1.root.json"));
        let file = format!(
            "site: osaka.example\nauthority: {{data: data, socket: api.sock}}\n\
             federation: {{directory: \"http://{address}\", root: {}, allow: [127.0.0.0/8]}}\n",
            root.display()
        );
        fs::write(keeper.file(&folder).join("site.yaml"), file).unwrap();
        let process = Self::run(keeper, &folder);
        let site = Self {
            keeper,
            folder,
            _process: process,
        };
        until("an authority that answers", || {
            site.said("bundle list").status.success().then_some(())
        });
        // It follows whom entries name.
        let entry = "entry create --spiffe-id /mdx --parent-id /node/local --selector unix:uid:0";
        let output = site.said(&format!("{entry} --federates-with tokyo.example"));
        assert!(output.status.success(), "{output:?}");
        site
    }

    fn run(keeper: &Keeper, folder: &str) -> Process {
        let mut command = Command::new(SEKISHO);
        command.args(["authority", "-c"]);
        Process::start(command.arg(keeper.file(folder).join("site.yaml")))
    }

    fn said(&self, line: &str) -> Output {
        let mut command = Command::new(SEKISHO);
        command.args(line.split(' ')).args(["--json", "--socket"]);
        let socket = self.keeper.file(&self.folder).join("api.sock");
        command.arg(socket).output().unwrap()
    }

    fn json(&self, line: &str) -> Value {
        let output = self.said(line);
        let error = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{line}: {error}"))
    }

    /// The sequence of the member's bundle, as workloads get it; before it is loaded they get one without
    /// keys.
    fn bundle(&self) -> Option<u64> {
        let all = self.json("bundle list");
        let mut all = all["bundles"].as_array().unwrap().iter();
        let one = all.find(|one| one["trust_domain"] == "tokyo.example")?;
        one["sequence"].as_u64()
    }
}

#[test]
fn an_authority_follows_what_others_have_made() {
    let Some(others) = others() else { return };
    for bins in ["1", "256"] {
        let keeper = Keeper::empty();
        let made = others.make(&keeper, bins);
        for (name, other) in [(made[0], made[1]), (made[1], made[0])] {
            let (_server, address) = others.serve(&keeper.file(name));
            let site = Site::start(&keeper, name, address, name);
            let what = format!("the bundle of the member: {name}, {bins} bins");
            until(&what, || site.bundle().filter(|sequence| *sequence == 3));
            let output = site.said("federation directory --refresh");
            assert!(output.status.success(), "{output:?}");
            let told: Value = serde_json::from_slice(&output.stdout).unwrap();
            let directory = &told[0];
            assert_eq!(directory["root"], 3, "{name}: {told}");
            assert_eq!(directory["fault"], Value::Null);
            assert_eq!(directory["broken"], json!({}));
            let [member] = directory["members"].as_array().unwrap().as_slice() else {
                panic!("{name}: {told}")
            };
            let expected = json!(["tokyo.example", "member", 3, true, ["hpci"], null]);
            let keys = [
                "trust_domain",
                "standing",
                "bundle_sequence",
                "used",
                "marks",
                "fault",
            ];
            assert_eq!(json!(keys.map(|key| &member[key])), expected, "{name}");
            // Trust begins with the root that was given: by that of another directory nothing is taken.
            let stranger = Site::start(&keeper, &format!("{name}-not"), address, other);
            let output = stranger.said("federation directory --refresh");
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            let told: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_ne!(told[0]["fault"], Value::Null, "{told}");
            assert_eq!(told[0]["members"], json!([]));
            assert_eq!(stranger.bundle(), Some(0));
        }
    }
}
