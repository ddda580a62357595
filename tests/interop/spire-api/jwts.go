package main

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
)

// tokens are JWT-SVIDs for agents and for administrators (§5).
func tokens(s *Site) {
	call, mint := "SVID/NewJWTSVID", "SVID/MintJWTSVID"
	entry := J{
		"id": "jwt", "spiffe_id": id("/jwt"), "parent_id": s.agentID, "selectors": L{selector("unix", "uid:1")},
		"jwt_svid_ttl": 90, "hint": "jwt's", "additional_attributes": J{"jwt_svid_include_jti": true},
	}
	s.local.ok("Entry/BatchCreateEntry", "of a JWT", J{"entries": L{entry}}).item("of a JWT", 0, "entry", Want{})
	s.agent.no(call, "no audience", J{"entry_id": "jwt"}, InvalidArgument, "=at least one audience is required")
	s.agent.no(call, "empty audiences", J{"entry_id": "jwt", "audience": L{""}}, InvalidArgument, "audience")
	s.agent.no(call, "no entry", J{"audience": L{"x"}}, NotFound, "")
	s.agent.no(call, "unknown", J{"entry_id": "unknown", "audience": L{"x"}}, NotFound, "")
	s.agent.no(call, "another's", J{"entry_id": "not-its-own", "audience": L{"x"}}, NotFound, "")
	made := s.agent.ok(call, "a token", J{"entry_id": "jwt", "audience": L{"one", "", "two"}})
	made.token(s, "/jwt", "[one two]", 90).same("jti, for the entry asks for it", true, claims(made)["jti"] != nil)
	plain := s.agent.ok(call, "one audience", J{"entry_id": "leaf", "audience": L{"one"}})
	plain.token(s, "/leaf", "[one]", 300).same("no jti", nil, claims(plain)["jti"])

	s.local.no(mint, "no ID", J{"audience": L{"x"}}, InvalidArgument, "")
	s.local.no(mint, "no audience", J{"id": id("/x")}, InvalidArgument, "=at least one audience is required")
	s.local.no(mint, "an ID below /spire", J{"id": id("/spire/x"), "audience": L{"x"}}, InvalidArgument, "")
	s.local.no(mint, "an ID of another domain",
		J{"id": J{"trust_domain": b, "path": "/x"}, "audience": L{"x"}}, InvalidArgument, "")
	for _, as := range []*Client{s.local, s.admin} {
		as.ok(mint, "a token", J{"id": id("/x"), "audience": L{"y"}, "ttl": 60}).token(s, "/x", "[y]", 60)
	}
	endless := s.local.ok(mint, "longer than its key's own life", J{"id": id("/x"), "audience": L{"y"}, "ttl": 1 << 30})
	state := s.local.ask("LocalAuthority/GetJWTAuthorityState", J{})
	endless.is("no longer than that", at(state.body, "active", "expires_at"), "svid", "expires_at")
}

func part(token string, number int) J {
	parts := strings.Split(token, ".")
	text, err := base64.RawURLEncoding.DecodeString(parts[number])
	check(err)
	read := J{}
	check(json.Unmarshal(text, &read))
	return read
}

func claims(made *Reply) J { return part(at(made.body, "svid", "token").(string), 1) }

// token looks at a JWT-SVID, and verifies it with the keys of the bundle.
func (r *Reply) token(s *Site, path, audience string, life int) *Reply {
	token, _ := at(r.body, "svid", "token").(string)
	head, said := part(token, 0), claims(r)
	issued, ends := number(at(r.body, "svid", "issued_at")), number(at(r.body, "svid", "expires_at"))
	r.is("ID", path, "svid", "id", "path").same("lifetime", life, ends-issued).
		same("algorithm", "ES256", head["alg"]).same("kind", "JWT", head["typ"]).
		same("subject", uri(path), said["sub"]).same("audience", audience, said["aud"]).
		same("iat", issued, int(said["iat"].(float64))).same("exp", ends, int(said["exp"].(float64))).
		same("no nbf", nil, said["nbf"]).same("no iss", nil, said["iss"])
	bundle := s.local.ask("Bundle/GetBundle", J{})
	good := false
	for _, one := range list(bundle.body, "jwt_authorities") {
		if at(one, "key_id") == head["kid"] {
			key, err := x509.ParsePKIXPublicKey(unbase(at(one, "public_key")))
			check(err)
			signed, signature, _ := cutLast(token)
			digest := sha256.Sum256([]byte(signed))
			raw, err := base64.RawURLEncoding.DecodeString(signature)
			check(err)
			r, s := new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])
			good = ecdsa.Verify(key.(*ecdsa.PublicKey), digest[:], r, s)
		}
	}
	return r.same("signed by a key of the bundle", true, good)
}

func cutLast(token string) (string, string, bool) {
	place := strings.LastIndex(token, ".")
	return token[:place], token[place+1:], place > 0
}

// below asks as a server below does (§5).
func below(s *Site) {
	call, publish := "SVID/NewDownstreamX509CA", "Bundle/PublishJWTAuthority"
	c := s.downstream
	c.no(call, "no request", J{}, InvalidArgument, "CSR")
	c.no(call, "no request at all", J{"csr": []byte("x")}, InvalidArgument, "CSR")
	c.no(call, "not signed by its key", J{"csr": forged()}, InvalidArgument, "CSR")
	key := newKey()
	made := c.ok(call, "a CA", J{"csr": agentCSR(key), "preferred_ttl": 1200})
	ders := chain(at(made.body, "ca_cert_chain"))
	ca := parse(ders[0])
	own := s.local.ok("Bundle/GetBundle", "roots", J{})
	made.has("chain without its root", 1, "ca_cert_chain").
		has("all roots", len(list(own.body, "x509_authorities")), "x509_authorities").
		same("is a CA", true, ca.IsCA).same("without a length", true, ca.MaxPathLen == -1).
		same("key usage", x509.KeyUsageCertSign|x509.KeyUsageCRLSign, ca.KeyUsage).
		same("ID", "["+uri("")+"]", fmt.Sprint(ca.URIs)).
		same("lifetime", 1210.0, ca.NotAfter.Sub(ca.NotBefore).Seconds()).
		same("subject", true, strings.HasPrefix(strings.Join(ca.Subject.OrganizationalUnit, ""), "DOWNSTREAM-"))
	// The trial that a server of SPIRE makes of it.
	trial := issuer{ca, key}.issue(template("", uri("/below")), newKey())
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, der := range chain(at(made.body, "x509_authorities")) {
		roots.AddCert(parse(der))
	}
	between.AddCert(ca)
	_, err := parse(trial.chain[0]).Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	made.same("what it signs is of the bundle", nil, err)
	s.leaves(issuer{ca, key})

	made = c.ok(call, "longer than the CA's own life", J{"csr": agentCSR(key), "preferred_ttl": 1 << 30})
	made.same("no longer than that", s.caEnd(), parse(chain(at(made.body, "ca_cert_chain"))[0]).NotAfter.Unix())

	c.no(publish, "no key", J{}, InvalidArgument, "=missing JWT authority")
	c.no(publish, "a key without a name", J{"jwt_authority": J{"public_key": spki()}}, InvalidArgument, "missing key ID")
	c.no(publish, "a bad key", J{"jwt_authority": J{"public_key": []byte("x"), "key_id": "k"}}, InvalidArgument, "")
	before := len(list(own.body, "jwt_authorities"))
	c.ok(publish, "a key", J{"jwt_authority": jwtKey("below")}).has("all keys", before+1, "jwt_authorities")
	c.ok("Bundle/GetBundle", "published", J{}).has("keys", before+1, "jwt_authorities")
}
