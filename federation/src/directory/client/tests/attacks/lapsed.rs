//! Bins that registrars have let lapse.

use super::*;

const BIN: &str = "bin";

/// Rows 10 and 20: what is over says nothing new of anybody, and takes distrust away from nobody: who was expelled,
/// suspended or has revoked itself in it is out. Check: distrust is heard before `fresh` (`look`).
#[tokio::test]
async fn a_lapsed_bin_keeps_nobody_in_who_is_out() {
    let names = [
        "expelled.example",
        "suspended.example",
        "revoked.example",
        "kept.example",
    ];
    let (federation, mut sites, mut here) = known(&names).await;
    let all = federation.two_registrars();
    let (repository, now) = (&federation.repository, federation.now());
    repository.expel(&sites[0].domain, &all, now).unwrap();
    repository.suspend(&sites[1].domain, &all, now).unwrap();
    // The host keeps what registrars have signed to itself until that is over.
    for step in 0..36 {
        federation.pass(5 * DAY);
        let now = federation.now();
        let mut says = Vec::new();
        let due = if step % 4 == 0 { 0..4 } else { 0..0 };
        for site in &mut sites[due] {
            site.sequence += 1;
            let version = repository.next_version(&site.domain).unwrap();
            let sent = Submission::new(&site.descriptor(), version, &[&site.key], now).unwrap();
            repository.accept_unchecked(&sent).unwrap();
            says.push((format!("td-{}", site.domain), version.get()));
        }
        let says: Vec<_> = says
            .iter()
            .map(|(role, version)| (&**role, *version))
            .collect();
        repository.host_says(&federation.host, &says, now).unwrap();
        here.sync(&[]).await;
    }
    for site in &sites {
        assert!(here.has(site), "{}: last good", site.domain);
    }
    for name in names {
        assert_eq!(here.reason(name).as_deref(), Some("expired"), "{name}");
    }
    // Now the lapsed version is shown, and one of the members speaks against itself.
    let bins = role(&federation, BIN, 7).signed;
    assert!(metadata::fresh(BIN, &bins, federation.now()).is_err());
    let (domain, key) = (&sites[2].domain, &sites[2].key);
    let version = repository.next_version(domain).unwrap();
    let sent = Submission::revocation(domain, &sites[2].set(), version, &[key]).unwrap();
    repository.accept_unchecked(&sent).unwrap();
    let says = [(BIN, 7), ("td-revoked.example", version.get())];
    let now = federation.now();
    repository.host_says(&federation.host, &says, now).unwrap();
    here.sync(&[]).await;
    for (site, standing) in sites.iter().zip(["expelled", "suspended", "revoked"]) {
        let name = site.domain.as_str();
        assert_eq!(here.status(name).standing, standing);
        assert!(here.bundle(name).is_none(), "{name}");
    }
    assert!(here.has(&sites[3]), "{:?}", here.status(names[3]));
    assert_eq!(here.reason(names[3]).as_deref(), Some("expired"));
    // New words of who is frozen are not taken, but for the one that nobody of it is to be trusted.
    let before = sites[3].bundle();
    sites[3].sequence += 1;
    let distrust = br#"{"trust_domain":"kept.example","bundle":{"keys":[],"spiffe_sequence":99}}"#;
    for text in [sites[3].descriptor().to_json(), distrust.to_vec()] {
        assert_eq!(here.bundle(names[3]).as_deref(), Some(&before));
        let version = repository.next_version(&sites[3].domain).unwrap();
        let said = repository.accept_text(&sites[3].domain, version, &text, &[&sites[3].key], now);
        said.unwrap();
        let says = [("td-kept.example", version.get())];
        repository.host_says(&federation.host, &says, now).unwrap();
        here.sync(&[]).await;
    }
    assert_eq!(here.bundle(names[3]).unwrap().authorities().len(), 0);
}

/// Row 20: a lapsed bin takes nobody in, not even one that distrusts itself: its keys would be fixed by it. Check: only
/// who is known may profit (`look`).
#[tokio::test]
async fn a_lapsed_bin_fixes_no_keys_of_who_was_never_seen() {
    let (federation, sites, mut here) = known(&["kept.example"]).await;
    let thief = Site::new("new.example");
    let repository = &federation.repository;
    let all = federation.two_registrars();
    let now = federation.now();
    repository
        .admit(&thief.request(&federation), &all, now)
        .unwrap();
    federation.pass(181 * DAY);
    let now = federation.now();
    let distrust = br#"{"trust_domain":"new.example","bundle":{"keys":[],"spiffe_sequence":99}}"#;
    let version = repository.next_version(&thief.domain).unwrap();
    repository
        .accept_text(&thief.domain, version, distrust, &[&thief.key], now)
        .unwrap();
    let bins = role(&federation, BIN, 3).signed;
    assert!(metadata::fresh(BIN, &bins, now).is_err());
    let says = [(BIN, 3), ("td-new.example", version.get())];
    repository.host_says(&federation.host, &says, now).unwrap();
    here.sync(&["new.example"]).await;
    let broken = here.client.status().broken;
    let reason = broken.iter().find(|(name, _)| name == "new.example");
    assert_eq!(reason.map(|(_, fault)| &*fault.reason), Some("expired"));
    let members = here.client.status().members;
    let known: Vec<_> = members.iter().map(|one| &one.trust_domain).collect();
    assert_eq!(known, [sites[0].domain.as_str()]);
}

/// Row 20: nor does it bring new keys of who is known, whatever these say. Check: the same.
#[tokio::test]
async fn a_lapsed_bin_brings_no_new_keys() {
    let (federation, mut sites, mut here) = known(&["kept.example"]).await;
    let (repository, site) = (&federation.repository, &mut sites[0]);
    let before = site.set();
    let old = std::mem::replace(&mut site.key, FileKey::generate().unwrap());
    let sent = site.request(&federation);
    let sent = sent.with_rekey(&before, site.set(), None, &[&old]).unwrap();
    let all = federation.two_registrars();
    repository.admit(&sent, &all, federation.now()).unwrap();
    federation.pass(181 * DAY);
    let now = federation.now();
    let distrust = br#"{"trust_domain":"kept.example","bundle":{"keys":[],"spiffe_sequence":99}}"#;
    let version = repository.next_version(&site.domain).unwrap();
    let said = repository.accept_text(&site.domain, version, distrust, &[&site.key], now);
    said.unwrap();
    let says = [(BIN, 3), ("td-kept.example", version.get())];
    repository.host_says(&federation.host, &says, now).unwrap();
    here.sync(&[]).await;
    assert_eq!(here.reason("kept.example").as_deref(), Some("expired"));
    let keys = here.status("kept.example").keys;
    assert_eq!(keys, continuity::fingerprint(&before));
}
