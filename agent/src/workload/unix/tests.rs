use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use super::*;
use crate::workload::tests::is_root;

/// A program that runs until it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(command: &mut Command) -> Self {
        // `spawn` returns when the child has executed the program.
        Self(command.spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }
}

fn copy_of_sleep(dir: &Path) -> PathBuf {
    let copy = dir.join("rest");
    fs::copy("/bin/sleep", &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    copy
}

/// An independent program's word.
fn sha256sum(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().next().unwrap().to_owned()
}

async fn selectors(spec: UnixSpec, pid: i32) -> Vec<String> {
    Unix::new(spec).attest(pid).await.unwrap()
}

#[tokio::test]
async fn this_process_has_the_user_and_groups_that_id_tells() {
    let id = |options: &[&str]| {
        let output = Command::new("id").args(options).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let found = selectors(UnixSpec::default(), std::process::id().cast_signed()).await;
    for expected in [
        format!("uid:{}", id(&["-u"])),
        format!("user:{}", id(&["-un"])),
        format!("gid:{}", id(&["-g"])),
        format!("group:{}", id(&["-gn"])),
    ] {
        assert!(found.contains(&expected), "{expected} is not in {found:?}");
    }
    let path = std::env::current_exe().unwrap();
    assert!(found.contains(&format!("path:{}", path.display())));
    assert!(found.contains(&format!("sha256:{}", sha256sum(&path))));
}

#[tokio::test]
async fn a_copy_has_its_own_path_and_the_digest_of_its_content() {
    let dir = tempfile::tempdir().unwrap();
    let copy = copy_of_sleep(dir.path());
    let running = Running::start(Command::new(&copy).arg("600"));
    let found = selectors(UnixSpec::default(), running.pid()).await;
    assert!(found.contains(&format!("path:{}", copy.display())));
    assert!(found.contains(&format!("sha256:{}", sha256sum(Path::new("/bin/sleep")))));
}

#[tokio::test]
async fn a_replaced_executable_is_told_by_what_runs() {
    let dir = tempfile::tempdir().unwrap();
    let copy = copy_of_sleep(dir.path());
    let running = Running::start(Command::new(&copy).arg("600"));
    let other = dir.path().join("other");
    fs::write(&other, "#!/bin/sh\n").unwrap();
    fs::rename(&other, &copy).unwrap();
    let found = selectors(UnixSpec::default(), running.pid()).await;
    assert!(found.contains(&format!("path:{} (deleted)", copy.display())));
    assert!(found.contains(&format!("sha256:{}", sha256sum(Path::new("/bin/sleep")))));
}

#[tokio::test]
async fn too_large_an_executable_has_a_path_and_no_digest() {
    let running = Running::start(Command::new("/bin/sleep").arg("600"));
    let spec = UnixSpec {
        size_limit: Some(100),
        ..UnixSpec::default()
    };
    let found = selectors(spec, running.pid()).await;
    assert!(found.iter().any(|value| value.starts_with("path:")));
    assert!(!found.iter().any(|value| value.starts_with("sha256:")));
}

#[tokio::test]
async fn neither_path_nor_digest_unless_asked() {
    let spec = UnixSpec {
        discover_path: false,
        ..UnixSpec::default()
    };
    let found = selectors(spec, std::process::id().cast_signed()).await;
    assert!(!found.iter().any(|value| value.starts_with("path:")));
    assert!(!found.iter().any(|value| value.starts_with("sha256:")));
}

/// Only root can become somebody else.
#[tokio::test]
async fn another_user_and_groups_are_told_with_names_where_they_have_one() {
    if !is_root("it takes root to become another user") {
        return;
    }
    // Supplementary groups of a user that no database knows.
    let running = Running::start(Command::new("setpriv").args([
        "--reuid=54321",
        "--regid=65534",
        "--groups=4,54322",
        "sleep",
        "600",
    ]));
    // setpriv executes sleep in its place.
    let exe = process::path(running.pid(), "exe");
    sekisho_testkit::wait_for("sleep runs", Duration::from_secs(10), || {
        fs::read_link(&exe).is_ok_and(|path| path.ends_with("sleep"))
    })
    .await;
    let found = selectors(UnixSpec::default(), running.pid()).await;
    for expected in [
        "uid:54321",
        "gid:65534",
        "group:nogroup",
        "supplementary_gid:4",
        "supplementary_group:adm",
        "supplementary_gid:54322",
    ] {
        assert!(
            found.iter().any(|value| value == expected),
            "{expected} is not in {found:?}"
        );
    }
    assert!(!found.iter().any(|value| value.starts_with("user:")));
}
