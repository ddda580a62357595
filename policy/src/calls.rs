//! What the rules of a policy call and need: the engine would notice a wrong name, or a function
//! that calls itself, only at the decision that gets there (the latter by the end of its stack).

use std::collections::{BTreeMap, BTreeSet};

use regorus::unstable::{Expr, Module, Query, Ref};

use crate::{
    LoadError, MAX_CALL_DEPTH, Position, Refusal, builtins,
    graph::Graph,
    sources,
    syntax::{self, Mention, Nesting},
};

/// A rule as it stands in a file. Several may have the same path.
#[derive(Debug)]
pub(crate) struct Definition {
    /// Its path below `data`, up to the first part that is not constant.
    pub(crate) path: Vec<String>,
    /// How many arguments it takes, if it is a function.
    pub(crate) arguments: Option<usize>,
    /// Where it begins.
    pub(crate) at: Position,
}

/// Every rule of `modules`, in the order of their text.
pub(crate) fn definitions(modules: &[Ref<Module>]) -> Vec<Definition> {
    let mut definitions = Vec::new();
    for module in modules {
        let package = syntax::package(module);
        for rule in &module.policy {
            let (name, arguments) = syntax::head(rule);
            let (names, _) = syntax::path(name).unwrap_or_default();
            let path = package.iter().cloned().chain(names).collect();
            definitions.push(Definition {
                path,
                arguments,
                at: syntax::position(rule.span()),
            });
        }
    }
    definitions
}

/// Checks every call of `modules`, and that no chain of rules is endless or too long.
pub(crate) fn check(modules: &[Ref<Module>], rules: &[Definition]) -> Result<(), LoadError> {
    let functions = functions(rules);
    let mut graph = Graph::new(rules);
    let mut definitions = rules.iter();
    for module in modules {
        let scope = Scope::of(module, &functions);
        for rule in &module.policy {
            let Some(definition) = definitions.next() else {
                break;
            };
            let (mut result, mut nesting) = (Ok(()), Nesting::default());
            syntax::visit_rule(rule, &mut |mention| {
                if let Mention::Level(level) = mention {
                    nesting.note(level);
                } else if result.is_ok() {
                    result = scope.check(&mention);
                    scope.link(&mention, definition, &mut graph);
                }
            });
            result?;
            graph.deepen(&definition.path, nesting.deepest);
        }
    }
    graph.check(MAX_CALL_DEPTH)
}

/// Checks the calls of a query that belongs to no module.
pub(crate) fn check_query(query: &Query, rules: &[Definition]) -> Result<(), LoadError> {
    let functions = functions(rules);
    let scope = Scope {
        package: Vec::new(),
        imports: BTreeMap::new(),
        functions: &functions,
        in_test: true,
    };
    let mut result = Ok(());
    syntax::visit_query(query, &mut |mention| {
        if result.is_ok() {
            result = scope.check(&mention);
        }
    });
    result
}

fn functions(rules: &[Definition]) -> BTreeSet<&[String]> {
    let functions = rules.iter().filter(|rule| rule.arguments.is_some());
    functions.map(|rule| rule.path.as_slice()).collect()
}

/// What the names of one module mean.
struct Scope<'a> {
    package: Vec<String>,
    /// Imports of data, by the name they have here: their path below `data`.
    imports: BTreeMap<String, Vec<String>>,
    functions: &'a BTreeSet<&'a [String]>,
    in_test: bool,
}

impl<'a> Scope<'a> {
    fn of(module: &Module, functions: &'a BTreeSet<&'a [String]>) -> Self {
        let mut imports = BTreeMap::new();
        for import in &module.imports {
            let Some((path, true)) = syntax::path(&import.refr) else {
                continue;
            };
            let name = import.r#as.as_ref().map(|span| span.text().to_owned());
            if let (Some(name), Some(("data", path))) =
                (name.or_else(|| path.last().cloned()), split(&path))
            {
                imports.insert(name, path.to_vec());
            }
        }
        let in_test = sources::is_test(module.package.span.source.get_path());
        Self {
            package: syntax::package(module),
            imports,
            functions,
            in_test,
        }
    }

    /// The paths below `data` that `names` may mean, the engine's first choice first.
    fn meanings(&self, names: &[String]) -> Vec<Vec<String>> {
        let Some((root, rest)) = split(names) else {
            return Vec::new();
        };
        if root == "data" {
            return vec![rest.to_vec()];
        }
        let imported = self.imports.get(root).map(|path| [path, rest].concat());
        let local = [self.package.as_slice(), names].concat();
        imported.into_iter().chain([local]).collect()
    }

    fn function(&self, names: &[String]) -> Option<Vec<String>> {
        let mut meanings = self.meanings(names).into_iter();
        meanings.find(|path| self.functions.contains(path.as_slice()))
    }

    fn check(&self, mention: &Mention<'_>) -> Result<(), LoadError> {
        match mention {
            Mention::Call(expr, given) => self.check_call(expr, *given),
            Mention::Replacement(expr) => self.check_replacement(expr),
            Mention::Level(_) | Mention::Reference(_) => Ok(()),
        }
    }

    fn check_call(&self, expr: &Expr, given: usize) -> Result<(), LoadError> {
        let refused = |refusal| LoadError::Call {
            at: syntax::start(expr),
            refusal,
        };
        let Some((names, true)) = syntax::path(expr) else {
            let name = syntax::looked_up(expr).unwrap_or_default() + "[…]";
            return Err(refused(Refusal::Unknown { name }));
        };
        if self.function(&names).is_some() {
            // The engine checks the number of arguments of the policy's own functions.
            return Ok(());
        }
        let name = names.join(".");
        builtins::check(&name, self.in_test).map_err(refused)?;
        let Some(takes) = builtins::arguments(&name) else {
            return Ok(());
        };
        // The engine gives no result to `[path, value] := walk(x)`, which could turn a `not` into
        // a yes: only `walk(x, [path, value])` does what it says.
        if name == "walk" && given != 2 {
            return Err(refused(Refusal::Arguments {
                name,
                takes: 2,
                given,
            }));
        }
        // One more is a place for the result: `split(x, ".", parts)`.
        if given != takes && given != takes + 1 {
            return Err(refused(Refusal::Arguments { name, takes, given }));
        }
        Ok(())
    }

    /// A value may stand in for anything; a builtin only where it could be called.
    fn check_replacement(&self, expr: &Expr) -> Result<(), LoadError> {
        let names = syntax::path(expr).map_or_else(Vec::new, |(names, _)| names);
        let Some(name) = syntax::looked_up(expr) else {
            return Ok(());
        };
        if !builtins::is_builtin(&name) || self.function(&names).is_some() {
            return Ok(());
        }
        builtins::check(&name, self.in_test).map_err(|refusal| LoadError::Call {
            at: syntax::start(expr),
            refusal,
        })
    }

    fn link(&self, mention: &Mention<'_>, from: &Definition, graph: &mut Graph) {
        match mention {
            Mention::Call(expr, _) => {
                let called = syntax::path(expr).and_then(|(names, _)| self.function(&names));
                if let Some(called) = called {
                    graph.link(&from.path, &called, true);
                }
            }
            Mention::Replacement(
                Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. },
            )
            | Mention::Reference(_) => {
                let (Mention::Replacement(expr) | Mention::Reference(expr)) = mention else {
                    return;
                };
                let replaces = matches!(mention, Mention::Replacement(_));
                let (names, _) = syntax::path(expr).unwrap_or_default();
                for path in self.meanings(&names) {
                    graph.link(&from.path, &path, replaces);
                }
            }
            Mention::Level(_) | Mention::Replacement(_) => {}
        }
    }
}

fn split(names: &[String]) -> Option<(&str, &[String])> {
    names
        .split_first()
        .map(|(root, rest)| (root.as_str(), rest))
}
