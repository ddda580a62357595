//! The command line.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};

use crate::{
    agent, authority, bench, bundle, check, child::ChildArgs, commands, completions,
    config::parse_duration, demo, explain, oidc, policy, run, status,
};

/// Everything went as asked.
pub(crate) const OK: u8 = 0;
/// It could be asked, and the answer is no, or the world stood in the way.
pub(crate) const FAILED: u8 = 1;
/// What was asked makes no sense: command line, configuration, policy.
pub(crate) const INVALID: u8 = 2;

#[derive(Debug, Parser)]
#[command(
    name = "sekisho",
    version,
    about = "SPIFFE-aware mTLS gate between independent institutions",
    after_help = "Examples:\n  \
        sekisho demo                       four sites on this machine, with everything that is refused\n  \
        sekisho check -c site.yaml         what this configuration would do, without doing it\n  \
        sekisho run -c site.yaml           run it\n  \
        sekisho explain to-tokyo spiffe://tokyo.example/mdx -c site.yaml\n  \
        sekisho bench client 127.0.0.1:5201\n\n\
        Exit codes: 0 as asked, 1 no or not possible, 2 wrong command line, configuration or policy."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Where the configuration is.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// The configuration: a YAML file, or a folder whose *.yaml files are merged
    #[arg(short, long = "config", value_name = "FILE")]
    pub(crate) config: PathBuf,
}

/// Which running process to ask.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct AdminArgs {
    /// The admin address of the process: HOST:PORT or unix:///PATH
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin: Option<String>,
    /// Its configuration, to take the admin address from
    #[arg(short, long = "config", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Options of the demo.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// How long each allowed flow is measured
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// Print one JSON document instead of tables
    #[arg(long)]
    pub(crate) json: bool,
    /// Leave the four sites running until Ctrl-C, and say how to use them
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run what a configuration has: endpoints, this node's agent, the site's authority, discovery
    #[command(
        after_help = "Signals: SIGHUP reloads (as a change of the files does), SIGUSR1 renews \
        SVIDs, SIGTERM and Ctrl-C drain and end.\n\nExample:\n  sekisho run -c /etc/sekisho/site.yaml"
    )]
    Run {
        #[command(flatten)]
        config: ConfigArgs,
        #[command(flatten)]
        child: ChildArgs,
        /// The endpoints only, in this process
        #[arg(long, hide = true)]
        alone: bool,
    },
    /// Run a site's authority: its CA, entries and node attestation, behind SPIRE's server API
    #[command(
        after_help = "Signals: SIGTERM and Ctrl-C end it after running calls.\n\nExamples:\n  \
        sekisho authority -c authority.yaml\n  \
        sekisho authority -c authority.yaml backup /var/backups/authority.db"
    )]
    Authority(authority::AuthorityArgs),
    /// Entries of an authority: which processes of which nodes have which identity
    #[command(subcommand)]
    Entry(commands::entry::EntryCommand),
    /// Join tokens, by which nodes attest
    #[command(subcommand)]
    Token(commands::token::TokenCommand),
    /// Nodes that have attested
    #[command(subcommand)]
    Node(commands::node::NodeCommand),
    /// The authorities that sign, and their rotation
    #[command(subcommand)]
    Ca(commands::ca::CaCommand),
    /// Bring entries to what a file says
    #[command(
        after_help = "Shows the difference first. Entries that did not come from a file are left alone.\n\n\
        Examples:\n  sekisho apply -f entries.yaml --dry-run\n  sekisho apply -f entries.yaml --yes"
    )]
    Apply(commands::apply::ApplyArgs),
    /// Trust bundles: of the authority, and in files
    #[command(subcommand)]
    Bundle(bundle::BundleCommand),
    /// Where the authority fetches the bundles of other sites
    #[command(subcommand)]
    Federation(commands::federation::FederationCommand),
    /// The directory of a federation: for those who keep it, and its members
    #[command(subcommand)]
    Directory(commands::directory::DirectoryCommand),
    /// X.509-SVIDs without an agent
    #[command(subcommand)]
    X509(commands::mint::X509Command),
    /// JWT-SVIDs without an agent
    #[command(subcommand)]
    Jwt(commands::mint::JwtCommand),
    /// The audit log of an authority
    #[command(subcommand)]
    Audit(commands::audit::AuditCommand),
    /// Is the authority well?
    #[command(
        after_help = "Exit codes: 0 it serves, 1 it does not, or nobody answers.\n\nExample:\n  \
        sekisho healthcheck -c authority.yaml"
    )]
    Healthcheck(commands::Asked),
    /// What the authority says of itself: since when, how many agents and entries, its certificate
    #[command(after_help = "Example:\n  sekisho info --json")]
    Info(commands::Asked),
    /// How much the authority logs
    #[command(subcommand)]
    Logger(commands::server::LoggerCommand),
    /// Run this node's agent: SPIFFE Workload API and Envoy's SDS for the processes of this host
    #[command(
        after_help = "Signals: SIGUSR1 renews all SVIDs now, SIGTERM and Ctrl-C end it. Exit code 1 also when the authority does not take \
        this node.\n\nExample:\n  sekisho agent -c agent.yaml"
    )]
    Agent(agent::AgentArgs),
    /// Tell the web which keys this site's tokens are signed with: OpenID Connect discovery
    #[command(
        after_help = "Signals: SIGTERM and Ctrl-C end it.\n\nExample:\n  sekisho oidc -c oidc.yaml"
    )]
    Oidc(oidc::OidcArgs),
    /// Verify a configuration without opening a port, and say what it would do
    #[command(
        after_help = "Exit codes: 0 fine (warnings included), 1 something it needs is missing \
        or expired, 2 the configuration or a policy is wrong.\n\nExample:\n  sekisho check -c site.yaml"
    )]
    Check {
        #[command(flatten)]
        config: ConfigArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Four sites on this machine: what is allowed flows, the rest is refused with its reason
    #[command(
        after_help = "Exit code 0 only if every expectation held.\n\nExamples:\n  \
        sekisho demo\n  sekisho demo --json --duration 1s\n  sekisho demo --keep"
    )]
    Demo(DemoArgs),
    /// Would this peer be allowed at this endpoint, and what says so?
    #[command(
        after_help = "Exit codes: 0 allowed, 1 refused, 2 wrong configuration, or no such user.\n\nExamples:\n  \
        sekisho explain from-osaka spiffe://osaka.example/sender -c site.yaml\n  \
        sekisho explain to-tokyo spiffe://tokyo.example/mdx --user kafka -c site.yaml"
    )]
    Explain(explain::ExplainArgs),
    /// Check, evaluate and test Rego policies
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// The endpoints of a running process: SVIDs, policy revisions, targets
    #[command(after_help = "Example:\n  sekisho status --admin 127.0.0.1:9901")]
    Status {
        #[command(flatten)]
        admin: AdminArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// The connections of a running process
    #[command(after_help = "Example:\n  sekisho connections -c site.yaml --json")]
    Connections {
        #[command(flatten)]
        admin: AdminArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Load in the manner of iperf3: streams, requests, new connections, idle ones
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Print completions for a shell
    #[command(after_help = "Example:\n  sekisho completions bash > /etc/bash_completion.d/sekisho")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// A time with its unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .ok_or_else(|| "expected a time with a unit, such as 500ms, 3s or 1m".into())
}

/// The command line's own description, for completions.
pub(crate) fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Parses, does, and says how it went.
pub(crate) fn main() -> ExitCode {
    let code = match Cli::parse().command {
        Command::Run {
            config,
            child,
            alone,
        } => run::run(&config.config, &child, alone),
        Command::Agent(args) => agent::agent(&args),
        Command::Oidc(args) => oidc::oidc(&args),
        Command::Entry(command) => commands::entry::entry(&command),
        Command::Token(command) => commands::token::token(&command),
        Command::Node(command) => commands::node::node(&command),
        Command::Ca(command) => commands::ca::ca(&command),
        Command::Apply(args) => commands::apply::apply(&args),
        Command::Authority(args) => authority::authority(&args),
        Command::Check { config, json } => check::check(&config.config, json),
        Command::Demo(args) => demo::demo(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Policy(command) => policy::policy(command),
        Command::Federation(command) => commands::federation::federation(&command),
        Command::Directory(command) => commands::directory::directory(&command),
        Command::X509(command) => commands::mint::x509(&command),
        Command::Jwt(command) => commands::mint::jwt(&command),
        Command::Audit(command) => commands::audit::audit(&command),
        Command::Healthcheck(asked) => commands::server::healthcheck(&asked),
        Command::Info(asked) => commands::server::info(&asked),
        Command::Logger(command) => commands::server::logger(&command),
        Command::Bundle(command) => bundle::bundle(&command),
        Command::Status { admin, json } => status::status(&admin, json),
        Command::Connections { admin, json } => status::connections(&admin, json),
        Command::Bench(command) => bench::bench(&command),
        Command::Completions { shell } => completions::completions(shell),
    };
    ExitCode::from(code)
}

#[cfg(test)]
mod tests;
