package main

import (
	"strings"
)

// with is an entry that holds to the rules, but for what is given.
func with(changes J) J {
	entry := J{
		"spiffe_id": id("/w"), "parent_id": id("/node/x"), "selectors": L{selector("unix", "uid:1")},
	}
	for key, value := range changes {
		if value == nil {
			delete(entry, key)
		} else {
			entry[key] = value
		}
	}
	return entry
}

// entryRules is the table of spire-api.md §7, of a creation and of an update.
func entryRules(s *Site) {
	foreign := J{"trust_domain": b, "path": "/w"}
	long := strings.Repeat("x", 64)
	type rule struct {
		what    string
		changes J
		code    uint32
	}
	rules := []rule{
		{"no ID", J{"spiffe_id": nil}, InvalidArgument},
		{"no parent", J{"parent_id": nil}, InvalidArgument},
		{"an ID of another domain", J{"spiffe_id": foreign}, InvalidArgument},
		{"a parent of another domain", J{"parent_id": foreign}, InvalidArgument},
		{"an ID without a path", J{"spiffe_id": id("")}, InvalidArgument},
		{"a parent without a path", J{"parent_id": id("")}, InvalidArgument},
		{"the ID /spire", J{"spiffe_id": id("/spire")}, InvalidArgument},
		{"an ID below /spire", J{"spiffe_id": id("/spire/agent/x")}, InvalidArgument},
		{"a bad path", J{"spiffe_id": id("/a//b")}, InvalidArgument},
		{"no selector", J{"selectors": L{}}, InvalidArgument},
		{"a selector without a type", J{"selectors": L{selector("", "x")}}, InvalidArgument},
		{"a selector's type with a colon", J{"selectors": L{selector("a:b", "x")}}, InvalidArgument},
		{"a selector without a value", J{"selectors": L{selector("unix", "")}}, InvalidArgument},
		{"a selector twice", J{"selectors": L{selector("unix", "uid:1"), selector("unix", "uid:1")}}, AlreadyExists},
		{"a DNS name twice", J{"dns_names": L{"a", "a"}}, AlreadyExists},
		{"federated with itself", J{"federates_with": L{Domain}}, InvalidArgument},
		{"federated with itself, with scheme", J{"federates_with": L{uri("")}}, InvalidArgument},
		{"federated with no domain", J{"federates_with": L{"no domain"}}, InvalidArgument},
		{"federated with a domain without a bundle", J{"federates_with": L{"unknown.example"}}, Internal},
		{"a negative lifetime", J{"x509_svid_ttl": -1}, InvalidArgument},
		{"a negative lifetime of JWTs", J{"jwt_svid_ttl": -1}, InvalidArgument},
		{"a hint of 1025 bytes", J{"hint": strings.Repeat("h", 1025)}, InvalidArgument},
		{"stored, with two kinds of selectors",
			J{"store_svid": true, "selectors": L{selector("a", "1"), selector("b", "1")}}, InvalidArgument},
		{"stored, without prefetch",
			J{"store_svid": true, "additional_attributes": J{"disable_x509_svid_prefetch": true}}, InvalidArgument},
	}
	for _, name := range []string{"", "a.", ".a", "a..b", "-a", "a-", "ab--c", long, "*", "a.*", "*a.b", "é",
		strings.Repeat("abcdefg.", 32) + "a"} {
		rules = append(rules, rule{"the DNS name " + name, J{"dns_names": L{name}}, InvalidArgument})
	}
	create, update := "Entry/BatchCreateEntry", "Entry/BatchUpdateEntry"
	for _, one := range rules {
		s.local.ok(create, one.what, J{"entries": L{with(one.changes)}}).
			item(one.what, 0, "entry", Want{code: one.code})
	}
	for _, text := range []string{"a b", "a/b", "ä", strings.Repeat("i", 256)} {
		s.local.ok(create, "a bad name of its own", J{"entries": L{with(J{"id": text})}}).
			item("a bad name of its own", 0, "entry", Want{code: InvalidArgument})
	}
	s.local.ok(create, "to be changed", J{"entries": L{with(J{"id": "rules"})}}).
		item("to be changed", 0, "entry", Want{})
	for _, one := range rules {
		changed := with(one.changes)
		changed["id"] = "rules"
		s.local.ok(update, one.what, J{"entries": L{changed}}).item(one.what, 0, "entry", Want{code: one.code})
	}
	s.local.ok(update, "no name", J{"entries": L{with(nil)}}).
		item("no name", 0, "entry", Want{code: InvalidArgument, text: "missing ID"})
	s.local.ok(update, "unknown", J{"entries": L{with(J{"id": "unknown"})}}).
		item("unknown", 0, "entry", Want{code: NotFound, text: "=failed to update entry"})
	s.local.ok("Entry/GetEntry", "none of it was done", J{"id": "rules"}).is("revision", "0", "revision_number")

	// What is allowed.
	good := []J{
		{"hint": strings.Repeat("h", 1024)}, {"id": strings.Repeat("i", 255)}, {"id": "a.B_c-9"},
		{"store_svid": true}, {"additional_attributes": J{"jwt_svid_include_jti": true}},
	}
	for _, name := range []string{"a", "*.a", "xn--a", "A_b", long[:63], strings.Repeat("abcdefg.", 31) + "abcde"} {
		good = append(good, J{"dns_names": L{name}})
	}
	for number, changes := range good {
		changes["selectors"] = L{selector("unix", "gid:"+string(rune('a'+number)))}
		made := s.local.ok(create, "allowed", J{"entries": L{with(changes)}})
		made.item("allowed", 0, "entry", Want{})
		s.local.ok("Entry/BatchDeleteEntry", "put away", J{"ids": L{at(made.body, "results", 0, "entry", "id")}}).
			item("put away", 0, "", Want{})
	}
	s.local.ok("Entry/BatchDeleteEntry", "put away", J{"ids": L{"rules"}}).item("put away", 0, "", Want{})
}
