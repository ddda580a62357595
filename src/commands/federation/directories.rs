//! Directories as people and programs read them.

use sekisho_spire_api::federation_admin::{
    Directory, DirectoryMember, Fault, ListDirectoriesRequest, RefreshDirectoriesRequest,
    federation_admin_client::FederationAdminClient,
};
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::show::ago;
use crate::{api::Answered as _, cli, output};

fn fault(fault: Option<&Fault>) -> Value {
    fault.map_or(
        Value::Null,
        |one| json!({ "reason": one.reason, "problem": one.problem, "since": one.since }),
    )
}

fn member(one: &DirectoryMember) -> Value {
    json!({
        "trust_domain": one.trust_domain,
        "standing": one.standing,
        "version": one.version,
        "bundle_sequence": one.sequence,
        "keys": one.keys,
        "pending_keys": (!one.pending_keys.is_empty()).then_some(&one.pending_keys),
        "age": one.age,
        "used": one.used,
        "marks": one.marks,
        "fault": fault(one.fault.as_ref()),
    })
}

fn directory(one: &Directory) -> Value {
    let members: Vec<Value> = one.members.iter().map(member).collect();
    let broken = one.broken.iter();
    let broken: serde_json::Map<String, Value> = broken
        .map(|(role, one)| (role.clone(), fault(Some(one))))
        .collect();
    json!({
        "source": one.source,
        "root": one.root,
        "snapshot": one.snapshot,
        "snapshot_sha256": one.snapshot_sha256,
        "age": one.age,
        "roles": one.roles,
        "members": members,
        "fault": fault(one.fault.as_ref()),
        "alarm": fault(one.alarm.as_ref()),
        "broken": broken,
    })
}

fn whole(seconds: u64) -> String {
    ago(i64::try_from(seconds).unwrap_or(i64::MAX))
}

fn tell(one: &Directory) {
    let age = one.age.map_or_else(|| "never".into(), whole);
    output::line(format_args!(
        "{}: snapshot {} (SHA-256 {}), root {}, {} roles; in force {age}",
        one.source, one.snapshot, one.snapshot_sha256, one.root, one.roles
    ));
    for (word, fault) in [("fault", &one.fault), ("ALARM", &one.alarm)] {
        if let Some(fault) = fault {
            output::line(format_args!(
                "  {word}: {} ({})",
                fault.problem, fault.reason
            ));
        }
    }
    let rows = one.members.iter().map(|member| {
        let sequence = member
            .sequence
            .map_or_else(|| "-".into(), |it| it.to_string());
        let mut state = member.standing.clone();
        if member.standing == "member" && !member.used {
            state.push_str(", too old");
        }
        vec![
            member.trust_domain.clone(),
            state,
            sequence,
            whole(member.age),
            member.marks.join(","),
            member.keys.clone(),
        ]
    });
    let head = [
        "trust domain",
        "standing",
        "bundle",
        "confirmed",
        "marks",
        "keys",
    ];
    let head = head.map(ToOwned::to_owned).to_vec();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    output::line(output::table(&rows));
    for member in &one.members {
        if let Some(fault) = &member.fault {
            output::line(format_args!("  {}: {}", member.trust_domain, fault.problem));
        }
    }
    for (role, fault) in &one.broken {
        output::line(format_args!("  {role}: {}", fault.problem));
    }
}

/// Shows them, followed first where that is asked.
pub(super) async fn show(channel: Channel, refresh: bool, json: bool) -> anyhow::Result<u8> {
    let mut client = FederationAdminClient::new(channel);
    let mut well = true;
    if refresh {
        let request = RefreshDirectoriesRequest {};
        let answer = client.refresh_directories(request).await;
        let problems = answer.answered("RefreshDirectories")?.problems;
        well = problems.iter().all(String::is_empty);
    }
    let answer = client.list_directories(ListDirectoriesRequest {}).await;
    let all = answer.answered("ListDirectories")?.directories;
    if json {
        output::json(&Value::Array(all.iter().map(directory).collect()));
    } else if all.is_empty() {
        output::line("no directory is followed");
    } else {
        all.iter().for_each(tell);
    }
    let alarm = all.iter().any(|one| one.alarm.is_some());
    Ok(if well && !alarm { cli::OK } else { cli::FAILED })
}
