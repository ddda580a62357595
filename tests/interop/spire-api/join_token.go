package main

import (
	"crypto"
	"fmt"
	"strings"
	"time"
)

const noToken = "join token does not exist or has already been used"

// joinTokens asks for tokens, and attests by them (§3).
func joinTokens(s *Site) {
	c := s.local
	create := "Agent/CreateJoinToken"
	c.no(create, "no lifetime", J{}, InvalidArgument, "=ttl is required, you must provide one")
	c.no(create, "a negative lifetime", J{"ttl": -1}, InvalidArgument, "ttl is required")
	c.no(create, "an agent ID below /spire", J{"ttl": 60, "agent_id": id("/spire/x")}, InvalidArgument, "")
	c.no(create, "an agent ID elsewhere", J{"ttl": 60, "agent_id": J{"trust_domain": b, "path": "/x"}}, InvalidArgument, "")
	made := c.ok(create, "without a value", J{"ttl": 60})
	value, _ := at(made.body, "value").(string)
	made.same("a UUID", true, len(value) == 36 && strings.Count(value, "-") == 4 && value[14] == '4')
	end := number(at(made.body, "expires_at"))
	left := time.Until(time.Unix(int64(end), 0))
	made.same("ends in a minute", true, left > 50*time.Second && left < 61*time.Second)
	s.admin.ok(create, "with a value", J{"ttl": 60, "token": "twice"}).is("value", "twice", "value")
	c.no(create, "twice", J{"ttl": 60, "token": "twice"}, Internal, "failed to create token")

	csr := agentCSR(newKey())
	c.attest("join_token", []byte("nobody"), csr, nil).want("an unknown token", Want{code: InvalidArgument, text: noToken})
	c.attest("join_token", []byte("twice"), []byte("x"), nil).
		want("no request for a certificate", Want{code: InvalidArgument, text: "CSR"})
	c.attest("join_token", []byte("twice"), csr, nil).
		want("a token that an attempt has used up", Want{code: InvalidArgument, text: noToken})
	short := c.ok(create, "a short one", J{"ttl": 1, "token": "short"})
	time.Sleep(time.Until(time.Unix(int64(number(at(short.body, "expires_at")))+1, 0)))
	c.attest("join_token", []byte("short"), csr, nil).
		want("an expired token", Want{code: InvalidArgument, text: "join token expired"})
	c.attest("join_token", []byte("short"), csr, nil).
		want("expired and used up", Want{code: InvalidArgument, text: noToken})

	// Whatever the request for a certificate says, the ID is the node's.
	c.ok(create, "for a liar", J{"ttl": 60, "token": "liar"})
	key := newKey()
	liar := c.attest("join_token", []byte("liar"), csrOf(key, "spiffe://evil.example/x"), nil)
	liar.want("names in the request do not count", Want{code: OK}).
		is("ID", "/spire/agent/join_token/liar", "result", "svid", "id", "path").
		is("cannot attest again", false, "result", "reattestable").
		same("the certificate's ID", uri("/spire/agent/join_token/liar"),
			parse(chain(at(liar.body, "result", "svid", "cert_chain"))[0]).URIs[0]).
		has("chain without its root", 1, "result", "svid", "cert_chain")
	c.attest("join_token", []byte("liar"), csr, nil).want("a used token", Want{code: InvalidArgument, text: noToken})

	// A token with an ID gives that ID to whoever comes by it.
	aliased := s.tls("agent with another ID", s.newAgent("aliased", "/alias"))
	aliased.ok("Entry/GetAuthorizedEntries", "that ID is its own too", J{}).has("entries", 1, "entries").
		is("ID", "/alias", "entries", 0, "spiffe_id", "path")
	filter := J{"filter": J{"by_spiffe_id": id("/alias")}}
	parent := uri("/spire/agent/join_token/aliased")
	c.ok("Entry/ListEntries", "of a token with an ID", filter).has("entries", 1, "entries").
		is("parent", "/spire/agent/join_token/aliased", "entries", 0, "parent_id", "path").
		has("selectors", 1, "entries", 0, "selectors").
		is("selector", "spiffe_id", "entries", 0, "selectors", 0, "type").
		is("selector's value", parent, "entries", 0, "selectors", 0, "value")
	kept := J{"id": "kept", "spiffe_id": id("/kept"), "parent_id": id("/spire/agent/join_token/aliased"),
		"selectors": L{selector("unix", "uid:1")}}
	c.ok("Entry/BatchCreateEntry", "another of its entries", J{"entries": L{kept}})
	c.ok("Agent/DeleteAgent", "evicted", J{"id": id("/spire/agent/join_token/aliased")})
	c.ok("Entry/CountEntries", "gone with the agent", filter).is("count", 0, "count")
	c.ok("Entry/GetEntry", "others are kept", J{"id": "kept"})
	c.ok("Entry/BatchDeleteEntry", "put away", J{"ids": L{"kept"}}).item("put away", 0, "", Want{})
}

func csrOf(key crypto.Signer, uris ...string) []byte { return csr(key, Names{uris: uris}) }

// conversations has those of AttestAgent that go wrong (§3).
func conversations(s *Site) {
	c := s.local
	csr := agentCSR(newKey())
	data := J{"type": "join_token", "payload": []byte("x")}
	for _, one := range []struct {
		what string
		sent J
	}{
		{"nothing", J{}},
		{"an answer first", J{"challenge_response": []byte("x")}},
		{"no data", J{"params": J{"params": J{"csr": csr}}}},
		{"no type", J{"params": J{"data": J{"payload": []byte("x")}, "params": J{"csr": csr}}}},
		{"no payload", J{"params": J{"data": J{"type": "join_token"}, "params": J{"csr": csr}}}},
		{"no parameters", J{"params": J{"data": data}}},
		{"no request for a certificate", J{"params": J{"data": data, "params": J{}}}},
	} {
		c.no("Agent/AttestAgent", one.what, one.sent, InvalidArgument, "malformed param")
	}
	c.attest("nonsense", []byte("x"), csr, nil).
		want("an unknown kind", Want{code: FailedPrecondition, text: "could not find node attestor type \"nonsense\""})
	// Over TCP, without a certificate and with one of every kind.
	begin := time.Now()
	var last *Reply
	for _, as := range []*Client{s.anybody, s.agent, s.admin} {
		last = as.attest("nonsense", []byte("x"), csr, nil).want("may call", Want{code: FailedPrecondition})
	}
	last.same("one a second from an address, and the rest waits", true, time.Since(begin) > 1900*time.Millisecond)
	s.local.ok("Agent/CreateJoinToken", "a token", J{"ttl": 60, "token": "by-tcp"})
	reply := s.anybody.attest("join_token", []byte("by-tcp"), csr, nil)
	reply.want("over TCP", Want{code: OK})
	c.ok("Agent/CreateJoinToken", "a token", J{"ttl": 60, "token": "forged"})
	// SPIRE's server does not look at it. Whoever asks has to have the key: ours does.
	unsigned := c.attest("join_token", []byte("forged"), forged(), nil)
	unsigned.want("a request that is not signed by its key", Want{code: InvalidArgument, text: "invalid CSR signature"})
	s.known(unsigned.call, "local", "a request that is not signed by its key", "0", fmt.Sprint(unsigned.code))
}
