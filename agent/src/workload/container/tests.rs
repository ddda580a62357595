use proptest::prelude::*;

use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const OTHER: &str = "fedcba98765432100123456789abcdef0123456789abcdef0123456789abcdef";
const POD: &str = "00000000-1111-2222-3333-444444444444";

fn found(paths: &[&str]) -> Result<Option<Container>, ContainerError> {
    let mut found = Found::default();
    for path in paths {
        found.add(&path.replace("ID", ID).replace("OTHER", OTHER))?;
    }
    Ok(found.0)
}

fn container(pod_uid: Option<&str>) -> Option<Container> {
    Some(Container {
        id: ID.into(),
        pod_uid: pod_uid.map(Into::into),
    })
}

/// The forms in SPIRE's own tests and comments.
#[test]
fn finds_container_and_pod_in_every_runtimes_path() {
    let pod = "pod00000000-1111-2222-3333-444444444444";
    let systemd = "pod00000000_1111_2222_3333_444444444444";
    for path in [
        format!("/kubepods/burstable/{pod}/ID"),
        format!("/docker/{OTHER}/kubepods/besteffort/{pod}/ID"),
        format!(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-{pod}.slice/docker-ID.scope"
        ),
        format!("/kubepods-besteffort-{systemd}.slice:cri-containerd:ID"),
        format!("/../../{pod}/ID"),
        format!(
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-{systemd}.slice/cri-containerd-ID.scope"
        ),
        format!("/kubepods.slice/kubepods-{systemd}.slice/crio-ID.scope/container"),
    ] {
        assert_eq!(found(&[&path]).unwrap(), container(Some(POD)), "{path}");
    }
    for path in [
        "/docker/ID",
        "/system.slice/docker-ID.scope",
        "/system.slice/docker-ID.scope/init",
        "/../ID",
        "/../crio-ID.scope",
        // A letter before "pod", or a digit too many: no pod.
        "/xpod00000000-1111-2222-3333-444444444444/ID",
        "/pod00000000-1111-2222-3333-4444444444445/ID",
        "/é-docker-ID.scope",
    ] {
        assert_eq!(found(&[path]).unwrap(), container(None), "{path}");
    }
}

#[test]
fn nothing_else_is_a_container() {
    for path in [
        "",
        "/",
        "/user.slice/user-1000.slice/session-1.scope",
        "/docker/ID0",
        "/docker/x_ID",
        "/docker/0123456789abcdef",
        "ID",
    ] {
        assert_eq!(found(&[path]).unwrap(), None, "{path}");
    }
}

#[test]
fn two_containers_or_pods_are_none_and_a_pod_outranks_no_pod() {
    let conflict = |paths: &[&str]| matches!(found(paths), Err(ContainerError::Conflict));
    assert!(conflict(&["/docker/ID", "/docker/OTHER"]));
    assert!(conflict(&[
        "/pod00000000-1111-2222-3333-444444444444/ID",
        "/pod76543210-89ab-cdef-0123-456789abcdef/ID",
    ]));
    let (inner, outer) = (
        "/pod00000000-1111-2222-3333-444444444444/ID",
        "/docker/OTHER",
    );
    for paths in [[inner, outer], [outer, inner]] {
        assert_eq!(found(&paths).unwrap(), container(Some(POD)));
    }
    assert_eq!(
        found(&["/", "/docker/ID", "/", "/docker/ID"]).unwrap(),
        container(None)
    );
}

#[test]
fn groups_are_read_of_both_versions() {
    let v1 = "12:pids:/docker/x\n2:cpu,cpuacct:/a:b\n1:name=systemd:/\n";
    assert_eq!(group_paths(v1).unwrap(), ["/docker/x", "/a:b", "/"]);
    assert_eq!(
        group_paths("0::/system.slice\n").unwrap(),
        ["/system.slice"]
    );
    assert_eq!(group_paths("0:/system.slice\n"), None);
}

#[test]
fn mounts_tell_their_roots_where_the_source_is_empty_too() {
    let text = "572 571 0:63 / /sys/fs/cgroup rw,nosuid - tmpfs tmpfs rw,mode=755\n\
         119 206 0:68 / /local rw,relatime - tmpfs  rw,size=8192k\n\
         573 572 0:33 /docker/x /sys/fs/cgroup/systemd ro master:11 shared:2 - cgroup cgroup rw\n\
         574 572 0:33 / /sys/fs/cgroup/pids ro - cgroup cgroup rw\n\
         2356 2355 0:30 /../y /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n";
    assert_eq!(mount_roots(text).unwrap(), ["/docker/x", "/../y"]);
    for bad in [
        "1 2 3 / /x rw tmpfs\n",
        "1 2 3 - cgroup c rw\n",
        "1 2 3 / /x rw - \n",
    ] {
        assert_eq!(mount_roots(bad), None, "{bad}");
    }
}

#[test]
fn mounts_are_asked_only_from_within_a_container() {
    let paths = |paths: &[&str]| {
        paths
            .iter()
            .map(|path| (*path).to_owned())
            .collect::<Vec<_>>()
    };
    assert!(seen_from_within(&paths(&["/", "/../x", "/.."])));
    assert!(!seen_from_within(&paths(&[
        "/",
        "/user.slice/user-1000.slice"
    ])));
    assert!(!seen_from_within(&paths(&["/..x"])));
}

#[test]
fn a_scope_ends_with_the_containers_own_segment() {
    let path = format!("/system.slice/docker-{ID}.scope/init");
    assert_eq!(scope(&path, ID), path.strip_suffix("/init"));
    assert_eq!(
        scope(&format!("/docker/{ID}"), ID),
        Some(&*format!("/docker/{ID}"))
    );
    assert_eq!(scope("/", ID), None);
}

#[test]
fn this_process_is_in_one_place() {
    let own = std::process::id().cast_signed();
    assert!(in_own_user_namespace(own));
    // Whatever holds here, it is told without a conflict.
    of(own).unwrap();
}

proptest! {
    #[test]
    fn no_text_makes_the_parsers_panic(text in "(?s).{0,300}") {
        let _ = group_paths(&text);
        let _ = mount_roots(&text);
        let _ = locate(&text);
    }

    #[test]
    fn what_is_found_is_shaped_as_an_id_and_stands_in_the_path(
        path in "(/|[-_:.é]|pod|docker|[0-9a-f]{1,12}|[0-9a-f]{64}|[0-9a-f]{8}(_[0-9a-f]{4}){3}_[0-9a-f]{12}){0,12}",
    ) {
        if let Some(container) = locate(&path) {
            prop_assert_eq!(container.id.len(), 64);
            prop_assert!(path.contains(&container.id));
            if let Some(uid) = container.pod_uid {
                prop_assert_eq!(uid.len(), 36);
                let pod = format!("pod{uid}");
                prop_assert!(path.replace('_', "-").contains(&pod));
            }
        }
    }
}
