//! Reading a parsed policy: positions, names, and what its rules refer to.

use regorus::unstable::{
    Expr, Literal, LiteralStmt, Module, Query, Ref, Rule, RuleAssign, RuleHead, Span,
};

use crate::Position;

/// Something a rule refers to.
pub(crate) enum Mention<'a> {
    /// A call of a function, with the number of arguments.
    Call(&'a Expr, usize),
    /// A variable or a path, which may be a rule.
    Reference(&'a Expr),
    /// What takes the place of something else: `with f as THIS`.
    Replacement(&'a Expr),
    /// Into or out of what the engine recurses for.
    Level(Level),
}

/// What makes the engine recurse within one rule.
#[derive(Clone, Copy)]
pub(crate) enum Level {
    Expr,
    ExprEnd,
    /// The statements after a loop run within it.
    Loop,
    Query,
    QueryEnd,
}

/// How deep the engine recurses within a rule.
#[derive(Default)]
pub(crate) struct Nesting {
    exprs: usize,
    loops: usize,
    queries: Vec<usize>,
    /// The deepest so far.
    pub(crate) deepest: usize,
}

impl Nesting {
    pub(crate) fn note(&mut self, level: Level) {
        match level {
            Level::Expr => self.exprs += 1,
            Level::ExprEnd => self.exprs -= 1,
            Level::Loop => self.loops += 1,
            Level::Query => self.queries.push(self.loops),
            Level::QueryEnd => self.loops = self.queries.pop().unwrap_or_default(),
        }
        self.deepest = self
            .deepest
            .max(self.exprs + self.loops + self.queries.len());
    }
}

pub(crate) fn position(span: &Span) -> Position {
    Position {
        file: span.source.get_path().clone(),
        line: span.line,
        column: span.col,
    }
}

/// Where a path begins: the engine puts a dotted one at its last dot.
pub(crate) fn start(expr: &Expr) -> Position {
    match expr {
        Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } => start(refr),
        other => position(other.span()),
    }
}

/// Splits the engine's error text, a drawing for terminals, into its place and message.
pub(crate) fn located(text: &str) -> (Option<Position>, String) {
    let place = text.lines().find_map(|line| line.strip_prefix("--> "));
    let at = place.and_then(|place| {
        let mut parts = place.rsplitn(3, ':');
        let column = parts.next()?.trim().parse().ok()?;
        let line = parts.next()?.parse().ok()?;
        Some(Position {
            file: parts.next()?.into(),
            line,
            column,
        })
    });
    let message = match text.rsplit_once("error: ") {
        Some((_, message)) => message,
        None => text,
    };
    (at, message.trim().into())
}

/// The names of a path up to its first part that is not constant, and whether that is all of it.
pub(crate) fn path(expr: &Expr) -> Option<(Vec<String>, bool)> {
    match expr {
        Expr::Var { span, .. } => Some((vec![span.text().into()], true)),
        Expr::RefDot { refr, field, .. } => {
            let (mut names, whole) = path(refr)?;
            if whole {
                let (span, value) = field;
                let name = value
                    .as_string()
                    .map_or_else(|_| span.text().into(), |v| v.to_string());
                names.push(name);
            }
            Some((names, whole))
        }
        Expr::RefBrack { refr, index, .. } => {
            let (mut names, whole) = path(refr)?;
            match (whole, index.as_ref()) {
                (true, Expr::String { value, .. } | Expr::RawString { value, .. }) => {
                    names.push(value.as_string().ok()?.to_string());
                    Some((names, true))
                }
                _ => Some((names, false)),
            }
        }
        _ => None,
    }
}

/// The name the engine looks for when `expr` stands for a function: it leaves out every part that
/// is not constant.
pub(crate) fn looked_up(expr: &Expr) -> Option<String> {
    let (refr, part) = match expr {
        Expr::Var { span, .. } => return Some(span.text().into()),
        Expr::RefDot { refr, field, .. } => (refr, Some(&field.1)),
        Expr::RefBrack { refr, index, .. } => match index.as_ref() {
            Expr::String { value, .. } => (refr, Some(value)),
            _ => (refr, None),
        },
        _ => return None,
    };
    let name = looked_up(refr)?;
    match part.and_then(|value| value.as_string().ok()) {
        Some(part) => Some(format!("{name}.{part}")),
        None => Some(name),
    }
}

/// The path below `data` of a module's package.
pub(crate) fn package(module: &Module) -> Vec<String> {
    path(&module.package.refr).map_or_else(Vec::new, |(names, _)| names)
}

/// The name of a rule within its package, and the number of its arguments if it is a function.
pub(crate) fn head(rule: &Rule) -> (&Expr, Option<usize>) {
    match rule {
        Rule::Default { refr, args, .. } => (refr, (!args.is_empty()).then_some(args.len())),
        Rule::Spec { head, .. } => match head {
            RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } => (refr, None),
            RuleHead::Func { refr, args, .. } => (refr, Some(args.len())),
        },
    }
}

/// Shows everything that `rule` refers to, its own name not included.
pub(crate) fn visit_rule<'a>(rule: &'a Rule, visit: &mut dyn FnMut(Mention<'a>)) {
    let assign = |assign: &'a Option<RuleAssign>, visit: &mut dyn FnMut(Mention<'a>)| {
        if let Some(assign) = assign {
            visit_expr(&assign.value, visit);
        }
    };
    match rule {
        Rule::Default { refr, value, .. } => {
            visit_indices(refr, visit);
            visit_expr(value, visit);
        }
        Rule::Spec { head, bodies, .. } => {
            match head {
                RuleHead::Compr {
                    refr,
                    assign: value,
                    ..
                } => {
                    visit_indices(refr, visit);
                    assign(value, visit);
                }
                RuleHead::Set { refr, key, .. } => {
                    visit_indices(refr, visit);
                    visit_all(key, visit);
                }
                RuleHead::Func {
                    refr,
                    args,
                    assign: value,
                    ..
                } => {
                    visit_indices(refr, visit);
                    visit_all(args, visit);
                    assign(value, visit);
                }
            }
            for body in bodies {
                assign(&body.assign, visit);
                visit_query(&body.query, visit);
            }
        }
    }
}

/// Shows everything that a query refers to.
pub(crate) fn visit_query<'a>(query: &'a Query, visit: &mut dyn FnMut(Mention<'a>)) {
    visit(Mention::Level(Level::Query));
    for LiteralStmt {
        literal, with_mods, ..
    } in &query.stmts
    {
        match literal {
            Literal::SomeVars { .. } => {}
            Literal::SomeIn {
                key,
                value,
                collection,
                ..
            } => {
                visit(Mention::Level(Level::Loop));
                visit_all(key, visit);
                visit_expr(value, visit);
                visit_expr(collection, visit);
            }
            Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => visit_expr(expr, visit),
            Literal::Every { domain, query, .. } => {
                visit_expr(domain, visit);
                visit_query(query, visit);
            }
        }
        for with in with_mods {
            visit_indices(&with.refr, visit);
            visit(Mention::Replacement(&with.r#as));
            visit_expr(&with.r#as, visit);
        }
    }
    visit(Mention::Level(Level::QueryEnd));
}

fn visit_all<'a>(
    exprs: impl IntoIterator<Item = &'a Ref<Expr>>,
    visit: &mut dyn FnMut(Mention<'a>),
) {
    for expr in exprs {
        visit_expr(expr, visit);
    }
}

fn visit_expr<'a>(expr: &'a Expr, visit: &mut dyn FnMut(Mention<'a>)) {
    visit(Mention::Level(Level::Expr));
    visit_parts(expr, visit);
    visit(Mention::Level(Level::ExprEnd));
}

fn visit_parts<'a>(expr: &'a Expr, visit: &mut dyn FnMut(Mention<'a>)) {
    match expr {
        Expr::String { .. }
        | Expr::RawString { .. }
        | Expr::Number { .. }
        | Expr::Bool { .. }
        | Expr::Null { .. } => {}
        Expr::Var { .. } => visit(Mention::Reference(expr)),
        Expr::RefDot { .. } | Expr::RefBrack { .. } => {
            visit(Mention::Reference(expr));
            visit_indices(expr, visit);
        }
        Expr::Array { items, .. } | Expr::Set { items, .. } => visit_all(items, visit),
        Expr::Object { fields, .. } => {
            for (_, key, value) in fields {
                visit_expr(key, visit);
                visit_expr(value, visit);
            }
        }
        Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
            visit_expr(term, visit);
            visit_query(query, visit);
        }
        Expr::ObjectCompr {
            key, value, query, ..
        } => {
            visit_expr(key, visit);
            visit_expr(value, visit);
            visit_query(query, visit);
        }
        Expr::Call { fcn, params, .. } => {
            visit(Mention::Call(fcn, params.len()));
            visit_indices(fcn, visit);
            visit_all(params, visit);
        }
        Expr::UnaryExpr { expr, .. } => visit_expr(expr, visit),
        Expr::BinExpr { lhs, rhs, .. }
        | Expr::BoolExpr { lhs, rhs, .. }
        | Expr::ArithExpr { lhs, rhs, .. }
        | Expr::AssignExpr { lhs, rhs, .. } => {
            visit_expr(lhs, visit);
            visit_expr(rhs, visit);
        }
        Expr::Membership {
            key,
            value,
            collection,
            ..
        } => {
            visit_all(key, visit);
            visit_expr(value, visit);
            visit_expr(collection, visit);
        }
    }
}

/// What stands in the brackets of a path, and at its root where that is not a name.
fn visit_indices<'a>(path: &'a Expr, visit: &mut dyn FnMut(Mention<'a>)) {
    match path {
        Expr::Var { .. } => {}
        Expr::RefDot { refr, .. } => visit_indices(refr, visit),
        Expr::RefBrack { refr, index, .. } => {
            visit_indices(refr, visit);
            if !matches!(index.as_ref(), Expr::String { .. } | Expr::Number { .. }) {
                visit(Mention::Level(Level::Loop));
            }
            visit_expr(index, visit);
        }
        other => visit_expr(other, visit),
    }
}
