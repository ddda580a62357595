//! The `sekisho` binary.

use std::{path::Path, process::ExitCode};

mod config;

fn main() -> ExitCode {
    let path = std::env::args_os().nth(1).unwrap_or_default();
    match config::load(Path::new(&path), &config::environment) {
        Ok(config) => {
            let shown = config.log.level >= config::LogLevel::Warn
                && config.log.format == config::LogFormat::Text;
            for warning in config
                .endpoints
                .iter()
                .flat_map(|endpoint| &endpoint.warnings)
            {
                if shown {
                    eprintln!("{warning}");
                }
            }
            ExitCode::SUCCESS
        }
        Err(errors) => {
            eprint!("{}", errors.render(false));
            ExitCode::from(2)
        }
    }
}
