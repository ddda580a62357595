//! What the authority of this process knows of other sites.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use sekisho_agent::members::Wants;
use sekisho_authority::{core::Core, members::Wanted};
use sekisho_certs::{
    Clock, Member, Members, TrustDomain,
    members::{Demand, Feed},
};
use tokio::sync::watch;

use super::{Inside, LOOK};

/// How often the ages of what is known are looked at, where nothing else has changed.
const AGES: Duration = Duration::from_secs(10);

/// Follows what `opened`, once it is open, knows of other sites for a proxy of the site `own`. `wants` may
/// change while it runs.
///
/// Must be called inside a tokio runtime; ends with the last receiver.
pub(in crate::node) fn feed(
    opened: impl Future<Output = Option<Arc<Inside>>> + Send + 'static,
    own: TrustDomain,
    wants: watch::Receiver<Wants>,
    clock: Arc<dyn Clock>,
) -> Feed {
    let (members, known) = watch::channel(Members::default());
    let (problem, problems) = watch::channel(Some("its CA is not open yet".into()));
    let demand = Demand::new(clock);
    let feed = Feed {
        members: known,
        demand: Some(Arc::clone(&demand)),
        problem: problems,
    };
    tokio::spawn(async move {
        let gone = members.clone();
        let follow = async {
            let Some(inside) = opened.await else { return };
            let core = Arc::clone(inside.core());
            // The doors close with the last who has it, not with who looks.
            drop(inside);
            let follower = Follower {
                own,
                wants,
                demand,
                members,
                problem,
                held: BTreeMap::new(),
            };
            follower.run(&core).await;
        };
        tokio::select! {
            () = follow => {}
            () = gone.closed() => {}
        }
    });
    feed
}

struct Follower {
    own: TrustDomain,
    wants: watch::Receiver<Wants>,
    demand: Arc<Demand>,
    members: watch::Sender<Members>,
    problem: watch::Sender<Option<Arc<str>>>,
    held: BTreeMap<TrustDomain, Arc<Member>>,
}

impl Follower {
    async fn run(mut self, core: &Core) {
        let mut directory = core.followed().map(|handle| handle.members());
        loop {
            // Before what is read: a change in between is looked at again.
            let version = core.store.version();
            if let Some(directory) = &mut directory {
                directory.mark_unchanged();
            }
            let wanted = {
                let wants = self.wants.borrow_and_update();
                let demanded = self.demand.wanted();
                Wanted {
                    domains: wants.domains.iter().cloned().chain(demanded).collect(),
                    marks: wants.marks.clone(),
                }
            };
            match core.members(&wanted).await {
                Ok(answer) => {
                    self.take(answer.members, &answer.unknown);
                    self.problem.send_if_modified(|told| told.take().is_some());
                }
                Err(error) => {
                    let problem: Arc<str> = error.to_string().into();
                    self.problem.send_if_modified(|told| {
                        let news = told.as_ref() != Some(&problem);
                        if news {
                            tracing::error!(problem = &*problem, "members of the federation");
                            *told = Some(problem);
                        }
                        news
                    });
                }
            }
            let changed_there = async {
                match &mut directory {
                    Some(directory) => directory.changed().await,
                    None => std::future::pending().await,
                }
            };
            let stored = async {
                while core.store.version() == version {
                    tokio::time::sleep(LOOK).await;
                }
            };
            tokio::select! {
                // That something was confirmed again is no change.
                () = tokio::time::sleep(AGES) => {}
                () = stored => {}
                changed = changed_there => if changed.is_err() { return },
                () = self.demand.changed() => {}
                changed = self.wants.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Nobody has to decide anew where only ages are new.
    fn take(&mut self, told: Vec<Arc<Member>>, unknown: &[TrustDomain]) {
        let mut changed = false;
        let mut names = BTreeSet::new();
        for member in told {
            let domain = member.trust_domain().clone();
            names.insert(domain.clone());
            match self.held.get(&domain) {
                Some(held) if held.same_facts(&member) => held.confirm(member.confirmed()),
                _ => {
                    changed = true;
                    self.held.insert(domain, member);
                }
            }
        }
        let before = self.held.len();
        self.held.retain(|domain, _| names.contains(domain));
        if !changed && self.held.len() == before {
            return self.demand.answered(&self.members.borrow(), unknown);
        }
        match Members::new(&self.own, self.held.values().cloned()) {
            Ok(members) => {
                self.demand.answered(&members, unknown);
                self.members.send_replace(members);
            }
            Err(error) => tracing::error!(%error, "members are not taken"),
        }
    }
}
