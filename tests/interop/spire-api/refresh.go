package main

import (
	"crypto/ecdsa"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
)

// refreshed fetches the bundle of a domain whose endpoint is here, by SPIFFE.
func (s *Site) refreshed(create, refresh string) {
	const domain, server = "e.example", "spiffe://e.example/server"
	ca := newIssuer(domain, "spiffe://"+domain)
	leaf := ca.issue(template("", server), newKey())
	document, err := json.Marshal(J{
		"spiffe_sequence": 42, "spiffe_refresh_hint": 60,
		"keys": L{jwk(ca)},
	})
	check(err)
	endpoint := httptest.NewUnstartedServer(http.HandlerFunc(func(answer http.ResponseWriter, _ *http.Request) {
		answer.Header().Set("Content-Type", "application/json")
		_, failed := answer.Write(document)
		check(failed)
	}))
	// What the authority breaks off is its own affair.
	endpoint.Config.ErrorLog = log.New(io.Discard, "", 0)
	endpoint.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: leaf.chain, PrivateKey: leaf.key}}}
	endpoint.StartTLS()
	defer endpoint.Close()
	relationship := J{
		"trust_domain": domain, "bundle_endpoint_url": endpoint.URL,
		"https_spiffe": J{"endpoint_spiffe_id": server},
	}
	s.local.ok(create, "without its first bundle", J{"federation_relationships": L{relationship}}).
		item("without its first bundle", 0, "federation_relationship", Want{})
	s.local.no(refresh, "without its first bundle", J{"trust_domain": domain}, Internal, "failed to refresh bundle")
	first := J{"trust_domain": domain, "x509_authorities": L{J{"asn1": ca.certificate.Raw}}}
	s.local.ok("Bundle/BatchSetFederatedBundle", "its first bundle", J{"bundle": L{first}}).
		item("its first bundle", 0, "bundle", Want{})
	s.admin.ok(refresh, "fetched at once", J{"trust_domain": domain})
	s.local.ok("Bundle/GetFederatedBundle", "fetched", J{"trust_domain": domain}).
		is("sequence", "42", "sequence_number").is("hint", "60", "refresh_hint")
	s.local.ok("TrustDomain/BatchDeleteFederationRelationship", "put away", J{"trust_domains": L{domain}}).
		item("put away", 0, "", Want{})
	s.local.ok("Bundle/BatchDeleteFederatedBundle", "put away", J{"trust_domains": L{domain}}).
		item("put away", 0, "", Want{})
}

// jwk is a CA as a SPIFFE bundle has it.
func jwk(ca issuer) J {
	key, err := ca.certificate.PublicKey.(*ecdsa.PublicKey).ECDH()
	check(err)
	point := key.Bytes()
	return J{
		"use": "x509-svid", "kty": "EC", "crv": "P-256",
		"x":   base64.RawURLEncoding.EncodeToString(point[1:33]),
		"y":   base64.RawURLEncoding.EncodeToString(point[33:]),
		"x5c": L{base64.StdEncoding.EncodeToString(ca.certificate.Raw)},
	}
}
