//! Against an engine's answers as recorded (Docker 20.10 of Debian 12), and, where one runs,
//! against the engine itself:
//! `cargo test -p sekisho-agent docker -- --ignored`. That one is not for every run: Debian's `docker.io` with
//! containerd and runc is some 70 MB to fetch, and its daemon wants a privileged host with iptables.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixListener,
};

use super::*;

const ID: &str = "0cab4a6b5e91998fa41c7b92a46c7d5e23f11a4c013c202697809d05f9e0b63f";
const CONTAINER: &str = include_str!("recorded/container.json");
const IMAGE: &str = include_str!("recorded/image.json");

/// Answers every request by its path; an empty answer breaks the connection off.
fn engine(dir: &Path, answer: impl Fn(&str) -> String + Send + 'static) -> Docker {
    let socket = dir.join("docker.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            let request = String::from_utf8(request).unwrap();
            let path = request.split(' ').nth(1).unwrap();
            // Who asked may have gone: it had enough.
            let _ = stream.write_all(answer(path).as_bytes()).await;
        }
    });
    Docker::new(DockerSpec { socket })
}

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn recorded(path: &str) -> String {
    if path == format!("/containers/{ID}/json") {
        ok(CONTAINER)
    } else if path == "/images/hw/rest:1/json" {
        ok(IMAGE)
    } else {
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into()
    }
}

#[tokio::test]
async fn the_recorded_container_has_spires_selectors() {
    let dir = tempfile::tempdir().unwrap();
    let docker = engine(dir.path(), recorded);
    let inspected = docker.inspect(ID).await.unwrap();
    assert!(inspected.state.pid > 0);
    assert_eq!(
        docker.values(inspected.config).await,
        [
            "label:org.example.tier:web",
            "label:team:blue",
            "env:COLOUR=red",
            "image_config_digest:sha256:96e5b17b20d6b541cdd272683db0808bb83ab2c57563692f22e4e68ce55bd338",
            "image_id:hw/rest:1",
        ]
    );
}

#[tokio::test]
async fn an_image_that_is_no_more_has_no_digest() {
    let dir = tempfile::tempdir().unwrap();
    let docker = engine(dir.path(), |path| {
        if path.starts_with("/images/") {
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into()
        } else {
            recorded(path)
        }
    });
    let config = docker.inspect(ID).await.unwrap().config;
    let values = docker.values(config).await;
    assert!(values.contains(&"image_id:hw/rest:1".to_owned()));
    assert!(!values.iter().any(|value| value.starts_with("image_config")));
}

#[tokio::test]
async fn an_image_name_cannot_be_another_path() {
    let dir = tempfile::tempdir().unwrap();
    let docker = engine(dir.path(), |_| panic!("nothing may be asked"));
    for name in [
        "../containers/x",
        "a//b",
        "a?b=c",
        "a#b",
        "a b",
        "a/./b",
        "a%2e",
    ] {
        assert_eq!(docker.image(name).await.unwrap(), None, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_not_there_yet_is_asked_for_four_times() {
    for (there_at, found) in [(4, true), (5, false)] {
        let dir = tempfile::tempdir().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let docker = engine(dir.path(), move |path| {
            if count.fetch_add(1, Ordering::Relaxed) + 1 < there_at {
                "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into()
            } else {
                recorded(path)
            }
        });
        assert_eq!(docker.inspect(ID).await.is_ok(), found);
        assert_eq!(asked.load(Ordering::Relaxed), 4);
    }
}

#[tokio::test]
async fn long_broken_and_senseless_answers_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let docker = engine(dir.path(), |path| match path {
        "/long" => ok(&" ".repeat(MAX_ANSWER + 1)),
        "/longest-allowed" => ok(&" ".repeat(MAX_ANSWER)),
        "/short" => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}".into(),
        "/redirect" => "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n".into(),
        "/none" => String::new(),
        _ => ok("[]"),
    });
    let error = async |path: &str| docker.get(path).await.unwrap_err();
    assert!(matches!(
        error("/long").await,
        DockerError::Http(HttpError::TooLong(MAX_ANSWER))
    ));
    docker.get("/longest-allowed").await.unwrap();
    assert!(matches!(
        error("/short").await,
        DockerError::Http(HttpError::Body)
    ));
    assert!(matches!(
        error("/redirect").await,
        DockerError::Http(HttpError::Status(status)) if status == 302
    ));
    assert!(matches!(
        error("/none").await,
        DockerError::Http(HttpError::Exchange(_))
    ));
    assert!(matches!(
        docker.inspect(ID).await,
        Err(DockerError::Json(_))
    ));
}

#[test]
fn a_control_group_named_after_a_container_elsewhere_is_not_that_container() {
    let paths = |paths: &[&str]| -> Vec<String> {
        paths.iter().map(|path| path.replace("ID", ID)).collect()
    };
    let container = paths(&["/system.slice/docker-ID.scope/init"]);
    assert!(share_scopes(
        &paths(&["/system.slice/docker-ID.scope/init"]),
        &container,
        ID
    ));
    assert!(share_scopes(
        &paths(&["/system.slice/docker-ID.scope/x/y"]),
        &container,
        ID
    ));
    let forged = paths(&["/user.slice/user-1000.slice/user@1000.service/docker-ID.scope"]);
    assert!(!share_scopes(&forged, &container, ID));
    // Neither in one hierarchy of several, nor when the container does not run.
    let partly = paths(&["/system.slice/docker-ID.scope", "/x/docker-ID.scope"]);
    assert!(!share_scopes(&partly, &container, ID));
    assert!(!share_scopes(&container, &[], ID));
}

/// A container of the real engine that is removed at the end.
struct Real {
    id: String,
}

impl Real {
    /// The image holds one program, `/rest`, which waits for ever.
    fn start() -> Self {
        let run = |args: &[&str]| {
            let output = Command::new("docker").args(args).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("rest.c");
        fs::write(
            &source,
            "#include <unistd.h>\nint main(){for(;;)pause();}\n",
        )
        .unwrap();
        let built = Command::new("gcc")
            .args(["-static", "-o"])
            .arg(dir.path().join("rest"))
            .arg(&source)
            .status()
            .unwrap();
        assert!(built.success());
        let mut tar = Command::new("tar")
            .args(["-c", "rest"])
            .current_dir(dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let imported = Command::new("docker")
            .args(["import", "-c", "CMD [\"/rest\"]", "-", "sekisho/rest:1"])
            .stdin(tar.stdout.take().unwrap())
            .output()
            .unwrap();
        assert!(imported.status.success() && tar.wait().unwrap().success());
        let id = run(&[
            "run",
            "-d",
            "--label",
            "team=blue",
            "-e",
            "COLOUR=red",
            "sekisho/rest:1",
        ]);
        Self { id }
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "-f", &self.id]).output();
    }
}

#[tokio::test]
#[ignore = "needs a Docker engine, gcc and root"]
async fn the_real_engines_container_is_attested_and_forged_groups_and_mounts_are_not() {
    let real = Real::start();
    let docker = Docker::new(DockerSpec::default());
    let init = docker.inspect(&real.id).await.unwrap().state.pid;
    let values = docker.attest(init).await.unwrap();
    for expected in [
        "label:team:blue",
        "env:COLOUR=red",
        "image_id:sekisho/rest:1",
    ] {
        assert!(values.iter().any(|value| value == expected), "{values:?}");
    }
    let digest = values
        .iter()
        .find_map(|value| value.strip_prefix("image_config_digest:"));
    let id = Command::new("docker")
        .args(["inspect", "-f", "{{.Image}}", &real.id])
        .output()
        .unwrap();
    assert_eq!(digest, Some(String::from_utf8(id.stdout).unwrap().trim()));
    let own = std::process::id().cast_signed();
    assert_eq!(docker.attest(own).await.unwrap(), [""; 0]);

    // A process of ours in a group that is called like the container.
    let root = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"]
        .into_iter()
        .find(|root| Path::new(root).join("cgroup.procs").exists())
        .unwrap();
    let group = Path::new(root).join(format!("docker-{}.scope", real.id));
    fs::create_dir(&group).unwrap();
    let mut child = Command::new("sleep").arg("600").spawn().unwrap();
    fs::write(group.join("cgroup.procs"), child.id().to_string()).unwrap();
    let forged = docker.attest(child.id().cast_signed()).await;
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_dir(&group).unwrap();
    assert!(matches!(
        forged,
        Err(AttestorError::Docker(DockerError::Elsewhere))
    ));

    // A user's own mount namespace, in which the container's group is mounted, and a process that
    // is in no group, so that the mounts would count.
    let groups = container::paths(init).unwrap();
    let place = groups.iter().find(|path| path.contains(&real.id)).unwrap();
    let script = format!("mount --bind {root}{place} /mnt && exec sleep 600");
    let mut child = Command::new("unshare")
        .args(["-Urm", "sh", "-c", &script])
        .spawn()
        .unwrap();
    let pid = child.id().cast_signed();
    sekisho_testkit::wait_for("the mount", Duration::from_secs(10), || {
        fs::read_to_string(format!("/proc/{pid}/mountinfo"))
            .is_ok_and(|mounts| mounts.contains(&real.id))
    })
    .await;
    for line in fs::read_to_string(format!("/proc/{pid}/cgroup"))
        .unwrap()
        .lines()
    {
        // Of version 1, each has its own folder; version 2 has none here, or the whole tree.
        let controllers = line.split(':').nth(1).unwrap().trim_start_matches("name=");
        let all = Path::new("/sys/fs/cgroup")
            .join(controllers)
            .join("cgroup.procs");
        if !line.ends_with(":/") {
            fs::write(all, pid.to_string()).unwrap();
        }
    }
    let groups = container::paths(pid).unwrap();
    assert!(groups.iter().all(|group| group == "/"), "{groups:?}");
    let forged = docker.attest(pid).await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(forged.unwrap(), [""; 0]);
}
