//! Who is compared: each a front and a back proxy, started by this program.

mod custom;
mod envoy;
mod haproxy;
mod sekisho;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::ValueEnum;

use crate::{certificates::Certificates, child::Program, cli::Options, load::Load};

/// Where the client's load goes.
pub(crate) const FRONT: SocketAddr = loopback(7001);
/// Where the front proxy connects to.
pub(crate) const BACK: SocketAddr = loopback(7002);
/// Where the back proxy connects to: the load's own server.
pub(crate) const SERVER: SocketAddr = loopback(7003);
/// Where the proxies tell of themselves.
pub(crate) const FRONT_ADMIN: SocketAddr = loopback(7011);
/// The same of the back proxy.
pub(crate) const BACK_ADMIN: SocketAddr = loopback(7012);

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::V4(std::net::SocketAddrV4::new(
        std::net::Ipv4Addr::LOCALHOST,
        port,
    ))
}

/// Peers that this program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Builtin {
    /// No proxy at all
    Direct,
    /// Plain copy, without TLS: buffers of 1 MiB, and of 256 KiB
    Floor,
    /// Plain splice(2), without TLS: a pipe of 1 MiB
    FloorSplice,
    /// sekisho, mTLS, with access log, metrics and a policy of 30 rules
    Sekisho,
    /// sekisho without TLS: bulk goes by splice(2)
    SekishoPlain,
    /// Envoy's tcp_proxy, mTLS
    Envoy,
    /// HAProxy, mTLS
    Haproxy,
    /// HAProxy, plain TCP by splice(2)
    HaproxySplice,
}

impl Builtin {
    /// All of them.
    pub(crate) const ALL: [Self; 8] = [
        Self::Direct,
        Self::Floor,
        Self::FloorSplice,
        Self::Sekisho,
        Self::SekishoPlain,
        Self::Envoy,
        Self::Haproxy,
        Self::HaproxySplice,
    ];
}

/// How a pair is set up for a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Threads of each proxy.
    pub(crate) workers: u16,
    /// TLS sessions may be resumed. Otherwise every handshake is a full one.
    pub(crate) resumption: bool,
}

/// What a peer is made with.
#[derive(Debug)]
pub(crate) struct Place {
    /// Its files go here.
    pub(crate) folder: PathBuf,
    pub(crate) certificates: Certificates,
}

impl Place {
    /// Writes a file of a peer, and returns where it is.
    pub(crate) fn write(&self, name: &str, text: &str) -> anyhow::Result<String> {
        let path = self.folder.join(name);
        if let Some(above) = path.parent() {
            fs::create_dir_all(above)?;
        }
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        text_of(&path)
    }
}

/// A path as text; ours are.
pub(crate) fn text_of(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.with_context(|| format!("{} is not UTF-8", path.display()))
}

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) front: Program,
    pub(crate) back: Program,
}

/// A peer.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// As in tables.
    pub(crate) name: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Custom(Box<custom::Custom>),
    Direct,
    Envoy {
        program: PathBuf,
        group: String,
    },
    Floor {
        buffer: usize,
    },
    Haproxy {
        program: PathBuf,
        mode: haproxy::Mode,
    },
    Sekisho {
        program: PathBuf,
        mode: sekisho::Mode,
    },
    Splice,
}

/// The names of the floors whose best is the floor of a run.
pub(crate) const FLOORS: [&str; 2] = ["floor 1 MiB", "floor 256 KiB"];
/// The name of sekisho in results.
pub(crate) const SEKISHO: &str = "sekisho";
/// The name of Envoy in results.
pub(crate) const ENVOY: &str = "envoy";
const MIB: usize = 1 << 20;

impl Peer {
    /// Those that were asked for.
    pub(crate) fn of(options: &Options) -> anyhow::Result<Vec<Self>> {
        let peer = |name: &str, kind| Self {
            name: name.into(),
            kind,
        };
        let mut peers = Vec::new();
        for builtin in &options.peers {
            let program = options.haproxy.clone();
            match builtin {
                Builtin::Direct => peers.push(peer("direct", Kind::Direct)),
                Builtin::Floor => {
                    for (name, buffer) in FLOORS.into_iter().zip([MIB, MIB / 4]) {
                        peers.push(peer(name, Kind::Floor { buffer }));
                    }
                }
                Builtin::FloorSplice => peers.push(peer("floor (splice)", Kind::Splice)),
                Builtin::Sekisho => peers.push(peer(
                    SEKISHO,
                    Kind::Sekisho {
                        program: options.sekisho.clone(),
                        mode: sekisho::Mode::Mtls,
                    },
                )),
                Builtin::SekishoPlain => peers.push(peer(
                    "sekisho (plain splice)",
                    Kind::Sekisho {
                        program: options.sekisho.clone(),
                        mode: sekisho::Mode::Plain,
                    },
                )),
                Builtin::Envoy => peers.push(peer(
                    ENVOY,
                    Kind::Envoy {
                        program: options.envoy.clone(),
                        group: options.group.clone(),
                    },
                )),
                Builtin::Haproxy => peers.push(peer(
                    "haproxy",
                    Kind::Haproxy {
                        program,
                        mode: haproxy::Mode::Mtls,
                    },
                )),
                Builtin::HaproxySplice => peers.push(peer(
                    "haproxy (plain splice)",
                    Kind::Haproxy {
                        program,
                        mode: haproxy::Mode::Splice,
                    },
                )),
            }
        }
        for file in &options.pair {
            let custom = custom::Custom::read(file)?;
            peers.push(peer(&custom.name.clone(), Kind::Custom(Box::new(custom))));
        }
        Ok(peers)
    }

    /// Whether there are proxies.
    pub(crate) const fn is_direct(&self) -> bool {
        matches!(self.kind, Kind::Direct)
    }

    /// Whether it encrypts.
    pub(crate) fn is_mtls(&self) -> bool {
        match &self.kind {
            Kind::Envoy { .. } => true,
            Kind::Sekisho { mode, .. } => *mode == sekisho::Mode::Mtls,
            Kind::Haproxy { mode, .. } => *mode == haproxy::Mode::Mtls,
            Kind::Custom(custom) => custom.mtls,
            Kind::Direct | Kind::Floor { .. } | Kind::Splice => false,
        }
    }

    /// Whether a load says anything about it.
    pub(crate) fn takes(&self, load: Load) -> bool {
        match load {
            Load::Idle | Load::Startup => self.is_mtls(),
            Load::Resume => self.is_mtls() && !matches!(self.kind, Kind::Custom(_)),
            _ => true,
        }
    }

    /// What it says of its version.
    pub(crate) fn version(&self) -> anyhow::Result<String> {
        match &self.kind {
            Kind::Direct => Ok(String::new()),
            Kind::Floor { .. } => Ok("read and write, a thread for each direction".into()),
            Kind::Splice => Ok("splice(2), a thread for each direction".into()),
            Kind::Envoy { program, .. } => Program::new(program, &["--version"]).first_line(),
            Kind::Sekisho { program, .. } => Program::new(program, &["--version"]).first_line(),
            Kind::Haproxy { program, .. } => Program::new(program, &["-v"]).first_line(),
            Kind::Custom(custom) => custom.version(),
        }
    }

    /// Writes its files and says what to start; `None` for none.
    pub(crate) fn pair(&self, place: &Place, setting: Setting) -> anyhow::Result<Option<Pair>> {
        let own = std::env::current_exe()?;
        let copy = |listen: SocketAddr, connect: SocketAddr, buffer: usize, more: &[&str]| {
            let (listen, connect) = (listen.to_string(), connect.to_string());
            let buffer = buffer.to_string();
            let fixed = [
                "floor",
                "--listen",
                &listen,
                "--connect",
                &connect,
                "--buffer",
                &buffer,
            ];
            Program::new(&own, &[&fixed, more].concat())
        };
        let floor = |buffer, more: &[&str]| Pair {
            front: copy(FRONT, BACK, buffer, more),
            back: copy(BACK, SERVER, buffer, more),
        };
        Ok(Some(match &self.kind {
            Kind::Direct => return Ok(None),
            Kind::Floor { buffer } => floor(*buffer, &[]),
            Kind::Splice => floor(MIB, &["--splice"]),
            Kind::Envoy { program, group } => envoy::pair(program, group, place, setting)?,
            Kind::Haproxy { program, mode } => haproxy::pair(program, *mode, place, setting)?,
            Kind::Sekisho { program, mode } => sekisho::pair(program, *mode, place, setting)?,
            Kind::Custom(custom) => custom.pair(place, setting)?,
        }))
    }

    /// What was really negotiated between the two, while they run and after a connection ended;
    /// empty where the peer does not say.
    pub(crate) fn negotiated(&self, back_log: &str) -> String {
        match &self.kind {
            Kind::Envoy { .. } => envoy::negotiated(),
            Kind::Sekisho { .. } => sekisho::negotiated(back_log),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(kind: Kind) -> Peer {
        Peer {
            name: "peer".into(),
            kind,
        }
    }

    fn kinds() -> Vec<Kind> {
        let program = PathBuf::from("program");
        let haproxy = |mode| Kind::Haproxy {
            program: program.clone(),
            mode,
        };
        let sekisho = |mode| Kind::Sekisho {
            program: program.clone(),
            mode,
        };
        vec![
            Kind::Floor { buffer: MIB },
            Kind::Splice,
            sekisho(sekisho::Mode::Mtls),
            sekisho(sekisho::Mode::Plain),
            Kind::Envoy {
                program: program.clone(),
                group: "X25519".into(),
            },
            haproxy(haproxy::Mode::Mtls),
            haproxy(haproxy::Mode::Splice),
        ]
    }

    #[test]
    fn every_pair_names_its_addresses_and_only_files_that_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place {
            folder: folder.path().to_owned(),
            certificates: Certificates::make(folder.path()).unwrap(),
        };
        let setting = Setting {
            workers: 2,
            resumption: false,
        };
        for kind in kinds() {
            let pair = peer(kind).pair(&place, setting).unwrap().unwrap();
            for (program, addresses) in [(pair.front, [FRONT, BACK]), (pair.back, [BACK, SERVER])] {
                let inside = folder.path().to_str().unwrap();
                let files = program.arguments.iter().filter(|it| it.starts_with(inside));
                let texts = files.map(|file| fs::read_to_string(file).unwrap());
                let all = texts.chain(program.arguments.clone()).collect::<String>();
                for address in addresses {
                    assert!(
                        all.contains(&address.port().to_string()),
                        "{address} in {all}"
                    );
                }
            }
        }
        assert_eq!(peer(Kind::Direct).pair(&place, setting).unwrap(), None);
    }

    #[test]
    fn resumption_is_a_key_of_sekisho_only_where_it_is_measured() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place {
            folder: folder.path().to_owned(),
            certificates: Certificates::make(folder.path()).unwrap(),
        };
        let sekisho = peer(Kind::Sekisho {
            program: "sekisho".into(),
            mode: sekisho::Mode::Mtls,
        });
        for resumption in [false, true] {
            let setting = Setting {
                workers: 1,
                resumption,
            };
            sekisho.pair(&place, setting).unwrap();
            for end in ["front", "back"] {
                let file = folder.path().join(format!("sekisho/{end}.yaml"));
                let text = fs::read_to_string(file).unwrap();
                assert_eq!(text.contains("    tls: {resumption: true}\n"), resumption);
            }
        }
    }

    #[test]
    fn plain_peers_are_not_asked_for_what_only_mtls_has() {
        for kind in kinds() {
            let peer = peer(kind);
            assert_eq!(peer.takes(Load::Resume), peer.is_mtls());
            assert_eq!(peer.takes(Load::Idle), peer.is_mtls());
            assert!(peer.takes(Load::Stream));
        }
    }
}
