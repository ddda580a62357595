//! From a directory to a program that the engine will take.

use std::{path::Path, sync::Arc};

use regorus::{
    Engine, Source, Value,
    unstable::{Lexer, Token, TokenKind},
};

use crate::{
    Limits, LoadError, MAX_BRACKET_DEPTH, Position,
    calls::{self, Definition},
    data, engine,
    guard::Meter,
    sources::{Sources, Text},
    syntax,
};

/// Checked sources, ready for any number of engines.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) rego: Vec<Text>,
    pub(crate) data: Value,
    pub(crate) definitions: Vec<Definition>,
    /// The packages, with dots.
    pub(crate) packages: Vec<String>,
}

impl Program {
    /// Reads and checks all of `dir`, with or without its tests.
    pub(crate) fn load(dir: &Path, limits: &Limits, tests: bool) -> Result<Self, LoadError> {
        let mut sources = Sources::read(dir, limits)?;
        if !tests {
            sources.rego.retain(|source| !source.is_test());
        }
        Self::check(sources)
    }

    /// Checks everything that does not depend on a decision.
    pub(crate) fn check(sources: Sources) -> Result<Self, LoadError> {
        let data = data::merge(&sources.data)?;
        let mut parsed = Engine::new();
        for source in &sources.rego {
            check_brackets(source)?;
            if let Err(error) = parsed.add_policy(source.file.clone(), source.text.clone()) {
                return Err(syntax_error(source, &error));
            }
        }
        let modules = parsed.get_modules();
        let definitions = calls::definitions(modules);
        for rule in &definitions {
            if data::covers(&data, &rule.path) {
                let file = rule.at.file.clone();
                return Err(LoadError::DataConflict {
                    file,
                    path: rule.path.join("."),
                });
            }
        }
        calls::check(modules, &definitions)?;
        let mut packages: Vec<_> = modules
            .iter()
            .map(|m| syntax::package(m).join("."))
            .collect();
        packages.sort_unstable();
        packages.dedup();
        let program = Self {
            rego: sources.rego,
            data: data.into(),
            definitions,
            packages,
        };
        program.analyse()?;
        Ok(program)
    }

    /// Lets the engine order statements and resolve names, which it would do at the first question.
    fn analyse(&self) -> Result<(), LoadError> {
        let ready = engine::build(self, &Arc::<Meter>::default())
            .and_then(|mut engine| engine.eval_query("true".into(), false));
        let Err(error) = ready else { return Ok(()) };
        let (at, message) = syntax::located(&error.to_string());
        let first = self.rego.first().map(|source| source.file.clone());
        let start = || Position {
            file: first.unwrap_or_default(),
            line: 1,
            column: 1,
        };
        Err(LoadError::Analysis {
            at: at.unwrap_or_else(start),
            message,
        })
    }
}

/// The parser tries a bracket as one thing, then as another, so its time doubles with each level.
fn check_brackets(source: &Text) -> Result<(), LoadError> {
    let Ok(text) = Source::from_contents(source.file.clone(), source.text.clone()) else {
        return Ok(());
    };
    let (mut lexer, mut depth) = (Lexer::new(&text), 0_usize);
    // What is no token, the parser tells better.
    while let Ok(Token(kind, span)) = lexer.next_token() {
        match (kind, span.text()) {
            (TokenKind::Eof, _) => break,
            (TokenKind::Symbol, "[" | "{") => depth += 1,
            (TokenKind::Symbol, "]" | "}") => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_BRACKET_DEPTH {
            let (at, limit) = (syntax::position(&span), MAX_BRACKET_DEPTH);
            return Err(LoadError::Brackets { at, limit });
        }
    }
    Ok(())
}

fn syntax_error(source: &Text, error: &anyhow::Error) -> LoadError {
    let (at, message) = syntax::located(&error.to_string());
    let mut old = Engine::new();
    old.set_rego_v0(true);
    LoadError::Syntax {
        at: at.unwrap_or_else(|| Position {
            file: source.file.clone(),
            line: 1,
            column: 1,
        }),
        message,
        v0: old
            .add_policy(source.file.clone(), source.text.clone())
            .is_ok(),
    }
}
