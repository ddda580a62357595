//! What one endpoint holds: SVID, trust and ready TLS configurations, swapped whole.

mod follow;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{ClientConfig, ServerConfig, crypto::CryptoProvider};

use crate::{
    bundle::{BundleSet, TrustBundle},
    clock::Clock,
    id::{IdList, IdPattern, SpiffeId, TrustDomain},
    members::{Demand, Member, Members, Wish},
    source::Supply,
    svid::Svid,
    tls::{
        MinVersion, PeerVerifier, client_config,
        resumption::{self, Stores},
        server_config,
    },
    verify::Trust,
};

pub use follow::follow;

/// Cryptography and time, given to every store.
#[derive(Clone, Debug)]
pub struct TlsContext {
    /// Suites, groups and signatures; see [`crate::tls::provider`].
    pub provider: Arc<CryptoProvider>,
    /// The clock that validity is judged by.
    pub clock: Arc<dyn Clock>,
}

/// What an endpoint asks of its store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSpec {
    /// The endpoint's name, which a Workload API hint may equal.
    pub name: String,
    /// Our own trust domain.
    pub site: TrustDomain,
    /// `as`: the ID the SVID must carry.
    pub own_id: Option<SpiffeId>,
    /// The `accept` and `expect` lists: a domain that none names is not trusted here.
    pub lists: Vec<IdList>,
    /// The listening side, where it is mTLS: its oldest version.
    pub listen: Option<MinVersion>,
    /// Whether sessions may be resumed, on both sides. The stores of sessions live and die with the
    /// configurations that are built here, so none outlives a change of SVID, bundles or lists.
    pub resumption: bool,
    /// The forwarding side, where it is mTLS: its oldest version and who may answer.
    pub forward: Option<(MinVersion, IdList)>,
}

/// Why an endpoint cannot make handshakes.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NotReady {
    /// The SVID's time is over.
    #[error("the SVID {id} expired")]
    Expired {
        /// Whose it was.
        id: SpiffeId,
    },
    /// None of the source's SVIDs carries the ID that `as` asks for.
    #[error("the source has no SVID {wanted}; it has {available}")]
    NoMatch {
        /// What `as` says.
        wanted: SpiffeId,
        /// What there is instead.
        available: String,
    },
    /// The source has several SVIDs, and neither `as` nor a hint chooses one.
    #[error(
        "the source has several SVIDs ({available}): choose one with `as`, or give one the hint {name:?}"
    )]
    Ambiguous {
        /// The endpoint's name.
        name: String,
        /// What there is.
        available: String,
    },
    /// The SVID belongs to another trust domain than `site`.
    #[error("the SVID {id} is not of this site's trust domain {site}")]
    ForeignDomain {
        /// Whose it is.
        id: SpiffeId,
        /// Ours.
        site: TrustDomain,
    },
    /// The SVID's time has not come.
    #[error("the SVID {id} is not valid yet")]
    NotYetValid {
        /// Whose it is.
        id: SpiffeId,
    },
    /// The source delivered none, or withdrew it.
    #[error("no SVID: {0}")]
    NoSvid(String),
    /// rustls refused the configuration.
    #[error("TLS configuration: {0}")]
    Tls(String),
}

/// A store's contents at one time. Never changed, only replaced.
#[derive(Debug)]
pub struct Material {
    svid: Result<Arc<Svid>, NotReady>,
    trust: Arc<Trust>,
    server: Option<Arc<ServerConfig>>,
    client: Option<Arc<ClientConfig>>,
    /// Counts replacements of the SVID.
    rotations: u64,
    /// Counts replacements of the trusted bundles.
    trust_revision: u64,
    problem: Option<Arc<str>>,
    stores: Stores,
    /// The bundles among them that came from the source.
    supplied: BundleSet,
    /// What is known of other sites.
    members: Members,
    /// Who is told of domains that are wanted.
    demand: Option<Arc<Demand>>,
    /// By which ages are told.
    clock: Arc<dyn Clock>,
    /// What the configurations were built for.
    spec: Option<StoreSpec>,
}

impl Material {
    /// Nothing yet: no SVID, nobody trusted.
    #[must_use]
    pub fn empty(context: &TlsContext, why: &str) -> Self {
        Self {
            svid: Err(NotReady::NoSvid(why.into())),
            trust: Arc::new(Trust::new(
                BundleSet::default(),
                context.provider.signature_verification_algorithms,
            )),
            server: None,
            client: None,
            rotations: 0,
            trust_revision: 0,
            problem: None,
            stores: Stores::default(),
            supplied: BundleSet::default(),
            members: Members::default(),
            demand: None,
            clock: Arc::clone(&context.clock),
            spec: None,
        }
    }

    /// What follows from the sources. Parts that did not change are taken over from `previous`,
    /// so that nothing is built twice; and all that came from the source is, while it is pending.
    #[must_use]
    pub fn derive(
        spec: &StoreSpec,
        supply: &Supply,
        extra: &BundleSet,
        previous: &Self,
        context: &TlsContext,
    ) -> Self {
        let nobody = Members::default();
        Self::derive_among(spec, supply, extra, &nobody, previous, context)
    }

    /// The same, with what is known of other sites. Where it is what was known before but for the
    /// times of confirmation, these are brought forward in `previous`, and nothing is built.
    #[must_use]
    pub fn derive_among(
        spec: &StoreSpec,
        supply: &Supply,
        extra: &BundleSet,
        members: &Members,
        previous: &Self,
        context: &TlsContext,
    ) -> Self {
        let same_members = previous.members.same_facts(members);
        let members = if same_members {
            previous.members.confirm_as(members);
            previous.members.clone()
        } else {
            members.clone()
        };
        let carried = supply.pending.then(|| Supply {
            svids: previous.latest_svid().cloned().into_iter().collect(),
            bundles: previous.supplied.clone(),
            ..supply.clone()
        });
        let supply = carried.as_ref().unwrap_or(supply);
        let (bundles, problem) = trusted(spec, supply, extra, &members);
        let same_trust = previous.trust.bundles() == &bundles;
        let trust = if same_trust {
            Arc::clone(&previous.trust)
        } else {
            Arc::new(previous.trust.changed_to(bundles))
        };
        let svid = choose(spec, supply);
        let same_svid = matches!((&svid, &previous.svid), (Ok(new), Ok(old)) if new == old);
        let mut material = Self {
            rotations: previous.rotations + u64::from(svid.is_ok() && !same_svid),
            trust_revision: previous.trust_revision + u64::from(!same_trust),
            svid,
            server: None,
            client: None,
            problem,
            stores: Stores::default(),
            trust,
            supplied: supply.bundles.clone(),
            members,
            demand: previous.demand.clone(),
            clock: Arc::clone(&context.clock),
            spec: Some(spec.clone()),
        };
        let same_spec = previous.spec.as_ref() == Some(spec);
        // Members count in a handshake only where a line by a mark asks who carries it.
        let by_mark = spec
            .forward
            .iter()
            .any(|(_, list)| list.marks().next().is_some());
        if same_svid && same_trust && same_spec && (same_members || !by_mark) {
            material.server.clone_from(&previous.server);
            material.client.clone_from(&previous.client);
            material.stores.clone_from(&previous.stores);
        } else if let Err(error) = material.build(spec, context) {
            material.svid = Err(NotReady::Tls(error.to_string()));
        }
        material
    }

    fn build(&mut self, spec: &StoreSpec, context: &TlsContext) -> Result<(), rustls::Error> {
        let Ok(svid) = &self.svid else { return Ok(()) };
        let TlsContext { provider, clock } = context;
        if let Some(min) = spec.listen {
            let mut config = server_config(
                svid.certified(),
                Arc::new(self.verifier(None, clock)),
                min,
                provider,
                clock,
            )?;
            if spec.resumption {
                resumption::serve(&mut config, &mut self.stores);
            }
            self.server = Some(Arc::new(config));
        }
        if let Some((min, expect)) = &spec.forward {
            let verifier = Arc::new(self.verifier(Some(expect.clone()), clock));
            let mut config = client_config(svid.certified(), verifier, *min, provider, clock)?;
            if spec.resumption {
                resumption::ask(&mut config, &mut self.stores);
            }
            self.client = Some(Arc::new(config));
        }
        Ok(())
    }

    fn verifier(&self, expect: Option<IdList>, clock: &Arc<dyn Clock>) -> PeerVerifier {
        PeerVerifier::new(Arc::clone(&self.trust), Arc::clone(clock), expect)
            .among(self.members.clone())
    }

    /// The SVID, if it may be presented at `now`.
    ///
    /// # Errors
    /// Why there is none.
    pub fn svid(&self, now: SystemTime) -> Result<&Arc<Svid>, NotReady> {
        let svid = self.svid.as_ref().map_err(Clone::clone)?;
        let id = || svid.id().clone();
        if now < svid.not_before() {
            Err(NotReady::NotYetValid { id: id() })
        } else if now > svid.not_after() {
            Err(NotReady::Expired { id: id() })
        } else {
            Ok(svid)
        }
    }

    /// The SVID even if its time is over, for status.
    #[must_use]
    pub fn latest_svid(&self) -> Option<&Arc<Svid>> {
        self.svid.as_ref().ok()
    }

    /// The listening side's configuration.
    ///
    /// # Errors
    /// When there is no valid SVID at `now`.
    pub fn server(&self, now: SystemTime) -> Result<&Arc<ServerConfig>, NotReady> {
        self.svid(now)?;
        self.server
            .as_ref()
            .ok_or_else(|| NotReady::Tls("the listening side is not mTLS".into()))
    }

    /// The forwarding side's configuration.
    ///
    /// # Errors
    /// When there is no valid SVID at `now`.
    pub fn client(&self, now: SystemTime) -> Result<&Arc<ClientConfig>, NotReady> {
        self.svid(now)?;
        self.client
            .as_ref()
            .ok_or_else(|| NotReady::Tls("the forwarding side is not mTLS".into()))
    }

    /// The same for a handshake in which only `id` may answer: a service whose descriptor says who
    /// that is. The `expect` list is not looked at in it, so the permit has to. No session is
    /// resumed: whoever answered before may be another one.
    ///
    /// # Errors
    /// When there is no valid SVID at `now`.
    pub fn client_expecting(&self, id: &SpiffeId) -> Result<Arc<ClientConfig>, NotReady> {
        let mut config = ClientConfig::clone(self.client(self.clock.now())?);
        let only = IdPattern::only(id);
        let verifier = self.verifier(Some(IdList::Named(vec![only])), &self.clock);
        config
            .dangerous()
            .set_certificate_verifier(Arc::new(verifier));
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(config))
    }

    /// What is known of other sites.
    #[must_use]
    pub const fn members(&self) -> &Members {
        &self.members
    }

    /// How long ago what is known of `member` was confirmed.
    #[must_use]
    pub fn age(&self, member: &Member) -> Duration {
        member.age(self.clock.now())
    }

    /// A peer claims to be of `domain`, of which there is no bundle, or a service there is wanted:
    /// it is asked for, where `list` could let such a peer in. `None`: it could not, or nobody can
    /// be asked.
    pub fn want(&self, list: &IdList, domain: &TrustDomain) -> Option<Wish> {
        let own = self.spec.as_ref().is_some_and(|spec| spec.site == *domain);
        let demand = self.demand.as_ref()?;
        (!own && list.could_name(domain)).then(|| demand.want(domain))
    }

    /// Forgets the sessions that could be resumed, on both sides: after one whose peer does not verify
    /// any more, others of that peer will not either, and a full handshake shows its new SVID.
    pub fn forget_sessions(&self) {
        self.stores.forget();
    }

    /// Whom this endpoint trusts.
    #[must_use]
    pub const fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }

    /// How often the SVID was replaced, the first one counted.
    #[must_use]
    pub const fn rotations(&self) -> u64 {
        self.rotations
    }

    /// How often the bundles changed.
    #[must_use]
    pub const fn trust_revision(&self) -> u64 {
        self.trust_revision
    }

    /// What the sources complain of, while older material serves.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }
}

/// Bundles ∩ domains named in the lists (design.md §5). A bundle from a file wins over one that
/// the source delivers for the same domain, and either over one that a member has; they are never
/// merged. One that shares a CA key with an earlier one is refused by itself.
fn trusted(
    spec: &StoreSpec,
    supply: &Supply,
    extra: &BundleSet,
    members: &Members,
) -> (BundleSet, Option<Arc<str>>) {
    let named = |domain: &TrustDomain| {
        let mut lists = spec.lists.iter();
        lists.any(|list| list.names_domain(domain, members))
    };
    let mut set = supply.bundles.filtered(named);
    let mut problem = supply.problem.clone();
    let mut insert = |set: &mut BundleSet, bundle: &Arc<TrustBundle>| {
        if let Err(error) = set.insert(Arc::clone(bundle)) {
            problem = Some(error.to_string().into());
        }
    };
    for bundle in extra.iter() {
        let domain = bundle.trust_domain();
        // Our own trust domain comes from our own source only (design.md §4, 2).
        let own = *domain == spec.site && supply.bundles.get(domain).is_some();
        if named(domain) && !own {
            insert(&mut set, bundle);
        }
    }
    for member in members.iter() {
        let domain = member.trust_domain();
        if let Some(bundle) = member.bundle()
            && *domain != spec.site
            && set.get(domain).is_none()
            && named(domain)
        {
            insert(&mut set, bundle);
        }
    }
    (set, problem)
}

/// `as` exactly; without it the hint equal to the endpoint's name, else the only SVID.
fn choose(spec: &StoreSpec, supply: &Supply) -> Result<Arc<Svid>, NotReady> {
    let available = || {
        let ids: Vec<_> = supply
            .svids
            .iter()
            .map(|svid| svid.id().to_string())
            .collect();
        ids.join(", ")
    };
    let svid = match (supply.svids.as_slice(), &spec.own_id) {
        ([], _) => {
            let why = supply.problem.as_deref().unwrap_or("none delivered yet");
            return Err(NotReady::NoSvid(why.into()));
        }
        (svids, Some(wanted)) => {
            svids
                .iter()
                .find(|svid| svid.id() == wanted)
                .ok_or_else(|| NotReady::NoMatch {
                    wanted: wanted.clone(),
                    available: available(),
                })?
        }
        ([only], None) => only,
        (svids, None) => svids
            .iter()
            .find(|svid| svid.hint() == Some(spec.name.as_str()))
            .ok_or_else(|| NotReady::Ambiguous {
                name: spec.name.clone(),
                available: available(),
            })?,
    };
    if svid.id().trust_domain() != &spec.site {
        return Err(NotReady::ForeignDomain {
            id: svid.id().clone(),
            site: spec.site.clone(),
        });
    }
    Ok(Arc::clone(svid))
}
