//! How an agent comes back: by a token that it asks for, after an eviction, a damaged cache, a clock that
//! was wrong.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use sekisho_agent::{
    attest::{NodeAttestor, Token},
    introducer::{Answer, Introducer},
    run::{Bootstrap, Settings},
};
use sekisho_authority::core::Settings as AuthoritySettings;
use sekisho_spire_api::server::agent::{
    CreateJoinTokenRequest, DeleteAgentRequest, agent_client::AgentClient,
};
use tonic::Code;
use zeroize::Zeroizing;

use crate::{
    harness::{HOUR, Site, channel, entry, spiffe_id},
    life::svids,
};

/// As `sekisho run` does it: a token for whoever is to be `/node/local`.
#[derive(Debug)]
struct Giver {
    authority: PathBuf,
    bundle: PathBuf,
    given: AtomicUsize,
    away: AtomicBool,
}

impl Giver {
    async fn of(site: &Site) -> Arc<Self> {
        Arc::new(Self {
            authority: site.path("authority.sock"),
            bundle: site.bundle_file().await,
            given: AtomicUsize::new(0),
            away: AtomicBool::new(false),
        })
    }

    fn given(&self) -> usize {
        self.given.load(Ordering::Relaxed)
    }

    async fn settings(self: &Arc<Self>, site: &Site) -> Settings {
        Settings {
            bootstrap: Bootstrap::Asked(Arc::<Self>::clone(self)),
            attestor: NodeAttestor::JoinToken(Token::Asked(Arc::<Self>::clone(self))),
            ..site.agent_settings("").await
        }
    }
}

impl Introducer for Giver {
    fn token(&self) -> Answer<'_, Zeroizing<String>> {
        Box::pin(async {
            if self.away.load(Ordering::Relaxed) {
                return Err("nobody is there".into());
            }
            let request = CreateJoinTokenRequest {
                ttl: 60,
                token: String::new(),
                agent_id: spiffe_id("/node/local"),
            };
            let mut client = AgentClient::new(channel(&self.authority).await);
            let made = client.create_join_token(request).await;
            self.given.fetch_add(1, Ordering::Relaxed);
            Ok(made.unwrap().into_inner().value.into())
        })
    }

    fn bundle(&self) -> Answer<'_, Vec<u8>> {
        Box::pin(async { fs::read(&self.bundle).map_err(|error| error.to_string()) })
    }
}

fn long(settings: &mut AuthoritySettings) {
    settings.x509_ttl = 48 * HOUR;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_certificate_has_ended_comes_back_by_a_new_token() {
    let mut site = Site::with(long, 30 * 24 * HOUR).await;
    let giver = Giver::of(&site).await;
    let settings = giver.settings(&site).await;
    let mut agent = site.run(settings.clone()).await;
    agent.turned().await;
    site.create(vec![entry("/w", "/node/local")]).await;
    agent.turn().await;
    let before = svids(&agent).await.unwrap();
    let first = agent.path();
    agent.stop().await;

    // A restart needs none.
    let mut agent = site.run(settings).await;
    agent.turned().await;
    assert_eq!(giver.given(), 1);
    site.stop_authority().await;
    site.clock.advance(2 * HOUR);
    let problem = agent.turn().await.problem.unwrap();
    assert!(problem.contains("no authority"), "{problem}");
    assert_eq!(giver.given(), 1, "asked for in vain");
    assert_eq!(svids(&agent).await.unwrap(), before);

    site.start_authority().await;
    let health = agent.turn().await;
    assert_eq!(health.problem, None);
    assert_eq!(giver.given(), 2);
    assert_ne!(agent.path(), first);
    assert_eq!(svids(&agent).await.unwrap(), before);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_was_put_out_serves_nobody_after_a_restart_until_it_is_back() {
    let mut site = Site::start().await;
    let giver = Giver::of(&site).await;
    let settings = giver.settings(&site).await;
    let mut agent = site.run(settings.clone()).await;
    agent.turned().await;
    site.create(vec![entry("/w", "/node/local")]).await;
    agent.turn().await;
    svids(&agent).await.unwrap();
    giver.away.store(true, Ordering::Relaxed);
    let mut admin = AgentClient::new(site.admin().await);
    let id = spiffe_id(&agent.path());
    admin.delete_agent(DeleteAgentRequest { id }).await.unwrap();
    assert!(agent.turn().await.problem.is_some());
    agent.stop().await;

    let mut agent = site.run(settings.clone()).await;
    let nothing = svids(&agent).await.unwrap_err();
    assert_eq!(nothing.code(), Code::Unavailable, "{nothing}");
    let problem = agent.turn().await.problem.unwrap();
    assert!(problem.contains("nobody is there"), "{problem}");
    giver.away.store(false, Ordering::Relaxed);
    assert_eq!(agent.turn().await.problem, None);
    svids(&agent).await.unwrap();
    agent.stop().await;

    // It is back: what was kept is served again.
    site.stop_authority().await;
    let agent = site.run(settings).await;
    svids(&agent).await.unwrap();
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_is_damaged_is_set_aside_and_the_agent_begins_anew() {
    let site = Site::start().await;
    let giver = Giver::of(&site).await;
    let settings = giver.settings(&site).await;
    let mut agent = site.run(settings.clone()).await;
    agent.turned().await;
    site.create(vec![entry("/w", "/node/local")]).await;
    agent.turn().await;
    agent.stop().await;
    let (cache, aside) = (
        settings.data.join("cache"),
        settings.data.join("cache.unusable"),
    );
    let mut sealed = fs::read(&cache).unwrap();
    let middle = sealed.len() / 2;
    sealed[middle] ^= 1;
    fs::write(&cache, &sealed).unwrap();

    let mut agent = site.run(settings).await;
    agent.turned().await;
    assert_eq!(fs::read(&aside).unwrap(), sealed);
    assert_eq!(giver.given(), 2);
    svids(&agent).await.unwrap();
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_wrong_for_a_while_costs_nothing_that_was_kept() {
    let mut site = Site::start().await;
    let giver = Giver::of(&site).await;
    let mut agent = site.run(giver.settings(&site).await).await;
    agent.turned().await;
    site.create(vec![entry("/w", "/node/local")]).await;
    agent.turn().await;
    let before = svids(&agent).await.unwrap();
    site.stop_authority().await;
    let right = sekisho_certs::Clock::now(&*site.clock);
    for wrong in [right - 48 * HOUR, right + 48 * HOUR] {
        site.clock.set(wrong);
        assert!(agent.turn().await.problem.is_some());
        let shown = {
            let state = agent.shared.state.borrow();
            let mut all = state.identities.values();
            all.any(|one| one.valid(wrong).is_some())
        };
        assert!(!shown, "an SVID out of its time");
        site.clock.set(right);
        assert!(agent.turn().await.problem.is_some());
        assert_eq!(svids(&agent).await.unwrap(), before);
    }
    site.start_authority().await;
    assert_eq!(agent.turn().await.problem, None);
    assert_eq!(svids(&agent).await.unwrap(), before);
    assert_eq!(giver.given(), 1);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_is_asked_for_does_not_wait_for_the_next_attempt() {
    let mut site = Site::start().await;
    let mut agent = site.agent().await;
    site.stop_authority().await;
    for _ in 0..8 {
        assert!(agent.turn().await.problem.is_some());
    }
    // The next attempt is a minute away.
    let ended = tokio::time::timeout(Duration::from_secs(20), agent.stop()).await;
    ended.unwrap();
}
