//! Which builtins a policy may call.
//!
//! An allow-list: what a newer engine brings along stays out until somebody has looked at it.

use crate::Refusal;

/// Builtins a policy may call, sorted. Some are bounded further by [`guard`](crate::guard).
pub(crate) const ALLOWED: &[&str] = &[
    "abs",
    "array.concat",
    "array.reverse",
    "array.slice",
    "base64.decode",
    "base64.encode",
    "base64.is_valid",
    "base64url.decode",
    "base64url.encode",
    "base64url.encode_no_pad",
    "bits.and",
    "bits.lsh",
    "bits.negate",
    "bits.or",
    "bits.rsh",
    "bits.xor",
    "ceil",
    "concat",
    "contains",
    "count",
    "endswith",
    "floor",
    "format_int",
    "glob.match",
    "glob.quote_meta",
    "graph.reachable",
    "hex.decode",
    "hex.encode",
    "indexof",
    "indexof_n",
    "intersection",
    "is_array",
    "is_boolean",
    "is_null",
    "is_number",
    "is_object",
    "is_set",
    "is_string",
    "json.filter",
    "json.is_valid",
    "json.marshal",
    "json.marshal_with_options",
    "json.remove",
    "json.unmarshal",
    "lower",
    "max",
    "min",
    "net.cidr_contains",
    "net.cidr_expand",
    "net.cidr_is_valid",
    "numbers.range",
    "numbers.range_step",
    "object.filter",
    "object.get",
    "object.keys",
    "object.remove",
    "object.subset",
    "object.union",
    "object.union_n",
    "product",
    "regex.find_all_string_submatch_n",
    "regex.find_n",
    "regex.is_valid",
    "regex.match",
    "regex.replace",
    "regex.split",
    "regex.template_match",
    "replace",
    "round",
    "semver.compare",
    "semver.is_valid",
    "sort",
    "split",
    "sprintf",
    "startswith",
    "strings.any_prefix_match",
    "strings.any_suffix_match",
    "strings.count",
    "strings.replace_n",
    "strings.reverse",
    "substring",
    "sum",
    "time.add_date",
    "time.clock",
    "time.date",
    "time.diff",
    "time.format",
    "time.now_ns",
    "time.parse_duration_ns",
    "time.parse_ns",
    "time.parse_rfc3339_ns",
    "time.weekday",
    "to_number",
    "trace",
    "trim",
    "trim_left",
    "trim_prefix",
    "trim_right",
    "trim_space",
    "trim_suffix",
    "type_name",
    "union",
    "units.parse",
    "units.parse_bytes",
    "upper",
    "urlquery.decode",
    "urlquery.decode_object",
    "urlquery.encode",
    "urlquery.encode_object",
    "walk",
];

/// Builtins of OPA that stay out, and why.
const FORBIDDEN: &[(&str, &str)] = &[
    (
        "graph.reachable_paths",
        "the number of paths has no bound; use graph.reachable",
    ),
    (
        "http.send",
        "a decision must not wait for the network; put the data beside the policy",
    ),
    (
        "net.lookup_ip_addr",
        "a decision must not wait for the network",
    ),
    (
        "opa.runtime",
        "it would show the process's environment to the policy",
    ),
    (
        "rand.intn",
        "a decision must be the same for the same input",
    ),
    (
        "uuid.rfc4122",
        "a decision must be the same for the same input",
    ),
];

/// Builtins of OPA that are not here yet. With a closing dot: all below that name.
const MISSING: &[&str] = &[
    "cast_",
    "crypto.",
    "graphql.",
    "io.jwt.",
    "json.",
    "net.",
    "providers.",
    "regex.",
    "rego.",
    "strings.",
    "time.",
    "uuid.",
    "yaml.",
];

/// Writes to the log at each evaluation, so only tests may.
const TEST_ONLY: &str = "print";

/// Whether `name`, which the policy does not define itself, may be called.
pub(crate) fn check(name: &str, in_test: bool) -> Result<(), Refusal> {
    if name == TEST_ONLY {
        return match in_test {
            true => Ok(()),
            false => Err(Refusal::TestOnly { name: name.into() }),
        };
    }
    if ALLOWED.binary_search(&name).is_ok() {
        return Ok(());
    }
    if let Some((_, why)) = FORBIDDEN.iter().find(|(forbidden, _)| *forbidden == name) {
        return Err(Refusal::Forbidden {
            name: name.into(),
            why,
        });
    }
    let missing = MISSING.iter().any(|prefix| name.starts_with(prefix));
    Err(match missing {
        true => Refusal::Missing { name: name.into() },
        false => Refusal::Unknown { name: name.into() },
    })
}

/// Whether `name` is a builtin of the engine, or one that is refused by name.
pub(crate) fn is_builtin(name: &str) -> bool {
    let forbidden = FORBIDDEN.iter().any(|(forbidden, _)| *forbidden == name);
    forbidden || name == TEST_ONLY || arguments(name).is_some()
}

/// How many arguments an allowed builtin takes; none for those that take any number.
pub(crate) fn arguments(name: &str) -> Option<usize> {
    let (_, count) = regorus::unstable::BUILTINS.get(name)?;
    Some(usize::from(*count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allow_list_is_sorted_and_known_to_the_engine() {
        assert!(ALLOWED.is_sorted());
        for name in ALLOWED {
            assert!(
                arguments(name).is_some(),
                "{name} is no builtin of the engine"
            );
        }
    }

    #[test]
    fn every_builtin_of_the_engine_is_allowed_or_left_out_on_purpose() {
        for name in regorus::unstable::BUILTINS.keys() {
            let operator = name.starts_with("__builtin");
            let decided = ALLOWED.contains(name) || FORBIDDEN.iter().any(|(n, _)| n == name);
            assert!(operator || decided, "{name} is new");
        }
    }
}
