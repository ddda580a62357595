//! What the tests stand on: programs, processes, servers, and a node with its files.

pub(crate) mod http;
pub(crate) mod node;
pub(crate) mod openssl;
pub(crate) mod pair;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod transfer;
pub(crate) mod upstream;
pub(crate) mod wait;
pub(crate) mod whole;
pub(crate) mod world;

pub(crate) use node::Node;
pub(crate) use pair::Pair;
pub(crate) use process::Process;
pub(crate) use upstream::Upstream;
pub(crate) use world::World;
