package main

// relationships are those of federation (§9).
func relationships(s *Site) {
	c := s.local
	create, update := "TrustDomain/BatchCreateFederationRelationship", "TrustDomain/BatchUpdateFederationRelationship"
	remove, get := "TrustDomain/BatchDeleteFederationRelationship", "TrustDomain/GetFederationRelationship"
	lists, refresh := "TrustDomain/ListFederationRelationships", "TrustDomain/RefreshBundle"
	// Nobody listens there.
	web := func(domain string) J {
		return J{"trust_domain": domain, "bundle_endpoint_url": "https://127.0.0.1:9", "https_web": J{}}
	}
	changed := func(changes J) J {
		made := web(b)
		for key, value := range changes {
			if value == nil {
				delete(made, key)
			} else {
				made[key] = value
			}
		}
		return made
	}
	for _, one := range []struct {
		what string
		sent J
	}{
		{"no domain", changed(J{"trust_domain": nil})},
		{"a bad domain", changed(J{"trust_domain": "no domain"})},
		{"the own domain", changed(J{"trust_domain": Domain})},
		{"no URL", changed(J{"bundle_endpoint_url": nil})},
		{"http", changed(J{"bundle_endpoint_url": "http://127.0.0.1:9"})},
		{"no host", changed(J{"bundle_endpoint_url": "https:///x"})},
		{"a user", changed(J{"bundle_endpoint_url": "https://user:word@127.0.0.1:9"})},
		{"no profile", changed(J{"https_web": nil})},
		{"a bad endpoint ID", changed(J{"https_web": nil, "https_spiffe": J{"endpoint_spiffe_id": "x"}})},
		{"another's bundle", changed(J{"trust_domain_bundle": bundle(c3)})},
		{"a bad bundle", changed(J{"trust_domain_bundle": J{"trust_domain": b, "x509_authorities": L{J{"asn1": []byte("x")}}}})},
	} {
		for _, call := range []string{create, update} {
			c.ok(call, one.what, J{"federation_relationships": L{one.sent}}).
				item(one.what, 0, "federation_relationship", Want{code: InvalidArgument, text: "failed to convert federation relationship"})
		}
	}
	spiffe := changed(J{
		"https_web": nil, "https_spiffe": J{"endpoint_spiffe_id": "spiffe://b.example/server"}, "trust_domain_bundle": bundle(b),
	})
	c.ok(create, "two, one of them bad", J{"federation_relationships": L{web(Domain), spiffe}}).
		has("results", 2, "results").
		item("the bad one", 0, "federation_relationship", Want{code: InvalidArgument}).
		item("by SPIFFE, with its bundle", 1, "federation_relationship", Want{}).
		is("ID", "spiffe://b.example/server", "results", 1, "federation_relationship", "https_spiffe", "endpoint_spiffe_id")
	c.ok("Bundle/GetFederatedBundle", "that came with it", J{"trust_domain": b}).is("sequence", "7", "sequence_number")
	s.admin.ok(create, "there already", J{"federation_relationships": L{web(b), web(c3)}}).
		item("there already", 0, "federation_relationship", Want{code: Internal}).
		item("a new one", 1, "federation_relationship", Want{})

	s.admin.ok(get, "one", J{"trust_domain": b}).is("domain", b, "trust_domain").
		is("URL", "https://127.0.0.1:9", "bundle_endpoint_url").
		is("bundle", "7", "trust_domain_bundle", "sequence_number")
	c.ok(get, "with scheme, and an empty mask", J{"trust_domain": "spiffe://" + b, "output_mask": J{}}).
		is("domain", b, "trust_domain").is("URL", "", "bundle_endpoint_url").is("profile", nil, "https_spiffe").
		is("bundle", nil, "trust_domain_bundle")
	c.no(get, "unknown", J{"trust_domain": "d.example"}, NotFound, "=federation relationship not found")
	c.no(get, "a bad domain", J{"trust_domain": "no domain"}, InvalidArgument, "")
	c.no(get, "no domain", J{}, InvalidArgument, "")
	c.ok(lists, "all", J{}).has("relationships", 2, "federation_relationships").is("no token", "", "next_page_token")
	page := c.ok(lists, "the first page", J{"page_size": 1})
	page.is("in the order of making", b, "federation_relationships", 0, "trust_domain")
	page = c.ok(lists, "the second", J{"page_size": 1, "page_token": at(page.body, "next_page_token"), "output_mask": J{}})
	page.is("in the order of making", c3, "federation_relationships", 0, "trust_domain").
		is("outside of the mask", "", "federation_relationships", 0, "bundle_endpoint_url")
	c.ok(lists, "the end", J{"page_size": 1, "page_token": at(page.body, "next_page_token")}).
		has("none", 0, "federation_relationships").is("no token", "", "next_page_token")
	c.no(lists, "a bad token", J{"page_token": "x"}, InvalidArgument, "could not parse token")

	c.ok(update, "by mask", J{
		"federation_relationships": L{changed(J{"bundle_endpoint_url": "https://127.0.0.1:10"})},
		"input_mask":               J{"bundle_endpoint_url": true},
	}).item("by mask", 0, "federation_relationship", Want{}).
		is("what is in the mask", "https://127.0.0.1:10", "results", 0, "federation_relationship", "bundle_endpoint_url").
		is("what is not", "spiffe://b.example/server", "results", 0, "federation_relationship", "https_spiffe", "endpoint_spiffe_id")
	c.ok(update, "what the mask leaves out is looked at too", J{
		"federation_relationships": L{changed(J{"https_web": nil})}, "input_mask": J{"bundle_endpoint_url": true},
	}).item("no profile", 0, "federation_relationship", Want{code: InvalidArgument})
	c.ok(update, "unknown", J{"federation_relationships": L{web("d.example")}}).
		item("unknown", 0, "federation_relationship", Want{code: Internal})

	c.no(refresh, "unknown", J{"trust_domain": "d.example"}, NotFound, "d.example")
	c.no(refresh, "a bad domain", J{"trust_domain": "no domain"}, InvalidArgument, "")
	c.no(refresh, "nobody answers", J{"trust_domain": c3}, Internal, "failed to refresh bundle")
	s.refreshed(create, refresh)

	c.ok(remove, "three", J{"trust_domains": L{b, "d.example", ""}}).item("there", 0, "", Want{}).
		item("unknown", 1, "", Want{code: NotFound}).item("no domain", 2, "", Want{code: InvalidArgument}).
		is("which", b, "results", 0, "trust_domain")
	c.ok("Bundle/GetFederatedBundle", "outlives it", J{"trust_domain": b}).is("sequence", "7", "sequence_number")
	s.admin.ok(remove, "the rest", J{"trust_domains": L{c3}}).item("the rest", 0, "", Want{})
	c.ok("Bundle/BatchDeleteFederatedBundle", "put away", J{"trust_domains": L{b}}).item("put away", 0, "", Want{})
}
