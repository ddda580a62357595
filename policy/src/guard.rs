//! Bounds on builtins that can grow or run without end.
//!
//! The engine looks at its clock between statements, never within a builtin: `numbers.range(1,
//! 1e10)` alone would fill the memory first. Each such builtin gets an extension of the same name,
//! which the engine prefers, and which weighs the arguments before it calls the original.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use anyhow::anyhow;
use regorus::{
    Engine, Source, Value,
    unstable::{BUILTINS, Expr, Ref, Span},
};

/// Most elements that one call may make out of nothing.
const MAX_ELEMENTS: i64 = 1 << 16;
/// Most that one call may read or write: bytes of text, plus [`NODE`] for each value.
const MAX_WEIGHT: usize = 4 << 20;
/// Most that all guarded calls of one decision may write.
const MAX_SPENT: usize = 32 << 20;
/// What a value weighs beside its text.
const NODE: usize = 16;
/// Longest pattern. The engine itself bounds what a regular expression compiles to.
const MAX_PATTERN: usize = 4096;
/// Longest number as text, and most bits that it may be shifted by: arithmetic on long ones is
/// slower than linear.
const MAX_DIGITS: usize = 1024;

/// What the guarded builtins of one evaluator have used up.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    spent: AtomicUsize,
    over: AtomicBool,
}

impl Meter {
    /// Starts a decision.
    pub(crate) fn reset(&self) {
        self.spent.store(0, Ordering::Relaxed);
        self.over.store(false, Ordering::Relaxed);
    }

    /// Whether a bound was passed in this decision.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn charge(&self, weight: usize) -> bool {
        let before = self.spent.fetch_add(weight, Ordering::Relaxed);
        before.saturating_add(weight) <= MAX_SPENT
    }
}

/// Puts a guard before each builtin of `engine` that needs one.
pub(crate) fn install(engine: &mut Engine, meter: &Arc<Meter>) -> anyhow::Result<()> {
    for &(name, admits) in GUARDS {
        let Some(&(builtin, arguments)) = BUILTINS.get(name) else {
            return Err(anyhow!("{name} is no builtin"));
        };
        let (span, parameters) = nowhere(name, arguments)?;
        let meter = Arc::clone(meter);
        let guarded = move |args: Vec<Value>| {
            let result = match admits(&args) {
                Some(true) => builtin(&span, &parameters, &args, true)?,
                Some(false) => return Err(over(name, &meter)),
                // Of the wrong type: the original says what it wants.
                None => return builtin(&span, &parameters, &args, true),
            };
            let mut left = MAX_WEIGHT;
            if !weigh(&result, &mut left) || !meter.charge(MAX_WEIGHT - left) {
                return Err(over(name, &meter));
            }
            Ok(result)
        };
        engine.add_extension(name.into(), arguments, Box::new(guarded))?;
    }
    Ok(())
}

fn over(name: &str, meter: &Meter) -> anyhow::Error {
    meter.over.store(true, Ordering::Relaxed);
    anyhow!("{name} would go past the bounds of a decision")
}

/// A place for the original to blame: it is not told where it was called.
fn nowhere(name: &str, arguments: u8) -> anyhow::Result<(Span, Vec<Ref<Expr>>)> {
    let source = Source::from_contents("builtin".into(), name.into())?;
    let end = u32::try_from(name.len())?;
    let span = Span {
        source,
        line: 1,
        col: 1,
        start: 0,
        end,
    };
    let parameter = Ref::new(Expr::Null {
        span: span.clone(),
        value: Value::Null,
        eidx: 0,
    });
    Ok((span, vec![parameter; usize::from(arguments)]))
}

/// Whether the arguments may go to the builtin; none when they are of the wrong type for it.
type Admits = fn(&[Value]) -> Option<bool>;

const GUARDS: &[(&str, Admits)] = &[
    ("array.concat", light),
    ("base64.encode", light),
    ("base64url.encode", light),
    ("base64url.encode_no_pad", light),
    ("bits.lsh", shift),
    ("bits.rsh", shift),
    ("concat", joined),
    ("format_int", light),
    ("glob.match", pattern),
    ("graph.reachable", light),
    ("hex.encode", light),
    ("indexof_n", light),
    ("intersection", light),
    ("json.filter", light),
    ("json.marshal", light),
    ("json.marshal_with_options", light),
    ("json.remove", light),
    ("json.unmarshal", light),
    ("max", light),
    ("min", light),
    ("net.cidr_expand", hosts),
    ("numbers.range", range),
    ("numbers.range_step", range),
    ("object.subset", light),
    ("object.union", light),
    ("object.union_n", light),
    ("product", factors),
    ("regex.find_all_string_submatch_n", pattern),
    ("regex.find_n", pattern),
    ("regex.is_valid", pattern),
    ("regex.match", pattern),
    ("regex.replace", regex_replaced),
    ("regex.split", pattern),
    ("regex.template_match", pattern),
    ("replace", replaced),
    ("sort", light),
    ("split", light),
    ("sprintf", formatted),
    ("strings.replace_n", replaced_n),
    ("sum", factors),
    ("time.format", light),
    ("to_number", digits),
    ("union", light),
    ("units.parse", digits),
    ("units.parse_bytes", digits),
    ("urlquery.encode", light),
    ("urlquery.encode_object", light),
    ("walk", walked),
];

fn light(args: &[Value]) -> Option<bool> {
    let mut left = MAX_WEIGHT;
    Some(args.iter().all(|value| weigh(value, &mut left)))
}

/// Takes the weight of `value` from `left`; false when there is not enough. It counts a value as
/// often as it occurs, as those do who walk it: shared parts can stand for 2^50 of them.
fn weigh(value: &Value, left: &mut usize) -> bool {
    let own = match value {
        Value::String(text) => text.len() + NODE,
        _ => NODE,
    };
    match left.checked_sub(own) {
        Some(rest) => *left = rest,
        None => return false,
    }
    match value {
        Value::Array(items) => items.iter().all(|item| weigh(item, left)),
        Value::Set(items) => items.iter().all(|item| weigh(item, left)),
        Value::Object(fields) => fields
            .iter_sorted()
            .all(|(key, item)| weigh(key, left) && weigh(item, left)),
        _ => true,
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn fits(bytes: Option<usize>) -> Option<bool> {
    Some(bytes.is_some_and(|bytes| bytes <= MAX_WEIGHT))
}

fn range(args: &[Value]) -> Option<bool> {
    let [from, to, step @ ..] = args else {
        return None;
    };
    let number = |value: &Value| value.as_i64().map_err(|_| value.as_f64());
    let (Ok(from), Ok(to)) = (number(from), number(to)) else {
        // Integers past 64 bits are past the bound; the rest are no integers.
        return matches!((from, to), (Value::Number(_), Value::Number(_))).then_some(false);
    };
    let step = step
        .first()
        .and_then(|step| step.as_i64().ok())
        .unwrap_or(1)
        .max(1);
    let distance = i128::from(from).abs_diff(i128::from(to)) / u128::from(step.unsigned_abs());
    // A step from below 2^63 may pass it, which the original does not expect.
    let inside = to.checked_add(step).is_some() && to.checked_sub(step).is_some();
    Some(inside && distance < u128::from(MAX_ELEMENTS.unsigned_abs()))
}

fn hosts(args: &[Value]) -> Option<bool> {
    let (address, prefix) = text(args.first()?)?.split_once('/')?;
    let bits = if address.contains(':') { 128 } else { 32 };
    let host_bits: u32 = u32::checked_sub(bits, prefix.parse().ok()?)?;
    Some(host_bits <= MAX_ELEMENTS.ilog2())
}

fn shift(args: &[Value]) -> Option<bool> {
    let [number, by] = args else { return None };
    let by = by.as_u64().unwrap_or(u64::MAX);
    Some(by <= MAX_DIGITS as u64 && short(number))
}

/// Whether a number is short enough for arithmetic that is slower than linear.
fn short(number: &Value) -> bool {
    number.as_i128().is_ok() || number.as_f64().is_ok()
}

fn digits(args: &[Value]) -> Option<bool> {
    let text = text(args.first()?)?;
    // An exponent is a number of digits too.
    let exponent = text.rsplit_once(['e', 'E']).map_or(0, |(_, exponent)| {
        exponent.trim_start_matches(['+', '-']).parse().unwrap_or(0)
    });
    Some(text.len() <= MAX_DIGITS && exponent <= MAX_DIGITS)
}

fn factors(args: &[Value]) -> Option<bool> {
    let count = match args.first()? {
        Value::Array(items) => items.len(),
        Value::Set(items) => items.len(),
        _ => return None,
    };
    Some(count <= MAX_DIGITS && light(args)?)
}

fn joined(args: &[Value]) -> Option<bool> {
    let [delimiter, items] = args else {
        return None;
    };
    let count = match items {
        Value::Array(items) => items.len(),
        Value::Set(items) => items.len(),
        _ => return None,
    };
    Some(fits(text(delimiter)?.len().checked_mul(count))? && light(args)?)
}

fn formatted(args: &[Value]) -> Option<bool> {
    let format = text(args.first()?)?;
    let digits = format.split(|c: char| !c.is_numeric());
    let wide = digits.filter(|run| !run.is_empty()).any(|run| {
        // Digits of other scripts, and zeros without end, are none that a format needs.
        run.len() > 8
            || run
                .parse::<usize>()
                .map_or(true, |width| width > MAX_DIGITS)
    });
    // A long run of digits is harmless unless it is a width.
    Some(!(wide && format.contains('%')) && light(args)?)
}

fn replaced(args: &[Value]) -> Option<bool> {
    let [subject, old, new] = args else {
        return None;
    };
    let (subject, old, new) = (text(subject)?, text(old)?, text(new)?);
    if subject.len().max(old.len()).max(new.len()) > MAX_WEIGHT {
        return Some(false);
    }
    let grown = subject.matches(old).count().checked_mul(new.len());
    fits(grown.and_then(|grown| grown.checked_add(subject.len())))
}

fn replaced_n(args: &[Value]) -> Option<bool> {
    let [patterns, subject] = args else {
        return None;
    };
    let Value::Object(patterns) = patterns else {
        return None;
    };
    let mut subject = text(subject)?.to_owned();
    // One after the other, as the original does it: only the text itself tells how it grows.
    for (old, new) in patterns.iter_sorted() {
        let (old, new) = (text(old)?, text(new)?);
        let grown = subject.matches(old).count().checked_mul(new.len());
        if !fits(grown.and_then(|grown| grown.checked_add(subject.len())))? {
            return Some(false);
        }
        subject = subject.replace(old, new);
    }
    Some(patterns.len() <= MAX_DIGITS)
}

/// A pattern comes first, but for `regex.replace`; what it is held against, anywhere.
fn pattern(args: &[Value]) -> Option<bool> {
    Some(text(args.first()?)?.len() <= MAX_PATTERN && light(args)?)
}

fn regex_replaced(args: &[Value]) -> Option<bool> {
    let [subject, pattern, new] = args else {
        return None;
    };
    let (subject, pattern, new) = (text(subject)?, text(pattern)?, text(new)?);
    // At most one match a character; a group inserts at most what was matched.
    let groups = new.matches('$').count();
    let each = new.len().checked_add(groups)?;
    let grown = subject.len().checked_add(1)?.checked_mul(each);
    let fits = fits(grown.and_then(|grown| grown.checked_add(subject.len())))?;
    Some(fits && pattern.len() <= MAX_PATTERN)
}

/// Each value is returned with its whole path, so deep documents weigh more.
fn walked(args: &[Value]) -> Option<bool> {
    fn nodes(value: &Value, depth: usize, left: &mut usize) -> bool {
        match left.checked_sub(NODE * (depth + 1)) {
            Some(rest) => *left = rest,
            None => return false,
        }
        match value {
            Value::Array(items) => items.iter().all(|item| nodes(item, depth + 1, left)),
            Value::Set(items) => items.iter().all(|item| nodes(item, depth + 1, left)),
            Value::Object(fields) => fields
                .iter_sorted()
                .all(|(_, item)| nodes(item, depth + 1, left)),
            _ => true,
        }
    }
    Some(nodes(args.first()?, 0, &mut MAX_WEIGHT.clone()))
}
