package main

// entries are made, found, changed and deleted (§7, §8, §12).
func entries(s *Site) {
	c := s.local
	create, update, remove := "Entry/BatchCreateEntry", "Entry/BatchUpdateEntry", "Entry/BatchDeleteEntry"
	get := "Entry/GetEntry"
	one := with(J{"id": "one", "hint": "first", "x509_svid_ttl": 120, "jwt_svid_ttl": 30, "dns_names": L{"one.example"},
		"created_at": "5", "revision_number": "7", "expires_at": "4102444800"})
	two := with(J{"hint": "second's", "spiffe_id": id("/two"), "selectors": L{selector("unix", "uid:1"), selector("unix", "gid:2")}})
	made := s.admin.ok(create, "two, one of them bad", J{"entries": L{one, with(J{"selectors": L{}}), two}})
	made.has("results", 3, "results").item("a name", 0, "entry", Want{}).
		item("the bad one", 1, "entry", Want{code: InvalidArgument}).item("no name", 2, "entry", Want{}).
		is("name", "one", "results", 0, "entry", "id").
		is("the revision that is sent does not count", "0", "results", 0, "entry", "revision_number").
		same("nor does the time", true, at(made.body, "results", 0, "entry", "created_at") != "5").
		same("a UUID", 36, len(at(made.body, "results", 2, "entry", "id").(string)))
	twoID := at(made.body, "results", 2, "entry", "id")
	c.ok(create, "equal ID, parent and selectors", J{"entries": L{with(J{"hint": "x"})}}).
		item("equal ID, parent and selectors", 0, "", Want{code: AlreadyExists, text: "similar entry already exists"}).
		is("which there is", "one", "results", 0, "entry", "id").is("as it is", "first", "results", 0, "entry", "hint")
	c.ok(create, "a name that is taken", J{"entries": L{with(J{"id": "one", "spiffe_id": id("/other")})}}).
		item("a name that is taken", 0, "entry", Want{code: AlreadyExists})
	c.ok(create, "none", J{}).has("results", 0, "results")

	c.ok(get, "whole", J{"id": "one"}).is("hint", "first", "hint").is("lifetime", 120, "x509_svid_ttl").
		is("of JWTs", 30, "jwt_svid_ttl").is("DNS name", "one.example", "dns_names", 0).
		is("end", "4102444800", "expires_at")
	c.ok(get, "an empty mask", J{"id": "one", "output_mask": J{}}).is("name", "one", "id").
		is("ID", nil, "spiffe_id").is("hint", "", "hint")
	c.no(get, "unknown", J{"id": "unknown"}, NotFound, "=entry not found")
	c.no(get, "no name", J{}, InvalidArgument, "=missing ID")

	mask := J{"entries": L{J{"id": "one", "hint": "second", "x509_svid_ttl": 60}}, "input_mask": J{"hint": true}}
	s.admin.ok(update, "by mask", mask).item("by mask", 0, "entry", Want{}).
		is("what is in the mask", "second", "results", 0, "entry", "hint").
		is("what is not", 120, "results", 0, "entry", "x509_svid_ttl").
		is("revision", "1", "results", 0, "entry", "revision_number")
	c.ok(update, "of nothing", J{"entries": L{J{"id": "one"}}, "input_mask": J{}}).item("of nothing", 0, "entry", Want{}).
		is("revision all the same", "2", "results", 0, "entry", "revision_number")
	c.ok(update, "without a mask", J{"entries": L{with(J{"id": "one"})}}).item("without a mask", 0, "entry", Want{}).
		is("everything is overwritten", "", "results", 0, "entry", "hint").
		is("lifetimes too", 0, "results", 0, "entry", "x509_svid_ttl").
		has("DNS names too", 0, "results", 0, "entry", "dns_names").
		is("revision", "3", "results", 0, "entry", "revision_number")
	s.found(twoID)

	c.ok(remove, "three", J{"ids": L{"one", "unknown", ""}}).item("there", 0, "", Want{}).
		item("unknown", 1, "", Want{code: NotFound, text: "=entry not found"}).
		item("no name", 2, "", Want{code: InvalidArgument}).is("which", "one", "results", 0, "id")
	again := c.ok(create, "a name again", J{"entries": L{with(J{"id": "one", "spiffe_id": id("/another")})}})
	again.item("a name again", 0, "entry", Want{}).
		same("a revision that has not been", true, number(at(again.body, "results", 0, "entry", "revision_number")) > 3)
	s.admin.ok(remove, "both", J{"ids": L{"one", twoID}}).item("first", 0, "", Want{}).item("second", 1, "", Want{})
}

// found are entries by filters: `one` has uid:1, `two` has gid:2 too.
func (s *Site) found(two any) {
	c := s.local
	count, lists := "Entry/CountEntries", "Entry/ListEntries"
	first, second, third := selector("unix", "uid:1"), selector("unix", "gid:2"), selector("unix", "gid:3")
	parent := J{"by_parent_id": id("/node/x")}
	match := func(kind string, selectors ...any) J {
		return J{"by_parent_id": id("/node/x"), "by_selectors": J{"selectors": selectors, "match": kind}}
	}
	all := number(at(c.ok(count, "all", J{}).body, "count"))
	for _, one := range []struct {
		what   string
		filter J
		want   int
	}{
		{"by parent", parent, 2},
		{"by ID", J{"by_spiffe_id": id("/two")}, 1},
		{"by an unknown ID", J{"by_spiffe_id": id("/three")}, 0},
		{"equal selectors", match("MATCH_EXACT", first), 1},
		{"all of one's are given", match("MATCH_SUBSET", first, third), 1},
		{"all of both are given", match("MATCH_SUBSET", first, second, third), 2},
		{"has all", match("MATCH_SUPERSET", first, second), 1},
		{"has any", match("MATCH_ANY", first, third), 2},
		{"federated with any", J{"by_federates_with": J{"trust_domains": L{b}, "match": "MATCH_ANY"}}, 0},
		{"an empty hint filters nothing", J{"by_hint": ""}, all},
		{"by hint", J{"by_hint": "second's"}, 1},
		{"by nobody's hint", J{"by_hint": "nobody's"}, 0},
		{"not downstream filters nothing", J{"by_downstream": false}, all},
		{"downstream", J{"by_downstream": true}, 1},
		{"two filters", J{"by_downstream": true, "by_parent_id": id("/node/x")}, 0},
	} {
		c.ok(count, one.what, J{"filter": one.filter}).is(one.what, one.want, "count")
		s.admin.ok(lists, one.what, J{"filter": one.filter}).has(one.what, one.want, "entries")
	}
	for _, call := range []string{count, lists} {
		c.no(call, "no selectors", J{"filter": J{"by_selectors": J{}}}, InvalidArgument, "selectors")
		c.no(call, "no domains", J{"filter": J{"by_federates_with": J{}}}, InvalidArgument, "federates with")
		c.no(call, "a bad ID", J{"filter": J{"by_spiffe_id": J{}}}, InvalidArgument, "")
		c.no(call, "a bad parent", J{"filter": J{"by_parent_id": J{}}}, InvalidArgument, "")
	}
	page := c.ok(lists, "the first page", J{"filter": parent, "page_size": 1, "output_mask": J{"spiffe_id": true}})
	page.has("entries", 1, "entries").is("in the order of making", "one", "entries", 0, "id").
		has("outside of the mask", 0, "entries", 0, "selectors")
	page = c.ok(lists, "the second", J{"filter": parent, "page_size": 1, "page_token": at(page.body, "next_page_token")})
	page.is("in the order of making", two, "entries", 0, "id").same("a token", true, at(page.body, "next_page_token") != "")
	c.ok(lists, "the end", J{"filter": parent, "page_size": 1, "page_token": at(page.body, "next_page_token")}).
		has("entries", 0, "entries").is("no token", "", "next_page_token")
	c.no(lists, "a bad token", J{"page_token": "x"}, InvalidArgument, "could not parse token")
}
