//! Three authorities in a triangle, over both profiles: two of ours, and one made of go-spiffe's
//! `federation` server and client. Each rotates its CA twice, while all of them speak with all.

mod acme;
mod embedded;
mod endpoint;
mod restored;
mod sites;

use std::{path::Path, thread, time::Duration};

use sekisho_testkit::{Profile, TestCa};

use crate::support::{World, program::program, wait::until};
use sites::{Go, Ours, Places};

const A: &str = "a.example";
const B: &str = "b.example";
const C: &str = "c.example";

/// A certificate of the web for `localhost`, and its root.
fn web(world: &World, ca: &TestCa) {
    let leaf = Profile::leaf("spiffe://unused.example/x")
        .with_uris([])
        .with_dns_names(["localhost"]);
    ca.issue(&leaf).write(world.path(), "web");
    world.write("roots.pem", &ca.pem());
}

struct Triangle {
    a: Ours,
    b: Ours,
    c: Go,
    at: [Places; 2],
}

impl Triangle {
    fn start(program: &Path) -> Self {
        let [a_world, b_world, c_world] = [World::new(), World::new(), World::new()];
        let ca = TestCa::new("web.example");
        for world in [&a_world, &b_world, &c_world] {
            web(world, &ca);
        }
        let [at_a, at_b, at_c] = [Places::new(), Places::new(), Places::new()];
        let roots = a_world.file("roots.pem");
        let web = |at: Places| format!("https://localhost:{}/", at.web.port());
        // Nobody knows anybody yet but a, which knows b by its name in the web.
        let federation = format!(
            "  endpoint: {{listen: {}, refresh: 1m}}\n  peers:\n    \
             {B}: {{url: \"{}\", profile: https_web}}\n",
            at_a.spiffe,
            web(at_b)
        );
        let a = Ours::start(
            a_world,
            A,
            (at_a.gate, &federation),
            [(B, at_b.gate), (C, at_c.gate)],
            &roots,
        );
        let exported = a.run("bundle export");
        let bundle = String::from_utf8(exported.stdout).unwrap();
        for world in [&b_world, &c_world] {
            world.write("a.json", &bundle);
        }
        let a_url = format!("https://{}/", at_a.spiffe);
        let server = format!("spiffe://{A}/spire/server");
        let c = Go::start(
            program,
            &c_world,
            at_c,
            &[
                "-peer".into(),
                format!(
                    "{A},https_spiffe,{a_url},{server},{}",
                    c_world.name("a.json")
                ),
                "-peer".into(),
                format!("{B},https_web,{}", web(at_b)),
            ],
        );
        let federation = format!(
            "  endpoint: {{listen: {}, profile: https_web, cert: web.pem, key: web.key, refresh: 1m}}\n  \
             peers:\n    \
             {A}: {{url: \"{a_url}\", profile: https_spiffe, id: {server}, bundle: a.json}}\n    \
             {C}: {{url: \"{}\", profile: https_web}}\n",
            at_b.web,
            web(at_c)
        );
        let b = Ours::start(
            b_world,
            B,
            (at_b.gate, &federation),
            [(A, at_a.gate), (C, at_c.gate)],
            &roots,
        );
        // One command makes c known to a.
        a.world.write("c.json", &c.ask("/bundle").1);
        a.json(&format!(
            "federation add {C} --url https://{}/ --profile https_spiffe \
             --endpoint-id spiffe://{C}/spire/server --bundle {}",
            at_c.spiffe,
            a.world.name("c.json")
        ));
        let sites = Self {
            a,
            b,
            c,
            at: [at_a, at_b],
        };
        sites.wait_for_cas(1);
        sites
    }

    /// Everybody knows so many CAs of everybody.
    fn wait_for_cas(&self, count: usize) {
        for (site, others) in [(&self.a, [B, C]), (&self.b, [A, C])] {
            for domain in others {
                site.wait_for_cas(domain, count);
            }
        }
        for domain in [A, B] {
            self.c.wait_for_cas(domain, count);
        }
    }

    fn pairs(&self) -> [(&'static str, Result<(), String>); 6] {
        let [a, b] = self.at;
        [
            ("a to b", self.a.reaches(B)),
            ("a to c", self.a.reaches(C)),
            ("b to a", self.b.reaches(A)),
            ("b to c", self.b.reaches(C)),
            ("c to a", self.c.reaches(A, a.gate)),
            ("c to b", self.c.reaches(B, b.gate)),
        ]
    }

    fn all_speak_with_all(&self, when: &str) {
        for (pair, outcome) in self.pairs() {
            assert_eq!(outcome, Ok(()), "{when}: {pair}");
        }
    }

    fn rotate(&self, when: &str) {
        let ours = [&self.a, &self.b];
        let old = ours.map(|site| site.ca("active"));
        for site in ours {
            site.json("ca prepare");
        }
        self.c.tell("/prepare");
        self.wait_for_cas(2);
        self.all_speak_with_all(&format!("{when}, prepared"));
        for site in ours {
            let next = site.ca("prepared");
            // Three minutes have not passed, but all have it: that was seen.
            let early = site.run(&format!("ca activate {next}"));
            let told = String::from_utf8_lossy(&early.stderr).into_owned();
            assert!(
                !early.status.success() && told.contains("--force"),
                "{told}"
            );
            site.json(&format!("ca activate {next} --force"));
        }
        self.c.tell("/activate");
        self.all_speak_with_all(&format!("{when}, activated"));
        for (site, old) in ours.iter().zip(&old) {
            let before = site.serials();
            site.json(&format!("ca taint {old}"));
            until("SVIDs of the new CA", || {
                let now = site.serials();
                now.iter()
                    .all(|serial| !before.contains(serial))
                    .then_some(())
            });
        }
        self.all_speak_with_all(&format!("{when}, tainted"));
        for (site, old) in ours.iter().zip(&old) {
            site.json(&format!("ca revoke {old}"));
        }
        self.c.tell("/revoke");
        self.wait_for_cas(1);
        self.all_speak_with_all(&format!("{when}, revoked"));
    }
}

#[test]
fn a_triangle_goes_on_while_each_rotates_its_ca_twice_and_a_peer_that_is_removed_is_refused() {
    let program = program!("go-federation");
    let sites = Triangle::start(&program);
    sites.all_speak_with_all("at first");
    for when in ["first rotation", "second rotation"] {
        sites.rotate(when);
    }
    let shown = sites.a.json(&format!("federation show {C}"));
    assert_eq!(
        (&shown[0]["origin"], &shown[0]["error"]),
        (&"api".into(), &serde_json::Value::Null)
    );
    assert!(shown[0]["age"].as_i64().unwrap() < 60, "{shown}");
    // What the file names is ended in the file.
    let refused = sites.a.run(&format!("federation remove {B}"));
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && told.contains("federation.peers"),
        "{told}"
    );
    let mut held = sites.a.connect(C).unwrap();
    sites::exchange(&mut held).unwrap();
    sites.a.json(&format!("federation remove {C}"));
    // Within one poll: a minute's hint is asked for every 15 seconds.
    until_refused(&sites);
    for (pair, outcome) in sites.pairs() {
        let concerned = pair == "a to c" || pair == "c to a";
        assert_eq!(outcome.is_err(), concerned, "{pair}: {outcome:?}");
    }
    // What was open is closed.
    sites::exchange(&mut held).unwrap_err();
    let log = sites.a.process.said();
    for reason in ["unknown_trust_domain", "bundle_changed"] {
        assert!(log.contains(reason), "{reason}: {log}");
    }
}

fn until_refused(sites: &Triangle) {
    const POLL: Duration = Duration::from_secs(15);
    let begin = std::time::Instant::now();
    while sites.a.reaches(C).is_ok() || sites.c.reaches(A, sites.at[0].gate).is_ok() {
        assert!(begin.elapsed() < POLL, "{C} is still let in");
        thread::yield_now();
    }
}
