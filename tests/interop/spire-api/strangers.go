package main

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"time"
)

// An administrator of another domain, whom the authority's configuration names.
const (
	foreignDomain = "foreign.example"
	foreignAdmin  = "spiffe://foreign.example/admin"
)

// foreigners are let in if they are named, and if the bundle of their domain is known (§1, §2).
func foreigners(s *Site) {
	ca := newIssuer(foreignDomain, "spiffe://"+foreignDomain)
	svid := ca.issue(template("", foreignAdmin), newKey())
	const refused = "remote error: tls: bad certificate"
	s.shakes("stranger", "before its bundle is known", refused, svid)
	sent := J{"trust_domain": foreignDomain, "x509_authorities": L{J{"asn1": ca.certificate.Raw}}}
	s.local.ok("Bundle/BatchSetFederatedBundle", "an administrator's", J{"bundle": L{sent}}).
		item("an administrator's", 0, "bundle", Want{})
	// It looks at the bundles every few seconds.
	for begin := time.Now(); time.Since(begin) < patience; time.Sleep(100 * time.Millisecond) {
		if _, err := s.handshake(s.config(svid)); err == nil {
			break
		}
	}
	s.shakes("administrator from afar", "once it is", "served", svid)
	s.shakes("stranger", "of the same domain", refused, ca.issue(template("", "spiffe://foreign.example/other"), newKey()))
	c := s.tls("administrator from afar", svid)
	c.ok("Entry/CountEntries", "may call", J{})
	c.ok("Agent/CountAgents", "may call", J{})
	for _, call := range []string{"Debug/GetInfo", "Logger/GetLogger", "Health/Check", "SVID/NewDownstreamX509CA"} {
		c.ask(call, J{}).want("may not call", Want{code: PermissionDenied, text: "authorization denied for method"})
	}
	for _, call := range []string{"Entry/GetAuthorizedEntries", "Agent/PostStatus"} {
		c.ask(call, J{}).
			want("may not call", Want{PermissionDenied, "authorization denied for method", "AGENT_NOT_ATTESTED"})
	}
	s.local.ok("Bundle/BatchDeleteFederatedBundle", "put away", J{"trust_domains": L{foreignDomain}}).
		item("put away", 0, "", Want{})
}

// shakes has one handshake.
func (s *Site) shakes(who, what, expected string, svid SVID) {
	_, err := s.handshake(s.config(svid))
	got := "served"
	if err != nil {
		got = err.Error()
	}
	s.row(got == expected, "TLS", who, what, expected, got)
}

// leaves are certificates of the site's own bundle, which are good or not by what stands in them: a
// server below has signed them (§1).
func (s *Site) leaves(below issuer) {
	const good, refused = "served", "remote error: tls: bad certificate"
	for _, one := range []struct {
		what     string
		expected string
		change   func(*x509.Certificate)
	}{
		{"with nothing but its ID", good, func(*x509.Certificate) {}},
		{"for clients and servers", good, func(leaf *x509.Certificate) {
			leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
		}},
		{"DNS names too", good, func(leaf *x509.Certificate) { leaf.DNSNames = []string{"a.b"} }},
		{"two IDs", refused, func(leaf *x509.Certificate) { leaf.URIs = append(leaf.URIs, leaf.URIs[0]) }},
		{"no ID", refused, func(leaf *x509.Certificate) { leaf.URIs = nil }},
		{"an ID of another domain", refused, func(leaf *x509.Certificate) {
			leaf.URIs = []*url.URL{{Scheme: "spiffe", Host: b, Path: "/w"}}
		}},
		{"a CA", refused, func(leaf *x509.Certificate) { leaf.IsCA, leaf.BasicConstraintsValid = true, true }},
		{"that may sign certificates", refused, func(leaf *x509.Certificate) { leaf.KeyUsage |= x509.KeyUsageCertSign }},
		{"that may sign lists", refused, func(leaf *x509.Certificate) { leaf.KeyUsage |= x509.KeyUsageCRLSign }},
		{"that has ended", refused, func(leaf *x509.Certificate) { leaf.NotAfter = time.Now().Add(-time.Second) }},
		{"that has yet to begin", refused, func(leaf *x509.Certificate) { leaf.NotBefore = time.Now().Add(time.Minute) }},
	} {
		made := template("", uri("/plain"))
		one.change(made)
		svid := below.issue(made, newKey())
		svid.chain = append(svid.chain, below.certificate.Raw)
		s.shakes("workload below", one.what, one.expected, svid)
	}
	made := template("", uri("/plain"))
	made.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	svid := below.issue(made, newKey())
	svid.chain = append(svid.chain, below.certificate.Raw)
	_, err := s.handshake(s.config(svid))
	s.known("TLS", "workload below", "for something else alone", good, fmt.Sprint(err))
}
