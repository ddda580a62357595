//! `sekisho directory verify` and `status`.

use std::path::PathBuf;

use clap::Args;
use sekisho_federation::directory::repository::{Report, RoleState};
use serde_json::{json, to_value};

use super::{date, draft, left, now, repository};
use crate::{cli, output};

/// Options of `verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// A copy of the directory's files
    #[arg(long, value_name = "FOLDER")]
    offline: PathBuf,
    /// The root that is trusted; what follows is looked for in the folder
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// The folder of the directory
    folder: PathBuf,
    /// The root that is trusted; what follows is looked for in the folder
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn members(report: &Report) -> String {
    let head = [
        "trust domain",
        "standing",
        "version",
        "expires (UTC)",
        "left",
        "marks",
        "keys",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(report.members.iter().map(|one| {
        vec![
            one.trust_domain.clone(),
            one.standing.to_string(),
            one.version.to_string(),
            date(one.expires),
            left(one.expires),
            one.marks.join(" "),
            one.keys.clone(),
        ]
    }));
    output::table(&rows)
}

fn complain(report: &Report) {
    for complaint in &report.complaints {
        output::complain(format_args!("{}: {}", complaint.role, complaint.problem));
    }
}

impl Verify {
    /// Does it.
    pub(super) fn go(&self) -> anyhow::Result<u8> {
        let report = repository(&self.offline).verify(self.root.as_deref(), now())?;
        let holds = report.complaints.is_empty();
        if self.json {
            output::json(&to_value(&report)?);
        } else {
            output::line(format_args!(
                "root {}, targets {}, snapshot {}, timestamp {}\nsnapshot SHA-256 {}\n{} members",
                report.root,
                report.targets,
                report.snapshot,
                report.timestamp,
                report.snapshot_sha256,
                report.members.len()
            ));
            complain(&report);
            output::line(if holds { "all holds" } else { "not all holds" });
        }
        Ok(if holds { cli::OK } else { cli::FAILED })
    }
}

/// Roles as people read them: those of bins that are the same are one line.
fn roles(all: &[RoleState]) -> String {
    let head = ["role", "version", "signed by", "expires (UTC)", "left", ""];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let due = |one: &RoleState| if one.due { "sign again" } else { "" };
    let row = |one: &RoleState| {
        vec![
            one.role.clone(),
            one.version.to_string(),
            one.by.to_owned(),
            date(one.expires),
            left(one.expires),
            due(one).to_owned(),
        ]
    };
    let is_bin = |one: &&RoleState| one.role.starts_with("bin-");
    rows.extend(all.iter().filter(|one| !is_bin(one)).map(row));
    // Of many bins, those that are due, and the one that ends first.
    let bins: Vec<&RoleState> = all.iter().filter(is_bin).collect();
    let due_bins: Vec<&&RoleState> = bins.iter().filter(|one| one.due).collect();
    if let Some(first) = bins.iter().min_by_key(|one| one.expires) {
        let mut cells = row(first);
        if let Some(name) = cells.first_mut() {
            *name = format!("{} bins", bins.len());
        }
        if let Some(word) = cells.last_mut()
            && !due_bins.is_empty()
        {
            let names: Vec<&str> = due_bins.iter().map(|one| one.role.as_str()).collect();
            *word = format!("sign again: {}", names.join(" "));
        }
        rows.push(cells);
    }
    output::table(&rows)
}

impl Status {
    /// Does it.
    pub(super) fn go(&self) -> anyhow::Result<u8> {
        let repository = repository(&self.folder);
        let time = now();
        let drafts = repository.drafts()?;
        let states = repository.roles(time)?;
        let report = repository.verify(self.root.as_deref(), time)?;
        let due = states.iter().any(|one| one.due);
        let fine = report.complaints.is_empty() && !due;
        if self.json {
            output::json(&json!({
                "members": report.members,
                "complaints": report.complaints,
                "snapshot_sha256": report.snapshot_sha256,
                "roles": states,
                "drafts": drafts.iter().map(draft::value).collect::<Vec<_>>(),
            }));
        } else {
            output::line(members(&report));
            output::line(roles(&states).trim_end());
            if !drafts.is_empty() {
                output::line(format_args!("\ndrafts:\n{}", draft::lines(&drafts)));
            }
            complain(&report);
        }
        Ok(if fine { cli::OK } else { cli::FAILED })
    }
}
