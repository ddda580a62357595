package main

import "fmt"

const (
	b, c3 = "b.example", "c.example"
)

func bundle(domain string) J {
	return J{
		"trust_domain": domain, "x509_authorities": L{authority(domain)},
		"jwt_authorities": L{jwtKey("k")}, "refresh_hint": "60", "sequence_number": "7",
	}
}

// federated asks about the bundles of other domains (§6, §12).
func federated(s *Site) {
	c := s.local
	create, set := "Bundle/BatchCreateFederatedBundle", "Bundle/BatchSetFederatedBundle"
	update, remove := "Bundle/BatchUpdateFederatedBundle", "Bundle/BatchDeleteFederatedBundle"
	bad := []struct {
		what string
		sent J
	}{
		{"no domain", J{}},
		{"a bad domain", J{"trust_domain": "not a domain"}},
		{"the own domain", bundle(Domain)},
		{"no certificate", J{"trust_domain": b, "x509_authorities": L{J{"asn1": []byte("x")}}}},
		{"a key without a name", J{"trust_domain": b, "jwt_authorities": L{J{"public_key": spki()}}}},
		{"no key", J{"trust_domain": b, "jwt_authorities": L{J{"public_key": []byte("x"), "key_id": "k"}}}},
	}
	for _, call := range []string{create, set, update} {
		for _, one := range bad {
			c.ok(call, one.what, J{"bundle": L{one.sent}}).
				item(one.what, 0, "bundle", Want{code: InvalidArgument})
		}
	}
	c.ok(create, "two, one of them bad", J{"bundle": L{bad[0].sent, bundle(b)}}).has("results", 2, "results").
		item("the bad one", 0, "bundle", Want{code: InvalidArgument}).
		item("the good one", 1, "bundle", Want{}).
		is("hint", "60", "results", 1, "bundle", "refresh_hint").
		is("sequence", "7", "results", 1, "bundle", "sequence_number").
		is("domain", b, "results", 1, "bundle", "trust_domain")
	c.ok(create, "there already", J{"bundle": L{bundle(b)}}).
		item("there already", 0, "bundle", Want{code: AlreadyExists, text: "bundle already exists"})
	schemed := bundle(c3)
	schemed["trust_domain"] = "spiffe://" + c3
	c.ok(create, "with scheme, and a mask", J{"bundle": L{schemed}, "output_mask": J{}}).
		item("with scheme", 0, "bundle", Want{}).
		is("domain", c3, "results", 0, "bundle", "trust_domain").
		has("CAs outside of the mask", 0, "results", 0, "bundle", "x509_authorities")
	c.ok("Bundle/CountBundles", "with the own one", J{}).is("count", 3, "count")

	get := "Bundle/GetFederatedBundle"
	for _, as := range []*Client{s.local, s.admin, s.agent} {
		as.ok(get, "a bundle", J{"trust_domain": b}).is("sequence", "7", "sequence_number")
	}
	s.agent.no(get, "unknown", J{"trust_domain": "d.example"}, NotFound, "=bundle not found")
	c.no(get, "the own domain", J{"trust_domain": Domain}, InvalidArgument,
		"=getting a federated bundle for the server's own trust domain is not allowed")
	c.no(get, "a bad domain", J{"trust_domain": "Not a domain"}, InvalidArgument, "trust domain")
	c.ok(get, "an empty mask", J{"trust_domain": b, "output_mask": J{}}).
		is("domain", b, "trust_domain").is("sequence", "0", "sequence_number")

	lists := "Bundle/ListFederatedBundles"
	c.ok(lists, "all, without the own one", J{}).has("bundles", 2, "bundles").is("no token", "", "next_page_token")
	seen, pages, token := 0, 0, ""
	for {
		page := c.ok(lists, "a page", J{"page_size": 1, "page_token": token})
		seen, pages = seen+len(list(page.body, "bundles")), pages+1
		token, _ = at(page.body, "next_page_token").(string)
		if token == "" || pages > 9 {
			page.same("bundles by pages", 2, seen).same("the last page is empty", 4, pages)
			break
		}
	}
	c.no(lists, "a bad token", J{"page_size": 1, "page_token": "x"}, InvalidArgument, "could not parse token")

	c.ok(update, "unknown", J{"bundle": L{bundle("d.example")}}).
		item("unknown", 0, "bundle", Want{code: NotFound, text: "=bundle not found"})
	changed := bundle(b)
	changed["sequence_number"], changed["refresh_hint"] = "9", "30"
	c.ok(update, "by mask", J{"bundle": L{changed}, "input_mask": J{"sequence_number": true}}).
		item("by mask", 0, "bundle", Want{}).
		is("what is in the mask", "9", "results", 0, "bundle", "sequence_number").
		is("what is not", "60", "results", 0, "bundle", "refresh_hint")
	c.ok(set, "a lower sequence is not looked at", J{"bundle": L{bundle(b), bundle("d.example")}}).
		item("one that is there", 0, "bundle", Want{}).item("a new one", 1, "bundle", Want{}).
		is("sequence", "7", "results", 0, "bundle", "sequence_number")

	entry := J{
		"id": "with-b", "spiffe_id": id("/with-b"), "parent_id": s.agentID, "federates_with": L{b},
		"selectors": L{J{"type": "unix", "value": "uid:9"}},
	}
	c.ok("Entry/BatchCreateEntry", "federated", J{"entries": L{entry}}).item("federated", 0, "entry", Want{}).
		is("with whom", b, "results", 0, "entry", "federates_with", 0)
	for _, one := range []struct {
		match string
		sent  L
		want  int
	}{
		{"MATCH_EXACT", L{b}, 1}, {"MATCH_EXACT", L{b, c3}, 0}, {"MATCH_SUBSET", L{"spiffe://" + b, c3}, 1},
		{"MATCH_SUBSET", L{c3}, 0}, {"MATCH_SUPERSET", L{b}, 1}, {"MATCH_SUPERSET", L{b, c3}, 0},
		{"MATCH_ANY", L{b, c3}, 1}, {"MATCH_ANY", L{c3}, 0},
	} {
		filter := J{"filter": J{"by_federates_with": J{"trust_domains": one.sent, "match": one.match}}}
		what := fmt.Sprint(one.match, " ", one.sent)
		c.ok("Entry/CountEntries", what, filter).is(what, one.want, "count")
		c.ok("Entry/ListEntries", what, filter).has(what, one.want, "entries")
	}
	s.deletions(remove, entry)
}

// deletions are those of bundles, by each mode.
func (s *Site) deletions(remove string, entry J) {
	c := s.local
	c.ok(remove, "an entry needs it", J{"trust_domains": L{b, "x.example", Domain, "not a domain"}}).
		item("restricted", 0, "", Want{code: FailedPrecondition, text: "federated with 1 registration entries"}).
		item("unknown", 1, "", Want{code: NotFound, text: "=bundle not found"}).
		item("the own domain", 2, "", Want{code: InvalidArgument}).
		item("a bad domain", 3, "", Want{code: InvalidArgument}).
		is("which", b, "results", 0, "trust_domain")
	c.no(remove, "a mode that there is not", J{"trust_domains": L{b}, "mode": 9}, InvalidArgument, "")
	c.ok(remove, "dissociated", J{"trust_domains": L{b}, "mode": "DISSOCIATE"}).item("dissociated", 0, "", Want{})
	c.ok("Entry/GetEntry", "dissociated", J{"id": "with-b"}).has("domains", 0, "federates_with").
		is("a new revision", "1", "revision_number")
	c.ok("Bundle/BatchSetFederatedBundle", "again", J{"bundle": L{bundle(b)}}).item("again", 0, "bundle", Want{})
	c.ok("Entry/BatchUpdateEntry", "federated again",
		J{"entries": L{J{"id": "with-b", "federates_with": L{"spiffe://" + b}}}, "input_mask": J{"federates_with": true}}).
		item("federated again", 0, "entry", Want{})
	c.ok(remove, "with its entries", J{"trust_domains": L{b, c3, "d.example"}, "mode": "DELETE"}).
		item("with its entries", 0, "", Want{}).item("without any", 1, "", Want{})
	c.no("Entry/GetEntry", "deleted with its bundle", J{"id": "with-b"}, NotFound, "=entry not found")
}
