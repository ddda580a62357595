package main

import (
	"strings"
	"time"
)

func selector(kind, value string) J { return J{"type": kind, "value": value} }

// agents asks for nodes, and puts them out (§3, §8).
func agents(s *Site) {
	c := s.local
	get, count, lists := "Agent/GetAgent", "Agent/CountAgents", "Agent/ListAgents"
	for _, as := range []*Client{s.local, s.admin} {
		as.ok(get, "a node", J{"id": s.agentID}).is("ID", s.agentID["path"], "id", "path").
			is("type", "join_token", "attestation_type").is("banned", false, "banned").
			is("can attest again", false, "can_reattest").
			is("serial number, decimal", parse(s.agentSVID.chain[0]).SerialNumber, "x509svid_serial_number").
			is("end", parse(s.agentSVID.chain[0]).NotAfter.Unix(), "x509svid_expires_at")
	}
	c.ok(get, "an empty mask", J{"id": s.agentID, "output_mask": J{}}).
		is("ID", s.agentID["path"], "id", "path").is("type", "", "attestation_type")
	for _, call := range []string{get, "Agent/BanAgent", "Agent/DeleteAgent"} {
		c.no(call, "unknown", J{"id": id("/spire/agent/x")}, NotFound, "=agent not found")
		c.no(call, "no ID", J{}, InvalidArgument, "")
		c.no(call, "no agent's ID", J{"id": id("/w")}, InvalidArgument, "")
		c.no(call, "of another domain", J{"id": J{"trust_domain": b, "path": "/spire/agent/x"}}, InvalidArgument, "")
	}

	all := number(at(c.ok(count, "all", J{}).body, "count"))
	c.ok(lists, "all", J{}).has("agents", all, "agents").is("no token", "", "next_page_token")
	seen, token := 0, ""
	for range all + 2 {
		page := c.ok(lists, "a page", J{"page_size": 2, "page_token": token, "output_mask": J{}})
		seen += len(list(page.body, "agents"))
		if token = at(page.body, "next_page_token").(string); token == "" {
			page.same("agents by pages", all, seen).has("the last page is empty", 0, "agents")
			break
		}
	}
	c.no(lists, "a bad token", J{"page_token": "x"}, InvalidArgument, "could not parse token")
	s.filters(count, all)

	// Evicted: its certificate is nobody's, on a connection that is open and on another.
	evicted := s.newAgent("evicted", "")
	client := s.tls("evicted", evicted)
	client.ok("Agent/PostStatus", "before", J{})
	s.admin.ok("Agent/DeleteAgent", "evicted", J{"id": id("/spire/agent/join_token/evicted")})
	out := Want{code: PermissionDenied, text: "authorization denied for method", reason: "AGENT_NOT_ATTESTED"}
	for _, call := range []string{"Agent/PostStatus", "Entry/GetAuthorizedEntries", "Entry/SyncAuthorizedEntries",
		"SVID/BatchNewX509SVID", "SVID/NewJWTSVID", "Agent/RenewAgent", "Bundle/GetFederatedBundle"} {
		client.ask(call, J{}).want("evicted", out)
	}
	s.tls("evicted", evicted).ask("Agent/PostStatus", J{}).want("evicted, another connection", out)

	s.banned(get, count)
}

// banned bans the node that x509pop let in.
func (s *Site) banned(get, count string) {
	c := s.local
	again := func() *Reply {
		return s.pop(c, s.popNode, func(challenge []byte) []byte { return prove(s.popNode.key, challenge) })
	}
	attested := func(reply *Reply) *Client {
		return s.tls("agent by x509pop", SVID{chain: chain(at(reply.body, "result", "svid", "cert_chain")), key: s.popKey})
	}
	first := attested(again().want("attested again", Want{code: OK}))
	first.ok("Agent/PostStatus", "attested", J{})
	first.ask("Agent/RenewAgent", J{"params": J{"csr": agentCSR(newKey())}}).
		want("whoever can attest again does", Want{PermissionDenied, "=agent must reattest instead of renew", "AGENT_MUST_REATTEST"})
	second := attested(again().want("and again", Want{code: OK}))
	first.ask("Agent/PostStatus", J{}).want("the certificate before counts no more",
		Want{PermissionDenied, "authorization denied for method", "AGENT_NOT_ACTIVE"})
	second.ok("Agent/PostStatus", "the new one does", J{})
	c.ok("Agent/BanAgent", "banned", J{"id": s.popID})
	second.ask("Agent/PostStatus", J{}).want("banned",
		Want{PermissionDenied, "authorization denied for method", "AGENT_BANNED"})
	c.ok(get, "banned", J{"id": s.popID}).is("is banned", true, "banned").is("no serial", "", "x509svid_serial_number")
	c.ok(count, "banned", J{"filter": J{"by_banned": true}}).is("count", 1, "count")
	again().want("the banned stay out", Want{code: PermissionDenied})
	c.ok("Agent/DeleteAgent", "evicted", J{"id": s.popID})
	again().want("let in after its eviction", Want{code: OK})
}

// filters of CountAgents and ListAgents, which are the same.
func (s *Site) filters(call string, all int) {
	node := s.local.ok("Agent/GetAgent", "a node with selectors", J{"id": s.popID})
	own := list(node.body, "selectors")
	var name any
	for _, one := range own {
		if strings.HasPrefix(at(one, "value").(string), "subject:") {
			name = one
		}
	}
	more := append(append(L{}, own...), selector("x509pop", "other:1"))
	later := time.Now().Add(24 * time.Hour).UTC()
	for _, one := range []struct {
		what   string
		filter J
		want   int
	}{
		{"by kind", J{"by_attestation_type": "x509pop"}, 3},
		{"by an unknown kind", J{"by_attestation_type": "x"}, 0},
		{"banned", J{"by_banned": true}, 0},
		{"not banned", J{"by_banned": false}, all},
		{"can attest again", J{"by_can_reattest": true}, 3},
		{"cannot", J{"by_can_reattest": false}, all - 3},
		{"equal selectors", J{"by_selector_match": J{"selectors": own, "match": "MATCH_EXACT"}}, 1},
		{"equal, with more", J{"by_selector_match": J{"selectors": more, "match": "MATCH_EXACT"}}, 0},
		{"all of one's are given", J{"by_attestation_type": "x509pop", "by_selector_match": J{"selectors": more, "match": "MATCH_SUBSET"}}, 1},
		{"one has all", J{"by_selector_match": J{"selectors": L{name}, "match": "MATCH_SUPERSET"}}, 1},
		{"one has any", J{"by_selector_match": J{"selectors": more, "match": "MATCH_ANY"}}, 3},
		{"end before tomorrow", J{"by_expires_before": later.Format("2006-01-02 15:04:05 -0700 -07")}, all},
		{"end before yesterday", J{"by_expires_before": later.Add(-48 * time.Hour).Format("2006-01-02 15:04:05 -0700 -07")}, 0},
		{"a time in another form", J{"by_expires_before": "2000-01-01"}, all},
		{"two filters", J{"by_attestation_type": "x509pop", "by_can_reattest": false}, 0},
	} {
		s.local.ok(call, one.what, J{"filter": one.filter}).is(one.what, one.want, "count")
		s.local.ok("Agent/ListAgents", one.what, J{"filter": one.filter}).has(one.what, one.want, "agents")
	}
	for _, call := range []string{call, "Agent/ListAgents"} {
		s.local.no(call, "no selectors", J{"filter": J{"by_selector_match": J{}}}, Internal, "selectors")
	}
}

// renewals asks an agent's own calls, and turns its certificate over (§3).
func renewals(s *Site) {
	post, renew := "Agent/PostStatus", "Agent/RenewAgent"
	s.agent.ok(post, "a version", J{"agent_version": "1.15.3", "current_bundle_serial": "5"})
	s.local.ok("Agent/GetAgent", "its version", J{"id": s.agentID}).is("version", "1.15.3", "agent_version")
	s.agent.ok(post, "255 bytes", J{"agent_version": strings.Repeat("v", 255)})
	s.agent.no(post, "256 bytes", J{"agent_version": strings.Repeat("v", 256)}, InvalidArgument, "")

	s.agent.no(renew, "nothing", J{}, InvalidArgument, "=params cannot be nil")
	s.agent.no(renew, "no request", J{"params": J{}}, InvalidArgument, "CSR")
	s.agent.no(renew, "no request at all", J{"params": J{"csr": []byte("x")}}, InvalidArgument, "CSR")
	old := s.tls("agent before", s.newAgent("renewed", ""))
	key := newKey()
	renewed := old.ok(renew, "another certificate", J{"params": J{"csr": csrOf(key, "spiffe://evil.example/x")}})
	ders := chain(at(renewed.body, "svid", "cert_chain"))
	renewed.is("ID", "/spire/agent/join_token/renewed", "svid", "id", "path").
		same("the certificate's ID", uri("/spire/agent/join_token/renewed"), parse(ders[0]).URIs[0])
	old.ok(post, "the old one works until the new one is used", J{})
	s.tls("agent after", SVID{chain: ders, key: key}).ok(post, "the new one", J{})
	old.ask(post, J{}).want("the old one does no more",
		Want{PermissionDenied, "authorization denied for method", "AGENT_NOT_ACTIVE"})
}
