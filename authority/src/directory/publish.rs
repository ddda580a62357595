//! Saying to the directories what becomes of our own bundle: by the member's key of this site, whenever it
//! changes, and before what was signed ends.

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use sekisho_federation::directory::{
    membership::{Desk, Membership, Says, Spoken},
    submit::Hosting,
};
use tokio::time::Instant;

use super::{MemberSettings, Place};
use crate::{core::Core, federation::trust_bundle};

/// Between two looks, where nothing changes.
const LOOK: Duration = Duration::from_secs(3600);
/// After one that failed.
const AGAIN: Duration = Duration::from_secs(60);

/// Between two looks at what the member has said of its own keys: by a command, beside this process.
const STATEMENTS: Duration = Duration::from_secs(10);

/// Says it for as long as it is let.
pub(crate) async fn publish(core: Arc<Core>, settings: MemberSettings) {
    tokio::join!(say(&core, &settings), tell(&core, &settings.data));
}

/// Tells other sites what the member has said of its own keys, for as long as it is let. They hear it from
/// us, whatever a host shows them.
async fn tell(core: &Core, folder: &Path) {
    let Some(handle) = core.followed() else {
        return;
    };
    let (mut said, mut told) = (Vec::new(), Told::default());
    loop {
        let read = Membership::open(folder).map(|membership| membership.statements());
        match read.transpose() {
            Ok(all) => {
                told.is_well("statements");
                // A folder that has gone takes nothing back.
                if let Some(all) = all.filter(|all| *all != said) {
                    handle.say(all.clone()).await;
                    said = all;
                }
            }
            Err(error) if told.is_news("statements", error.to_string()) => {
                tracing::error!(%error, "not told to other sites");
            }
            Err(_) => {}
        }
        tokio::time::sleep(STATEMENTS).await;
    }
}

/// What is wrong, by where: it is told once, and again where it is another thing, and not each time that we look.
#[derive(Debug, Default)]
struct Told(HashMap<String, String>);

impl Told {
    fn is_news(&mut self, at: &str, problem: String) -> bool {
        self.0.get(at) != Some(&problem) && {
            self.0.insert(at.into(), problem);
            true
        }
    }

    fn is_well(&mut self, at: &str) {
        self.0.remove(at);
    }
}

async fn say(core: &Core, settings: &MemberSettings) {
    let mut bundle = core.ca.bundle();
    let mut told = Told::default();
    loop {
        let pause = match speak(core, settings, &mut told).await {
            true => LOOK,
            false => AGAIN,
        };
        let next = Instant::now() + pause;
        tokio::select! {
            changed = bundle.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(next) => {}
        }
    }
}

/// False where it has to be said again soon.
async fn speak(core: &Core, settings: &MemberSettings, told: &mut Told) -> bool {
    // The operator may ask to be a member while we run.
    let Some(membership) = Membership::open(&settings.data) else {
        return false;
    };
    let own = Arc::clone(&core.ca.bundle().borrow());
    let own = match trust_bundle(&own) {
        Ok(own) => own,
        Err(error) => {
            // What is stored was checked before.
            tracing::error!(%error, "our own bundle cannot be told");
            return false;
        }
    };
    let says = Says {
        services: settings.services.clone(),
        endpoints: settings.endpoints.clone(),
    };
    let mut all = true;
    for place in &settings.places {
        let Place::Url(url) = place else {
            // Whoever has the folder publishes there (sekisho directory publish).
            continue;
        };
        let hosting = match hosting(core, url) {
            Ok(hosting) => hosting,
            Err(error) => {
                tracing::error!(url, error, "not said to the directory");
                all = false;
                continue;
            }
        };
        let address = hosting.address();
        let desk = match core.followed() {
            Some(handle) => Desk::Web(&hosting, handle.shown(address)),
            None => Desk::Asked(&hosting),
        };
        match membership.speak(&own, &says, &desk, core.now()).await {
            Ok(spoken) => {
                told.is_well(url);
                as_spoken(url, spoken);
            }
            Err(error) => {
                if told.is_news(url, error.to_string()) {
                    tracing::warn!(url, %error, "not said to the directory");
                }
                all = false;
            }
        }
        if let (Some(handle), Ok(Some(word))) = (core.followed(), membership.word(address)) {
            handle.own_word(address, word.version, word.time).await;
        }
    }
    all
}

fn as_spoken(url: &str, spoken: Spoken) {
    match spoken {
        Spoken::AsBefore => {}
        Spoken::OnItsWay(version) => {
            tracing::debug!(
                url,
                version,
                "said to the directory, which does not show it yet"
            );
        }
        Spoken::Taken(version) => tracing::info!(url, version, "said to the directory"),
        Spoken::Waits => {
            tracing::debug!(url, "what is new waits for registrars to take the next key");
        }
    }
}

fn hosting(core: &Core, url: &str) -> Result<Hosting, String> {
    let settings = &core.settings;
    let hosting = Hosting::new(
        url,
        settings.web_roots.clone(),
        Arc::new(sekisho_certs::tls::provider()),
        Arc::clone(&core.clock),
    );
    let hosting = hosting.map_err(|error| error.to_string())?;
    Ok(hosting.with_allowed(settings.federation.allowed.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_once() {
        let mut told = Told::default();
        assert!(told.is_news("one", "broken".into()));
        assert!(!told.is_news("one", "broken".into()));
        assert!(told.is_news("other", "broken".into()));
        assert!(told.is_news("one", "more".into()));
        told.is_well("one");
        assert!(told.is_news("one", "more".into()));
    }
}
