//! One endpoint for the services of all other sites: clients say by HTTP CONNECT which they want.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use sekisho_certs::{
    Clock as _, Member,
    members::{Gateway, Service},
    tls::MinVersion,
};
use sekisho_policy::Policy;
use sekisho_proxy::endpoint::spec::{
    Address, AnySite, EndpointSpec, Forward, Listen, LocalClient, LocalClients, MtlsTarget,
};
use sekisho_testkit::{ports, site::Site, wait::wait_for};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    harness::{SOON, World, end, list, ping, policy},
    members::{Told, member, members, told},
};

/// Site a with its endpoint, and sites b and c with a gate each.
struct Three {
    world: World,
    c: Site,
    gate_c: SocketAddr,
    app: SocketAddr,
    told: Told,
}

impl Three {
    /// With nobody known yet.
    async fn new(change: impl FnOnce(&mut EndpointSpec), rules: Option<Policy>) -> Self {
        let world = World::new().await;
        let c = Site::new("c.example");
        let (app, gate_c) = (ports::free(), ports::free());
        let mut spec = world.sending("out", app);
        spec.listen = Listen::Connect {
            address: app,
            local: LocalClients::Anyone,
        };
        spec.forward = Forward::Mtls {
            targets: vec![MtlsTarget {
                address: Address::Sites(AnySite {
                    service: None,
                    allow: vec!["127.0.0.0/8".parse().unwrap()],
                }),
                server_name: None,
            }],
            expect: list(&["mark:hpci/back"]),
            min_version: MinVersion::Tls13,
        };
        change(&mut spec);
        let at_b = world.receiving("back");
        let mut at_c = EndpointSpec {
            site: c.domain().clone(),
            own_id: Some(c.id("/back")),
            server_name: "back.c.example".into(),
            ..world.receiving("back-c")
        };
        if let Listen::Mtls { address, .. } = &mut at_c.listen {
            *address = gate_c;
        }
        let mut desired = crate::harness::desired(&[at_b.clone(), at_c.clone()], None);
        desired.extend(crate::harness::desired(
            std::slice::from_ref(&spec),
            rules.as_ref(),
        ));
        world.proxy.apply(&desired, true).unwrap();
        world.supply(&at_b, &[world.a.bundle(), world.b.bundle()]);
        world.supply_svid(
            &at_c,
            c.svid("/back").svid(),
            &[world.a.bundle(), c.bundle()],
        );
        let told = told(&world, &spec, members(&world.a, vec![])).await;
        Self {
            world,
            c,
            gate_c,
            app,
            told,
        }
    }

    fn offers(&self, site: &Site, name: &str, id: &str, gate: SocketAddr) -> Member {
        let id = site.id(id);
        let service = Service::new(name, vec![Gateway::Ip(gate)], id, BTreeSet::new()).unwrap();
        let member = member(site, &["hpci"], self.world.clock.now());
        member.with_services([service]).unwrap()
    }

    fn of_b(&self) -> Member {
        self.offers(&self.world.b, "back", "/back", self.world.gate)
    }

    fn of_c(&self) -> Member {
        self.offers(&self.c, "back", "/back", self.gate_c)
    }

    /// These are the members from now on, and the endpoint has heard of it.
    async fn known(&self, all: Vec<Member>) {
        let known = members(&self.world.a, all);
        self.told.demand.answered(&known, []);
        self.told.members.send_replace(known.clone());
        wait_for("members", SOON, || {
            let snapshot = self.world.endpoint("out").snapshot().unwrap();
            snapshot.material.members().same_facts(&known)
        })
        .await;
    }

    async fn ask(&self, target: &str) -> Answer {
        self.say(&request(target)).await
    }

    async fn say(&self, text: &str) -> Answer {
        let mut stream = TcpStream::connect(self.app).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        Answer::to(stream).await
    }
}

fn request(target: &str) -> String {
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: test\r\n\r\n")
}

struct Answer {
    head: String,
    stream: TcpStream,
}

impl Answer {
    async fn to(mut stream: TcpStream) -> Self {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = tokio::time::timeout(SOON, stream.read_u8()).await;
            let so_far = String::from_utf8_lossy(&head).into_owned();
            head.push(byte.expect("an answer").expect(&so_far));
        }
        Self {
            head: String::from_utf8(head).unwrap(),
            stream,
        }
    }

    fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    fn open(self) -> TcpStream {
        assert_eq!(self.status(), "200", "{}", self.head);
        assert!(!self.head.contains("Content-Length"), "{}", self.head);
        self.stream
    }

    /// Refused, with this status and word, and closed in order.
    async fn refused(mut self, status: &str, word: &str) {
        assert_eq!(self.status(), status, "{}", self.head);
        let mut body = String::new();
        let read = self.stream.read_to_string(&mut body);
        tokio::time::timeout(SOON, read).await.unwrap().unwrap();
        assert_eq!(body, format!("{word}\n"));
        let length = format!("Content-Length: {}\r\n", body.len());
        assert!(self.head.contains(&length), "{}", self.head);
        assert_eq!(self.head.contains("Allow: CONNECT\r\n"), status == "405");
    }
}

#[tokio::test]
async fn one_endpoint_leads_to_every_member() {
    let three = Three::new(|_| {}, None).await;
    three.known(vec![three.of_b(), three.of_c()]).await;
    let mut to_b = three.ask("back.b.example:443").await.open();
    ping(&mut to_b).await.unwrap();
    // What comes with the head is kept until there is a permit, and then the first to be sent.
    let early = format!("{}early", request("back.c.example:1"));
    let mut to_c = three.say(&early).await.open();
    let mut back = [0; 5];
    to_c.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"early");
    ping(&mut to_c).await.unwrap();
    let rows = three.world.proxy.connection_status();
    let mut seen: Vec<_> = rows
        .iter()
        .filter(|row| row.endpoint.as_deref() == Some("out"))
        .map(|row| {
            (
                row.upstream.clone().unwrap(),
                row.upstream_id.clone().unwrap(),
            )
        })
        .collect();
    seen.sort();
    let b = format!("site://b.example/back ({})", three.world.gate);
    let c = format!("site://c.example/back ({})", three.gate_c);
    assert_eq!(
        seen,
        [
            (b.clone(), "spiffe://b.example/back".to_owned()),
            (c.clone(), "spiffe://c.example/back".to_owned())
        ]
    );
    let targets = || {
        let rows = three.world.proxy.endpoint_status();
        let out = rows.into_iter().find(|row| row.name == "out").unwrap();
        assert_eq!((&*out.forward, out.direction), ("site://*", "outbound"));
        let targets = out.targets.into_iter();
        let mut all: Vec<_> = targets.map(|one| (one.address, one.connections)).collect();
        all.sort();
        all
    };
    assert_eq!(targets(), [(b.clone(), 1), (c, 1)]);
    // Another to the same service is one more at the target that is known.
    let mut more = three.ask("BACK.b.example:22").await.open();
    ping(&mut more).await.unwrap();
    assert!(targets().contains(&(b.clone(), 2)));
    // A member that goes takes its connections and its targets along.
    three.known(vec![three.of_b()]).await;
    assert!(end(&mut to_c).await.is_err());
    three.world.until("allowed", "bundle_changed", 1).await;
    ping(&mut to_b).await.unwrap();
    assert_eq!(targets(), [(b, 2)]);
}

#[tokio::test]
async fn a_site_that_is_not_known_is_asked_for_and_waited_for_a_little() {
    let three = Three::new(|_| {}, None).await;
    let b = three.world.b.domain().clone();
    three
        .told
        .demand
        .answered(&members(&three.world.a, vec![]), [&b]);
    let answer = three.ask("back.b.example:443").await;
    answer.refused("503", "unknown_trust_domain").await;
    three
        .world
        .until("refused", "unknown_trust_domain", 1)
        .await;
    // It has become one since, and the name may be asked for again.
    let clock = &three.world.clock;
    clock.set(clock.now() + sekisho_certs::members::demand::UNKNOWN_FOR);
    let mut stream = TcpStream::connect(three.app).await.unwrap();
    let text = request("back.b.example:443");
    stream.write_all(text.as_bytes()).await.unwrap();
    wait_for("a question", SOON, || {
        three.told.demand.wanted() == [b.clone()]
    })
    .await;
    three.known(vec![three.of_b()]).await;
    let mut stream = Answer::to(stream).await.open();
    ping(&mut stream).await.unwrap();
    // Nobody answers: not for ever.
    let answer = three.ask("back.d.example:443").await;
    answer.refused("503", "unknown_trust_domain").await;
}

#[tokio::test]
async fn who_is_not_to_be_led_to_is_refused_by_its_word() {
    let three = Three::new(|_| {}, None).await;
    let plain = member(&three.c, &["other"], three.world.clock.now());
    three.known(vec![three.of_b(), plain]).await;
    for (target, status, word) in [
        ("back.a.example:1", "403", "not_expected"),
        ("back.c.example:1", "403", "not_expected"),
        ("else.b.example:1", "502", "upstream_unreachable"),
        ("back:1", "400", "bad_request"),
        ("127.0.0.1:1", "400", "bad_request"),
        ("back.b.example", "400", "bad_request"),
    ] {
        three.ask(target).await.refused(status, word).await;
    }
    let get = "GET http://back.b.example/ HTTP/1.1\r\nHost: back.b.example\r\n\r\n";
    three.say(get).await.refused("405", "bad_request").await;
    three
        .say("\x16\x03\x01\x02")
        .await
        .refused("400", "bad_request")
        .await;
    // Its catalogue names somebody who is not there, or whom the list does not hold, or nobody.
    let b = &three.world.b;
    three
        .known(vec![three.offers(b, "back", "/else", three.world.gate)])
        .await;
    three
        .ask("back.b.example:1")
        .await
        .refused("403", "not_expected")
        .await;
    three
        .known(vec![three.offers(b, "back", "/back", ports::free())])
        .await;
    three
        .ask("back.b.example:1")
        .await
        .refused("502", "upstream_unreachable")
        .await;
    assert_eq!(three.world.echo.accepted(), 0);
    three.known(vec![three.of_b()]).await;
    ping(&mut three.ask("back.b.example:1").await.open())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_list_of_users_one_service_and_a_policy_hold_for_it_too() {
    let nobody = LocalClients::Only(vec![LocalClient::User("no-such-user-here".into())]);
    let change = |spec: &mut EndpointSpec| {
        if let Listen::Connect { local, .. } = &mut spec.listen {
            *local = nobody;
        }
    };
    let three = Three::new(change, None).await;
    three.known(vec![three.of_b()]).await;
    three
        .ask("back.b.example:1")
        .await
        .refused("403", "local_user")
        .await;
    assert!(three.told.demand.wanted().is_empty());

    let change = |spec: &mut EndpointSpec| {
        if let Forward::Mtls { targets, .. } = &mut spec.forward
            && let Address::Sites(any) = &mut targets[0].address
        {
            any.service = Some("mdx".into());
        }
    };
    let three = Three::new(change, None).await;
    three.known(vec![three.of_b()]).await;
    three
        .ask("back.b.example:1")
        .await
        .refused("403", "not_expected")
        .await;

    let rules = "default allow := false\nallow if {\n  \
                 input.sekisho.upstream.spiffe_id == \"spiffe://c.example/back\"\n  \
                 input.sekisho.federation.marks == [\"hpci\"]\n}";
    let three = Three::new(|_| {}, Some(policy(rules))).await;
    three.known(vec![three.of_b(), three.of_c()]).await;
    let early = format!("{}early", request("back.b.example:1"));
    three
        .say(&early)
        .await
        .refused("403", "policy_denied")
        .await;
    // Nothing came through, and what does is seen.
    let moved = async |endpoint: &str| {
        let proxy = &three.world.proxy;
        wait_for("the end of both", SOON, || proxy.registry().is_empty()).await;
        let text = proxy.metrics_text();
        let start =
            format!("sekisho_relay_bytes_total{{endpoint=\"{endpoint}\",to=\"upstream\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&start));
        line.map(ToOwned::to_owned)
    };
    assert_eq!((moved("out").await, moved("back").await), (None, None));
    let mut to_c = three.ask("back.c.example:1").await.open();
    ping(&mut to_c).await.unwrap();
    drop(to_c);
    assert_eq!(moved("out").await.as_deref(), Some("4"));
    assert_eq!(moved("back-c").await.as_deref(), Some("4"));
}

#[tokio::test]
async fn a_head_is_bounded_in_time_and_size_and_may_come_in_pieces() {
    let quick = |spec: &mut EndpointSpec| spec.timeouts.handshake = Duration::from_millis(500);
    let three = Three::new(quick, None).await;
    three.known(vec![three.of_b()]).await;
    let mut slow = TcpStream::connect(three.app).await.unwrap();
    let text = request("back.b.example:443");
    slow.write_all(&text.as_bytes()[..20]).await.unwrap();
    let silent = TcpStream::connect(three.app).await.unwrap();
    let long = format!("{}X: {}\r\n\r\n", &text[..text.len() - 2], "y".repeat(9000));
    three.say(&long).await.refused("431", "limit").await;
    ping(&mut three.ask("back.b.example:443").await.open())
        .await
        .unwrap();
    for stream in [slow, silent] {
        Answer::to(stream)
            .await
            .refused("408", "handshake_timeout")
            .await;
    }
    drop(three);

    let three = Three::new(|_| {}, None).await;
    three.known(vec![three.of_b()]).await;
    let mut pieces = TcpStream::connect(three.app).await.unwrap();
    pieces.set_nodelay(true).unwrap();
    for byte in text.as_bytes() {
        pieces.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    ping(&mut Answer::to(pieces).await.open()).await.unwrap();
    // One that leaves within its head.
    let mut gone = TcpStream::connect(three.app).await.unwrap();
    gone.write_all(&text.as_bytes()[..20]).await.unwrap();
    gone.shutdown().await.unwrap();
    Answer::to(gone).await.refused("400", "bad_request").await;
}

#[tokio::test]
async fn what_is_remembered_of_services_is_bounded() {
    const MOST: usize = 256;
    const EACH: usize = sekisho_certs::members::MAX_SERVICES;
    let three = Three::new(|_| {}, None).await;
    let gate = ports::free();
    let sites: Vec<_> = (0..=MOST / EACH)
        .map(|number| Site::new(&format!("s{number}.example")))
        .collect();
    let offering = |site: &Site| {
        let services = (0..EACH).map(|number| {
            let gates = vec![Gateway::Ip(gate)];
            Service::new(
                &format!("m{number}"),
                gates,
                site.id("/back"),
                BTreeSet::new(),
            )
            .unwrap()
        });
        let member = member(site, &["hpci"], three.world.clock.now());
        member.with_services(services).unwrap()
    };
    three.known(sites.iter().map(offering).collect()).await;
    let targets = || {
        let snapshot = three.world.endpoint("out").snapshot().unwrap();
        snapshot.upstream.targets()
    };
    for site in &sites {
        for number in 0..EACH {
            let name = format!("m{number}.{}:1", site.domain());
            let answer = three.ask(&name).await;
            answer.refused("502", "upstream_unreachable").await;
        }
        // Of one that is not offered, nothing is kept.
        let name = format!("else.{}:1", site.domain());
        let answer = three.ask(&name).await;
        answer.refused("502", "upstream_unreachable").await;
    }
    let all = targets();
    assert_eq!(all.len(), MOST);
    let first = format!("site://{}/", sites[0].domain());
    assert!(all.iter().all(|target| !target.name().starts_with(&first)));
    three.known(vec![]).await;
    assert!(targets().is_empty());
}
