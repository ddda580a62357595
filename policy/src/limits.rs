//! What a policy may cost, when it is loaded and for each decision.

use std::time::Duration;

/// Most files read from a policy directory, of all kinds together.
pub const MAX_FILES: usize = 4096;
/// Most bytes of one Rego file.
pub const MAX_FILE_BYTES: usize = 1 << 20;
/// Most bytes of all Rego files of a directory, tests included.
pub const MAX_SOURCE_BYTES: usize = 4 << 20;
/// Deepest folder below a policy directory that is read.
pub const MAX_FOLDER_DEPTH: usize = 16;
/// Deepest that rules and functions may need one another, with what is nested within each: calls,
/// queries, loops. The interpreter recurses for each, on a worker's stack: past its end the process
/// would end, which nothing can catch. Twice this was seen to fit 2 MiB, without optimisation.
pub const MAX_CALL_DEPTH: usize = 100;
/// Most `[` and `{` within one another in Rego.
pub const MAX_BRACKET_DEPTH: usize = 10;
/// Most segments of a decision path.
pub const MAX_DECISION_SEGMENTS: usize = 16;

/// Bounds of one policy. What goes past one is refused: at load with an error, at run time with
/// [`PolicyBudget`](sekisho_certs::Reason::PolicyBudget).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Wall-clock time of one decision. Default 50 ms.
    pub time: Duration,
    /// Size of the input of one decision, in bytes of its strings plus a constant for the rest.
    /// Default 64 KiB.
    pub input_bytes: usize,
    /// Size of all data documents of the policy together, in bytes of their files. Default 16 MiB.
    pub data_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_millis(50),
            input_bytes: 64 << 10,
            data_bytes: 16 << 20,
        }
    }
}
