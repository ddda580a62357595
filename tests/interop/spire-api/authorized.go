package main

import "fmt"

// authorized asks which entries an agent may have (§4).
func authorized(s *Site) {
	c := s.local
	get, create := "Entry/GetAuthorizedEntries", "Entry/BatchCreateEntry"
	agent := s.tls("agent with entries", s.newAgent("entries", ""))
	own := id("/spire/agent/join_token/entries")
	agent.ok(get, "none", J{}).has("entries", 0, "entries")
	first := selector("unix", "uid:1")
	under := func(name string, parent J) J {
		return J{"id": "of-" + name, "spiffe_id": id("/of/" + name), "parent_id": parent, "selectors": L{first}}
	}
	// The last of them makes a cycle.
	c.ok(create, "for an agent", J{"entries": L{
		under("child", own), under("grandchild", id("/of/child")), under("another", id("/of/nobody")),
		J{"id": "of-cycle", "spiffe_id": id("/of/child"), "parent_id": id("/of/grandchild"), "selectors": L{first}},
	}})
	names := func(reply *Reply) string {
		var all []string
		for _, one := range list(reply.body, "entries") {
			all = append(all, at(one, "id").(string))
		}
		return sorted(all)
	}
	told := agent.ok(get, "its own and what is below", J{})
	told.same("which", "of-child of-cycle of-grandchild", names(told))
	agent.ok(get, "by mask", J{"output_mask": J{}}).is("ID", nil, "entries", 0, "spiffe_id")

	// An alias stands for every node of which its selectors are true.
	node := s.tls("node", SVID{chain: s.popChain(), key: s.popKey})
	c.ok(create, "an alias", J{"entries": L{
		J{"id": "alias", "spiffe_id": id("/of/alias"), "parent_id": id("/spire/server"),
			"selectors": L{selector("x509pop", "san:rack:7")}},
		under("aliased", id("/of/alias")),
		J{"id": "no-alias", "spiffe_id": id("/of/no-alias"), "parent_id": id("/spire/server"),
			"selectors": L{selector("x509pop", "san:rack:8")}},
		under("not-aliased", id("/of/no-alias")),
	}})
	told = node.ok(get, "by alias, which is not told itself", J{})
	told.same("which", "of-aliased", names(told))
}

// popChain attests the node of x509pop once more.
func (s *Site) popChain() [][]byte {
	reply := s.pop(s.local, s.popNode, func(challenge []byte) []byte { return prove(s.popNode.key, challenge) })
	reply.want("attested again", Want{code: OK})
	return chain(at(reply.body, "result", "svid", "cert_chain"))
}

// synchronized has the conversation of SyncAuthorizedEntries, with few entries and with many (§4).
func synchronized(s *Site) {
	const call = "Entry/SyncAuthorizedEntries"
	mask := J{"spiffe_id": true, "selectors": true, "revision_number": true}
	s.agent.no(call, "a mask without revisions", J{"output_mask": J{"spiffe_id": true}}, InvalidArgument, "revision")
	s.agent.no(call, "names at once", J{"ids": L{"x"}}, InvalidArgument, "")
	agent := s.tls("agent with many entries", s.newAgent("many", ""))
	stream := agent.open(call)
	stream.send(J{"output_mask": mask})
	stream.next().want("none", Want{code: OK}).has("entries", 0, "entries").
		has("revisions", 0, "entry_revisions").is("more", false, "more")
	stream.next().want("that was all", Want{code: OK, text: "=end"})
	stream.cancel()

	many := L{}
	for number := range 501 {
		many = append(many, J{
			"id": fmt.Sprintf("many-%03d", number), "spiffe_id": id(fmt.Sprintf("/many/%d", number)),
			"parent_id": id("/spire/agent/join_token/many"), "selectors": L{selector("unix", "uid:1")},
		})
	}
	s.local.ok("Entry/BatchCreateEntry", "500", J{"entries": many[:500]}).has("results", 500, "results")
	stream = agent.open(call)
	stream.send(J{"output_mask": mask})
	stream.next().want("500", Want{code: OK}).has("all at once", 500, "entries").
		has("no revisions", 0, "entry_revisions").is("more", false, "more").
		is("outside of the mask", nil, "entries", 0, "parent_id")
	stream.next().want("that was all", Want{code: OK, text: "=end"})
	stream.cancel()

	s.local.ok("Entry/BatchCreateEntry", "one more", J{"entries": many[500:]}).has("results", 1, "results")
	stream = agent.open(call)
	stream.send(J{"output_mask": mask})
	stream.next().want("revisions first", Want{code: OK}).has("no entries", 0, "entries").
		has("revisions", 500, "entry_revisions").is("more", true, "more").
		is("revision", "0", "entry_revisions", 0, "revision_number")
	stream.next().want("the rest of them", Want{code: OK}).has("revisions", 1, "entry_revisions").is("more", false, "more")
	stream.send(J{"ids": L{"many-007", "unknown", "many-500"}})
	stream.next().want("entries by name", Want{code: OK}).has("the unknown is left out", 2, "entries").
		has("no revisions", 0, "entry_revisions").is("more", false, "more")
	stream.send(J{"ids": L{"unknown"}})
	stream.next().want("nothing but unknown", Want{code: OK}).has("none", 0, "entries").is("more", false, "more")
	var names L
	for _, one := range many {
		names = append(names, at(one, "id"))
	}
	stream.send(J{"ids": names})
	stream.next().want("more than a page", Want{code: OK}).has("a page", 500, "entries").is("more", true, "more")
	stream.next().want("the rest", Want{code: OK}).has("the rest", 1, "entries").is("more", false, "more")
	check(stream.raw.CloseSend())
	stream.next().want("an agent that has enough", Want{code: OK, text: "=end"})
	stream.cancel()

	s.local.ok("Entry/BatchDeleteEntry", "put away", J{"ids": names}).has("results", 501, "results")
}
