//! A connection whose one end is a [`Session`], and whose other end is rustls'.

use std::{
    io::{Read as _, Write as _},
    sync::Arc,
};

use rustls::{
    CipherSuiteCommon, ClientConfig, ClientConnection, Connection, ExtractedSecrets, ServerConfig,
    ServerConnection, SupportedCipherSuite, Tls13CipherSuite,
    client::UnbufferedClientConnection,
    crypto::CryptoProvider,
    pki_types::ServerName,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, UnbufferedStatus},
};
use sekisho_record::{
    Backend, HEADER, KeySchedule, Layout, Limits, MAX_PLAINTEXT, Role, SLOT, Session,
};
use sekisho_testkit::{danger, site::Site};

/// Both ends, and what is under way between them.
pub(crate) struct Link {
    pub(crate) ours: Session,
    pub(crate) oracle: Connection,
    /// Sent by us, not yet given to rustls.
    pub(crate) to_oracle: Vec<u8>,
    /// Sent by rustls, not yet given to us.
    pub(crate) to_ours: Vec<u8>,
    /// Given to us, and not opened.
    input: Vec<u8>,
    pub(crate) ours_got: Vec<u8>,
    pub(crate) oracle_got: Vec<u8>,
}

/// What a link is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) role: Role,
    pub(crate) backend: Backend,
    /// Which of the three suites.
    pub(crate) suite: usize,
    /// Records after which rustls replaces its key.
    pub(crate) theirs: u64,
    /// Records after which we do.
    pub(crate) ours: u64,
}

/// With one suite, whose keys rustls replaces after so many records.
fn provider(setup: Setup) -> Arc<CryptoProvider> {
    let provider = sekisho_certs::tls::provider();
    let SupportedCipherSuite::Tls13(suite) = provider.cipher_suites[setup.suite] else {
        panic!("the first three are those of TLS 1.3");
    };
    let suite = Tls13CipherSuite {
        common: CipherSuiteCommon {
            confidentiality_limit: setup.theirs,
            suite: suite.common.suite,
            hash_provider: suite.common.hash_provider,
        },
        hkdf_provider: suite.hkdf_provider,
        aead_alg: suite.aead_alg,
        quic: None,
    };
    Arc::new(CryptoProvider {
        cipher_suites: vec![SupportedCipherSuite::Tls13(Box::leak(Box::new(suite)))],
        ..provider
    })
}

/// A client's and a server's. What the client resumes by is kept in its own.
pub(crate) type Configs = (Arc<ClientConfig>, Arc<ServerConfig>);

pub(crate) fn configs(setup: Setup) -> Configs {
    let site = Site::new("a.example");
    let client = danger::client_config_with(Some(&site.svid("/client")), provider(setup));
    let server = danger::server_config_with(&site.svid("/server"), provider(setup));
    let (mut client, mut server) = (client, server);
    client.enable_secret_extraction = true;
    server.enable_secret_extraction = true;
    server.send_tls13_tickets = 3;
    (Arc::new(client), Arc::new(server))
}

/// What a handshake leaves.
pub(crate) struct Handshake {
    secrets: ExtractedSecrets,
    pub(crate) schedule: Box<dyn KeySchedule>,
    pub(crate) oracle: Connection,
    to_ours: Vec<u8>,
}

/// Makes rustls' handshake; the end in hand is told by `$connection`.
macro_rules! handshake {
    ($connection:expr, $oracle:expr) => {{
        let (mut connection, mut oracle) = ($connection, $oracle);
        let (mut input, mut output) = (Vec::new(), Vec::new());
        loop {
            let mut shown = input.clone();
            let UnbufferedStatus { discard, state, .. } =
                connection.process_tls_records(&mut shown);
            let mut finished = false;
            match state.unwrap() {
                ConnectionState::EncodeTlsData(mut data) => {
                    let mut room = vec![0; 65_536];
                    let length = data.encode(&mut room).unwrap();
                    output.extend_from_slice(&room[..length]);
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::BlockedHandshake => {
                    feed(&mut oracle, &std::mem::take(&mut output));
                    take(&mut oracle, &mut input);
                }
                ConnectionState::WriteTraffic(_) => finished = true,
                state => panic!("{state:?}"),
            }
            input.drain(..discard);
            if finished {
                break;
            }
        }
        feed(&mut oracle, &output);
        let mut to_ours = input;
        take(&mut oracle, &mut to_ours);
        let (secrets, kernel) = connection.dangerous_into_kernel_connection().unwrap();
        Handshake {
            secrets,
            schedule: Box::new(kernel),
            oracle,
            to_ours,
        }
    }};
}

fn feed(oracle: &mut Connection, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        oracle.read_tls(&mut bytes).unwrap();
        oracle.process_new_packets().unwrap();
    }
}

fn take(oracle: &mut Connection, to: &mut Vec<u8>) {
    while oracle.wants_write() {
        oracle.write_tls(to).unwrap();
    }
}

impl Handshake {
    pub(crate) fn new(role: Role, (client, server): &Configs) -> Self {
        let (client, server) = (Arc::clone(client), Arc::clone(server));
        let name = ServerName::try_from("b.example").unwrap();
        match role {
            Role::Client => {
                let oracle = Connection::Server(ServerConnection::new(server).unwrap());
                let connection = UnbufferedClientConnection::new(client, name).unwrap();
                handshake!(connection, oracle)
            }
            Role::Server => {
                let mut oracle = Connection::Client(ClientConnection::new(client, name).unwrap());
                let mut hello = Vec::new();
                take(&mut oracle, &mut hello);
                let connection = UnbufferedServerConnection::new(server).unwrap();
                server_side(connection, oracle, hello)
            }
        }
    }
}

impl Link {
    pub(crate) fn new(setup: Setup) -> Self {
        Self::with(setup, &configs(setup))
    }

    pub(crate) fn with(setup: Setup, configs: &Configs) -> Self {
        let Handshake {
            secrets,
            schedule,
            oracle,
            to_ours,
        } = Handshake::new(setup.role, configs);
        let limits = Limits {
            rekey_after: setup.ours,
            ..Limits::default()
        };
        Self {
            ours: Session::new(&secrets, schedule, setup.role, setup.backend, limits).unwrap(),
            oracle,
            to_oracle: Vec::new(),
            to_ours,
            input: Vec::new(),
            ours_got: Vec::new(),
            oracle_got: Vec::new(),
        }
    }

    /// We send `text`, in records of at most `size`.
    pub(crate) fn ours_sends(&mut self, text: &[u8], size: usize) {
        for part in text.chunks(size.clamp(1, MAX_PLAINTEXT)) {
            self.ours.control(&mut self.to_oracle, false).unwrap();
            let mut record = vec![0; SLOT];
            record[HEADER..HEADER + part.len()].copy_from_slice(part);
            let length = self.ours.seal(&mut record, part.len()).unwrap();
            self.to_oracle.extend_from_slice(&record[..length]);
        }
    }

    /// rustls sends `text`.
    pub(crate) fn oracle_sends(&mut self, text: &[u8]) {
        let mut rest = text;
        while !rest.is_empty() {
            let taken = self.oracle.writer().write(rest).unwrap();
            rest = &rest[taken..];
            take(&mut self.oracle, &mut self.to_ours);
        }
    }

    /// So many bytes reach us.
    pub(crate) fn deliver_to_ours(&mut self, count: usize, layout: Layout) {
        let count = count.min(self.to_ours.len());
        self.input.extend(self.to_ours.drain(..count));
        let mut found = Vec::new();
        let done = self
            .ours
            .open(&mut self.input, layout, usize::MAX, &mut found)
            .unwrap();
        for range in found {
            self.ours_got.extend_from_slice(&self.input[range]);
        }
        self.input.drain(..done);
    }

    /// So many bytes reach rustls.
    pub(crate) fn deliver_to_oracle(&mut self, count: usize) {
        let count = count.min(self.to_oracle.len());
        let bytes: Vec<u8> = self.to_oracle.drain(..count).collect();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            self.oracle.read_tls(&mut rest).unwrap();
            let state = self.oracle.process_new_packets().unwrap();
            let mut text = vec![0; state.plaintext_bytes_to_read()];
            self.oracle.reader().read_exact(&mut text).unwrap();
            self.oracle_got.extend(text);
        }
        take(&mut self.oracle, &mut self.to_ours);
    }

    /// Everything that is under way arrives.
    pub(crate) fn settle(&mut self) {
        while !(self.to_ours.is_empty() && self.to_oracle.is_empty()) {
            self.deliver_to_ours(usize::MAX, Layout::Merge);
            self.ours.control(&mut self.to_oracle, false).unwrap();
            self.deliver_to_oracle(usize::MAX);
        }
    }
}

/// The client speaks first.
fn server_side(
    mut connection: UnbufferedServerConnection,
    mut oracle: Connection,
    hello: Vec<u8>,
) -> Handshake {
    let (mut input, mut output) = (hello, Vec::new());
    loop {
        let mut shown = input.clone();
        let UnbufferedStatus { discard, state, .. } = connection.process_tls_records(&mut shown);
        let mut waits = false;
        match state.unwrap() {
            ConnectionState::EncodeTlsData(mut data) => {
                let mut room = vec![0; 65_536];
                let length = data.encode(&mut room).unwrap();
                output.extend_from_slice(&room[..length]);
            }
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::BlockedHandshake => waits = true,
            state => panic!("{state:?}"),
        }
        input.drain(..discard);
        if waits {
            break;
        }
    }
    feed(&mut oracle, &output);
    handshake!(connection, oracle)
}
