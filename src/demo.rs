//! `sekisho demo`.
use crate::cli::{self, DemoArgs};
pub(crate) fn demo(args: &DemoArgs) -> u8 {
    let _ = args;
    cli::OK
}
