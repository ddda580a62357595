package main

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"strings"
	"time"
)

// svids are X509-SVIDs for agents and for administrators (§5).
func svids(s *Site) {
	call := "SVID/BatchNewX509SVID"
	entry := J{
		"id": "leaf", "spiffe_id": id("/leaf"), "parent_id": s.agentID, "selectors": L{selector("unix", "uid:1")},
		"dns_names": L{"First.example", "second.example"}, "x509_svid_ttl": 600, "hint": "leaf's",
	}
	s.local.ok("Entry/BatchCreateEntry", "of a leaf", J{"entries": L{entry}}).item("of a leaf", 0, "entry", Want{})
	foreign := with(J{"id": "not-its-own"})
	s.local.ok("Entry/BatchCreateEntry", "another's", J{"entries": L{foreign}}).item("another's", 0, "entry", Want{})
	key := newKey()
	good := csrOf(key, "spiffe://evil.example/x")
	reply := s.agent.ok(call, "some of them bad", J{"params": L{
		J{"entry_id": "unknown", "csr": good}, J{"entry_id": "leaf", "csr": good}, J{"entry_id": "leaf"},
		J{"entry_id": "leaf", "csr": []byte("x")}, J{"entry_id": "leaf", "csr": forged()}, J{"csr": good},
		J{"entry_id": "not-its-own", "csr": good},
	}})
	reply.has("results", 7, "results").item("unknown", 0, "svid", Want{code: NotFound}).
		item("in the order of asking", 1, "svid", Want{}).
		item("no request", 2, "svid", Want{code: InvalidArgument}).
		item("no request at all", 3, "svid", Want{code: InvalidArgument}).
		item("not signed by its key", 4, "svid", Want{code: InvalidArgument}).
		item("no entry", 5, "svid", Want{code: InvalidArgument}).
		item("another's", 6, "svid", Want{code: NotFound})
	reply.is("ID", "/leaf", "results", 1, "svid", "id", "path")
	ders := chain(at(reply.body, "results", 1, "svid", "cert_chain"))
	leaf := parse(ders[0])
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	check(err)
	reply.same("the key of the request", true, bytes.Equal(public, leaf.RawSubjectPublicKeyInfo)).
		same("end", fmt.Sprint(leaf.NotAfter.Unix()), at(reply.body, "results", 1, "svid", "expires_at")).
		same("lifetime, with 10 s of before", 610*time.Second, leaf.NotAfter.Sub(leaf.NotBefore)).
		same("names", "[First.example second.example]", leaf.DNSNames)
	reply.profile(leaf, "CN=First.example,O=SPIRE,C=US", uri("/leaf"))
	roots, between := s.roots, x509.NewCertPool()
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	reply.same("it is of the bundle", nil, err)
	s.agent.no(call, "none", J{}, InvalidArgument, "")
	params := L{}
	for range 501 {
		params = append(params, J{"entry_id": "leaf", "csr": good})
	}
	s.agent.no(call, "more than in a second", J{"params": params}, ResourceExhausted, "")

	s.minted()
}

// profile is that of a leaf of SPIRE's: extensions in their order, and what they say.
func (r *Reply) profile(leaf *x509.Certificate, subject, id string) {
	var order []string
	for _, one := range leaf.Extensions {
		name := one.Id.String()
		if one.Critical {
			name += "!"
		}
		order = append(order, name)
	}
	const spires = "2.5.29.15! 2.5.29.37 2.5.29.19! 2.5.29.14 2.5.29.35 2.5.29.17"
	r.client.site.known(r.call, r.client.name, "order of extensions", spires, strings.Join(order, " "))
	r.same("extensions", sorted(strings.Fields(spires)), sorted(order)).
		same("key usage", x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment|x509.KeyUsageKeyAgreement, leaf.KeyUsage).
		same("extended", []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, leaf.ExtKeyUsage).
		same("no CA", false, leaf.IsCA).same("subject", subject, leaf.Subject).same("one URI", "["+id+"]", fmt.Sprint(leaf.URIs)).
		same("serial", true, leaf.SerialNumber.Sign() > 0 && leaf.SerialNumber.BitLen() <= 128)
}

// minted are those that an administrator asks for, by request alone.
func (s *Site) minted() {
	call := "SVID/MintX509SVID"
	key := newKey()
	request := func(names Names) J { return J{"csr": csr(key, names)} }
	for _, one := range []struct {
		what string
		sent J
	}{
		{"no request", J{}},
		{"no request at all", J{"csr": []byte("x")}},
		{"not signed by its key", J{"csr": forged()}},
		{"no ID", request(Names{})},
		{"two IDs", request(Names{uris: []string{uri("/a"), uri("/b")}})},
		{"an ID of another domain", request(Names{uris: []string{"spiffe://b.example/a"}})},
		{"an ID below /spire", request(Names{uris: []string{uri("/spire/server")}})},
		{"an ID without a path", request(Names{uris: []string{uri("")}})},
		{"a URI that is none", request(Names{uris: []string{"https://a.example/"}})},
		{"a bad DNS name", request(Names{uris: []string{uri("/a")}, dns: []string{"a..b"}})},
	} {
		s.local.no(call, one.what, one.sent, InvalidArgument, "")
	}
	for _, as := range []*Client{s.local, s.admin} {
		sent := request(Names{
			subject: pkix.Name{Organization: []string{"Own"}}, uris: []string{uri("/minted")}, dns: []string{"minted.example"},
		})
		sent["ttl"] = 120
		made := as.ok(call, "an SVID", sent)
		leaf := parse(chain(at(made.body, "svid", "cert_chain"))[0])
		made.is("ID", "/minted", "svid", "id", "path").same("names of the request", "[minted.example]", leaf.DNSNames).
			same("its subject", "CN=minted.example,O=Own", leaf.Subject).
			same("lifetime, with 10 s of before", 130*time.Second, leaf.NotAfter.Sub(leaf.NotBefore))
	}
	endless := request(Names{uris: []string{uri("/minted")}})
	endless["ttl"] = 1 << 30
	made := s.local.ok(call, "longer than the CA's own life", endless)
	made.same("no longer than that", s.caEnd(), parse(chain(at(made.body, "svid", "cert_chain"))[0]).NotAfter.Unix())
}

// caEnd is the end of the CA that signs.
func (s *Site) caEnd() int64 {
	state := s.local.ask("LocalAuthority/GetX509AuthorityState", J{})
	return int64(number(at(state.body, "active", "expires_at")))
}
