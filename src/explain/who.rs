//! The user of this host who would come.

use std::sync::Arc;

use nix::unistd::{Gid, Group, Uid, User};
use sekisho_policy::Client;
use sekisho_proxy::{
    endpoint::spec::{LocalClient, LocalClients},
    local::{Account, LocalUser},
};

use super::Step;

/// The user of this host who comes.
pub(super) struct Who {
    user: Option<LocalUser>,
    /// Groups given without a user.
    groups: Vec<(u32, Option<String>)>,
}

impl Who {
    /// Whether a user was given.
    pub(super) const fn is_known(&self) -> bool {
        self.user.is_some()
    }

    /// As `run` looks up who comes.
    pub(super) fn look_up(user: Option<&str>, groups: &[String]) -> Result<Self, String> {
        let groups = groups.iter().map(|name| group(name));
        let groups = groups.collect::<Result<Vec<_>, _>>()?;
        let Some(given) = user else {
            return Ok(Self { user: None, groups });
        };
        let failed = |error| format!("cannot look up the user {given}: {error}");
        let number = given.parse().ok();
        let account = match (User::from_name(given).map_err(failed)?, number) {
            (None, Some(number)) => User::from_uid(Uid::from_raw(number)).map_err(failed)?,
            (account, _) => account,
        };
        let (uid, mut known) = match (account, number) {
            (Some(user), _) => {
                let gids = std::ffi::CString::new(user.name.as_str())
                    .ok()
                    .and_then(|name| nix::unistd::getgrouplist(&name, user.gid).ok())
                    .unwrap_or_else(|| vec![user.gid]);
                let account = Account {
                    groups: gids.into_iter().map(named).collect(),
                    user: Some(user.name),
                };
                (user.uid.as_raw(), account)
            }
            // A process may run under a number without a name: it has no groups that are known.
            (None, Some(number)) => (number, Account::default()),
            (None, None) => return Err(format!("this host has no user {given}")),
        };
        for group in groups {
            if !known.groups.contains(&group) {
                known.groups.push(group);
            }
        }
        let user = LocalUser {
            uid,
            pid: None,
            account: Arc::new(known),
        };
        Ok(Self {
            user: Some(user),
            groups: Vec::new(),
        })
    }

    fn is_on(&self, line: &LocalClient) -> bool {
        let line = LocalClients::Only(vec![line.clone()]);
        match (&self.user, &line) {
            (Some(user), _) => user.is_among(&line),
            // Nobody's number is among groups.
            (None, LocalClients::Only(lines))
                if lines
                    .iter()
                    .any(|line| matches!(line, LocalClient::Group(_))) =>
            {
                let account = Arc::new(Account {
                    user: None,
                    groups: self.groups.clone(),
                });
                LocalUser {
                    uid: u32::MAX,
                    pid: None,
                    account,
                }
                .is_among(&line)
            }
            (None, _) => false,
        }
    }

    pub(super) fn explain(&self, clients: &LocalClients) -> Step {
        let LocalClients::Only(lines) = clients else {
            return Step {
                asked: "local",
                ok: true,
                answer: "any process of this host".into(),
                reason: None,
            };
        };
        let matched = lines.iter().find(|line| self.is_on(line));
        Step {
            asked: "local",
            ok: matched.is_some(),
            answer: match (matched, &self.user) {
                (Some(line), _) => format!("matches {line}"),
                (None, Some(user)) => format!("{} matches no line", user.name()),
                (None, None) => {
                    let lines = lines.iter().map(ToString::to_string).collect::<Vec<_>>();
                    format!("only {}: say who with --user", lines.join(", "))
                }
            },
            reason: matched.is_none().then(|| "local_user".into()),
        }
    }

    pub(super) fn client(&self) -> Client {
        let groups = match &self.user {
            Some(user) => &user.account.groups,
            None => &self.groups,
        };
        Client::Local {
            user: self.user.as_ref().and_then(|who| who.account.user.clone()),
            uid: self.user.as_ref().map(|who| who.uid),
            groups: groups.iter().filter_map(|(_, name)| name.clone()).collect(),
            pid: None,
        }
    }
}

/// A group by name or number, as [`Account::groups`] has it.
fn group(given: &str) -> Result<(u32, Option<String>), String> {
    let failed = |error| format!("cannot look up the group {given}: {error}");
    match (Group::from_name(given).map_err(failed)?, given.parse()) {
        (Some(group), _) => Ok((group.gid.as_raw(), Some(group.name))),
        (None, Ok(number)) => Ok(named(Gid::from_raw(number))),
        (None, Err(_)) => Err(format!("this host has no group {given}")),
    }
}

/// With its name, where it has one.
fn named(gid: Gid) -> (u32, Option<String>) {
    let group = Group::from_gid(gid).ok().flatten();
    (gid.as_raw(), group.map(|group| group.name))
}
