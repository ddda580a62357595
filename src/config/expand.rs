//! `${NAME}` and `${NAME:-default}` in values, after parsing: what comes from the environment
//! cannot become structure.

use super::{
    error::{Problem, Report},
    field::quoted,
    tree::{Kind, Node},
};

/// More than this is not a value of a configuration.
const LONGEST: usize = 64 << 10;

/// Asks for a variable of the environment.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Replaces the variables of every value below `node`. Keys stay as they are.
pub(super) fn expand(node: &mut Node, path: &str, env: Env<'_>, report: &mut Report) {
    match &mut node.kind {
        Kind::Failed | Kind::Null => {}
        Kind::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                expand(item, &format!("{path}[{index}]"), env, report);
            }
        }
        Kind::Map(entries) => {
            for entry in entries {
                let path = if path.is_empty() {
                    entry.key.clone()
                } else {
                    format!("{path}.{}", entry.key)
                };
                expand(&mut entry.value, &path, env, report);
            }
        }
        Kind::Scalar(text) if text.contains("${") => match replace(text, env) {
            Ok(replaced) => *text = replaced,
            Err(why) => {
                report.push(&node.at, path, Problem::Rule(why));
                node.kind = Kind::Failed;
            }
        },
        Kind::Scalar(_) => {}
    }
}

fn replace(text: &str, env: Env<'_>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, after) = rest.split_at(start);
        let after = after.strip_prefix("${").unwrap_or_default();
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let (inside, behind) = after
            .split_once('}')
            .ok_or("`${` without `}`; a literal one is written `$${`")?;
        out.push_str(&variable(inside, env)?);
        if out.len() > LONGEST {
            return Err("longer than 64 KiB once its variables are replaced".into());
        }
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

fn variable(inside: &str, env: Env<'_>) -> Result<String, String> {
    let (name, default) = inside
        .split_once(":-")
        .map_or((inside, None), |(name, default)| (name, Some(default)));
    let mut characters = name.chars();
    let is_name = characters
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name {
        let found = quoted(&format!("${{{inside}}}"));
        return Err(format!(
            "expected ${{NAME}} or ${{NAME:-default}}, found {found}"
        ));
    }
    if default.is_some_and(|default| default.contains("${")) {
        return Err(format!("${{{name}:-…}}: a default cannot hold a variable"));
    }
    match (env(name), default) {
        // As in a shell: `:-` also stands in for an empty variable.
        (Some(value), Some(default)) if value.is_empty() => Ok(default.into()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.into()),
        (None, None) => Err(format!(
            "the environment has no {name}; a default is written ${{{name}:-default}}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(text: &str) -> Result<String, String> {
        replace(text, &|name| match name {
            "A" => Some("x".into()),
            "EMPTY" => Some(String::new()),
            "YAML" => Some("[a, {b: c}]\nd: ${A}".into()),
            _ => None,
        })
    }

    #[test]
    fn variables_and_defaults_are_replaced_once() {
        assert_eq!(replaced("a${A}b${A}").unwrap(), "axbx");
        assert_eq!(replaced("${B:-c d}").unwrap(), "c d");
        assert_eq!(replaced("${B:-}").unwrap(), "");
        assert_eq!(replaced("${EMPTY}").unwrap(), "");
        assert_eq!(replaced("${EMPTY:-full}").unwrap(), "full");
        assert_eq!(replaced("$${A} $A $").unwrap(), "${A} $A $");
        assert_eq!(replaced("${YAML}").unwrap(), "[a, {b: c}]\nd: ${A}");
    }

    #[test]
    fn a_missing_or_misspelt_variable_is_an_error() {
        for text in [
            "${B}",
            "${A",
            "${}",
            "${1A}",
            "${A-b}",
            "${a b}",
            "${B:-${A}}",
        ] {
            assert!(replaced(text).is_err(), "{text}");
        }
    }
}
