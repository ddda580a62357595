//! `sekisho demo`, the main job.

use std::process::Command;

use serde_json::Value;

use crate::support::node::SEKISHO;

#[test]
fn the_demo_holds_every_expectation_and_says_so_in_one_document() {
    let output = Command::new(SEKISHO)
        .args(["demo", "--json", "--duration", "300ms"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["ok"], true, "{said}");
    let flows = document["flows"].as_array().unwrap();
    let expected = |what: &str| {
        flows
            .iter()
            .filter(|flow| flow["expected"] == what)
            .collect::<Vec<_>>()
    };
    let (allowed, refused) = (expected("allowed"), expected("refused"));
    assert!(allowed.len() >= 3 && refused.len() >= 8);
    for flow in allowed {
        assert_eq!(flow["outcome"], "allowed", "{flow:#}");
        assert!(flow["bits_per_second"].as_f64() > Some(0.0), "{flow:#}");
        assert!(
            flow["direct_bits_per_second"].as_f64() > Some(0.0),
            "{flow:#}"
        );
        assert!(
            flow["peer"].as_str().unwrap().starts_with("spiffe://"),
            "{flow:#}"
        );
    }
    for flow in refused {
        assert_eq!(flow["outcome"], "refused", "{flow:#}");
        assert!(flow["reason"].is_string(), "{flow:#}");
        assert_eq!(flow["upstream_connections"], 0, "{flow:#}");
        assert_eq!(flow["without_defect"], "allowed", "{flow:#}");
    }
    assert_eq!(document["rotation"]["broken"], 0);
    assert!(document["rotation"]["rotations"].as_u64() > Some(10));
    assert!(document["rotation"]["reloads"].as_u64() > Some(0));
    let lines = document["configuration_lines"].as_object().unwrap();
    assert_eq!(lines.len(), 4);
    assert!(lines.values().filter_map(Value::as_u64).sum::<u64>() <= 100);
}
