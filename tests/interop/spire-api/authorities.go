package main

import (
	"crypto/sha1"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
)

// authorities has the life of the own authorities (§10), X.509 and JWT alike.
func authorities(s *Site) {
	for _, kind := range []string{"JWT", "X509"} {
		s.rotation(kind)
	}
	c := s.admin
	for _, step := range []string{"Taint", "Revoke"} {
		call := "LocalAuthority/" + step + "X509UpstreamAuthority"
		for _, as := range []*Client{s.local, c} {
			as.no(call, "there is none above", J{"subject_key_id": "x"}, FailedPrecondition, "")
			as.no(call, "there is none above", J{}, FailedPrecondition, "")
		}
	}
}

func (s *Site) rotation(kind string) {
	call := func(step string) string { return "LocalAuthority/" + step + kind + "Authority" }
	state := "LocalAuthority/Get" + kind + "AuthorityState"
	first := s.local.ok(state, "to begin with", J{})
	// The matrix has prepared one already.
	active := at(first.body, "active", "authority_id").(string)
	forgotten := at(first.body, "prepared", "authority_id").(string)
	first.is("none is old", nil, "old").same("end", true, at(first.body, "active", "expires_at") != "0").
		same("its name is that of its key", true, s.names(kind)[active])
	named := func(name string) J { return J{"authority_id": name} }
	for _, step := range []string{"Activate", "Taint", "Revoke"} {
		s.local.no(call(step), "no name", J{}, InvalidArgument, "=no authority ID provided")
		s.local.no(call(step), "unknown", named("x"), InvalidArgument, "")
		s.local.no(call(step), "the active one", named(active), InvalidArgument, "")
	}
	made := s.local.ok(call("Prepare"), "another", J{})
	prepared := at(made.body, "prepared_authority", "authority_id").(string)
	made.same("a new key", true, prepared != active && prepared != forgotten).
		same("in the bundle at once", true, s.names(kind)[prepared])
	s.local.ok(state, "prepared", J{}).is("prepared", prepared, "prepared", "authority_id").
		is("active", active, "active", "authority_id")
	for _, step := range []string{"Activate", "Taint", "Revoke"} {
		code := uint32(InvalidArgument)
		if kind == "JWT" && step == "Revoke" {
			// It is in the bundle still, and would only have to be tainted.
			code = Internal
		}
		s.local.no(call(step), "one that was replaced", named(forgotten), code, "")
	}
	for _, step := range []string{"Taint", "Revoke"} {
		s.local.no(call(step), "the prepared one", named(prepared), InvalidArgument, "")
	}
	s.admin.ok(call("Activate"), "the prepared one", named(prepared)).
		is("which", prepared, "activated_authority", "authority_id")
	s.local.ok(state, "activated", J{}).is("active", prepared, "active", "authority_id").
		is("old", active, "old", "authority_id").is("prepared", nil, "prepared")
	s.local.no(call("Activate"), "the old one", named(active), Internal, "")
	s.local.no(call("Revoke"), "one that is not tainted", named(active), Internal, "")
	s.local.no(call("Taint"), "the active one", named(prepared), InvalidArgument, "")
	s.local.ok(call("Taint"), "the old one", named(active)).is("which", active, "tainted_authority", "authority_id")
	s.local.no(call("Taint"), "twice", named(active), Internal, "")
	s.local.ok("Bundle/GetBundle", "tainted", J{}).same("still trusted", true, s.names(kind)[active])
	if kind == "JWT" {
		// Any tainted key of the bundle will do, in a slot or not.
		s.admin.ok(call("Prepare"), "in place of the old one", J{})
	}
	s.admin.ok(call("Revoke"), "the old one", named(active)).is("which", active, "revoked_authority", "authority_id")
	s.local.ok("Bundle/GetBundle", "revoked", J{}).same("trusted no more", false, s.names(kind)[active])
	s.local.ok(state, "revoked", J{}).is("none is old", nil, "old")
	s.admin.no(call("Revoke"), "twice", named(active), InvalidArgument, "")
}

// names are those of the keys in the own bundle: of CAs the SHA-1 of the key, in hexadecimal digits.
func (s *Site) names(kind string) map[string]bool {
	bundle := s.local.ask("Bundle/GetBundle", J{})
	found := map[string]bool{}
	if kind == "JWT" {
		for _, one := range list(bundle.body, "jwt_authorities") {
			found[at(one, "key_id").(string)] = true
		}
		return found
	}
	for _, one := range list(bundle.body, "x509_authorities") {
		found[keyName(parse(unbase(at(one, "asn1"))))] = true
	}
	return found
}

func keyName(certificate *x509.Certificate) string {
	var info struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	_, err := asn1.Unmarshal(certificate.RawSubjectPublicKeyInfo, &info)
	check(err)
	sum := sha1.Sum(info.Key.Bytes)
	return hex.EncodeToString(sum[:])
}
