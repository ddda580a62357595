//! A site of one process, whose CA is embedded, among others in a federation.

use std::time::Duration;

use super::sites::{Federation, exchange};
use crate::support::wait::until_within;

#[test]
fn a_node_with_an_embedded_ca_is_a_member_like_any_other() {
    let federation = Federation::new();
    let tokyo = federation.site("tokyo.example", &["kobe.example"]);
    let kobe = federation.node("kobe.example", &["tokyo.example"]);
    federation.join(&tokyo, " --mark hpci");
    federation.join(&kobe, " --mark hpci");
    federation.look([&tokyo, &kobe]);
    tokyo.reaches("kobe.example");
    kobe.reaches("tokyo.example");
    until_within(Duration::from_secs(60), "one way to all", || {
        kobe.asks("tokyo.example").ok()
    });
    let error = kobe.asks("kobe.example").unwrap_err().to_string();
    assert!(error.starts_with("HTTP/1.1 403 "), "{error}");
    // It speaks for itself: its new CA is at the other site without anybody's doing.
    kobe.sekisho("ca prepare");
    let cas = || {
        tokyo.sekisho("federation directory --refresh");
        let shown = tokyo.sekisho("bundle show --id kobe.example");
        let cas = shown["bundles"][0]["authorities"].as_array();
        cas.map_or(0, Vec::len)
    };
    until_within(
        Duration::from_secs(90),
        "the new CA at the other site",
        || (cas() == 2).then_some(()),
    );
    let mut held = tokyo.connect("kobe.example").unwrap();
    exchange(&mut held).unwrap();
    federation.keeper.both("member expel tokyo.example @/fed");
    until_within(Duration::from_secs(90), "the end of what was held", || {
        kobe.sekisho("federation directory --refresh");
        exchange(&mut held).err()
    });
    assert!(kobe.says("tokyo.example").is_err());
}
